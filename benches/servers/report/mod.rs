//! What was measured: tables to read, and the raw numbers for `benches/chart.py`.

mod heads;
mod table;
mod target;

use std::fmt::Write;

use self::table::shown;
pub(crate) use self::{
    heads::{HANDSHAKES_HEAD, LATENCY_HEAD},
    target::*,
};

/// The numbers of one competitor in one scenario: nanoseconds of CPU time, bytes, messages a second or a plain ratio, by `unit`.
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

    /// Asks for a line on what bounds the aim of our server in this scenario.
    pub(crate) fn bound(&mut self, scenario: &str) {
        let target = self.lines.iter().find(|line| line.scenario == scenario && line.ours == "ours");
        if let Some(Line { target: Target::Ratio(_, aim), .. }) = target {
            let target = Target::Bound(*aim);
            self.compare(scenario, BARE, "tuned", target);
        }
    }

    /// Asks for a line on the server by hand that emits as our server of this name does.
    pub(crate) fn by_hand(&mut self, scenario: &str, name: &'static str, by_hand: &'static str) {
        let target = self.lines.iter().find(|line| line.scenario == scenario && line.ours == name);
        if let Some(Line { target: Target::Ratio(_, aim), .. }) = target {
            let target = Target::ByHand(name, *aim);
            self.compare(scenario, by_hand, "tuned", target);
        }
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
            // A plain ratio has no larger part that it could be rounded to.
            let digits = if unit.is_empty() { 3 } else { 1 };
            let samples: Vec<_> = samples.iter().map(|sample| format!("{sample:.digits$}")).collect();
            let _ = writeln!(csv, "{scenario};{competitor};{unit};{baseline};{least};{}", samples.join(" "));
        }
        csv
    }
}
