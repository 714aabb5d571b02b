//! What connections keep, and what many of them cost.

use std::net::SocketAddr;

use super::{Bench, Echo, KIB, MIB, paths};
use crate::{
    competitor::Competitor,
    load::{Burst, Swarm},
    report::{
        BARE,
        Target::{Growth, Most},
    },
    wire::connect_all,
};

/// Opens so many connections.
pub(crate) type Connect = fn(SocketAddr, usize) -> Swarm;

impl Bench {
    /// Servers without a mode and with it, by name and by what is started, and how their clients connect.
    pub(crate) fn idle_in_mode(&mut self, idle: &str, connections: usize, servers: [(&str, &str, Connect); 3]) {
        if !self.wants(idle, connections) {
            return;
        }
        for (name, started, connect) in servers {
            let server = Competitor::start(started, &[]);
            // A few go ahead, for what the process itself keeps.
            let _first = connect(server.addr, 100);
            let before = server.memory();
            let _open = connect(server.addr, connections);
            self.report.add(idle, name, "B", (server.memory() - before) / connections as f64);
        }
    }

    pub(super) fn memory_after_large_messages(&mut self) {
        let scenario = "kept after a 1 MiB echo";
        const PEERS: usize = 100;
        if !self.wants(scenario, PEERS) {
            return;
        }
        let burst = Burst::echoed(MIB, 1);
        for name in ["ours", "tuned", "best", "usual"] {
            let mut echo = Echo::start(name, PEERS);
            // One goes ahead, for what the process itself keeps.
            echo.swarm.echo(0..1, &burst, 1);
            let before = echo.server.memory();
            (1..PEERS).for_each(|peer| echo.swarm.echo(peer..peer + 1, &burst, 1));
            self.report.add(scenario, name, "B", (echo.server.memory() - before).max(0.0) / (PEERS - 1) as f64);
        }
        self.report.compare(scenario, "ours", "tuned", Most(128.0 * KIB as f64, 16.0 * KIB as f64));
    }

    /// What 10,000 connections cost while they are idle, and how much more an echo costs among them than among ten.
    pub(super) fn many_connections(&mut self) {
        let idle = "idle connection";
        let (many, so_many) = if self.quick { (2000, "2,000") } else { (10_000, "10,000") };
        if !self.wants(idle, many + 10) {
            return;
        }
        let growth = |name: &str| format!("{name}: 10 and {so_many} connections");
        let paths_grow = format!("ours-tagged, always the same path: 1 and {so_many} paths");
        let names = ["ours", "ours-tagged", "tuned", "best", BARE];
        let lens = Burst::echoed(128, 1).lens().map(|len| len.to_string());
        for name in names {
            let args = if name == BARE { &lens[..] } else { &[] };
            let [few, server] = [(); 2].map(|()| Competitor::start(name, args));
            let mut few = Echo { swarm: Swarm::connect(few.addr, paths(10)), server: few };
            let before = server.memory();
            let swarm = Swarm::connect(server.addr, paths(many));
            self.report.add(idle, name, "B", (server.memory() - before) / many as f64);
            let mut many = Echo { server, swarm };
            self.growth(&growth(name), &mut few, &mut many, Echo::cost_in_turn, (200, 1));
            if name == "ours-tagged" {
                let mut one = Echo::start(name, 1);
                self.growth(&paths_grow, &mut one, &mut many, Echo::cost_of_one, (1000, 1000));
            }
        }
        let usual = Competitor::start("usual", &[]);
        let (before, some) = (usual.memory(), many / 10);
        let _open = connect_all(usual.addr, paths(some));
        self.report.add(idle, "usual", "B", (usual.memory() - before) / some as f64);
        self.report.compare(idle, "ours", "tuned", Most(4.0 * KIB as f64, 3.7 * KIB as f64));
        for (name, most) in names.into_iter().zip([Some(1.5), Some(1.5), None, None, None]) {
            self.report.compare(&growth(name), "many", "few", Growth(most));
        }
        self.report.compare(&paths_grow, "many", "few", Growth(Some(1.1)));
    }

    /// Compares what `cost` tells of few connections and of many, which each get so many rounds.
    fn growth(
        &mut self,
        scenario: &str,
        few: &mut Echo,
        many: &mut Echo,
        cost: fn(&mut Echo, usize) -> f64,
        (of_few, of_many): (usize, usize),
    ) {
        for _ in 0..self.rounds() {
            self.report.add(scenario, "few", "ns", cost(few, of_few));
            self.report.add(scenario, "many", "ns", cost(many, of_many));
        }
    }
}

impl Echo {
    /// As [`cost`](Self::cost), ten peers at a time.
    fn cost_in_turn(&mut self, rounds: usize) -> f64 {
        let burst = Burst::echoed(128, 1);
        let before = self.server.cpu();
        for _ in 0..rounds {
            (0..self.swarm.len()).step_by(10).for_each(|first| self.swarm.echo(first..first + 10, &burst, 1));
        }
        (self.server.cpu() - before) / (self.swarm.len() * rounds) as f64
    }

    /// As [`cost`](Self::cost), one peer alone.
    fn cost_of_one(&mut self, bursts: usize) -> f64 {
        let burst = Burst::echoed(128, 1);
        let before = self.server.cpu();
        self.swarm.echo(0..1, &burst, bursts);
        (self.server.cpu() - before) / bursts as f64
    }
}
