//! Events whose subscribers do not keep up: one stands for several, so that they are bounded, and the counts are exact.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use super::*;

/// Text that cannot be encoded if it is "NaN".
struct Picky;

impl WsDatatype for Picky {
    type Item = WsText;
    type Outgoing = WsText;

    fn encode(&self, path: &str, item: &WsText) -> Result<Frame, DatatypeError> {
        if item == "NaN" { Err(DatatypeError::new("not a number")) } else { WsStr.encode(path, item) }
    }

    fn decode(&self, path: &str, frame: Frame) -> Result<WsText, DatatypeError> {
        WsStr.decode(path, frame)
    }
}

/// What a subscriber of events hears that blocks from the first one it wants until it is released.
struct Blocked<V> {
    heard: mpsc::Receiver<V>,
    release: mpsc::Sender<()>,
}

/// A subscriber that wants the events that stand for any.
fn blocked<V: Send + 'static>(count: fn(&V) -> u64) -> (impl FnMut(V) + Send + 'static, Blocked<V>) {
    let (hear, heard) = mpsc::channel();
    let (release, released) = mpsc::channel();
    let subscriber = move |event| {
        if count(&event) > 0 {
            hear.send(event).unwrap_or(());
            released.recv().unwrap_or(());
        }
    };
    (subscriber, Blocked { heard, release })
}

impl<V: Send + 'static> Blocked<V> {
    /// The first event, which the subscriber is busy with.
    fn first(&self) -> V {
        self.heard.recv_timeout(PATIENCE).unwrap()
    }

    /// Releases the subscriber, and returns what it hears until `count` makes `sum`.
    fn rest(self, mut sum: u64, count: fn(&V) -> u64) -> Vec<V> {
        drop(self.release);
        let mut rest = Vec::new();
        while sum > 0 {
            rest.push(self.heard.recv_timeout(PATIENCE).unwrap());
            sum -= count(rest.last().unwrap());
        }
        rest
    }
}

fn by_client(event: &ClientEvent) -> u64 {
    match event {
        ClientEvent::Unencodable { count, .. } | ClientEvent::Undecodable { count, .. } => *count,
        _ => 0,
    }
}

fn by_server(event: &ServerEvent) -> u64 {
    match event {
        ServerEvent::Unencodable { count, .. }
        | ServerEvent::Undecodable { count, .. }
        | ServerEvent::Rejected { count, .. } => *count,
        _ => 0,
    }
}

const MANY: u64 = 5000;

#[test]
fn unencodable_messages_of_a_client_or_a_group_are_told_together() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let (runtimes, _tokio) = each_runtime(2);
    for runtime in &runtimes {
        let client = RxWsClient::builder(url(&server, "/"), Picky).runtime(runtime).connect().unwrap();
        let (subscriber, told) = blocked(by_client);
        client.events().subscribe(subscriber);
        client.next("NaN");
        assert_eq!(by_client(&told.first()), 1);
        (0..MANY).for_each(|_| client.next("NaN"));
        assert_eq!(told.rest(MANY, by_client).len(), 1);
        assert_eq!(client.stats().unencodable, MANY + 1);

        let group = RxWsClientGroup::builder(url(&server, "/"), Picky).runtime(runtime).build().unwrap();
        let (subscriber, told) = blocked(|tagged: &TaggedData<ClientEvent>| by_client(&tagged.data));
        group.events().subscribe(subscriber);
        group.next(TaggedData::new("/first", "NaN"));
        assert_eq!(&*told.first().tag, "/first");
        (0..MANY).for_each(|n| group.next(TaggedData::new(format!("/{n}"), "NaN")));
        let rest = told.rest(MANY, |tagged| by_client(&tagged.data));
        assert_eq!((rest.len(), &*rest[0].tag, group.stats().all.unencodable), (1, "/0", MANY + 1));
    }
}

#[test]
fn unencodable_messages_of_a_server_are_told_together() {
    let (runtimes, _tokio) = each_runtime(2);
    for runtime in &runtimes {
        let server = RxWsServer::builder("ws://127.0.0.1:0", Picky).runtime(runtime).bind().unwrap();
        let connections = Recorder::on(server.connections());
        let client = RxWsClient::connect(url(&server, "/"), WsStr).unwrap();
        let connection = connections.item();
        let (subscriber, told) = blocked(by_server);
        server.events().subscribe(subscriber);
        server.next(TaggedData::new("/", "NaN"));
        told.first();
        (0..MANY).for_each(|_| server.next(TaggedData::new("/", "NaN")));
        assert_eq!((told.rest(MANY, by_server).len(), server.stats().unencodable), (1, MANY + 1));

        let (subscriber, told) = blocked(by_server);
        connection.events().subscribe(subscriber);
        connection.next("NaN");
        told.first();
        (0..MANY).for_each(|_| connection.next("NaN"));
        assert_eq!((told.rest(MANY, by_server).len(), connection.stats().unencodable), (1, MANY + 1));
        client.complete();
    }
}

// Where another thread serves the peer while one is blocked.
#[test]
fn undecodable_messages_are_told_together() {
    let runtime = IoRuntime::with_threads("two", 2).unwrap();
    for _ in 0..3 {
        let builder = RxWsServer::builder("ws://127.0.0.1:0", WsStr).runtime(&runtime);
        let server = builder.limits(Limits::server().undecodable(None)).bind().unwrap();
        let (subscriber, told) = blocked(by_server);
        server.events().subscribe(subscriber);
        let clients = [(); 2].map(|()| RxWsClient::connect(url(&server, "/"), WsBytes).unwrap());
        clients.iter().for_each(|client| client.wait_connected(PATIENCE).unwrap());
        clients[0].next(vec![0]);
        told.first();
        (0..MANY).for_each(|_| clients[1].next(vec![0]));
        until("all messages have arrived", || server.stats().undecodable == MANY + 1);
        // The last one may have been counted and not told of yet.
        assert!(told.rest(MANY, by_server).len() <= 2);
        clients.into_iter().for_each(RxWsClient::complete);
    }
}

/// Asks for no upgrade, and waits for the answer.
fn ask_in_vain(addr: impl std::net::ToSocketAddrs) {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 426 "), "{answer}");
}

#[test]
fn refusals_are_told_together() {
    const REFUSED: u64 = 300;
    let runtime = IoRuntime::with_threads("two", 2).unwrap();
    for _ in 0..3 {
        let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).runtime(&runtime).bind().unwrap();
        let (subscriber, told) = blocked(by_server);
        server.events().subscribe(subscriber);
        ask_in_vain(server.local_addr());
        told.first();
        (0..REFUSED).for_each(|_| ask_in_vain(server.local_addr()));
        // The last ones may have been answered and not told of yet.
        assert!(told.rest(REFUSED, by_server).len() < REFUSED as usize / 2);
    }
}

// Nothing can stand for a connection that has come: beyond a thousand that nobody has heard of no more are let in.
#[test]
fn server_lets_nobody_in_while_a_thousand_events_wait() {
    let runtime = IoRuntime::with_threads("crowd", 2).unwrap();
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).runtime(&runtime).bind().unwrap();
    let (subscriber, told) = blocked(|event: &ServerEvent| u64::from(matches!(event, ServerEvent::Connected { .. })));
    server.events().subscribe(subscriber);
    let opens = |patience| {
        let mut stream = TcpStream::connect(server.local_addr()).unwrap();
        stream.set_read_timeout(Some(patience)).unwrap();
        let request = "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        stream.read_exact(&mut [0; 12]).is_ok().then_some(stream)
    };
    let _first = opens(PATIENCE).unwrap();
    told.first();
    let open: Vec<_> = std::iter::from_fn(|| opens(Duration::from_secs(1))).take(1500).collect();
    assert!((1000..1100).contains(&open.len()), "{}", open.len());
    drop(told);
    until("the one that waited is let in", || server.stats().accepted > open.len() as u64 + 1);
}

/// How long after a report of drops the next one comes.
const PAUSE: Duration = Duration::from_millis(50);

/// A subscriber of events, and what it hears of drops, with the time.
fn drops<V>(dropped: impl Fn(V) -> Option<Tally>) -> (impl FnMut(V), mpsc::Receiver<(Instant, Tally)>) {
    let (tell, told) = mpsc::channel();
    let hear = move |event| {
        if let Some(dropped) = dropped(event) {
            tell.send((Instant::now(), dropped)).unwrap_or(());
        }
    };
    (hear, told)
}

/// Fills an outbox, pushes into it for 5 pauses more, and holds what is told of drops against their sum.
fn assert_drops_are_told_with_pauses(
    told: &mpsc::Receiver<(Instant, Tally)>,
    push: impl Fn(&str),
    dropped: impl Fn() -> Tally,
) {
    let long = "4 MB".repeat(1 << 20);
    while dropped().messages == 0 {
        push(&long);
    }
    let (first, mut sum) = told.recv_timeout(PATIENCE).unwrap();
    while first.elapsed() < 5 * PAUSE {
        push("short");
    }
    let (mut count, mut last) = (1, first);
    while sum != dropped() {
        let (at, more) = told.recv_timeout(PATIENCE).unwrap();
        sum += more;
        (count, last) = (count + 1, at);
    }
    // What is reported last may be heard earlier after its report than what is reported first.
    assert!(count <= 2 + (last - first).as_millis() / PAUSE.as_millis(), "{count} in {:?}", last - first);
    // The task that has reported ends after a pause without drops.
    thread::sleep(3 * PAUSE);
    push("short");
    sum += told.recv_timeout(PATIENCE).unwrap().1;
    assert_eq!(sum, dropped());
}

// Each push drops a message, and a report costs more than the push.
#[test]
fn drops_are_told_at_once_and_then_each_50_ms() {
    let (runtimes, _tokio) = each_runtime(2);
    for runtime in &runtimes {
        for overflow in [Overflow::DropOldest, Overflow::DropLatest] {
            let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).runtime(runtime).outbox(4, 1 << 30, overflow);
            let server = server.bind().unwrap();
            let connections = Recorder::on(server.connections());
            let _deaf = foreign_client(server.local_addr(), "/");
            let connection = connections.item();
            let (hear, told) = drops(|event| match event {
                ServerEvent::Dropped { dropped, .. } => Some(dropped),
                _ => None,
            });
            connection.events().subscribe(hear);
            let dropped = || connection.stats().sent.dropped.total();
            assert_drops_are_told_with_pauses(&told, |text| connection.next(text), dropped);
            server.complete();
        }
    }
}

#[test]
fn drops_of_a_client_without_a_connection_are_told_at_once_and_then_each_50_ms() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (runtimes, _tokio) = each_runtime(2);
    for runtime in &runtimes {
        let builder = RxWsClient::builder(format!("ws://{}/", nobody.local_addr().unwrap()), WsStr).runtime(runtime);
        let client = builder.outbox(4, 1 << 30, Overflow::DropOldest).connect().unwrap();
        let (hear, told) = drops(|event| match event {
            ClientEvent::Dropped { dropped, .. } => Some(dropped),
            _ => None,
        });
        client.events().subscribe(hear);
        let dropped = || client.stats().sent.dropped.total();
        assert_drops_are_told_with_pauses(&told, |text| client.next(text), dropped);
        client.complete();
    }
}
