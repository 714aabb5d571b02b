//! Clients that receive and that send.

use super::Bench;
use crate::{
    client::Link,
    report::{BARE, Target::Ratio},
};

impl Bench {
    pub(super) fn clients(&mut self) {
        let receiving = ["client-ours-receiving", "client-tuned-receiving"];
        self.client("client receiving 128 B", &receiving, Link::receiving, 1.3);
        let sending = ["client-ours-sending", "client-tuned-sending", "client-bare-sending"];
        self.client("client sending 128 B", &sending, Link::sending, 1.0);
    }

    fn client(&mut self, scenario: &str, names: &[&'static str], cost: fn(&mut Link) -> f64, aim: f64) {
        if !self.wants(scenario, names.len()) {
            return;
        }
        let mut contest: Vec<_> = names.iter().map(|name| Link::start(name)).collect();
        contest.iter_mut().for_each(|link| _ = cost(link));
        for _ in 0..self.rounds() {
            for (name, link) in ["ours", "tuned", BARE].into_iter().zip(&mut contest) {
                self.report.add(scenario, name, "ns", cost(link));
            }
        }
        self.report.compare(scenario, "ours", "tuned", Ratio(0.9, aim));
        self.report.bound(scenario);
    }
}
