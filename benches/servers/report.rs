//! What was measured: tables to read, and the raw numbers for `benches/chart.py`.

use std::fmt::Write;

/// The numbers of one competitor in one scenario: nanoseconds of CPU time or bytes, by `unit`.
struct Row {
    scenario: String,
    competitor: String,
    unit: &'static str,
    samples: Vec<f64>,
}

impl Row {
    fn middle(&self) -> f64 {
        median(self.samples.iter().copied())
    }

    fn shown(&self) -> String {
        shown(self.middle(), self.unit)
    }

    /// The ratio in the middle of those of each round: a clock that changes during the run changes both.
    fn ratio_to(&self, other: &Self) -> f64 {
        median(self.samples.iter().zip(&other.samples).map(|(own, other)| own / other))
    }
}

/// The middle sample, which one that a neighbour disturbed does not move.
fn median(samples: impl Iterator<Item = f64>) -> f64 {
    let mut samples: Vec<_> = samples.collect();
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

/// What the competitor `ours` is to reach in a scenario.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    /// The baseline's figure divided by ours, at least and as an aim.
    Ratio(f64, f64),
    /// Our figure, at most and as an aim.
    Most(f64, f64),
    /// Our figure divided by the baseline's, at most.
    Growth(Option<f64>),
    /// The same, for a server that is mounted against one that listens.
    Mounted(f64),
    /// Our figure in a mode divided by that without, at most.
    Used(Mode, f64),
    /// The same of memory: by how much more, at most.
    More(Mode, f64),
    /// Our figure beside those of the tuned and of the best server, in a table with this head. Nothing is demanded.
    Beside(&'static str),
    /// The figure of this build divided by that of another.
    Against,
    /// The baseline's figure divided by ours, over TLS, at least.
    #[cfg(feature = "tls")]
    Tls(f64),
}

/// What a server has switched on, and some clients use.
#[derive(Clone, Copy)]
pub(crate) enum Mode {
    Resumable,
    #[cfg(feature = "deflate")]
    Compressed,
}

impl Mode {
    /// The name of a server with the mode whose clients do not use it.
    fn unused(self) -> &'static str {
        match self {
            Self::Resumable => RESUMABLE_PLAIN,
            #[cfg(feature = "deflate")]
            Self::Compressed => COMPRESSED_PLAIN,
        }
    }

    fn cpu_head(self) -> &'static str {
        match self {
            Self::Resumable => RESUMABLE_HEAD,
            #[cfg(feature = "deflate")]
            Self::Compressed => COMPRESSED_HEAD,
        }
    }

    fn memory_head(self) -> &'static str {
        match self {
            Self::Resumable => RESUMABLE_MEMORY_HEAD,
            #[cfg(feature = "deflate")]
            Self::Compressed => COMPRESSED_MEMORY_HEAD,
        }
    }
}

struct Line {
    scenario: String,
    ours: &'static str,
    baseline: &'static str,
    target: Target,
}

#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
    lines: Vec<Line>,
}

impl Report {
    pub(crate) fn add(&mut self, scenario: &str, competitor: &str, unit: &'static str, sample: f64) {
        let known = self.rows.iter_mut().find(|row| row.scenario == scenario && row.competitor == competitor);
        match known {
            Some(row) => row.samples.push(sample),
            None => {
                let (scenario, competitor) = (scenario.to_owned(), competitor.to_owned());
                self.rows.push(Row { scenario, competitor, unit, samples: vec![sample] });
            }
        }
    }

    /// Asks for a line in a table: `ours` against `baseline`.
    pub(crate) fn compare(&mut self, scenario: &str, ours: &'static str, baseline: &'static str, target: Target) {
        self.lines.push(Line { scenario: scenario.to_owned(), ours, baseline, target });
    }

    fn row(&self, scenario: &str, competitor: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.scenario == scenario && row.competitor == competitor)
    }

    /// A table for each kind of target, in the order of their first lines.
    pub(crate) fn tables(&self) -> String {
        let mut tables: Vec<(&str, String)> = Vec::new();
        for (head, line) in self.lines.iter().filter_map(|line| self.shown(line)) {
            match tables.iter_mut().find(|(known, _)| *known == head) {
                Some((_, lines)) => lines.push_str(&line),
                None => tables.push((head, line)),
            }
        }
        let tables: Vec<_> = tables.into_iter().map(|(head, lines)| format!("{head}{lines}")).collect();
        tables.join("\n")
    }

    /// The head of the table that the line belongs to, and the line; none if it was not measured.
    fn shown(&self, line: &Line) -> Option<(&'static str, String)> {
        let (scenario, which) = (&line.scenario, line.ours);
        let ours = self.row(scenario, which)?;
        let baseline = self.row(scenario, line.baseline)?;
        let other = |name| self.row(scenario, name).map_or(String::new(), Row::shown);
        let (figure, baseline_figure, usual) = (ours.shown(), baseline.shown(), other("usual"));
        Some(match line.target {
            Target::Ratio(least, aim) => {
                let ratio = baseline.ratio_to(ours);
                let figures = format!("{figure} | {baseline_figure} | {} | {usual}", other("best"));
                let ratios = format!("**{ratio:.2}** | {}", self.best_ratio(scenario, ours));
                (CPU_HEAD, format!("| {scenario} | {which} | {figures} | {ratios} | {least} | {aim} |\n"))
            }
            Target::Most(most, aim) => {
                let (most, aim) = (shown(most, ours.unit), shown(aim, ours.unit));
                let others = format!("{baseline_figure} | {} | {usual}", other("best"));
                (MEMORY_HEAD, format!("| {scenario} | **{figure}** | {most} | {aim} | {others} |\n"))
            }
            Target::Growth(most) => {
                let ratio = ours.ratio_to(baseline);
                let most = most.map_or(String::new(), |most| most.to_string());
                (GROWTH_HEAD, format!("| {scenario} | {baseline_figure} | {figure} | **{ratio:.2}** | {most} |\n"))
            }
            Target::Mounted(most) => {
                let ratio = ours.ratio_to(baseline);
                let figures = format!("{figure} | {baseline_figure} | {}", other("axum"));
                (MOUNTED_HEAD, format!("| {scenario} | {which} | {figures} | **{ratio:.2}** | {most} |\n"))
            }
            Target::Used(mode, most) => {
                let unused = self.row(scenario, mode.unused())?;
                let (ratio, unused_ratio) = (ours.ratio_to(baseline), unused.ratio_to(baseline));
                let figures = format!("{baseline_figure} | {figure} | **{ratio:.2}** | {most}");
                (mode.cpu_head(), format!("| {scenario} | {figures} | {} | {unused_ratio:.2} |\n", unused.shown()))
            }
            Target::More(mode, most) => {
                let more = shown(ours.middle() - baseline.middle(), ours.unit);
                let figures = format!("{baseline_figure} | {} | {figure}", other(mode.unused()));
                (mode.memory_head(), format!("| {scenario} | {figures} | **{more}** | {} |\n", shown(most, ours.unit)))
            }
            Target::Beside(head) => {
                let (ratio, best_ratio) = (baseline.ratio_to(ours), self.best_ratio(scenario, ours));
                let figures = format!("{figure} | {baseline_figure} | {}", other("best"));
                (head, format!("| {scenario} | {figures} | **{ratio:.2}** | {best_ratio} |\n"))
            }
            Target::Against => {
                let (ratio, noise) = (ours.ratio_to(baseline), self.row(scenario, THIS_AGAIN)?.ratio_to(ours));
                (AGAINST_HEAD, format!("| {scenario} | {figure} | {baseline_figure} | **{ratio:.3}** | {noise:.3} |\n"))
            }
            #[cfg(feature = "tls")]
            Target::Tls(least) => {
                let ratio = baseline.ratio_to(ours);
                let figures = format!("{figure} | {baseline_figure} | {}", other("best"));
                let ratios = format!("**{ratio:.2}** | {}", self.best_ratio(scenario, ours));
                (TLS_HEAD, format!("| {scenario} | {figures} | {ratios} | {least} |\n"))
            }
        })
    }

    /// The figure of the best server divided by ours, if it was measured.
    fn best_ratio(&self, scenario: &str, ours: &Row) -> String {
        self.row(scenario, "best").map_or(String::new(), |best| format!("{:.2}", best.ratio_to(ours)))
    }

    /// All samples, one competitor a line; that of ours names its baseline, and the ratio to reach.
    pub(crate) fn raw(&self) -> String {
        let mut csv = String::from("scenario;competitor;unit;baseline;least;samples\n");
        for Row { scenario, competitor, unit, samples } in &self.rows {
            let line = self.lines.iter().find(|line| line.scenario == *scenario && line.ours == competitor);
            let baseline = line.map_or("", |line| line.baseline);
            let least = match line.map(|line| line.target) {
                Some(Target::Ratio(least, _)) => least.to_string(),
                _ => String::new(),
            };
            let samples: Vec<_> = samples.iter().map(|sample| format!("{sample:.1}")).collect();
            let _ = writeln!(csv, "{scenario};{competitor};{unit};{baseline};{least};{}", samples.join(" "));
        }
        csv
    }
}

const CPU_HEAD: &str = "\
    | CPU time for each message, delivery or handshake | which | its figure | tuned | best | usual | tuned ÷ ours | best ÷ ours | at least | aim |\n\
    |---|---|--:|--:|--:|--:|--:|--:|--:|--:|\n";

pub(crate) const HANDSHAKES_HEAD: &str = "\
    | many handshakes at once | ours | tuned | best | tuned ÷ ours | best ÷ ours |\n\
    |---|--:|--:|--:|--:|--:|\n";

pub(crate) const LATENCY_HEAD: &str = "\
    | time until an echo is back, from when it was due | ours | tuned | best | tuned ÷ ours | best ÷ ours |\n\
    |---|--:|--:|--:|--:|--:|\n";

const MEMORY_HEAD: &str = "\
    | memory for each connection | ours | at most | aim | tuned | best | usual |\n\
    |---|--:|--:|--:|--:|--:|--:|\n";

const MOUNTED_HEAD: &str = "\
| mounted in axum | which | its figure | our own listener | axum's own socket | its ÷ own listener | at most |
|---|---|--:|--:|--:|--:|--:|
";

/// A server in a mode whose clients use it, and one whose clients do not.
pub(crate) const RESUMABLE: &str = "resumable";
pub(crate) const RESUMABLE_PLAIN: &str = "resumable, plain clients";
#[cfg(feature = "deflate")]
pub(crate) const COMPRESSED: &str = "compressed";
#[cfg(feature = "deflate")]
pub(crate) const COMPRESSED_PLAIN: &str = "compressed, plain clients";

const RESUMABLE_HEAD: &str = "\
    | CPU time in the resumable mode | without | in use | in use ÷ without | at most | on, plain clients | ÷ without |\n\
    |---|--:|--:|--:|--:|--:|--:|\n";

const RESUMABLE_MEMORY_HEAD: &str = "\
    | memory for each connection in the resumable mode | without | on, plain clients | in use | more | at most |\n\
    |---|--:|--:|--:|--:|--:|\n";

#[cfg(feature = "deflate")]
const COMPRESSED_HEAD: &str = "\
    | CPU time with compression | without | agreed on | agreed on ÷ without | at most | on, not agreed on | ÷ without |\n\
    |---|--:|--:|--:|--:|--:|--:|\n";

#[cfg(feature = "deflate")]
const COMPRESSED_MEMORY_HEAD: &str = "\
    | memory for each connection with compression | without | on, not agreed on | agreed on | more | at most |\n\
    |---|--:|--:|--:|--:|--:|\n";

/// The names of this build and another, and of this one measured twice.
pub(crate) const THIS: &str = "this";
pub(crate) const OTHER: &str = "other";
pub(crate) const THIS_AGAIN: &str = "this, again";

const AGAINST_HEAD: &str = "\
    | this build against another | this | other | this ÷ other | this ÷ this |\n\
    |---|--:|--:|--:|--:|\n";

#[cfg(feature = "tls")]
const TLS_HEAD: &str = "\
    | CPU time for each message over TLS | TLS, ours | tokio-rustls by hand | best | by hand ÷ ours | best ÷ ours | at least |\n\
    |---|--:|--:|--:|--:|--:|--:|\n";

const GROWTH_HEAD: &str = "\
    | CPU time for one echo among few and among many | few | many | many ÷ few | at most |\n\
    |---|--:|--:|--:|--:|\n";

fn shown(figure: f64, unit: &str) -> String {
    match unit {
        "B" => format!("{:.1} KiB", figure / 1024.0),
        _ if figure >= 10_000.0 => format!("{:.1} us", figure / 1000.0),
        _ => format!("{:.2} us", figure / 1000.0),
    }
}
