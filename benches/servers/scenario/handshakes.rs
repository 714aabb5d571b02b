//! Handshakes, each with the end of its connection.

use std::time::Duration;

use super::{Bench, paths};
use crate::{competitor::Competitor, report::Target::Ratio, wire::connect_all};

impl Bench {
    pub(super) const HANDSHAKES_AT_ONCE: usize = 300;

    pub(super) fn handshakes(&mut self) {
        let scenario = "handshake";
        if !self.wants(scenario, Self::HANDSHAKES_AT_ONCE) {
            return;
        }
        let names = ["ours", "tuned", "best", "usual"];
        self.handshake_contest(scenario, names.map(|name| (name, Competitor::start(name, &[]))).into());
        self.report.compare(scenario, "ours", "tuned", Ratio(0.7, 1.0));
    }

    /// Measures handshakes in turn, round after round.
    pub(super) fn handshake_contest(&mut self, scenario: &str, mut contest: Vec<(&str, Competitor)>) {
        for round in 0..self.rounds() {
            for (name, server) in &mut contest {
                let before = server.cpu();
                drop(connect_all(server.addr, paths(Self::HANDSHAKES_AT_ONCE)));
                // Until the server has noticed that they are gone.
                std::thread::sleep(Duration::from_millis(30));
                let cost = (server.cpu() - before) / Self::HANDSHAKES_AT_ONCE as f64;
                if round > 0 {
                    self.report.add(scenario, name, "ns", cost);
                }
            }
        }
    }
}
