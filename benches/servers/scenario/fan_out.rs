//! Fan-outs: what one says goes to all others.

use super::{Bench, Echo, audience, is_sampled};
use crate::{
    competitor::Competitor,
    load::{Burst, Swarm},
    report::{
        BARE,
        Target::{self, Ratio},
    },
};

impl Bench {
    pub(super) fn fan_outs(&mut self) {
        let all = ["ours", "tuned", "best", "one-subject", "usual", BARE];
        self.fan_out("fan-out to 500, 1 at a time", &all, (500, 1), 60, Ratio(1.05, 1.33));
        self.fan_out("fan-out to 500, 16 at a time", &all, (500, 16), 10, Ratio(1.2, 1.9));
        // Of three servers: more would need more descriptors than many machines allow.
        self.fan_out("fan-out to 5,000, 4 at a time", &all[..3], (5000, 4), 4, Ratio(1.2, 1.5));
    }

    fn fan_out(
        &mut self,
        scenario: &str,
        names: &[&'static str],
        (listeners, at_a_time): (usize, usize),
        rounds: usize,
        target: Target,
    ) {
        if !self.wants(scenario, names.len() * listeners) {
            return;
        }
        let burst = Burst::echoed(128, at_a_time);
        let start = |name: &&'static str| {
            if *name == BARE {
                return (*name, Echo::bare_fan_out(&burst, listeners));
            }
            let server = Competitor::start(&format!("{name}-fan-out"), &[]);
            let swarm = Swarm::connect(server.addr, audience(listeners));
            (*name, Echo { server, swarm })
        };
        let mut contest: Vec<_> = names.iter().map(start).collect();
        self.fan_out_contest(scenario, &mut contest, &burst, rounds);
        self.report.compare(scenario, "ours", "tuned", target);
        self.report.by_hand(scenario, "ours", "one-subject");
        self.report.bound(scenario);
    }

    /// Measures fan-outs in turn, round after round.
    pub(super) fn fan_out_contest(
        &mut self,
        scenario: &str,
        contest: &mut [(&str, Echo)],
        burst: &Burst,
        rounds: usize,
    ) {
        contest.iter_mut().for_each(|(_, echo)| echo.swarm.fan_out(burst, 2));
        for round in 0..self.rounds() {
            for (name, echo) in &mut *contest {
                if is_sampled(name, round) {
                    self.report.add(scenario, name, "ns", echo.cost_of_fan_out(burst, rounds));
                }
            }
        }
    }
}
