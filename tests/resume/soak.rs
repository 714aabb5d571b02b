//! Links that break again and again under load, over everything that a link can go over: nothing is lost, twice or late.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use rxplus::prelude::*;
use tokio::net::TcpStream;

use super::support::{
    foreign::host_of_its_own,
    proxy::{Direction, End, Proxy},
    *,
};

const AT_ONCE: Duration = Duration::from_millis(1);

/// For how long nothing may move.
const STANDSTILL: Duration = Duration::from_secs(20);

/// How many messages may be under way in a direction.
const UNDER_WAY: usize = 2000;

/// What has arrived of the numbers from 0 on.
#[derive(Clone, Default)]
struct Arrived {
    count: Arc<AtomicUsize>,
    wrong: Arc<Mutex<Vec<String>>>,
}

impl Arrived {
    fn note(&self, text: &str) {
        let expected = self.count.fetch_add(1, SeqCst);
        if text != expected.to_string() {
            self.wrong.lock().unwrap().push(format!("{text} in place of {expected}"));
        }
    }

    fn count(&self) -> usize {
        self.count.load(SeqCst)
    }

    fn is_right(&self) {
        assert_eq!(self.wrong.lock().unwrap().first(), None);
    }
}

/// One direction: who sends, and what has arrived.
struct Way {
    send: Box<dyn Fn(String) + Send>,
    arrived: Arrived,
}

/// How links break.
enum Break {
    Network,
    /// By the client itself.
    Reconnect(RxWsClient<WsStr>),
}

/// Sets a flag when the links have broken, or when the test fails.
struct Broken<'a>(&'a AtomicBool);

impl Drop for Broken<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// Sends `messages` each way, and more until `resets` links have broken, one after the other. Returns how many.
fn soak(proxy: &Proxy, ways: [Way; 2], breaks: &Break, messages: usize, resets: usize) -> usize {
    let arrived = ways.each_ref().map(|way| way.arrived.clone());
    let least = || arrived.iter().map(Arrived::count).min().unwrap_or_default();
    let is_broken = AtomicBool::new(false);
    let sent = thread::scope(|scope| {
        let pushing = scope.spawn(|| push(ways, |sent| sent >= messages && is_broken.load(SeqCst)));
        let broken = Broken(&is_broken);
        for n in 0..resets {
            settle("messages move", least, |count| count >= n * (messages / resets));
            let links = proxy.links();
            break_link(proxy, breaks, n);
            settle("there is another link", || proxy.links(), |now| now > links);
        }
        drop(broken);
        pushing.join().unwrap()
    });
    settle("everything arrives", least, |count| count == sent);
    arrived.iter().for_each(Arrived::is_right);
    sent
}

fn push(ways: [Way; 2], is_done: impl Fn(usize) -> bool) -> usize {
    let mut sent = 0;
    while !is_done(sent) {
        for way in &ways {
            settle("messages arrive", || way.arrived.count(), |count| sent < count + UNDER_WAY);
            (way.send)(sent.to_string());
        }
        sent += 1;
    }
    sent
}

/// Waits for a number to be right, which may take any time as long as it moves.
fn settle(what: &str, number: impl Fn() -> usize, is_right: impl Fn(usize) -> bool) {
    let (mut last, mut since) = (number(), Instant::now());
    loop {
        let now = number();
        if is_right(now) {
            return;
        }
        if now != last {
            (last, since) = (now, Instant::now());
        }
        assert!(since.elapsed() < STANDSTILL, "{what}: nothing moves at {now}");
        thread::sleep(Duration::from_micros(100));
    }
}

fn break_link(proxy: &Proxy, breaks: &Break, n: usize) {
    let end = if n.is_multiple_of(3) { End::Fin } else { End::Reset };
    match breaks {
        Break::Reconnect(client) => {
            // An attempt that is under way would be the answer.
            client.wait_connected(PATIENCE).unwrap();
            client.reconnect();
        }
        Break::Network if n % 4 == 3 => proxy.end(end),
        Break::Network => {
            let direction = if n.is_multiple_of(2) { Direction::Up } else { Direction::Down };
            proxy.cut_after(direction, n * 7919 % 2003, end);
        }
    }
}

/// On a host where no client of another test looks for its server.
fn server(options: impl FnOnce(ServerBuilder<WsStr>) -> ServerBuilder<WsStr>) -> RxWsServer<WsStr> {
    let address = format!("ws://{}:0", host_of_its_own(9));
    options(RxWsServer::builder(address, WsStr)).resumable(Resume::new()).bind().unwrap()
}

fn client(url: &str, options: impl FnOnce(ClientBuilder<WsStr>) -> ClientBuilder<WsStr>) -> RxWsClient<WsStr> {
    let builder = RxWsClient::builder(url, WsStr).resumable(Resume::new());
    options(builder.conn_retry_timeout(AT_ONCE).min_uptime(Duration::ZERO)).connect().unwrap()
}

fn up(client: &RxWsClient<WsStr>, server: &RxWsServer<WsStr>) -> Way {
    let (arrived, client) = (Arrived::default(), client.clone());
    let noted = arrived.clone();
    server.clone().log_errors().subscribe(move |td| noted.note(&td.data));
    Way { send: Box::new(move |text| client.send(text).unwrap()), arrived }
}

fn down(client: &RxWsClient<WsStr>, connections: &Recorder<Connection<WsStr>>) -> Way {
    let arrived = Arrived::default();
    let noted = arrived.clone();
    client.clone().log_errors().subscribe(move |text| noted.note(&text));
    let connection = connections.item();
    Way { send: Box::new(move |text| connection.send(text).unwrap()), arrived }
}

/// A client and a server that have found each other by way of a proxy, and the numbers at the end.
fn soak_pair(proxy: &Proxy, server: &RxWsServer<WsStr>, client: &RxWsClient<WsStr>, messages: usize, resets: usize) {
    let connections = Recorder::on(server.connections());
    let ways = [up(client, server), down(client, &connections)];
    let sent = soak(proxy, ways, &Break::Network, messages, resets);
    is_settled(server, client, sent);
    assert!(connections.rest().is_empty(), "the session is still the same");
}

fn is_settled(server: &RxWsServer<WsStr>, client: &RxWsClient<WsStr>, messages: usize) {
    until("all is acknowledged", || client.stats().sent.retained + server.stats().sent.retained == 0);
    for sent in [client.stats().sent, server.stats().sent] {
        assert_eq!((sent.acknowledged, sent.lost), (messages as u64, 0), "{sent:?}");
    }
}

fn soak_over_tcp(messages: usize, resets: usize) {
    let server = server(|builder| builder);
    let proxy = Proxy::to(server.local_addr());
    soak_pair(&proxy, &server, &client(&proxy.url("/"), |builder| builder), messages, resets);
}

#[test]
#[ignore = "takes half a minute"]
fn million_messages_each_way_survive_a_thousand_resets() {
    soak_over_tcp(1_000_000, 1_000);
}

#[test]
fn messages_each_way_survive_resets() {
    soak_over_tcp(100_000, 100);
}

#[test]
fn messages_survive_resets_on_each_kind_of_runtime() {
    let (runtimes, _tokio) = each_runtime(2);
    for runtime in runtimes {
        let server = server(|builder| builder.runtime(&runtime));
        let proxy = Proxy::to(server.local_addr());
        soak_pair(&proxy, &server, &client(&proxy.url("/"), |builder| builder.runtime(&runtime)), 10_000, 20);
    }
}

/// `reconnect()` while linked: the newer link takes over.
#[test]
fn messages_survive_a_client_that_leaves_good_links() {
    let server = server(|builder| builder);
    let connections = Recorder::on(server.connections());
    let proxy = Proxy::to(server.local_addr());
    let client = client(&proxy.url("/"), |builder| builder);
    let ways = [up(&client, &server), down(&client, &connections)];
    let sent = soak(&proxy, ways, &Break::Reconnect(client.clone()), 20_000, 20);
    is_settled(&server, &client, sent);
}

#[cfg(feature = "tls")]
#[test]
fn messages_survive_resets_over_tls() {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let builder = RxWsServer::builder("wss://127.0.0.1:0", WsStr).tls(ServerTls::from_pem(&certificate, key).unwrap());
    let server = builder.resumable(Resume::new()).bind().unwrap();
    let proxy = Proxy::on(std::net::Ipv4Addr::LOCALHOST.into(), server.local_addr());
    let trust = ClientTls::with_roots_pem(&certificate).unwrap();
    let client = client(&proxy.url("/").replace("ws://", "wss://"), |builder| builder.tls(trust));
    soak_pair(&proxy, &server, &client, 10_000, 20);
}

#[cfg(feature = "mount")]
#[test]
fn messages_survive_resets_where_another_server_is_in_front() {
    let server = RxWsServer::unbound(WsStr).resumable(Resume::new()).build().unwrap();
    let listener = std::net::TcpListener::bind((host_of_its_own(9), 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let proxy = Proxy::to(listener.local_addr().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let app = axum::Router::new().route_service("/", server.service());
    runtime.spawn(async { axum::serve(tokio::net::TcpListener::from_std(listener).unwrap(), app).await });
    soak_pair(&proxy, &server, &client(&proxy.url("/"), |builder| builder), 10_000, 20);
}

#[test]
fn messages_survive_resets_over_a_connector() {
    let server = server(|builder| builder);
    let proxy = Proxy::to(server.local_addr());
    let addr = proxy.url("").replace("ws://", "");
    let connect = move |_: ConnConfig| TcpStream::connect(addr.clone());
    soak_pair(&proxy, &server, &client("ws://robot/", |builder| builder.connector(connect)), 10_000, 20);
}

#[test]
fn messages_of_a_group_survive_resets() {
    const PATH: &str = "/of/a/group";
    let server = server(|builder| builder);
    let connections = Recorder::on(server.connections());
    let proxy = Proxy::to(server.local_addr());
    let builder = RxWsClientGroup::builder(proxy.url(""), WsStr).resumable(Resume::new());
    let group = builder.conn_retry_timeout(AT_ONCE).min_uptime(Duration::ZERO).build().unwrap();
    let (of_group, of_server) = (Arrived::default(), Arrived::default());
    let (noted, noted_up) = (of_group.clone(), of_server.clone());
    group.clone().log_errors().subscribe(move |td| noted.note(&td.data));
    server.clone().log_errors().subscribe(move |td| noted_up.note(&td.data));
    group.open(PATH).unwrap();
    let connection = connections.item();
    let sending = group.clone();
    let up = move |text: String| sending.clone().next(TaggedData::new(PATH, text));
    let ways = [
        Way { send: Box::new(up), arrived: of_server },
        Way { send: Box::new(move |text| connection.send(text).unwrap()), arrived: of_group },
    ];
    soak(&proxy, ways, &Break::Network, 10_000, 20);
}
