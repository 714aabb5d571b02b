//! What is measured: each scenario's competitors run side by side and are measured in turn, so that what the machine does
//! besides falls on all of them.

mod clients;
mod echo;
mod fan_out;
mod handshakes;
mod latency;
mod memory;
mod mounted;
mod resumable;
mod rush;
mod threads;
#[cfg(feature = "tls")]
mod tls;

use std::{fs, path::Path};

pub(crate) use self::echo::Echo;
use crate::{
    competitor::{LISTENERS, SPEAKER, prepare},
    machine::{self, Cores, Machine},
    report::Report,
};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

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
    prepare(Cores::Second);
    let quick = args.iter().any(|arg| arg == "--quick");
    let only = args.iter().find(|arg| !arg.starts_with("--")).cloned().unwrap_or_default();
    let mut bench = Bench { report: Report::default(), quick, only, skipped: false };
    if let Some(other) = args.iter().find_map(|arg| arg.strip_prefix("--against=")) {
        bench.against(Path::new(other));
        return print!("{}", bench.report.tables());
    }
    bench.measure();
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
    fn measure(&mut self) {
        self.echoes();
        self.fan_outs();
        self.handshakes();
        self.rush();
        self.latency();
        self.clients();
        self.memory_after_large_messages();
        self.many_connections();
        self.two_threads_on_one_core();
        self.two_threads_on_two_cores();
        self.resumable_echoes();
        self.resumable_fan_out();
        self.resumable_memory();
        #[cfg(feature = "deflate")]
        self.compressed();
        if cfg!(feature = "mount") {
            self.mounted();
            self.mounted_memory();
        }
        #[cfg(feature = "tls")]
        self.over_tls();
    }

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
}

/// What most write takes its time; three samples show it.
fn is_sampled(name: &str, round: usize) -> bool {
    name != "usual" || round < 3
}

pub(crate) fn paths(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|number| format!("/{number}"))
}

/// The listeners of a fan-out, and at last its speaker.
pub(crate) fn audience(listeners: usize) -> impl Iterator<Item = String> {
    (0..listeners).map(|_| LISTENERS).chain([SPEAKER]).map(String::from)
}
