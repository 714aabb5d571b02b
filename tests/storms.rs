//! Clients never storm a server that is away or turns them away. These tests measure rates: `cargo test --test storms -- --ignored`.

mod support;

use std::{
    collections::HashSet,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use rxplus::prelude::*;
use support::{
    PATIENCE,
    foreign::{close, foreign_server, raw_server},
};

/// The times at which a client begins to connect, from now on.
fn attempts(client: &RxWsClient<WsStr>) -> mpsc::Receiver<Instant> {
    let (send, attempts) = mpsc::channel();
    client.state().subscribe(move |state| {
        if state == ConnectionState::Connecting {
            let _ = send.send(Instant::now());
        }
    });
    attempts
}

/// How often a client with the default policy comes within ten seconds.
fn attempts_in_ten_seconds(url: String) -> usize {
    let client = RxWsClient::connect(url, WsStr).unwrap();
    let attempts = attempts(&client);
    thread::sleep(Duration::from_secs(10));
    client.complete();
    attempts.try_iter().count()
}

#[test]
#[ignore = "measures rates for ten seconds and more"]
fn server_that_accepts_and_hangs_up_is_not_hammered() {
    let servers = [
        ("drops the stream", raw_server(|_, stream| drop(stream))),
        ("drops the connection", foreign_server(|_, peer| drop(peer))),
        ("closes with 1000", foreign_server(|_, peer| close(peer, 1000))),
        ("closes with 1001", foreign_server(|_, peer| close(peer, 1001))),
        ("closes with 1013", foreign_server(|_, peer| close(peer, 1013))),
    ];
    let clients =
        servers.map(|(what, addr)| (what, thread::spawn(move || attempts_in_ten_seconds(format!("ws://{addr}")))));
    for (what, client) in clients {
        let attempts = client.join().unwrap();
        println!("a server that {what}: {attempts} attempts in 10 s");
        assert!((3..=8).contains(&attempts), "{attempts} attempts at a server that {what}");
    }
}

#[test]
#[ignore = "measures rates for ten seconds and more"]
fn server_whose_answer_will_not_change_is_asked_once_in_ten_seconds() {
    let refused = RxWsServer::builder("ws://127.0.0.1:0", WsStr).paths(["/here"]).bind().unwrap();
    let servers = [
        ("closes with 1008", foreign_server(|_, peer| close(peer, 1008))),
        ("answers 404", refused.local_addr().as_tcp().unwrap()),
    ];
    let clients =
        servers.map(|(what, addr)| (what, thread::spawn(move || attempts_in_ten_seconds(format!("ws://{addr}")))));
    for (what, client) in clients {
        let attempts = client.join().unwrap();
        println!("a server that {what}: {attempts} attempt in 10 s");
        assert_eq!(attempts, 1, "at a server that {what}");
    }
}

const FLEET: usize = 1000;

#[test]
#[ignore = "measures rates for ten seconds and more"]
fn fleet_whose_server_is_away_for_five_seconds_comes_back_without_a_storm() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let addr = server.local_addr();
    let runtime = IoRuntime::new("fleet").unwrap();
    let (send, states) = mpsc::channel();
    let clients: Vec<_> = (0..FLEET)
        .map(|number| {
            let send = send.clone();
            let client = RxWsClient::builder(format!("ws://{addr}"), WsStr).runtime(&runtime).connect().unwrap();
            client.state().subscribe(move |state| send.send((number, Instant::now(), state)).unwrap_or(()));
            client
        })
        .collect();
    clients.iter().for_each(|client| client.wait_connected(PATIENCE).unwrap());

    let lost = Instant::now();
    server.clone().complete();
    server.wait_closed(PATIENCE).unwrap();
    thread::sleep(Duration::from_secs(5));
    let server = RxWsServer::bind(format!("ws://{addr}"), WsStr).unwrap();

    let (mut back, mut made, mut planned) = (HashSet::new(), Vec::new(), Vec::new());
    let limit = lost + Duration::from_secs(15);
    while back.len() < FLEET {
        let (number, at, state) = states.recv_timeout(limit - Instant::now()).expect("all are back within 15 s");
        match state {
            _ if at < lost => {}
            ConnectionState::Connecting => made.push(at),
            ConnectionState::Reconnecting { delay, .. } => planned.push(at + delay),
            ConnectionState::Connected => drop(back.insert(number)),
            _ => {}
        }
    }
    let (all, most, most_planned) = (made.len(), busiest_window(made), busiest_window(planned));
    println!(
        "{FLEET} clients back after {:?}, {all} attempts; busiest 100 ms: {:.1} % made, {:.1} % planned",
        lost.elapsed(),
        100.0 * most as f64 / all as f64,
        100.0 * most_planned as f64 / all as f64,
    );
    // By when each was planned: a machine that is busy for a moment makes several at once, which is not the policy's doing.
    assert!(most_planned * 20 <= all, "{most_planned} of {all} attempts within 100 ms");
    clients.into_iter().for_each(RxWsClient::complete);
    server.complete();
}

/// The most that lie within any 100 ms.
fn busiest_window(mut times: Vec<Instant>) -> usize {
    times.sort_unstable();
    let within = |first: &Instant| times.partition_point(|time| *time < *first + Duration::from_millis(100));
    times.iter().enumerate().map(|(before, first)| within(first) - before).max().unwrap_or(0)
}
