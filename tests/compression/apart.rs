//! A server in a process of its own, whose memory is its own.

use std::{
    env, fs,
    io::{BufRead, BufReader, Read, stdin},
    net::SocketAddr,
    process::{Child, ChildStdout, Command, Stdio},
    thread,
    time::Duration,
};

use rxplus::{Addr, prelude::*};

/// Tells the test below that it is run as the server: how many I/O threads it has, and for how many milliseconds its
/// subscriber is busy with each message on `/flood`.
const TASK: &str = "RXPLUS_COMPRESSION_APART";

/// Not a test: the server of [`Apart`]. It sends back what comes on `/echo`.
#[test]
fn server() {
    let Ok(task) = env::var(TASK) else { return };
    let [threads, busy] = task.split(' ').map(|part| part.parse().unwrap()).collect::<Vec<u64>>().try_into().unwrap();
    let _ = rlimit::increase_nofile_limit(10_000);
    let runtime = IoRuntime::with_threads("apart", threads as usize).unwrap();
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsFrame).compression(Deflate::new()).runtime(&runtime);
    let server = server.bind().unwrap();
    server.connections().subscribe(|connection| {
        if connection.path().as_str() == "/echo" {
            connection.clone().subscribe_with(connection);
        }
    });
    server.clone().log_errors().subscribe(move |message| {
        if message.tag.as_str() == "/flood" {
            thread::sleep(Duration::from_millis(busy));
        }
    });
    println!("\n{}", server.local_addr());
    // Until the other process lets go, be it by its own end.
    let _ = stdin().read(&mut [0]);
}

/// That server, which ends when this is dropped.
pub(crate) struct Apart {
    process: Child,
    /// It says more when it ends.
    _output: BufReader<ChildStdout>,
    pub(crate) addr: Addr,
}

impl Apart {
    pub(crate) fn start(threads: usize, busy: Duration) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "apart::server", "--nocapture"]).env(TASK, format!("{threads} {}", busy.as_millis()));
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut lines = output.by_ref().lines().map_while(Result::ok);
        let addr: SocketAddr = lines.find_map(|line| line.parse().ok()).expect("the server tells its address");
        Self { process, _output: output, addr: addr.into() }
    }

    /// The most memory that it has had in use since [`forget_peak`](Self::forget_peak), in bytes.
    pub(crate) fn peak(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux counts it");
        peak.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
    }

    /// Has the system count the peak from the memory that is in use now.
    pub(crate) fn forget_peak(&self) {
        fs::write(format!("/proc/{}/clear_refs", self.process.id()), "5").unwrap();
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}
