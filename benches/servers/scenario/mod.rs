//! What is measured: each scenario's competitors run side by side and are measured in turn, so that what the machine does
//! besides falls on all of them.

mod latency;
mod rush;

use std::{fs, net::SocketAddr, path::Path, time::Duration};

#[cfg(feature = "tls")]
use crate::tls::Identity;
use crate::{
    client::Link,
    competitor::{Competitor, LISTENERS, SPEAKER, prepare_load},
    load::{Burst, Swarm},
    machine::{self, Machine},
    report::{
        Mode, RESUMABLE, RESUMABLE_PLAIN, Report,
        Target::{self, Growth, More, Most, Mounted, Ratio, Used},
    },
    wire::connect_all,
};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

#[cfg(feature = "tls")]
const TLS_OURS: &str = "TLS, ours";
#[cfg(feature = "tls")]
const TLS_BY_HAND: &str = "tokio-rustls by hand";

pub(crate) struct Bench {
    pub(crate) report: Report,
    quick: bool,
    /// Runs the scenarios whose name contains this.
    only: String,
    /// Whether a scenario was left out for want of file descriptors.
    skipped: bool,
}

pub(crate) fn run(args: &[String]) {
    // Asked before the pinning, after which there is one core.
    let machine = Machine::detect();
    prepare_load();
    let quick = args.iter().any(|arg| arg == "--quick");
    let only = args.iter().find(|arg| !arg.starts_with("--")).cloned().unwrap_or_default();
    let mut bench = Bench { report: Report::default(), quick, only, skipped: false };
    if let Some(other) = args.iter().find_map(|arg| arg.strip_prefix("--against=")) {
        bench.against(Path::new(other));
        return print!("{}", bench.report.tables());
    }
    bench.echoes();
    bench.fan_outs();
    bench.handshakes();
    bench.rush();
    bench.latency();
    bench.clients();
    bench.memory_after_large_messages();
    bench.many_connections();
    bench.resumable_echoes();
    bench.resumable_fan_out();
    bench.resumable_memory();
    #[cfg(feature = "deflate")]
    bench.compressed();
    if cfg!(feature = "mount") {
        bench.mounted();
        bench.mounted_memory();
    }
    #[cfg(feature = "tls")]
    bench.over_tls();
    let tables = bench.report.tables();
    print!("{tables}");
    if !bench.only.is_empty() || bench.skipped {
        println!("\nNothing is saved of a run that left scenarios out.");
        return;
    }
    let samples = if quick { "a quick run: 5 samples of each, fewer connections" } else { "21 samples of each" };
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench");
    save(&dir.join("servers.md"), &format!("{machine}; {samples}.\n\n{tables}"));
    save(&dir.join("servers.csv"), &bench.report.raw());
    println!("\nThe raw numbers are in {}; benches/chart.py shows them", dir.display());
}

fn save(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a file in a directory")).expect("a target directory");
    fs::write(path, text).expect("room on the disk");
}

impl Bench {
    /// Whether to run a scenario that has so many connections open at once.
    pub(crate) fn wants(&mut self, scenario: &str, connections: usize) -> bool {
        if !scenario.contains(&self.only) {
            return false;
        }
        match machine::descriptors_missing(connections) {
            Some(why) => {
                eprintln!("{scenario}: left out, {why}");
                self.skipped = true;
                false
            }
            None => {
                eprintln!("{scenario} ...");
                true
            }
        }
    }

    pub(crate) fn rounds(&self) -> usize {
        if self.quick { 5 } else { 21 }
    }

    fn echoes(&mut self) {
        let names = ["ours", "ours-subscribed", "ours-tagged"];
        let small = |least: [Target; 3]| names.into_iter().zip(least).collect::<Vec<_>>();
        let one = small([Ratio(0.95, 1.06), Ratio(0.95, 1.06), Ratio(0.9, 1.0)]);
        let sixteen = small([Ratio(1.0, 1.5), Ratio(1.0, 1.5), Ratio(0.9, 1.3)]);
        self.echo("echo 128 B, 1 in flight", 64, (128, 1), 60, &one);
        self.echo("echo 128 B, 16 in flight", 64, (128, 16), 60, &sixteen);
        self.echo("echo 16 KiB, 1 in flight", 64, (16 * KIB, 1), 20, &[("ours", Ratio(1.25, 1.43))]);
        self.echo("echo 16 KiB, 16 in flight", 64, (16 * KIB, 16), 2, &[("ours", Ratio(1.25, 1.43))]);
        self.echo("echo 1 MiB, 1 in flight", 16, (MIB, 1), 4, &[("ours", Ratio(1.5, 2.0))]);
    }

    /// Compares echoes over `peers` connections, each with a path of its own.
    fn echo(
        &mut self,
        scenario: &str,
        peers: usize,
        (payload_len, in_flight): (usize, usize),
        bursts: usize,
        ours: &[(&'static str, Target)],
    ) {
        if !self.wants(scenario, (ours.len() + 3) * peers) {
            return;
        }
        let burst = Burst::echoed(payload_len, in_flight);
        let names = ours.iter().map(|(name, _)| *name).chain(["tuned", "best", "usual"]);
        let contest = names.map(|name| (name, Echo::start(name, peers))).collect();
        self.contest(scenario, contest, &burst, bursts);
        ours.iter().for_each(|(name, target)| self.report.compare(scenario, name, "tuned", *target));
    }

    /// Measures echoes in turn, round after round.
    pub(crate) fn contest(&mut self, scenario: &str, mut contest: Vec<(&str, Echo)>, burst: &Burst, bursts: usize) {
        contest.iter_mut().for_each(|(_, echo)| _ = echo.cost(burst, bursts / 4 + 1));
        for round in 0..self.rounds() {
            for (name, echo) in &mut contest {
                if is_sampled(name, round) {
                    self.report.add(scenario, name, "ns", echo.cost(burst, bursts));
                }
            }
        }
    }

    /// Compares servers that are mounted in axum with our own listener.
    fn mounted(&mut self) {
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
    fn mounted_memory(&mut self) {
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

    /// Compares our server with the tuned one, both over TLS.
    #[cfg(feature = "tls")]
    fn over_tls(&mut self) {
        const PEERS: usize = 64;
        for (scenario, (payload_len, in_flight), bursts, least) in [
            ("TLS: echo 128 B, 1 in flight", (128, 1), 60, 0.9),
            ("TLS: echo 128 B, 16 in flight", (128, 16), 60, 0.9),
            ("TLS: echo 16 KiB, 1 in flight", (16 * KIB, 1), 20, 0.95),
        ] {
            if !self.wants(scenario, 2 * PEERS) {
                continue;
            }
            let identity = Identity::new();
            let contest = [(TLS_OURS, "tls-ours"), (TLS_BY_HAND, "tls-by-hand")].map(|(name, started)| {
                let server = Competitor::start(started, &identity.args());
                let swarm = Swarm::over(identity.connect_all(server.addr, paths(PEERS)));
                (name, Echo { server, swarm })
            });
            self.contest(scenario, contest.into(), &Burst::echoed(payload_len, in_flight), bursts);
            self.report.compare(scenario, TLS_OURS, TLS_BY_HAND, Target::Tls(least));
        }
    }

    fn fan_outs(&mut self) {
        let all = ["ours", "tuned", "best", "usual"];
        self.fan_out("fan-out to 500, 1 at a time", &all, (500, 1), 60, Ratio(1.05, 1.25));
        self.fan_out("fan-out to 500, 16 at a time", &all, (500, 16), 10, Ratio(1.2, 1.55));
        // Without the usual server, which would need more descriptors than many machines allow.
        self.fan_out("fan-out to 5,000, 4 at a time", &all[..3], (5000, 4), 4, Ratio(1.2, 1.5));
    }

    fn fan_out(
        &mut self,
        scenario: &str,
        names: &[&'static str],
        (listeners, at_a_time): (usize, usize),
        rounds: usize,
        target: Target,
    ) {
        if !self.wants(scenario, names.len() * listeners) {
            return;
        }
        let burst = Burst::echoed(128, at_a_time);
        let paths = || (0..listeners).map(|_| LISTENERS).chain([SPEAKER]).map(String::from);
        let start = |name: &&'static str| {
            let server = Competitor::start(&format!("{name}-fan-out"), &[]);
            let swarm = Swarm::connect(server.addr, paths());
            (*name, Echo { server, swarm })
        };
        let mut contest: Vec<_> = names.iter().map(start).collect();
        self.fan_out_contest(scenario, &mut contest, &burst, rounds);
        self.report.compare(scenario, "ours", "tuned", target);
    }

    /// Measures fan-outs in turn, round after round.
    fn fan_out_contest(&mut self, scenario: &str, contest: &mut [(&str, Echo)], burst: &Burst, rounds: usize) {
        contest.iter_mut().for_each(|(_, echo)| echo.swarm.fan_out(burst, 2));
        for round in 0..self.rounds() {
            for (name, echo) in &mut *contest {
                if is_sampled(name, round) {
                    self.report.add(scenario, name, "ns", echo.cost_of_fan_out(burst, rounds));
                }
            }
        }
    }

    /// What the resumable mode costs those who use it, and those who do not.
    fn resumable_echoes(&mut self) {
        const PEERS: usize = 64;
        for (scenario, (payload_len, in_flight), bursts, most) in [
            ("resumable: echo 128 B, 1 in flight", (128, 1), 60, 1.05),
            ("resumable: echo 128 B, 16 in flight", (128, 16), 60, 1.05),
            ("resumable: echo 16 KiB, 1 in flight", (16 * KIB, 1), 20, 1.3),
        ] {
            if !self.wants(scenario, 3 * PEERS) {
                continue;
            }
            let contest = Echo::with_and_without_resuming(["ours", "ours-resumable"], || paths(PEERS));
            self.contest(scenario, contest.into(), &Burst::echoed(payload_len, in_flight), bursts);
            self.report.compare(scenario, RESUMABLE, "ours", Used(Mode::Resumable, most));
        }
    }

    fn resumable_fan_out(&mut self) {
        let (scenario, listeners) = ("resumable: fan-out to 500, 16 at a time", 500);
        if !self.wants(scenario, 3 * listeners) {
            return;
        }
        let paths = || (0..listeners).map(|_| LISTENERS).chain([SPEAKER]).map(String::from);
        let mut contest = Echo::with_and_without_resuming(["ours-fan-out", "ours-resumable-fan-out"], paths);
        self.fan_out_contest(scenario, &mut contest, &Burst::echoed(128, 16), 12);
        self.report.compare(scenario, RESUMABLE, "ours", Used(Mode::Resumable, 1.3));
    }

    /// What an idle connection keeps.
    fn resumable_memory(&mut self) {
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

    fn handshakes(&mut self) {
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

    fn clients(&mut self) {
        let receiving = ["client-ours-receiving", "client-tuned-receiving"];
        self.client("client receiving 128 B", receiving, Link::receiving);
        self.client("client sending 128 B", ["client-ours-sending", "client-tuned-sending"], Link::sending);
    }

    fn client(&mut self, scenario: &str, names: [&'static str; 2], cost: fn(&mut Link) -> f64) {
        if !self.wants(scenario, names.len()) {
            return;
        }
        let mut contest = names.map(Link::start);
        contest.iter_mut().for_each(|link| _ = cost(link));
        for _ in 0..self.rounds() {
            for (name, link) in ["ours", "tuned"].into_iter().zip(&mut contest) {
                self.report.add(scenario, name, "ns", cost(link));
            }
        }
        self.report.compare(scenario, "ours", "tuned", Ratio(0.9, 1.0));
    }

    fn memory_after_large_messages(&mut self) {
        let scenario = "kept after a 1 MiB echo";
        const PEERS: usize = 100;
        if !self.wants(scenario, PEERS) {
            return;
        }
        let burst = Burst::echoed(MIB, 1);
        for name in ["ours", "tuned", "usual"] {
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
    fn many_connections(&mut self) {
        let idle = "idle connection";
        let (many, so_many) = if self.quick { (2000, "2,000") } else { (10_000, "10,000") };
        if !self.wants(idle, many + 10) {
            return;
        }
        let growth = |name: &str| format!("{name}: 10 and {so_many} connections");
        let paths_grow = format!("ours-tagged, always the same path: 1 and {so_many} paths");
        let names = ["ours", "ours-tagged", "tuned", "bare"];
        for name in names {
            let mut few = Echo::start(name, 10);
            let server = Competitor::start(name, &[]);
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
        self.report.compare(idle, "ours", "tuned", Most(6.0 * KIB as f64, 3.5 * KIB as f64));
        for (name, most) in names.into_iter().zip([Some(1.5), Some(1.5), None, None]) {
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

/// What most write takes its time; three samples show it.
fn is_sampled(name: &str, round: usize) -> bool {
    name != "usual" || round < 3
}

pub(crate) fn paths(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|number| format!("/{number}"))
}

/// Opens so many connections.
pub(crate) type Connect = fn(SocketAddr, usize) -> Swarm;

/// A server, and its load.
pub(crate) struct Echo {
    pub(crate) server: Competitor,
    pub(crate) swarm: Swarm,
}

impl Echo {
    fn start(name: &str, peers: usize) -> Self {
        let server = Competitor::start(name, &[]);
        let swarm = Swarm::connect(server.addr, paths(peers));
        Self { server, swarm }
    }

    /// A server without the resumable mode, and one with it, whose clients speak it or do not.
    fn with_and_without_resuming<P: Iterator<Item = String>>(
        [without, with]: [&str; 2],
        paths: impl Fn() -> P,
    ) -> [(&'static str, Self); 3] {
        let [without, with, unused] = [without, with, with].map(|name| Competitor::start(name, &[]));
        [
            ("ours", Self { swarm: Swarm::connect(without.addr, paths()), server: without }),
            (RESUMABLE, Self { swarm: Swarm::resumable(with.addr, paths()), server: with }),
            (RESUMABLE_PLAIN, Self { swarm: Swarm::connect(unused.addr, paths()), server: unused }),
        ]
    }

    /// The server's CPU time for a message, all peers at once, in nanoseconds.
    pub(crate) fn cost(&mut self, burst: &Burst, bursts: usize) -> f64 {
        let before = self.server.cpu();
        self.swarm.echo(0..self.swarm.len(), burst, bursts);
        (self.server.cpu() - before) / (self.swarm.len() * bursts * burst.messages) as f64
    }

    /// The server's CPU time for a delivery of what one peer says to all others.
    pub(crate) fn cost_of_fan_out(&mut self, burst: &Burst, bursts: usize) -> f64 {
        let before = self.server.cpu();
        self.swarm.fan_out(burst, bursts);
        (self.server.cpu() - before) / (bursts * burst.messages * (self.swarm.len() - 1)) as f64
    }

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
