//! A client that reads slowly: the window of its connection fills, then the outbox, and then it depends on `Overflow`.

use std::sync::mpsc::{self, Receiver, Sender};

use rxplus::prelude::*;

use super::{sessions::resumable_client, support::*};

/// The bound of the window, and of the outbox behind it.
const BOUND: usize = 4;

/// A client whose subscriber does not return from the first message, `0`, until it is let go. The server has written what the window
/// allows.
struct SlowReader {
    _server: RxWsServer<WsStr>,
    _client: RxWsClient<WsStr>,
    connection: Connection<WsStr>,
    let_go: Sender<()>,
    /// Its messages and the events of its session, in order.
    told: Receiver<String>,
}

impl SlowReader {
    fn new(overflow: Overflow) -> Self {
        Self::of(RxWsServer::builder("ws://127.0.0.1:0", WsStr).outbox(BOUND, 1000, overflow))
    }

    fn of(builder: ServerBuilder<WsStr>) -> Self {
        let server = builder.resumable(Resume::new().window(BOUND, 1000)).bind().unwrap();
        let connections = Recorder::on(server.connections());
        let client = resumable_client(&url(&server, "/"));
        let ((tell, told), (let_go, is_let_go)) = (mpsc::channel(), mpsc::channel());
        let tell_event = tell.clone();
        client.events().subscribe(move |event| match event {
            ClientEvent::Session(SessionEvent::Opened) => {}
            ClientEvent::Session(event) => _ = tell_event.send(format!("{event:?}")),
            _ => {}
        });
        client.clone().subscribe(move |text| {
            _ = tell.send(text.to_string());
            if text == "0" {
                is_let_go.recv_timeout(PATIENCE).unwrap();
            }
        });
        let reader = Self { connection: connections.item(), _server: server, _client: client, let_go, told };
        reader.fill_the_window();
        reader
    }

    fn fill_the_window(&self) {
        self.connection.send("0").unwrap();
        assert_eq!(self.next(), "0");
        (1..BOUND).for_each(|n| self.connection.send(n.to_string()).unwrap());
        until("the window is full", || self.connection.stats().sent.written.messages == BOUND as u64);
    }

    fn next(&self) -> String {
        self.told.recv_timeout(PATIENCE).unwrap()
    }

    /// Lets the subscriber go, and returns what it is told next.
    fn let_go(&self, count: usize) -> Vec<String> {
        self.let_go.send(()).unwrap();
        (0..count).map(|_| self.next()).collect()
    }

    /// Pushes the messages up to `count`, and returns the numbers of those that are accepted.
    fn push_up_to(&self, count: usize) -> Vec<usize> {
        (BOUND..count).filter(|n| self.connection.send(n.to_string()).is_ok()).collect()
    }
}

#[test]
fn slow_reader_is_told_of_the_gap_where_the_oldest_were_dropped() {
    let reader = SlowReader::new(Overflow::DropOldest);
    assert_eq!(reader.push_up_to(20).len(), 16);
    assert_eq!(reader.connection.stats().sent.dropped.total().messages, 12);
    assert_eq!(reader.let_go(8), ["1", "2", "3", "Gap { missed: 12 }", "16", "17", "18", "19"]);
    assert!(reader.connection.is_linked());
}

#[test]
fn slow_reader_misses_nothing_that_was_accepted_where_the_latest_are_refused() {
    let reader = SlowReader::new(Overflow::DropLatest);
    assert_eq!(reader.push_up_to(20), [4, 5, 6, 7]);
    assert_eq!(reader.let_go(7), texts(1..8));
    reader.connection.send("behind").unwrap();
    assert_eq!(reader.next(), "behind");
}

#[test]
fn slow_reader_that_is_disconnected_hears_exactly_what_it_missed() {
    let reader = SlowReader::new(Overflow::Disconnect);
    assert_eq!(reader.push_up_to(20), [4, 5, 6, 7]);
    assert_eq!(reader.let_go(4), ["1", "2", "3", "Gap { missed: 4 }"], "the four, and not the one that was refused");
    assert_eq!(reader.next(), "Lost { why: Overflow, missed: Some(0), unconfirmed: 0, kept: 0 }");
}

#[test]
fn slow_reader_is_told_of_the_gap_where_a_newer_message_has_replaced_others() {
    let builder = RxWsServer::builder("ws://127.0.0.1:0", WsStr);
    let reader = SlowReader::of(builder.conflate(|_, text| text.starts_with(['x', 'y']).then(|| text[..1].to_owned())));
    ["x1", "y1", "x2", "x3", "z", "y2"].into_iter().for_each(|text| reader.connection.send(text).unwrap());
    assert_eq!(reader.connection.stats().sent.dropped.replaced.messages, 3);
    let told = ["1", "2", "3", "Gap { missed: 3 }", "x3", "y2", "z"];
    assert_eq!(reader.let_go(told.len()), told);
    assert!(reader.connection.is_linked());
}
