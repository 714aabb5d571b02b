//! What the resumable mode costs those who use it, and those who do not.

use super::{Bench, Echo, KIB, audience, paths};
use crate::{
    competitor::Competitor,
    load::{Burst, Swarm},
    report::{
        Mode, RESUMABLE, RESUMABLE_PLAIN,
        Target::{More, Used},
    },
};

impl Bench {
    /// What the resumable mode costs those who use it, and those who do not.
    pub(super) fn resumable_echoes(&mut self) {
        const PEERS: usize = 64;
        for (scenario, (payload_len, in_flight), bursts, most) in [
            ("resumable: echo 128 B, 1 in flight", (128, 1), 60, 1.05),
            ("resumable: echo 128 B, 16 in flight", (128, 16), 60, 1.05),
            ("resumable: echo 16 KiB, 1 in flight", (16 * KIB, 1), 20, 1.3),
        ] {
            if !self.wants(scenario, 3 * PEERS) {
                continue;
            }
            let contest = with_and_without(["ours", "ours-resumable"], || paths(PEERS));
            self.contest(scenario, contest.into(), &Burst::echoed(payload_len, in_flight), bursts);
            self.report.compare(scenario, RESUMABLE, "ours", Used(Mode::Resumable, most));
        }
    }

    pub(super) fn resumable_fan_out(&mut self) {
        let (scenario, listeners) = ("resumable: fan-out to 500, 16 at a time", 500);
        if !self.wants(scenario, 3 * listeners) {
            return;
        }
        let mut contest = with_and_without(["ours-fan-out", "ours-resumable-fan-out"], || audience(listeners));
        self.fan_out_contest(scenario, &mut contest, &Burst::echoed(128, 16), 12);
        self.report.compare(scenario, RESUMABLE, "ours", Used(Mode::Resumable, 1.3));
    }

    /// What an idle connection keeps.
    pub(super) fn resumable_memory(&mut self) {
        let idle = "resumable: idle connection";
        self.idle_in_mode(
            idle,
            2000,
            [
                ("ours", "ours", |addr, count| Swarm::connect(addr, paths(count))),
                (RESUMABLE_PLAIN, "ours-resumable", |addr, count| Swarm::connect(addr, paths(count))),
                (RESUMABLE, "ours-resumable", |addr, count| Swarm::resumable(addr, paths(count))),
            ],
        );
        self.report.compare(idle, RESUMABLE, "ours", More(Mode::Resumable, 0.5 * KIB as f64));
    }
}

/// A server without the resumable mode, and one with it, whose clients speak it or do not.
fn with_and_without<P: Iterator<Item = String>>(
    [without, with]: [&str; 2],
    paths: impl Fn() -> P,
) -> [(&'static str, Echo); 3] {
    let [without, with, unused] = [without, with, with].map(|name| Competitor::start(name, &[]));
    [
        ("ours", Echo { swarm: Swarm::connect(without.addr, paths()), server: without }),
        (RESUMABLE, Echo { swarm: Swarm::resumable(with.addr, paths()), server: with }),
        (RESUMABLE_PLAIN, Echo { swarm: Swarm::connect(unused.addr, paths()), server: unused }),
    ]
}
