//! What was measured: a table to read, and the raw numbers for `benches/chart.py`.

use std::{fmt::Write, fs, path::Path};

/// The numbers of one competitor in one scenario: nanoseconds of CPU time or bytes, by `unit`.
struct Row {
    scenario: String,
    competitor: String,
    unit: &'static str,
    samples: Vec<f64>,
}

/// What the competitor `ours` is to reach in a scenario.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    /// The baseline's figure divided by ours, at least and as an aim.
    Ratio(f64, f64),
    /// Our figure, at most and as an aim.
    Most(f64, f64),
}

struct Line {
    scenario: String,
    ours: &'static str,
    baseline: &'static str,
    target: Option<Target>,
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

    /// Asks for a line in the table: `ours` against `baseline`.
    pub(crate) fn compare(
        &mut self,
        scenario: &str,
        ours: &'static str,
        baseline: &'static str,
        target: Option<Target>,
    ) {
        self.lines.push(Line { scenario: scenario.to_owned(), ours, baseline, target });
    }

    /// The middle sample, which one that a neighbour disturbed does not move.
    fn median(&self, scenario: &str, competitor: &str) -> Option<(f64, &'static str)> {
        let row = self.rows.iter().find(|row| row.scenario == scenario && row.competitor == competitor)?;
        let mut samples = row.samples.clone();
        samples.sort_by(f64::total_cmp);
        Some((samples[samples.len() / 2], row.unit))
    }

    pub(crate) fn table(&self) -> String {
        let mut table = String::from(
            "| scenario | ours | figure | baseline | ratio | at least | aim | usual |\n|---|---|--:|--:|--:|--:|--:|--:|\n",
        );
        for line in &self.lines {
            let Some((figure, unit)) = self.median(&line.scenario, line.ours) else { continue };
            let baseline = self.median(&line.scenario, line.baseline).map(|(figure, _)| figure);
            let usual = self.median(&line.scenario, "usual").map(|(figure, _)| figure);
            let (least, aim) = match line.target {
                Some(Target::Ratio(least, aim)) => (format!("{least}"), format!("{aim}")),
                Some(Target::Most(most, aim)) => (shown(most, unit), shown(aim, unit)),
                None => Default::default(),
            };
            let ratio = baseline.map_or(String::new(), |baseline| format!("{:.2}", baseline / figure));
            let [baseline, usual] = [baseline, usual].map(|figure| figure.map_or("".into(), |it| shown(it, unit)));
            let _ = writeln!(
                table,
                "| {} | {} | {} | {baseline} | {ratio} | {least} | {aim} | {usual} |",
                line.scenario,
                line.ours,
                shown(figure, unit),
            );
        }
        table
    }

    pub(crate) fn save(&self, path: &Path) {
        let mut csv = String::from("scenario;competitor;unit;samples\n");
        for Row { scenario, competitor, unit, samples } in &self.rows {
            let samples: Vec<_> = samples.iter().map(|sample| format!("{sample:.0}")).collect();
            let _ = writeln!(csv, "{scenario};{competitor};{unit};{}", samples.join(" "));
        }
        fs::create_dir_all(path.parent().expect("a file in a directory")).expect("a target directory");
        fs::write(path, csv).expect("room on the disk");
    }
}

fn shown(figure: f64, unit: &str) -> String {
    match unit {
        "B" => format!("{:.1} KiB", figure / 1024.0),
        _ if figure >= 10_000.0 => format!("{:.1} us", figure / 1000.0),
        _ => format!("{:.2} us", figure / 1000.0),
    }
}
