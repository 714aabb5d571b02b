//! What the figures are made of: refusals by status, the time that a connection lasted, the round trip of a ping.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use rxplus::prelude::*;

use crate::support::{PATIENCE, Recorder, connected, echo_server, until, url};

const SOON: Duration = Duration::from_millis(1);

/// The status of the answer to a request for `path`, with the headers of a handshake or without.
fn status<D: WsDatatype>(server: &RxWsServer<D>, path: &str, headers: &str) -> String {
    let mut peer = TcpStream::connect(server.local_addr().to_string()).unwrap();
    write!(peer, "GET {path} HTTP/1.1\r\nHost: h\r\n{headers}\r\n").unwrap();
    let mut head = [0; 12];
    peer.read_exact(&mut head).unwrap();
    String::from_utf8_lossy(&head[9..]).into_owned()
}

const HANDSHAKE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

#[test]
fn refusals_are_counted_by_their_status() {
    let options = RxWsServer::builder("ws://127.0.0.1:0", WsStr).paths(["/there", "/secret"]);
    let allows = |request: &UpgradeRequest| request.path() != "/secret";
    let server = options
        .authorize(move |request| async move { if allows(&request) { Ok(()) } else { Err(Refuse::status(401)) } });
    let server = server.bind().unwrap();
    let events = Recorder::on(server.events());
    let asked = [("/there", ""), ("/nowhere", HANDSHAKE), ("/secret", HANDSHAKE), ("/secret", HANDSHAKE)];
    let answers = asked.map(|(path, headers)| status(&server, path, headers));
    assert_eq!(answers, ["426", "404", "401", "401"]);
    let mut told = 0;
    while told < 4 {
        told += events.find(|event| if let ServerEvent::Rejected { count, .. } = event { Some(count) } else { None });
    }
    let rejected = server.stats().rejected;
    assert_eq!((rejected.upgrade_required, rejected.not_found, rejected.unauthorized, rejected.total()), (1, 1, 2, 4));
    let figure = |name: &str| server.stats().figures().iter().find(|figure| figure.name == name).unwrap().value;
    assert_eq!(figure("rxplus.server.rejected_connections.unauthorized"), 2);
}

#[test]
fn end_of_a_connection_says_how_long_it_was_open() {
    let server = echo_server(WsStr);
    let (of_server, began) = (Recorder::on(server.events()), Instant::now());
    let client = connected(&server, "/", WsStr);
    let of_client = Recorder::on(client.events());
    let heard = Recorder::on(client.clone());
    client.next("hello");
    heard.item();
    client.clone().complete();
    client.wait_closed(PATIENCE).unwrap();
    let by_client = of_client.find(|event| match event {
        ClientEvent::Disconnected { lasted, .. } => Some(lasted),
        _ => None,
    });
    let by_server = of_server.find(|event| match event {
        ServerEvent::Disconnected { lasted, .. } => Some(lasted),
        _ => None,
    });
    for lasted in [by_client, by_server] {
        assert!(lasted > Duration::ZERO && lasted <= began.elapsed(), "{lasted:?}");
    }
}

#[test]
fn latency_is_known_once_a_ping_was_answered() {
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).ping_interval(SOON).bind().unwrap();
    let connections = Recorder::on(server.connections());
    let began = Instant::now();
    let client = RxWsClient::builder(url(&server, "/"), WsStr).ping_interval(SOON).connect().unwrap();
    let connection = connections.item();
    until("an answer to the server's ping", || connection.latency().is_some());
    until("an answer to the client's ping", || client.latency().is_some());
    for latency in [connection.latency(), client.latency()] {
        assert!(latency.is_some_and(|latency| latency <= began.elapsed()), "{latency:?}");
    }
}

#[test]
fn latency_is_unknown_without_pings() {
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).ping_interval(None).bind().unwrap();
    let connections = Recorder::on(server.connections());
    let client = RxWsClient::builder(url(&server, "/"), WsStr).ping_interval(None).connect().unwrap();
    let heard = Recorder::on(server.clone());
    client.next("hello");
    heard.item();
    assert_eq!((connections.item().latency(), client.latency()), (None, None));
}
