//! Handshakes, each with the end of its connection.

use std::time::Duration;

use super::{Bench, paths};
use crate::{competitor::Competitor, report::Target::Ratio, wire::connect_all};

impl Bench {
    pub(super) fn handshakes(&mut self) {
        let scenario = "handshake";
        const AT_ONCE: usize = 300;
        if !self.wants(scenario, AT_ONCE) {
            return;
        }
        let names = ["ours", "tuned", "best", "usual"];
        let mut contest = names.map(|name| (name, Competitor::start(name, &[])));
        for round in 0..self.rounds() {
            for (name, server) in &mut contest {
                let before = server.cpu();
                drop(connect_all(server.addr, paths(AT_ONCE)));
                // Until the server has noticed that they are gone.
                std::thread::sleep(Duration::from_millis(30));
                let cost = (server.cpu() - before) / AT_ONCE as f64;
                if round > 0 {
                    self.report.add(scenario, name, "ns", cost);
                }
            }
        }
        self.report.compare(scenario, "ours", "tuned", Ratio(0.7, 1.0));
    }
}
