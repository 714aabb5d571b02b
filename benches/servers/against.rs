//! This build against another one: before and after a change, or with and without a feature.

use std::{env::current_exe, path::Path};

use crate::{
    competitor::Competitor,
    load::{Burst, Swarm},
    report::{OTHER, THIS, THIS_AGAIN, Target::Against},
    scenario::{Bench, Echo, audience, paths},
};

/// How many times as many rounds as between different servers, each shorter: the differences are small.
const MORE_ROUNDS: usize = 5;

const PEERS: usize = 64;
const LISTENING: usize = 500;
const IDLE: usize = 1000;

impl Bench {
    /// Compares our servers with those of `other`, another build of this bench.
    pub(crate) fn against(&mut self, other: &Path) {
        let itself = current_exe().expect("a path to this program");
        let builds = [(THIS, &*itself), (OTHER, other), (THIS_AGAIN, &*itself)];
        for (scenario, (payload_len, in_flight), bursts) in [
            ("echo 128 B, 1 in flight", (128, 1), 30),
            ("echo 128 B, 16 in flight", (128, 16), 30),
            ("echo 16 KiB, 1 in flight", (16 * 1024, 1), 10),
            ("echo 1 MiB, 1 in flight", (1024 * 1024, 1), 1),
        ] {
            let burst = Burst::echoed(payload_len, in_flight);
            self.builds(scenario, builds, ("ours", PEERS), || paths(PEERS), |echo| echo.cost(&burst, bursts));
        }
        let fan_out = ("ours-fan-out", LISTENING + 1);
        for (scenario, at_a_time, bursts) in
            [("fan-out to 500, 1 at a time", 1, 10), ("fan-out to 500, 16 at a time", 16, 5)]
        {
            let burst = Burst::echoed(128, at_a_time);
            self.builds(scenario, builds, fan_out, || audience(LISTENING), |echo| echo.cost_of_fan_out(&burst, bursts));
        }
        self.idle_builds(builds);
    }

    /// Measures a server of each build in turn, round after round.
    fn builds<P: Iterator<Item = String>>(
        &mut self,
        scenario: &str,
        builds: [(&str, &Path); 3],
        (name, peers): (&str, usize),
        paths: impl Fn() -> P,
        cost: impl Fn(&mut Echo) -> f64,
    ) {
        if !self.wants(scenario, builds.len() * peers) {
            return;
        }
        let mut contest = builds.map(|(build, program)| {
            let server = Competitor::start_of(program, name, &[]);
            let mut echo = Echo { swarm: Swarm::connect(server.addr, paths()), server };
            cost(&mut echo);
            (build, echo)
        });
        for _ in 0..MORE_ROUNDS * self.rounds() {
            for (build, echo) in &mut contest {
                self.report.add(scenario, build, "ns", cost(echo));
            }
        }
        self.report.compare(scenario, THIS, OTHER, Against);
    }

    /// What an idle connection keeps.
    fn idle_builds(&mut self, builds: [(&str, &Path); 3]) {
        let scenario = "idle connection";
        if !self.wants(scenario, IDLE) {
            return;
        }
        for (build, program) in builds {
            let server = Competitor::start_of(program, "ours", &[]);
            // A few go ahead, for what the process itself keeps.
            let _first = Swarm::connect(server.addr, paths(100));
            let before = server.memory();
            let _open = Swarm::connect(server.addr, paths(IDLE));
            self.report.add(scenario, build, "B", (server.memory() - before) / IDLE as f64);
        }
        self.report.compare(scenario, THIS, OTHER, Against);
    }
}
