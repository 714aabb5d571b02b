//! Each event is logged: once, at its level, with the name of its endpoint.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use rxplus::prelude::*;
use tracing::Level;

use crate::{
    log::{course, log},
    support::{PATIENCE, Recorder, connected, url},
};

const DEBUG: Level = Level::DEBUG;
const WARN: Level = Level::WARN;
const ERROR: Level = Level::ERROR;

fn server(name: &str) -> ServerBuilder<WsStr> {
    RxWsServer::builder("ws://127.0.0.1:0", WsStr).name(name)
}

fn client(name: &str, address: &str) -> ClientBuilder<WsStr> {
    RxWsClient::builder(address, WsStr).name(name)
}

#[test]
fn course_of_a_connection_is_logged_once_by_each_side() {
    let log = log();
    let server = server("course-server").bind().unwrap();
    let client = client("course-client", &url(&server, "/a")).connect().unwrap();
    client.wait_connected(PATIENCE).unwrap();
    client.clone().complete();
    client.wait_closed(PATIENCE).unwrap();
    server.clone().complete();
    server.wait_closed(PATIENCE).unwrap();
    let whole = [(DEBUG, "connected"), (DEBUG, "disconnected"), (DEBUG, "closed")];
    let by_server = log.of("server", "course-server", "closed");
    assert_eq!(course(&by_server), whole);
    let by_client = log.of("client", "course-client", "closed");
    assert_eq!(course(&by_client), whole);
    assert!(by_server.iter().all(|entry| entry.target == "rxplus::server"));
    assert!(by_client.iter().all(|entry| entry.target == "rxplus::client"));
    let end = &by_server[1].fields;
    assert_eq!([end.get("path"), end.get("code"), end.get("id"), end.get("error")], ["/a", "1000", "1", ""]);
    assert!(!end.get("lasted").is_empty() && end.get("peer").starts_with("127.0.0.1:"), "{end:?}");
}

#[test]
fn events_of_a_group_are_logged_by_the_clients_that_they_happened_to() {
    let log = log();
    let server = server("group-server").bind().unwrap();
    let group = RxWsClientGroup::builder(server.local_addr(), WsStr).name("group").build().unwrap();
    let events = Recorder::on(group.events());
    group.open("/a").unwrap().wait_connected(PATIENCE).unwrap();
    group.clone().complete();
    group.wait_closed(PATIENCE).unwrap();
    let whole = [(DEBUG, "connected"), (DEBUG, "disconnected"), (DEBUG, "closed")];
    assert_eq!(course(&log.of("client", "group:/a", "closed")), whole);
    assert_eq!(course(&log.of("client", "group", "closed")), [(DEBUG, "closed")]);
    assert_eq!(events.to_the_end().0.len(), 4);
}

#[test]
fn rejected_request_is_logged_with_its_status_and_on_one_line() {
    let log = log();
    let server = server("rejecting").paths(["/there"]).bind().unwrap();
    let mut peer = TcpStream::connect(server.local_addr().to_string()).unwrap();
    peer.write_all(b"GET /\xc2\x9b2J HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    peer.read_exact(&mut [0; 12]).unwrap();
    let entry = log.of("server", "rejecting", "rejected").remove(0);
    assert_eq!(entry.level, DEBUG);
    assert!(["404", "426"].contains(&entry.fields.get("status")), "{entry:?}");
    assert!(!format!("{entry:?}").contains(char::is_control), "{entry:?}");
}

#[test]
fn undecodable_message_is_logged_with_the_reason() {
    let log = log();
    let options = RxWsServer::builder("ws://127.0.0.1:0", WsObject::<u32>::new()).name("undecodable");
    let server = options.bind().unwrap();
    let client = connected(&server, "/a", WsStr);
    client.next("no number");
    let entry = log.of("server", "undecodable", "undecodable").pop().unwrap();
    assert_eq!((entry.level, entry.fields.get("path"), entry.fields.get("len")), (DEBUG, "/a", "9"));
    assert!(!entry.fields.get("error").is_empty());
}

#[test]
fn dropped_messages_are_a_warning() {
    let log = log();
    let address = { url(&server("gone").bind().unwrap(), "/") };
    let client = client("dropping", &address).connect().unwrap();
    client.next("hello");
    client.clear_outbox();
    let entry = log.of("client", "dropping", "dropped").pop().unwrap();
    assert_eq!((entry.level, entry.fields.get("messages"), entry.fields.get("len")), (WARN, "1", "5"));
    assert_eq!(entry.fields.get("reason"), "Cleared");
}

#[test]
fn early_loss_is_one_warning() {
    let log = log();
    let server = server("early").bind().unwrap();
    let client = connected(&server, "/", WsStr);
    (0..2000).for_each(|n| client.next(n.to_string()));
    client.clone().complete();
    client.wait_closed(PATIENCE).unwrap();
    server.clone().complete();
    server.wait_closed(PATIENCE).unwrap();
    let lost = |entries: Vec<_>| course(&entries).iter().filter(|said| **said == (WARN, "early messages lost")).count();
    assert_eq!(lost(log.of("server", "early", "early messages lost")), 1);
    assert_eq!(lost(log.of("server", "early", "closed")), 1);
}

#[test]
fn panic_of_a_subscriber_is_an_error_of_its_endpoint() {
    let log = log();
    let server = server("panicking").bind().unwrap();
    server.connections().subscribe(|connection| _ = connection.subscribe(|_| panic!("a bug")));
    let client = connected(&server, "/", WsStr);
    client.next("hello");
    let entry = log.of("server", "panicking", "subscriber panicked").pop().unwrap();
    assert_eq!((entry.target, entry.level), ("rxplus::server", ERROR));
}

#[test]
fn client_that_gives_up_logs_its_attempts_and_one_error() {
    let log = log();
    let address = { url(&server("absent").bind().unwrap(), "/") };
    let retry = RetryPolicy::fixed(Duration::from_millis(1)).max_retries(2);
    let client = client("hopeless", &address).retry(retry).connect().unwrap();
    client.wait_closed(PATIENCE).unwrap();
    let entries = log.of("client", "hopeless", "closed");
    let said = course(&entries);
    assert_eq!(said[0], (DEBUG, "connect failed"));
    assert_eq!(said[1], (DEBUG, "reconnecting"));
    assert_eq!(said[said.len() - 2..], [(ERROR, "failed"), (DEBUG, "closed")]);
    assert_eq!(said.iter().filter(|(level, _)| *level == ERROR).count(), 1);
}
