//! A reader that stands still, as a whole process that is stopped (SIGSTOP) and goes on later.

use std::{
    cell::Cell,
    env,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use rxplus::prelude::*;

use super::support::*;

/// Names the server to [`reader`], in the process that is stopped.
const SERVER: &str = "RXPLUS_STOPPED_READER_OF";

const QUEUE: u64 = 100;
const WINDOW: u64 = 500;
const LAST: &str = "last";

/// Another process, with one client.
struct Reader(Child);

impl Reader {
    fn of(server: &RxWsServer<WsStr>) -> Self {
        let mut program = Command::new(env::current_exe().unwrap());
        let program = program.args(["--exact", "stopped::reader", "--ignored"]).env(SERVER, url(server, "/"));
        Self(program.stdout(Stdio::null()).spawn().unwrap())
    }

    fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.0.id().to_string()]).status().unwrap().success());
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Counts what it hears, and what it misses, and tells it behind the last message.
#[test]
#[ignore = "is a part of the others, which call it"]
fn reader() {
    let Ok(server) = env::var(SERVER) else { return };
    let client = RxWsClient::builder(server, WsStr).resumable(Resume::new());
    let client = client.conn_retry_timeout(Duration::from_millis(1)).min_uptime(Duration::ZERO).connect().unwrap();
    let missed = Arc::new(AtomicU64::new(0));
    let note = missed.clone();
    client.events().subscribe(move |event| {
        if let ClientEvent::Session(SessionEvent::Resumed { missed, .. } | SessionEvent::Gap { missed }) = event {
            note.fetch_add(missed, SeqCst);
        }
    });
    let (mut heard, answers) = (0, client.clone());
    client.clone().log_errors().subscribe(move |text| match &*text {
        LAST => answers.send(format!("{heard} {}", missed.load(SeqCst))).unwrap(),
        _ => heard += 1,
    });
    client.send("here").unwrap();
    client.wait_closed(PATIENCE).unwrap();
}

/// A server that keeps little for a slow reader, and drops the oldest messages beyond that.
fn server(options: impl FnOnce(ServerBuilder<WsStr>) -> ServerBuilder<WsStr>) -> RxWsServer<WsStr> {
    let resume = Resume::new().window(WINDOW as usize, 1 << 20);
    let builder = RxWsServer::builder("ws://127.0.0.1:0", WsStr).resumable(resume);
    options(builder.outbox(QUEUE as usize, 1 << 20, Overflow::DropOldest)).bind().unwrap()
}

/// Stops the reader, pushes until messages have been dropped, lets it go on, and adds up what it tells.
fn stop_and_go(server: &RxWsServer<WsStr>, is_enough: impl Fn(&Connection<WsStr>) -> bool) {
    let (connections, up) = (Recorder::on(server.connections()), Recorder::on(server.clone().map(|td| td.data)));
    let reader = Reader::of(server);
    let connection = connections.item();
    assert_eq!(up.item(), "here");
    reader.signal("-STOP");
    let (sent, message) = (Cell::new(0), "x".repeat(1000));
    until("messages are dropped", || {
        for _ in 0..100 {
            connection.send(message.as_str()).unwrap();
            sent.set(sent.get() + 1);
        }
        let stats = connection.stats().sent;
        assert!(stats.queued.messages <= QUEUE && stats.retained <= WINDOW, "{stats:?}");
        stats.dropped.overflow.messages > 0 && is_enough(&connection)
    });
    reader.signal("-CONT");
    until("there is room", || connection.stats().sent.queued.messages == 0);
    connection.send(LAST).unwrap();
    let told = up.item();
    let [heard, missed] = told.split(' ').map(|n| n.parse::<u64>().unwrap()).collect::<Vec<_>>()[..] else {
        panic!("{told}")
    };
    assert!(missed > 0, "{told}");
    assert_eq!(heard + missed, sent.get(), "{told}");
    assert!(connections.rest().is_empty(), "the session is still the same");
}

#[test]
fn reader_that_is_stopped_hears_the_rest_or_a_gap_of_the_right_size() {
    stop_and_go(&server(|builder| builder.ping_interval(None)), |_| true);
}

/// Its link is given up meanwhile.
#[test]
fn reader_that_is_stopped_for_longer_than_the_heartbeat_allows_comes_back() {
    let [often, soon] = [50, 300].map(Duration::from_millis);
    stop_and_go(&server(|builder| builder.ping_interval(often).ping_timeout(soon)), |connection| {
        !connection.is_linked()
    });
}
