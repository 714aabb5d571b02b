//! Echoes, and the CPU time that they cost.

use super::{Bench, KIB, MIB, audience, is_sampled, paths};
use crate::{
    competitor::Competitor,
    load::{Burst, Swarm},
    report::{
        BARE,
        Target::{self, Ratio},
    },
};

impl Bench {
    pub(super) fn echoes(&mut self) {
        let names = ["ours", "ours-subscribed", "ours-tagged"];
        let small = |least: [Target; 3]| names.into_iter().zip(least).collect::<Vec<_>>();
        let one = small([Ratio(0.95, 1.06), Ratio(0.95, 1.06), Ratio(0.9, 1.0)]);
        let sixteen = small([Ratio(1.0, 1.35), Ratio(1.0, 1.25), Ratio(0.9, 1.2)]);
        self.echo("echo 128 B, 1 in flight", 64, (128, 1), 60, &one);
        self.echo("echo 128 B, 16 in flight", 64, (128, 16), 60, &sixteen);
        self.echo("echo 16 KiB, 1 in flight", 64, (16 * KIB, 1), 20, &[("ours", Ratio(1.25, 1.45))]);
        self.echo("echo 16 KiB, 16 in flight", 64, (16 * KIB, 16), 2, &[("ours", Ratio(1.25, 1.45))]);
        self.echo("echo 1 MiB, 1 in flight", 16, (MIB, 1), 4, &[("ours", Ratio(1.5, 2.2))]);
    }

    /// Compares echoes over `peers` connections, each with a path of its own.
    fn echo(
        &mut self,
        scenario: &str,
        peers: usize,
        (payload_len, in_flight): (usize, usize),
        bursts: usize,
        ours: &[(&'static str, Target)],
    ) {
        if !self.wants(scenario, (ours.len() + 6) * peers) {
            return;
        }
        let burst = Burst::echoed(payload_len, in_flight);
        let names = ours.iter().map(|(name, _)| *name).chain(["tuned", "best", "subjects", "one-subject", "usual"]);
        let contest = names.map(|name| (name, Echo::start(name, peers)));
        let contest = contest.chain([(BARE, Echo::bare(&burst, peers))]).collect();
        self.contest(scenario, contest, &burst, bursts);
        ours.iter().for_each(|(name, target)| self.report.compare(scenario, name, "tuned", *target));
        self.report.by_hand(scenario, "ours", "subjects");
        self.report.by_hand(scenario, "ours-tagged", "one-subject");
        self.report.bound(scenario);
    }

    /// Measures echoes in turn, round after round.
    pub(crate) fn contest(&mut self, scenario: &str, mut contest: Vec<(&str, Echo)>, burst: &Burst, bursts: usize) {
        contest.iter_mut().for_each(|(_, echo)| _ = echo.cost(burst, bursts / 4 + 1));
        for round in 0..self.rounds() {
            for (name, echo) in &mut contest {
                if is_sampled(name, round) {
                    self.report.add(scenario, name, "ns", echo.cost(burst, bursts));
                }
            }
        }
    }
}

/// A server, and its load.
pub(crate) struct Echo {
    pub(crate) server: Competitor,
    pub(crate) swarm: Swarm,
}

impl Echo {
    pub(super) fn start(name: &str, peers: usize) -> Self {
        let server = Competitor::start(name, &[]);
        let swarm = Swarm::connect(server.addr, paths(peers));
        Self { server, swarm }
    }

    /// The system calls of these bursts alone.
    pub(super) fn bare(burst: &Burst, peers: usize) -> Self {
        let lens = burst.lens().map(|len| (len / burst.messages).to_string());
        let server = Competitor::start(BARE, &lens);
        let swarm = Swarm::connect(server.addr, paths(peers));
        Self { server, swarm }
    }

    /// As [`bare`](Self::bare), of a fan-out.
    pub(crate) fn bare_fan_out(burst: &Burst, listeners: usize) -> Self {
        let server = Competitor::start("bare-fan-out", &burst.lens().map(|len| len.to_string()));
        let swarm = Swarm::connect(server.addr, audience(listeners));
        Self { server, swarm }
    }

    /// The server's CPU time for a message, all peers at once, in nanoseconds.
    pub(crate) fn cost(&mut self, burst: &Burst, bursts: usize) -> f64 {
        let before = self.server.cpu();
        self.swarm.echo(0..self.swarm.len(), burst, bursts);
        (self.server.cpu() - before) / (self.swarm.len() * bursts * burst.messages) as f64
    }

    /// The server's CPU time for a delivery of what one peer says to all others.
    pub(crate) fn cost_of_fan_out(&mut self, burst: &Burst, bursts: usize) -> f64 {
        let before = self.server.cpu();
        self.swarm.fan_out(burst, bursts);
        (self.server.cpu() - before) / (bursts * burst.messages * (self.swarm.len() - 1)) as f64
    }
}
