//! A thousand connections at once.

mod support;

use std::{
    collections::VecDeque,
    sync::mpsc::{self, Sender},
    time::Duration,
};

use rxplus::prelude::*;
use support::{PATIENCE, echo_server_with, url};

const CONNECTIONS: usize = 1000;
const MESSAGES: usize = 100;

const KIB: usize = 1024;

/// From nothing to one that takes many reads, around the lengths at which the frame header grows. Most are short.
fn len_of(connection: usize, message: usize) -> usize {
    match (connection, message) {
        (c, 50) if c % 50 == 0 => KIB * KIB,
        (c, 70) if c % 4 == 0 => 64 * KIB,
        (c, 30) if c % 4 == 1 => 65_535,
        (c, m) => [0, 1, 2, 64, 125, 126, 127, 128, 1000, 4096][(c + m) % 10],
    }
}

/// What is sent, taken from different places of one long text, so that no two neighbours are alike.
struct Source(String);

impl Source {
    fn new() -> Self {
        let numbers = 0..(2 * KIB * KIB / 10) as u64;
        let text = numbers.map(|n| format!("{:09x} ", n.wrapping_mul(0x9e37_79b9) & 0xf_ffff_ffff)).collect();
        Self(text)
    }

    fn frame(&self, connection: usize, message: usize) -> Frame {
        let start = (connection * 1009 + message * 31) % (KIB * KIB / 2);
        let part = &self.0[start..start + len_of(connection, message)];
        if (connection + message).is_multiple_of(2) { part.into() } else { part.as_bytes().to_vec().into() }
    }
}

#[test]
fn thousand_connections_echo_a_hundred_messages_each_byte_for_byte() {
    // Both ends of each connection are in this process.
    let descriptors = rlimit::increase_nofile_limit(10_000).unwrap();
    assert!(descriptors >= 2 * CONNECTIONS as u64 + 100, "only {descriptors} descriptors are allowed");

    let patient = Duration::from_secs(60);
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsFrame).limits(Limits::server().handshake(patient));
    let server = echo_server_with(server);
    let runtime = IoRuntime::new("thousand").unwrap();
    let join = |number| {
        let path = format!("/{}", number % 10);
        let client = RxWsClient::builder(url(&server, &path), WsFrame).runtime(&runtime);
        (number, client.connect_timeout(patient).connect().unwrap())
    };
    let clients: Vec<_> = (0..CONNECTIONS).map(join).collect();
    clients.iter().for_each(|(_, client)| client.wait_connected(patient).unwrap());
    assert_eq!(server.connection_count(), CONNECTIONS);

    let (send, verdicts) = mpsc::channel();
    let source = Source::new();
    for (number, client) in &clients {
        let frames: VecDeque<_> = (0..MESSAGES).map(|message| source.frame(*number, message)).collect();
        expect(client, frames.clone(), *number, send.clone());
        frames.into_iter().for_each(|frame| client.next(frame));
    }
    for _ in 0..CONNECTIONS {
        verdicts.recv_timeout(PATIENCE).expect("the echoes come in time").unwrap();
    }
    assert_eq!(server.stats().received.messages, (CONNECTIONS * MESSAGES) as u64);
    assert_eq!(server.stats().received, server.stats().sent.written);
    server.clone().complete();
    assert_eq!(server.wait_closed(PATIENCE).unwrap(), CloseReport::default());
}

/// Compares what `client` hears with `expected`, and says when that is through or what is wrong.
fn expect(
    client: &RxWsClient<WsFrame>,
    mut expected: VecDeque<Frame>,
    number: usize,
    verdict: Sender<Result<(), String>>,
) {
    client.clone().log_errors().subscribe(move |heard| {
        let is_right = expected.pop_front().is_some_and(|frame| frame == heard);
        // An error says that the test has failed already.
        let _ = match (is_right, expected.len()) {
            (true, 0) => verdict.send(Ok(())),
            (true, _) => Ok(()),
            (false, left) => verdict.send(Err(format!("connection {number}, {left} before the end"))),
        };
    });
}
