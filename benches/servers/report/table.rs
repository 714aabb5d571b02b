//! The lines of the tables.

use super::{
    CORES_OF_ONE, CORES_OF_TWO, LOAD_SHARE, Line, Mode, ONE_THREAD_BY_HAND, Report, Row, THIS_AGAIN,
    TWO_THREADS_BY_HAND, Target, heads::*,
};

impl Report {
    /// The head of the table that the line belongs to, and the line; none if it was not measured.
    pub(super) fn shown(&self, line: &Line) -> Option<(&'static str, String)> {
        let pair = Pair {
            report: self,
            line,
            ours: self.row_of(line, line.ours)?,
            baseline: self.row_of(line, line.baseline)?,
        };
        let (head, cells) = pair.cells()?;
        Some((head, format!("| {} | {cells} |\n", line.scenario)))
    }

    fn row_of(&self, line: &Line, competitor: &str) -> Option<&Row> {
        self.row(&line.scenario, competitor)
    }
}

/// What a line compares.
struct Pair<'a> {
    report: &'a Report,
    line: &'a Line,
    ours: &'a Row,
    baseline: &'a Row,
}

impl Pair<'_> {
    /// The head of the table, and the cells behind the name of the scenario.
    fn cells(&self) -> Option<(&'static str, String)> {
        let Self { ours, baseline, .. } = self;
        let (which, figure, baseline_figure) = (self.line.ours, ours.shown(), baseline.shown());
        let (growth, gain, best_gain) = (ours.ratio_to(baseline), baseline.ratio_to(ours), self.best_gain());
        let [best, usual, axum] = ["best", "usual", "axum"].map(|name| self.other(name));
        let both = format!("{figure} | {baseline_figure}");
        Some(match self.line.target {
            Target::Ratio(least, aim) => {
                let figures = format!("{which} | {both} | {best} | {usual}");
                (CPU_HEAD, format!("{figures} | **{gain:.2}** | {best_gain} | {least} | {aim}"))
            }
            Target::Most(most, aim) => {
                let [most, aim] = [most, aim].map(|bound| shown(bound, ours.unit));
                (MEMORY_HEAD, format!("**{figure}** | {most} | {aim} | {baseline_figure} | {best} | {usual}"))
            }
            Target::Growth(most) => {
                let most = most.map_or(String::new(), |most| most.to_string());
                (GROWTH_HEAD, format!("{baseline_figure} | {figure} | **{growth:.2}** | {most}"))
            }
            Target::Mounted(most) => (MOUNTED_HEAD, format!("{which} | {both} | {axum} | **{growth:.2}** | {most}")),
            Target::Used(mode, most) => (mode.cpu_head(), self.use_of(mode, most)?),
            Target::More(mode, most) => (mode.memory_head(), self.more_in(mode, most)),
            Target::OneCore(most) => {
                let by_hand = self.growth_by_hand();
                (ONE_CORE_HEAD, format!("{baseline_figure} | {figure} | **{growth:.2}** | {most} | {by_hand}"))
            }
            Target::TwoCores(part) => (TWO_CORES_HEAD, self.on_two_cores(part)?),
            Target::ByHand(name, aim) => {
                let of_ours = self.row(name)?.ratio_to(ours);
                (BY_HAND_HEAD, format!("{name} | {figure} | **{gain:.2}** | {aim} | {of_ours:.2}"))
            }
            Target::Bound(aim) => (BOUND_HEAD, self.beyond_bare(gain, aim)?),
            Target::Beside(head) => (head, format!("{both} | {best} | **{gain:.2}** | {best_gain}")),
            Target::Against => {
                let noise = self.row(THIS_AGAIN)?.ratio_to(ours);
                (AGAINST_HEAD, format!("{both} | **{growth:.3}** | {noise:.3}"))
            }
            #[cfg(feature = "tls")]
            Target::Tls(least) => (TLS_HEAD, format!("{both} | {best} | **{gain:.2}** | {best_gain} | {least}")),
        })
    }

    fn row(&self, competitor: &str) -> Option<&Row> {
        self.report.row_of(self.line, competitor)
    }

    /// The figure of another one, if it was measured.
    fn other(&self, competitor: &str) -> String {
        self.row(competitor).map_or(String::new(), Row::shown)
    }

    /// The figure of the tuned server of two threads divided by that of one, if they were measured.
    fn growth_by_hand(&self) -> String {
        let growth = || Some(self.row(TWO_THREADS_BY_HAND)?.ratio_to(self.row(ONE_THREAD_BY_HAND)?));
        growth().map_or(String::new(), |growth| format!("{growth:.2}"))
    }

    /// The figure of the best server divided by ours, if it was measured.
    fn best_gain(&self) -> String {
        self.row("best").map_or(String::new(), |best| format!("{:.2}", best.ratio_to(self.ours)))
    }

    /// What the system calls leave for all else: at the aim, and what the servers take of it.
    fn beyond_bare(&self, gain: f64, aim: f64) -> Option<String> {
        let (bare, tuned) = (self.ours, self.baseline);
        let left = shown(tuned.middle() / aim - bare.middle(), bare.unit);
        let beyond = |row: &Row| shown(row.middle() - bare.middle(), bare.unit);
        let [best, ours] = ["best", "ours"].map(|name| self.row(name).map_or(String::new(), beyond));
        let tuned = beyond(tuned);
        Some(format!("{} | {gain:.2} | {aim} | {left} | {tuned} | {best} | {ours}", bare.shown()))
    }

    fn use_of(&self, mode: Mode, most: f64) -> Option<String> {
        let unused = self.row(mode.unused())?;
        let [used_ratio, unused_ratio] = [self.ours, unused].map(|row| row.ratio_to(self.baseline));
        let [without, used, unused] = [self.baseline, self.ours, unused].map(Row::shown);
        Some(format!("{without} | {used} | **{used_ratio:.2}** | {most} | {unused} | {unused_ratio:.2}"))
    }

    fn more_in(&self, mode: Mode, most: f64) -> String {
        let more = self.ours.middle() - self.baseline.middle();
        let [more, most] = [more, most].map(|len| shown(len, self.ours.unit));
        let [without, used] = [self.baseline, self.ours].map(Row::shown);
        format!("{without} | {} | {used} | **{more}** | {most}", self.other(mode.unused()))
    }

    /// Two cores have room for 2 / (1 + f) servers with their load, which takes f times the CPU time of the server.
    fn on_two_cores(&self, part: f64) -> Option<String> {
        let share = self.row(LOAD_SHARE)?;
        let (gain, least) = (self.ours.ratio_to(self.baseline), part * 2.0 / (1.0 + share.middle()));
        let [one, two, share] = [self.baseline, self.ours, share].map(Row::shown);
        let [of_one, of_two] = [CORES_OF_ONE, CORES_OF_TWO].map(|cores| self.other(cores));
        Some(format!("{one} | {of_one} | {two} | {of_two} | {share} | **{gain:.2}** | {least:.2}"))
    }
}

pub(super) fn shown(figure: f64, unit: &str) -> String {
    match unit {
        "B" => format!("{:.1} KiB", figure / 1024.0),
        "1/s" => in_thousands(figure as u64),
        "" => format!("{figure:.2}"),
        _ if figure >= 10_000.0 => format!("{:.1} us", figure / 1000.0),
        _ => format!("{:.2} us", figure / 1000.0),
    }
}

/// With a comma before each group of three digits.
fn in_thousands(number: u64) -> String {
    match number {
        0..1000 => number.to_string(),
        _ => format!("{},{:03}", in_thousands(number / 1000), number % 1000),
    }
}
