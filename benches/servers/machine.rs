//! What the figures were taken on, and whether it has room for them.

use std::{fmt, fs, process::Command};

use rustix::{
    process::{Resource, getrlimit},
    thread::{CpuSet, sched_setaffinity},
    time::{ClockId, clock_gettime},
};

/// Where a process or a thread runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cores {
    First,
    Second,
    Both,
}

impl Cores {
    /// Has the calling thread run there, and those that it starts from now on. It is not asked how many cores there are: one who
    /// was started by a pinned process would count that process's.
    pub(crate) fn take(self) {
        let mut cores = CpuSet::new();
        if self != Self::Second {
            cores.set(0);
        }
        if self != Self::First {
            cores.set(1);
        }
        // Not allowed in some containers, and not possible with one core; the CPU clock is then still a process's own.
        let _ = sched_setaffinity(None, &cores);
    }
}

/// The CPU time that this process has used, in nanoseconds.
pub(crate) fn cpu_time() -> u64 {
    let clock = clock_gettime(ClockId::ProcessCPUTime);
    clock.tv_sec as u64 * 1_000_000_000 + clock.tv_nsec as u64
}

pub(crate) struct Machine {
    model: String,
    cores: usize,
    kernel: String,
    rustc: String,
}

impl Machine {
    pub(crate) fn detect() -> Self {
        let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpus.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split(": ").nth(1));
        let rustc = Command::new("rustc").arg("--version").output().map(|output| output.stdout).unwrap_or_default();
        let rustc = String::from_utf8_lossy(&rustc);
        Self {
            model: model.unwrap_or("unknown processor").to_owned(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            rustc: rustc.split(" (").next().unwrap_or_default().trim().to_owned(),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model, cores, kernel, rustc } = self;
        write!(f, "{model}, {cores} cores, Linux {kernel}, {rustc}")
    }
}

/// Says so when this process may not open so many connections. A server inherits the limit, and has no more of them.
pub(crate) fn descriptors_missing(connections: usize) -> Option<String> {
    /// Standard streams, epoll, and pipes to the competitors.
    const OTHERS: usize = 64;
    let needed = (connections + OTHERS) as u64;
    let allowed = getrlimit(Resource::Nofile).current?;
    (allowed < needed).then(|| {
        format!("it needs {needed} file descriptors and {allowed} are allowed: raise the hard limit (`ulimit -Hn`)")
    })
}
