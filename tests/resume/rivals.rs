//! Several links for one session: the newest has it.

use std::{
    net::Shutdown,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use rxplus::prelude::*;
use tokio::net::TcpStream;

use super::{
    raw::{Speaker, foreign_server},
    sessions::{Pair, resumable_client, resumable_server, session_events},
    support::{foreign::read_to_the_end, *},
};

fn echo() -> RxWsServer<WsStr> {
    echoing(resumable_server(Resume::new()))
}

fn is_served(link: &mut Speaker, text: &str) {
    link.send(text);
    assert_eq!(link.payloads(1), [text]);
}

/// Two links at once: a clone, as of a tab in a browser.
#[test]
fn clone_takes_a_session_once_and_the_other_is_told() {
    let server = echo();
    let addr = server.local_addr();
    let (mut own, token) = Speaker::linked(addr.clone(), "/");
    let mut clone = Speaker::resuming(addr.clone(), "/", &token, 2, 0);
    assert_eq!(clone.heard(), "resumed 0 0");
    clone.say("at 0");
    read_to_the_end(&mut own.0);
    // The owner has the same number now, and the clone keeps its link.
    assert_eq!(Speaker::resuming(addr.clone(), "/", &token, 2, 0).code(), Some(4900));
    assert_eq!(Speaker::resuming(addr.clone(), "/", &token, 1, 0).code(), Some(4900));
    assert_eq!(Speaker::resuming(addr.clone(), "/", &token, 0, 0).code(), Some(4900));
    is_served(&mut clone, "still here");
    assert_eq!(server.stats().connections, 1);
}

/// The older attempt arrives last.
#[test]
fn attempt_that_arrives_late_does_not_take_the_session_from_a_newer_one() {
    let server = echo();
    let addr = server.local_addr();
    let (first, token) = Speaker::linked(addr.clone(), "/");
    let mut held_back = Speaker::client(addr.clone(), "/");
    held_back.token();
    drop(first);
    let mut newer = Speaker::resuming(addr.clone(), "/", &token, 3, 0);
    assert_eq!(newer.heard(), "resumed 0 0");
    newer.say("at 0");
    held_back.say(&format!("resume {token} 2 0"));
    assert_eq!(held_back.code(), Some(4900));
    is_served(&mut newer, "still here");
}

#[test]
fn newest_of_many_links_has_the_session() {
    let runtime = IoRuntime::with_threads("crowd", 4).unwrap();
    let builder = RxWsServer::builder("ws://127.0.0.1:0", WsStr).runtime(&runtime);
    let server = echoing(builder.resumable(Resume::new()).bind().unwrap());
    let addr = server.local_addr();
    let (_first, token) = Speaker::linked(addr.clone(), "/");
    let attempt = |number: u64| {
        let (addr, token) = (addr.clone(), token.clone());
        thread::spawn(move || {
            let mut link = Speaker::resuming(addr, "/", &token, number, 0);
            (link.heard_or_end(), link)
        })
    };
    let attempts: Vec<_> = (2..18).map(attempt).collect();
    let links: Vec<_> = attempts.into_iter().map(|attempt| attempt.join().unwrap()).collect();
    let (said, mut newest) = links.into_iter().next_back().unwrap();
    assert_eq!(said.as_deref(), Some("resumed 0 0"));
    newest.say("at 0");
    is_served(&mut newest, "the newest");
    assert_eq!(server.stats().connections, 1);
}

#[test]
fn client_whose_session_is_taken_over_begins_another_and_does_not_take_it_back() {
    let foreign = foreign_server();
    let client = resumable_client(&foreign.url());
    let events = session_events(&client);
    let mut link = Speaker::begin(foreign);
    client.send("taken").unwrap();
    assert_eq!(link.payloads(1), ["taken"]);
    link.close(4900);
    let expected = SessionEvent::Lost { why: SessionLoss::TakenOver, missed: None, unconfirmed: 1, kept: 0 };
    assert_eq!((events.item(), events.item()), (SessionEvent::Opened, expected));
    let mut other = Speaker::begin(foreign);
    client.send("more").unwrap();
    assert_eq!(other.payloads(1), ["more"]);
    drop(other);
    // Refused before the session was settled.
    let (mut refused, said) = Speaker::wanted(foreign);
    assert!(said.starts_with("resume "));
    refused.close(4900);
    Speaker::begin(foreign);
    let lost = events.find(|event| matches!(event, SessionEvent::Lost { .. }).then_some(event));
    assert_eq!(lost, expected);
}

/// Half-open: nothing passes, and nobody says so.
#[test]
fn link_that_is_dead_without_a_word_is_found_by_the_heartbeat_and_resumed() {
    const OFTEN: Duration = Duration::from_millis(50);
    const SOON: Duration = Duration::from_millis(300);
    let builder = RxWsServer::builder("ws://127.0.0.1:0", WsStr).ping_interval(OFTEN).ping_timeout(SOON);
    let server = builder.resumable(Resume::new()).bind().unwrap();
    let pair = Pair::by(server, |builder| builder.ping_interval(OFTEN).ping_timeout(SOON));
    for round in 0..3 {
        pair.proxy.silence(true);
        let of = |n: usize| 10 * round + n;
        (0..10).for_each(|n| pair.client.send(of(n).to_string()).unwrap());
        (0..10).for_each(|n| pair.connection.send(of(n).to_string()).unwrap());
        until("both know", || pair.client.response().is_none() && !pair.connection.is_linked());
        pair.proxy.silence(false);
        assert_eq!(pair.resumed(), 0);
        assert_eq!(pair.up.items(10), texts(of(0)..of(10)));
        assert_eq!(pair.down.items(10), texts(of(0)..of(10)));
    }
}

/// Storm: everybody at once.
#[test]
fn crowd_that_is_cut_at_once_comes_back_without_a_loss() {
    const COUNT: usize = 200;
    let server = resumable_server(Resume::new());
    let proxy = proxy::Proxy::to(server.local_addr());
    let up = Recorder::on(server.clone());
    let clients: Vec<_> = (0..COUNT).map(|n| resumable_client(&proxy.url(&format!("/{n}")))).collect();
    clients.iter().for_each(|client| client.wait_connected(PATIENCE).map(drop).unwrap());
    for _ in 0..3 {
        let links = proxy.links();
        proxy.end(proxy::End::Reset);
        clients.iter().for_each(|client| client.send("again").unwrap());
        up.items(COUNT);
        until("all are back", || proxy.links() >= links + COUNT && server.stats().parked == 0);
    }
    assert_eq!((server.stats().connections, up.rest().len()), (COUNT, 0));
}

/// Bytes of memory of this process.
#[cfg(target_os = "linux")]
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[cfg(target_os = "linux")]
#[test]
#[ignore = "measures time and memory with 15,000 open files"]
fn five_thousand_clients_that_are_cut_at_once_come_back() {
    const COUNT: usize = 5_000;
    let server = resumable_server(Resume::new());
    let (addr, up) = (server.local_addr().to_string(), Recorder::on(server.clone()));
    let links = Arc::new(Mutex::new(Vec::new()));
    let made = links.clone();
    let connect = move |_: ConnConfig| {
        let (addr, made) = (addr.clone(), made.clone());
        async move {
            let stream = TcpStream::connect(addr).await?.into_std()?;
            made.lock().unwrap().push(stream.try_clone()?);
            TcpStream::from_std(stream)
        }
    };
    let runtime = IoRuntime::new("clients").unwrap();
    let client = |n: usize| {
        let builder = RxWsClient::builder(format!("ws://robot/{n}"), WsStr).resumable(Resume::new());
        let builder = builder.connector(connect.clone()).conn_retry_timeout(Duration::from_millis(1));
        builder.min_uptime(Duration::ZERO).runtime(&runtime).connect().unwrap()
    };
    let clients: Vec<_> = (0..COUNT).map(client).collect();
    // Otherwise the first events are kept for a subscriber.
    clients.iter().for_each(|client| _ = client.events().subscribe(|_| {}));
    clients.iter().for_each(|client| client.wait_connected(PATIENCE).map(drop).unwrap());
    let before = resident();
    for _ in 0..3 {
        let cut = std::mem::take(&mut *links.lock().unwrap());
        let start = Instant::now();
        cut.into_iter().for_each(|link| link.shutdown(Shutdown::Both).unwrap_or_default());
        clients.iter().for_each(|client| client.send("again").unwrap());
        up.items(COUNT);
        until("all are back", || {
            server.stats().parked == 0 && clients.iter().all(|client| client.response().is_some())
        });
        println!("{COUNT} are back after {:?}; {} KiB more", start.elapsed(), resident().saturating_sub(before) / 1024);
    }
    assert_eq!((server.stats().connections, up.rest().len()), (COUNT, 0));
    assert!(resident() < before + (256 << 20), "{} bytes, and {before} before", resident());
}
