//! A competitor as a process of its own: started pinned to one core, asked for its clock through its standard input.

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[cfg(feature = "mount")]
use crate::mounted;
#[cfg(feature = "tls")]
use crate::tls;
use crate::{
    baseline::{self, Answer, bare},
    best, client,
    machine::{Cores, cpu_time},
    ours,
};

/// The path of who speaks in a fan-out, and of those who listen.
pub(crate) const SPEAKER: &str = "/speaker";
pub(crate) const LISTENERS: &str = "/listeners";

/// What the first argument of a competitor says, by where it runs.
pub(crate) const ON_THE_FIRST_CORE: &str = "compete";
pub(crate) const ON_BOTH_CORES: &str = "compete-on-both-cores";

/// Prepares the process: for the cores that it runs on, and for many connections.
pub(crate) fn prepare(cores: Cores) {
    cores.take();
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("up to the hard limit is allowed");
}

/// The competitor's side.
pub(crate) fn run(cores: Cores, args: &[String]) {
    prepare(cores);
    let addr = ours(&args[0]).unwrap_or_else(|| others(&args[0], &args[1..]));
    println!("{addr}");
    for _ in std::io::stdin().lines() {
        println!("{}", cpu_time());
    }
}

/// Our servers as they listen by themselves.
fn ours(name: &str) -> Option<SocketAddr> {
    Some(match name {
        "ours" => ours::connections(1),
        "ours-on-two-threads" => ours::connections(2),
        "ours-subscribed" => ours::subscribed(),
        "ours-tagged" => ours::tagged(),
        "ours-fan-out" => ours::fan_out(1),
        "ours-on-two-threads-fan-out" => ours::fan_out(2),
        "ours-resumable" => ours::resumable(),
        "ours-resumable-fan-out" => ours::resumable_fan_out(),
        #[cfg(feature = "deflate")]
        "ours-compressed" => ours::compressed(),
        #[cfg(feature = "deflate")]
        "ours-compressed-fan-out" => ours::compressed_fan_out(),
        _ => return None,
    })
}

fn others(name: &str, args: &[String]) -> SocketAddr {
    let fan_out = || Answer::FanOut(std::sync::Arc::default());
    let len = |at: usize| args[at].parse().expect("a number of bytes");
    match name {
        #[cfg(feature = "mount")]
        "mounted" => mounted::moved(),
        #[cfg(feature = "mount")]
        "mounted-here" => mounted::on_the_programs_runtime(),
        #[cfg(feature = "mount")]
        "axum" => mounted::axums(),
        #[cfg(feature = "tls")]
        "tls-ours" => tls::ours(args),
        #[cfg(feature = "tls")]
        "tls-best" => tls::best(args),
        #[cfg(feature = "tls")]
        "tls-by-hand" => tls::by_hand(args),
        "best" => best::echo(),
        "subjects" => best::through_subjects(),
        "one-subject" => best::through_one_subject(),
        "best-fan-out" => best::fan_out(),
        "one-subject-fan-out" => best::fan_out_through_one_subject(),
        "tuned" => baseline::tuned(Answer::Echo),
        "tuned-on-two-threads" => baseline::tuned_on(2, Answer::Echo),
        "tuned-fan-out" => baseline::tuned(fan_out()),
        "bare" => bare::echo(len(0), len(1)),
        "bare-fan-out" => bare::fan_out(len(0), len(1)),
        "usual" => baseline::usual(Answer::Echo),
        "usual-fan-out" => baseline::usual(fan_out()),
        name => client::run(name, args),
    }
}

/// The load's side of a competitor.
pub(crate) struct Competitor {
    process: Child,
    ask: ChildStdin,
    answer: BufReader<ChildStdout>,
    pub(crate) addr: SocketAddr,
}

impl Competitor {
    pub(crate) fn start(name: &str, args: &[String]) -> Self {
        Self::start_of(&itself(), name, args)
    }

    /// Starts a competitor of another build of this bench.
    pub(crate) fn start_of(program: &Path, name: &str, args: &[String]) -> Self {
        Self::start_on(ON_THE_FIRST_CORE, program, name, args)
    }

    /// Starts one that has the core of the load as well.
    pub(crate) fn start_on_both_cores(name: &str) -> Self {
        Self::start_on(ON_BOTH_CORES, &itself(), name, &[])
    }

    fn start_on(cores: &str, program: &Path, name: &str, args: &[String]) -> Self {
        let mut process = Command::new(program)
            .args([cores, name])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the competitor starts");
        let ask = process.stdin.take().expect("a piped input");
        let mut answer = BufReader::new(process.stdout.take().expect("a piped output"));
        let addr = line(&mut answer).parse().expect("the competitor says where it listens");
        Self { process, ask, answer, addr }
    }

    /// The CPU time it has used, in nanoseconds.
    pub(crate) fn cpu(&mut self) -> f64 {
        self.ask.write_all(b"\n").expect("the competitor lives");
        line(&mut self.answer).parse().expect("a number")
    }

    /// The memory it has for itself, in bytes.
    pub(crate) fn memory(&self) -> f64 {
        let path = format!("/proc/{}/smaps_rollup", self.process.id());
        let rollup = std::fs::read_to_string(path).expect("the competitor lives");
        let anonymous =
            rollup.lines().find_map(|line| line.strip_prefix("Anonymous:")).expect("a line of the kernel's");
        let kib: f64 = anonymous.trim().trim_end_matches(" kB").parse().expect("a number");
        kib * 1024.0
    }
}

fn itself() -> PathBuf {
    std::env::current_exe().expect("a path to this program")
}

fn line(from: &mut impl BufRead) -> String {
    let mut line = String::new();
    from.read_line(&mut line).expect("the competitor lives");
    line.trim().to_owned()
}

impl Drop for Competitor {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
