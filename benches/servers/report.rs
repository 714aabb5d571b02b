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
    fn shown(&self) -> String {
        shown(median(self.samples.iter().copied()), self.unit)
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

    /// A table for each kind of target.
    pub(crate) fn tables(&self) -> String {
        let [mut cpu, mut memory, mut growth, mut mounted] = [const { String::new() }; 4];
        for line in &self.lines {
            let (scenario, which) = (&line.scenario, line.ours);
            let Some(ours) = self.row(scenario, which) else { continue };
            let Some(baseline) = self.row(scenario, line.baseline) else { continue };
            let usual = self.row(scenario, "usual").map_or(String::new(), Row::shown);
            let (figure, baseline_figure) = (ours.shown(), baseline.shown());
            let _ = match line.target {
                Target::Ratio(least, aim) => writeln!(
                    cpu,
                    "| {scenario} | {which} | {figure} | {baseline_figure} | {usual} | **{:.2}** | {least} | {aim} |",
                    baseline.ratio_to(ours),
                ),
                Target::Most(most, aim) => writeln!(
                    memory,
                    "| {scenario} | **{figure}** | {} | {} | {baseline_figure} | {usual} |",
                    shown(most, ours.unit),
                    shown(aim, ours.unit),
                ),
                Target::Growth(most) => writeln!(
                    growth,
                    "| {scenario} | {baseline_figure} | {figure} | **{:.2}** | {} |",
                    ours.ratio_to(baseline),
                    most.map_or("".into(), |most| most.to_string()),
                ),
                Target::Mounted(most) => writeln!(
                    mounted,
                    "| {scenario} | {which} | {figure} | {baseline_figure} | {} | **{:.2}** | {most} |",
                    self.row(scenario, "axum").map_or(String::new(), Row::shown),
                    ours.ratio_to(baseline),
                ),
            };
        }
        let mut tables = String::new();
        for (head, lines) in [(CPU_HEAD, cpu), (MEMORY_HEAD, memory), (GROWTH_HEAD, growth), (MOUNTED_HEAD, mounted)] {
            if !lines.is_empty() {
                let gap = if tables.is_empty() { "" } else { "\n" };
                let _ = write!(tables, "{gap}{head}{lines}");
            }
        }
        tables
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
    | CPU time for each message, delivery or handshake | which | its figure | tuned | usual | tuned ÷ ours | at least | aim |\n\
    |---|---|--:|--:|--:|--:|--:|--:|\n";

const MEMORY_HEAD: &str = "\
    | memory for each connection | ours | at most | aim | tuned | usual |\n\
    |---|--:|--:|--:|--:|--:|\n";

const MOUNTED_HEAD: &str = "\
| mounted in axum | which | its figure | our own listener | axum's own socket | its ÷ own listener | at most |
|---|---|--:|--:|--:|--:|--:|
";

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
