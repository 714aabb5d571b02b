//! More connections than one process has descriptors for: the peers are in another one.

use std::{
    env,
    io::{BufRead, BufReader, Read, Write, stdin},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    thread::{self, JoinHandle, sleep},
    time::{Duration, Instant},
};

use rxplus::prelude::*;

use crate::{
    Site, alone, memory,
    raw::{Raw, Side, TEXT, frame},
    support::Recorder,
};

/// What the issue of 10,000 connections is held to.
const MOST_EACH: usize = 12 * 1024;

/// Only fails a test that hangs: an unoptimized build makes a thousand handshakes a second, and fewer on a busy machine.
const CROWD_PATIENCE: Duration = Duration::from_secs(120);

/// Tells the test below that it is run as the peers, where to connect and how often.
const TASK: &str = "RXPLUS_EDGE_PEERS";

/// Not a test: the peers of [`Peers`].
#[test]
fn peers() {
    let Ok(task) = env::var(TASK) else { return };
    let [addr, count, path_len] = task.split(' ').collect::<Vec<_>>().try_into().unwrap();
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let (addr, path) = (addr.parse::<SocketAddr>().unwrap(), "x".repeat(path_len.parse().unwrap()));
    let _peers: Vec<_> = (0..count.parse().unwrap()).map(|_| Raw::upgraded_on(addr, &format!("/{path}"))).collect();
    // Until the other process lets go, be it by its own end.
    let _ = stdin().read(&mut [0]);
}

/// Connections held by another process, all of which end at once when it does.
struct Peers(Child);

impl Peers {
    fn connect(site: &Site, count: usize, path_len: usize) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "crowds::peers"]).env(TASK, format!("{} {count} {path_len}", site.addr()));
        Self(command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap())
    }

    fn hang_up(mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

/// Runs the test that calls this in a process of its own, where no other test has left memory to be used again. True for
/// the caller that has nothing left to do.
pub(crate) fn is_run_apart(test: &str) -> bool {
    const APART: &str = "RXPLUS_EDGE_APART";
    if env::var(APART).is_ok() {
        return false;
    }
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(APART, "1");
    assert!(command.status().unwrap().success(), "{test} failed in a process of its own");
    true
}

/// As many as are wanted, if this process may have a descriptor for each.
fn allowed(wanted: usize) -> usize {
    let descriptors = rlimit::increase_nofile_limit(u64::MAX).map_or(1024, |limit| limit as usize);
    let count = wanted.min(descriptors - 200);
    if count < wanted {
        println!("only {count} connections of {wanted}: {descriptors} descriptors are allowed");
    }
    count
}

/// Waits until the server has `count` connections, and returns how long that took.
fn until_there_are(site: &Site, count: usize) -> Duration {
    let began = Instant::now();
    while site.server.connection_count() != count {
        assert!(began.elapsed() < CROWD_PATIENCE, "{} connections instead of {count}", site.server.connection_count());
        // Not at full speed: the peers and the server have two cores to do with.
        sleep(Duration::from_millis(10));
    }
    began.elapsed()
}

#[test]
fn ten_thousand_idle_connections_cost_at_most_12_kib_each() {
    let site = Site::with(|builder| builder.limits(Limits::server().connections(None)));
    let count = allowed(10_000);
    let before = memory();
    let peers = Peers::connect(&site, count, 0);
    let connecting = until_there_are(&site, count);
    let each = memory().saturating_sub(before) / count;
    site.serves_a_good_client();
    peers.hang_up();
    let leaving = until_there_are(&site, 0);
    println!("{count} idle connections: {each} bytes each; connected in {connecting:?}, gone in {leaving:?}");
    assert!(each <= MOST_EACH, "{each} bytes each");
    site.serves_a_good_client();
}

#[test]
fn idle_connection_keeps_what_it_asked_for_once() {
    const PATH_LEN: usize = 15 * 1024;
    if is_run_apart("crowds::idle_connection_keeps_what_it_asked_for_once") {
        return;
    }
    let site = Site::new();
    let (count, before) = (allowed(500), memory());
    let peers = Peers::connect(&site, count, PATH_LEN);
    until_there_are(&site, count);
    let each = memory().saturating_sub(before) / count;
    peers.hang_up();
    until_there_are(&site, 0);
    println!("{count} idle connections with a path of 15 KiB: {each} bytes each");
    assert!(each <= MOST_EACH + PATH_LEN, "{each} bytes each");
}

/// Not a test: the server of the test below, which is allowed few files.
#[test]
fn server_with_few_descriptors() {
    if env::var(TASK).is_err() {
        return;
    }
    rlimit::setrlimit(rlimit::Resource::NOFILE, 100, 100).unwrap();
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    server.connections().subscribe(|connection| {
        connection.clone().subscribe_with(connection);
    });
    println!("\n{}", server.local_addr());
    let _ = stdin().read(&mut [0]);
}

#[test]
fn silent_peers_make_room_where_descriptors_run_out() {
    let _alone = alone();
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "crowds::server_with_few_descriptors", "--nocapture"]).env(TASK, "");
    let mut server = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines().map_while(Result::ok);
    let addr: SocketAddr = lines.find_map(|line| line.parse().ok()).expect("the server tells its address");
    let _silent: Vec<_> = (0..300).map(|_| Raw::connect(addr)).collect();
    let began = Instant::now();
    let client = RxWsClient::connect(format!("ws://{addr}"), WsStr).unwrap();
    let heard = Recorder::on(client.clone());
    client.next("hello");
    assert_eq!(heard.item(), "hello");
    println!("100 descriptors, 300 silent peers: served within {:?}", began.elapsed());
    drop(server.stdin.take());
    server.wait().unwrap();
}

/// A feed without end, on a thread of its own, until this is dropped.
struct Greedy(Arc<AtomicBool>, Option<JoinHandle<()>>);

impl Greedy {
    fn on(addr: impl Into<Addr>) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let is_over = over.clone();
        let mut raw = Raw::upgraded(addr.into());
        let feed = frame(Side::Client, TEXT, b"more").repeat(1000);
        raw.0.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        let feeding = thread::spawn(move || while !is_over.load(Relaxed) && raw.0.write(&feed).is_ok() {});
        Self(over, Some(feeding))
    }
}

impl Drop for Greedy {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
        let _ = self.1.take().map(JoinHandle::join);
    }
}

/// Counts what is handled of a feed without end between a message of another peer and the answer to it.
fn is_served_beside_a_greedy_one(runtime: IoRuntime) {
    let _alone = alone();
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).runtime(&runtime).bind().unwrap();
    let handled = Arc::new(AtomicUsize::new(0));
    let count = handled.clone();
    server
        .clone()
        .log_errors()
        .subscribe(move |tagged| _ = count.fetch_add(usize::from(tagged.data == "more"), Relaxed));
    let connections = Recorder::on(server.connections());
    let mut quiet = Raw::upgraded(server.local_addr());
    let connection = connections.item();
    connection.clone().subscribe_with(connection);
    let _greedy = Greedy::on(server.local_addr());
    let mut waits: Vec<_> = (0..50)
        .map(|_| {
            let before = handled.load(Relaxed);
            quiet.send(&frame(Side::Client, TEXT, b"?"));
            quiet.take(3);
            handled.load(Relaxed) - before
        })
        .collect();
    waits.sort_unstable();
    // A thread that is not run for a while counts a lot; most of the time it is.
    assert!(waits[waits.len() / 2] < 1000, "{waits:?}");
}

#[test]
fn quiet_peer_waits_for_a_few_turns_of_a_greedy_one() {
    is_served_beside_a_greedy_one(IoRuntime::new("shared").unwrap());
}

#[test]
fn quiet_peer_waits_for_a_few_turns_on_the_programs_own_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let handle = IoRuntime::from_tokio(runtime.handle().clone());
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let serving = thread::spawn(move || _ = runtime.block_on(ended));
    is_served_beside_a_greedy_one(handle);
    drop(end);
    serving.join().unwrap();
}
