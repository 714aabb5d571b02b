//! Echoes over TLS.

use super::{Bench, Echo, KIB, paths};
use crate::{
    competitor::Competitor,
    load::{Burst, Swarm},
    report::Target,
    tls::Identity,
};

const TLS_OURS: &str = "TLS, ours";
const TLS_BY_HAND: &str = "tokio-rustls by hand";

impl Bench {
    /// Compares our server with those that were written by hand, all over TLS.
    pub(super) fn over_tls(&mut self) {
        const PEERS: usize = 64;
        for (scenario, (payload_len, in_flight), bursts, least) in [
            ("TLS: echo 128 B, 1 in flight", (128, 1), 60, 0.9),
            ("TLS: echo 128 B, 16 in flight", (128, 16), 60, 0.9),
            ("TLS: echo 16 KiB, 1 in flight", (16 * KIB, 1), 20, 0.95),
        ] {
            if !self.wants(scenario, 3 * PEERS) {
                continue;
            }
            let identity = Identity::new();
            let contest =
                [(TLS_OURS, "tls-ours"), (TLS_BY_HAND, "tls-by-hand"), ("best", "tls-best")].map(|(name, started)| {
                    let server = Competitor::start(started, &identity.args());
                    let swarm = Swarm::over(identity.connect_all(server.addr, paths(PEERS)));
                    (name, Echo { server, swarm })
                });
            self.contest(scenario, contest.into(), &Burst::echoed(payload_len, in_flight), bursts);
            self.report.compare(scenario, TLS_OURS, TLS_BY_HAND, Target::Tls(least));
        }
    }
}
