//! Handshakes, each with the end of its connection.

use std::time::Duration;

use super::{Bench, paths};
use crate::{
    competitor::Competitor,
    report::{BARE, Target::Ratio},
    wire::connect_all,
};

impl Bench {
    pub(super) const HANDSHAKES_AT_ONCE: usize = 300;

    pub(super) fn handshakes(&mut self) {
        let scenario = "handshake";
        if !self.wants(scenario, Self::HANDSHAKES_AT_ONCE) {
            return;
        }
        let names = ["ours", "tuned", "best", "subjects", "usual"];
        let contest = names.map(|name| (name, Competitor::start(name, &[])));
        // Of the connection nothing is asked but its beginning and its end.
        let bare = (BARE, Competitor::start(BARE, &["1", "1"].map(String::from)));
        self.handshake_contest(scenario, contest.into_iter().chain([bare]).collect());
        self.report.compare(scenario, "ours", "tuned", Ratio(0.7, 1.05));
        self.report.by_hand(scenario, "ours", "subjects");
        self.report.bound(scenario);
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
