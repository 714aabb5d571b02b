//! A server of two threads: what the second one costs where it cannot help, and how much it gains where it has a core.

use std::{net::SocketAddr, time::Instant};

use super::{Bench, Echo, KIB, MIB, audience, paths};
use crate::{
    competitor::Competitor,
    load::{Burst, Swarm, full::Full},
    machine::{Cores, cpu_time},
    report::{
        CORES_OF_ONE, CORES_OF_TWO, LOAD_SHARE, ONE_THREAD, ONE_THREAD_BY_HAND, TWO_THREADS, TWO_THREADS_BY_HAND,
        Target::{OneCore, TwoCores},
    },
};

const ECHOES: [&str; 2] = ["ours", "ours-on-two-threads"];
const ECHOES_BY_HAND: [&str; 2] = ["tuned", "tuned-on-two-threads"];
const FAN_OUTS: [&str; 2] = ["ours-fan-out", "ours-on-two-threads-fan-out"];

const NAMES: [&str; 2] = [ONE_THREAD, TWO_THREADS];
const NAMES_BY_HAND: [&str; 2] = [ONE_THREAD_BY_HAND, TWO_THREADS_BY_HAND];

/// What a second thread may cost on the core of the first.
const AT_MOST: f64 = 1.1;

/// How much of what the load leaves of two cores is to be used.
const AT_LEAST: f64 = 0.9;

/// Opens so many connections, for a load on those cores.
type Connect = fn(SocketAddr, Cores, usize) -> Full;

impl Bench {
    /// Both servers are pinned to one core, as all others are.
    pub(super) fn two_threads_on_one_core(&mut self) {
        for (what, peers, (payload_len, in_flight), bursts) in [
            ("echo 128 B, 1 in flight", 64, (128, 1), 60),
            ("echo 128 B, 16 in flight", 64, (128, 16), 60),
            ("echo 16 KiB, 1 in flight", 64, (16 * KIB, 1), 20),
            ("echo 1 MiB, 1 in flight", 16, (MIB, 1), 4),
        ] {
            let burst = Burst::echoed(payload_len, in_flight);
            self.on_one_core(what, 4 * peers, |bench, scenario| {
                let connect = |addr| Swarm::connect(addr, paths(peers));
                let contest = servers(ECHOES, NAMES, connect).into_iter();
                let contest = contest.chain(servers(ECHOES_BY_HAND, NAMES_BY_HAND, connect));
                bench.contest(scenario, contest.collect(), &burst, bursts);
            });
        }
        for (what, listeners, at_a_time, rounds) in [
            ("fan-out to 500, 1 at a time", 500, 1, 60),
            ("fan-out to 500, 16 at a time", 500, 16, 10),
            ("fan-out to 5,000, 4 at a time", 5000, 4, 4),
        ] {
            let burst = Burst::echoed(128, at_a_time);
            self.on_one_core(what, 2 * listeners, |bench, scenario| {
                let mut contest = servers(FAN_OUTS, NAMES, |addr| Swarm::connect(addr, audience(listeners)));
                bench.fan_out_contest(scenario, &mut contest, &burst, rounds);
            });
        }
        self.on_one_core("handshake", Self::HANDSHAKES_AT_ONCE, |bench, scenario| {
            let servers = ECHOES.into_iter().chain(ECHOES_BY_HAND).map(|server| Competitor::start(server, &[]));
            bench.handshake_contest(scenario, NAMES.into_iter().chain(NAMES_BY_HAND).zip(servers).collect());
        });
    }

    fn on_one_core(&mut self, what: &str, connections: usize, measure: impl FnOnce(&mut Self, &str)) {
        let scenario = format!("two threads: {what}");
        if self.wants(&scenario, connections) {
            measure(self, &scenario);
            self.report.compare(&scenario, TWO_THREADS, ONE_THREAD, OneCore(AT_MOST));
        }
    }

    /// One thread has a core and the load has the other; two threads and the load share both.
    pub(super) fn two_threads_on_two_cores(&mut self) {
        self.echo_on_two_cores("echo 16 KiB, 4 in flight", 64, (16 * KIB, 4), 10_000);
        self.echo_on_two_cores("echo 1 MiB, 1 in flight", 16, (MIB, 1), 600);
        self.fan_out_on_two_cores("fan-out to 500, 1 at a time", 500, 1, 120);
        self.fan_out_on_two_cores("fan-out to 500, 16 at a time", 500, 16, 80);
    }

    fn echo_on_two_cores(&mut self, what: &str, peers: usize, (payload_len, in_flight): (usize, usize), bursts: usize) {
        let burst = Burst::echoed(payload_len, in_flight);
        self.on_two_cores(what, (ECHOES, Full::echo, peers), &burst, bursts, bursts * in_flight);
    }

    fn fan_out_on_two_cores(&mut self, what: &str, listeners: usize, at_a_time: usize, bursts: usize) {
        let deliveries = bursts * at_a_time * listeners;
        self.on_two_cores(
            what,
            (FAN_OUTS, Full::fan_out, listeners),
            &Burst::echoed(128, at_a_time),
            bursts,
            deliveries,
        );
    }

    /// `messages` is how many come of so many bursts.
    fn on_two_cores(
        &mut self,
        what: &str,
        ([one, two], connect, peers): ([&str; 2], Connect, usize),
        burst: &Burst,
        bursts: usize,
        messages: usize,
    ) {
        let scenario = format!("two threads, two cores: {what}");
        if !self.wants(&scenario, 2 * peers) {
            return;
        }
        let contest = [
            (ONE_THREAD, CORES_OF_ONE, Competitor::start(one, &[]), Cores::Second),
            (TWO_THREADS, CORES_OF_TWO, Competitor::start_on_both_cores(two), Cores::Both),
        ];
        let mut contest = contest.map(|(name, used, server, cores)| {
            let mut load = connect(server.addr, cores, peers);
            load.run(burst, bursts / 4 + 1);
            (name, used, server, load)
        });
        for _ in 0..self.rounds() {
            for (name, used, server, load) in &mut contest {
                let Taken { time, by_load, by_server } = taken(server, || load.run(burst, bursts));
                self.report.add(&scenario, name, "1/s", messages as f64 / time * 1e9);
                self.report.add(&scenario, used, "", (by_load + by_server) / time);
                if *name == TWO_THREADS {
                    self.report.add(&scenario, LOAD_SHARE, "", by_load / by_server);
                }
            }
        }
        self.report.compare(&scenario, TWO_THREADS, ONE_THREAD, TwoCores(AT_LEAST));
    }
}

/// What it took, in nanoseconds: time, and CPU time.
struct Taken {
    time: f64,
    by_load: f64,
    by_server: f64,
}

fn taken(server: &mut Competitor, run: impl FnOnce()) -> Taken {
    let (server_before, load_before, begin) = (server.cpu(), cpu_time(), Instant::now());
    run();
    let (time, load_after) = (begin.elapsed().as_nanos() as f64, cpu_time());
    Taken { time, by_load: (load_after - load_before) as f64, by_server: server.cpu() - server_before }
}

/// A server of one thread and one of two, each with its load.
fn servers(
    servers: [&str; 2],
    names: [&'static str; 2],
    connect: impl Fn(SocketAddr) -> Swarm,
) -> [(&'static str, Echo); 2] {
    let [one, two] = servers.map(|name| {
        let server = Competitor::start(name, &[]);
        Echo { swarm: connect(server.addr), server }
    });
    [(names[0], one), (names[1], two)]
}
