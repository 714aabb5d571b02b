//! How long an echo takes at a fixed rate, half of what the tuned server is able to.

use std::time::{Duration, Instant};

use super::{Bench, Echo, paths};
use crate::{
    competitor::Competitor,
    load::{Burst, paced::Paced},
    report::{LATENCY_HEAD, Target::Beside},
};

const NAMES: [&str; 3] = ["ours", "tuned", "best"];
const PEERS: usize = 64;

/// How long each competitor is measured in a round.
const ROUND: Duration = Duration::from_secs(1);

impl Bench {
    pub(crate) fn latency(&mut self) {
        if !self.wants("latency at a fixed rate", NAMES.len() * PEERS) {
            return;
        }
        let rate = peak_of_tuned() / 2.0;
        let interval = Duration::from_secs_f64(1.0 / rate);
        let scenario = |part: &str| format!("latency at {:.0},000 messages a second: {part}", rate / 1000.0);
        let mut contest = NAMES.map(|name| {
            let server = Competitor::start(name, &[]);
            let paced = Paced::connect(server.addr, paths(PEERS));
            (name, server, paced)
        });
        contest.iter_mut().for_each(|(.., paced)| _ = run(paced, interval, ROUND / 4));
        for _ in 0..self.rounds() {
            for (name, _, paced) in &mut contest {
                let latencies = run(paced, interval, ROUND);
                for (part, percent) in PERCENTILES {
                    self.report.add(&scenario(part), name, "ns", percentile(&latencies, percent));
                }
            }
        }
        for (part, _) in PERCENTILES {
            self.report.compare(&scenario(part), "ours", "tuned", Beside(LATENCY_HEAD));
        }
    }
}

const PERCENTILES: [(&str, f64); 3] = [("p50", 50.0), ("p99", 99.0), ("p99.9", 99.9)];

/// Messages a second, each connection with one in flight.
fn peak_of_tuned() -> f64 {
    const BURSTS: usize = 500;
    let mut echo = Echo::start("tuned", PEERS);
    let burst = Burst::echoed(128, 1);
    echo.swarm.echo(0..PEERS, &burst, BURSTS / 4);
    let begin = Instant::now();
    echo.swarm.echo(0..PEERS, &burst, BURSTS);
    (PEERS * BURSTS) as f64 / begin.elapsed().as_secs_f64()
}

/// The latencies in order, in nanoseconds.
fn run(paced: &mut Paced, interval: Duration, time: Duration) -> Vec<f64> {
    let messages = time.div_duration_f64(interval) as usize;
    let mut latencies: Vec<_> = paced.run(interval, messages).iter().map(|it| it.as_nanos() as f64).collect();
    latencies.sort_by(f64::total_cmp);
    latencies
}

fn percentile(ordered: &[f64], percent: f64) -> f64 {
    let at = (ordered.len() as f64 * percent / 100.0) as usize;
    ordered[at.min(ordered.len() - 1)]
}
