//! A rush of handshakes: how long it takes, and what it costs the server.

use std::time::{Duration, Instant};

use super::{Bench, paths};
use crate::{
    competitor::Competitor,
    load::rush::Rush,
    report::{HANDSHAKES_HEAD, Target::Beside},
};

const NAMES: [&str; 3] = ["ours", "tuned", "best"];

/// Fewer than of others: each has thousands of handshakes.
const ROUNDS: usize = 5;

impl Bench {
    pub(crate) fn rush(&mut self) {
        let (count, shown) = if self.quick { (2000, "2,000") } else { (10_000, "10,000") };
        if !self.wants("rush of handshakes", count) {
            return;
        }
        let [wall, cpu] = ["wall", "CPU"].map(|clock| format!("rush of {shown} handshakes, {clock} time of each"));
        let mut contest = NAMES.map(|name| (name, Competitor::start(name, &[])));
        contest.iter_mut().for_each(|(_, server)| _ = cost(server, count / 4));
        for _ in 0..ROUNDS {
            for (name, server) in &mut contest {
                let Cost { wall_time, cpu_time } = cost(server, count);
                self.report.add(&wall, name, "ns", wall_time);
                self.report.add(&cpu, name, "ns", cpu_time);
            }
        }
        self.report.compare(&wall, "ours", "tuned", Beside(HANDSHAKES_HEAD));
        self.report.compare(&cpu, "ours", "tuned", Beside(HANDSHAKES_HEAD));
    }
}

/// Of a handshake, in nanoseconds.
struct Cost {
    wall_time: f64,
    cpu_time: f64,
}

fn cost(server: &mut Competitor, count: usize) -> Cost {
    let (before, begin) = (server.cpu(), Instant::now());
    let open = Rush::run(server.addr, paths(count));
    let (wall, cpu) = (begin.elapsed(), server.cpu() - before);
    drop(open);
    settle(server);
    Cost { wall_time: wall.as_nanos() as f64 / count as f64, cpu_time: cpu / count as f64 }
}

/// Waits until the server has noticed that its connections are gone.
fn settle(server: &mut Competitor) {
    const STEP: Duration = Duration::from_millis(20);
    let mut before = server.cpu();
    loop {
        std::thread::sleep(STEP);
        let now = server.cpu();
        if now - before < STEP.as_nanos() as f64 / 20.0 {
            return;
        }
        before = now;
    }
}
