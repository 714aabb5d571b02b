//! Servers that are mounted in axum.

use super::{Bench, Echo, paths};
use crate::{
    competitor::Competitor,
    load::{Burst, Swarm},
    report::Target::Mounted,
};

impl Bench {
    /// Compares servers that are mounted in axum with our own listener.
    pub(super) fn mounted(&mut self) {
        const PEERS: usize = 64;
        let names = ["ours", "mounted", "mounted-here", "axum"];
        for (scenario, in_flight) in
            [("mounted: echo 128 B, 1 in flight", 1), ("mounted: echo 128 B, 16 in flight", 16)]
        {
            if !self.wants(scenario, names.len() * PEERS) {
                continue;
            }
            let burst = Burst::echoed(128, in_flight);
            let contest = names.into_iter().map(|name| (name, Echo::start(name, PEERS))).collect();
            self.contest(scenario, contest, &burst, 60);
            self.report.compare(scenario, "mounted", "ours", Mounted(1.05));
            self.report.compare(scenario, "mounted-here", "ours", Mounted(1.1));
        }
    }

    /// What an idle connection keeps.
    pub(super) fn mounted_memory(&mut self) {
        let (idle, connections) = ("mounted: idle connection", 1000);
        if !self.wants(idle, connections) {
            return;
        }
        for name in ["ours", "mounted", "axum"] {
            let server = Competitor::start(name, &[]);
            // A few go ahead, for what the process itself keeps.
            let _first = Swarm::connect(server.addr, paths(100));
            let before = server.memory();
            let _open = Swarm::connect(server.addr, paths(connections));
            self.report.add(idle, name, "B", (server.memory() - before) / connections as f64);
        }
        self.report.compare(idle, "mounted", "ours", Mounted(1.2));
    }
}
