//! Messages far longer than any buffer, in both directions at once.

mod support;

use rxplus::prelude::*;
use support::{Recorder, connected, echo_server, url};

/// Longer than the write buffer, after which reading would pause if data counted.
const LEN: usize = 15 << 20;

fn payload(number: usize) -> Bytes {
    vec![number as u8; LEN].into()
}

#[test]
fn messages_longer_than_the_write_buffer_cross_in_both_directions() {
    let limits = || Limits::server().message_len(LEN);
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsBytes)
        .limits(limits())
        .outbox(64, 512 << 20, Overflow::Disconnect)
        .bind()
        .unwrap();
    server.connections().subscribe(|connection| {
        connection.clone().subscribe_with(connection);
    });
    let client = RxWsClient::connect(url(&server, "/"), WsBytes).unwrap();
    let heard = Recorder::on(client.clone());
    for number in 0..4 {
        client.next(payload(number));
    }
    for number in 0..4 {
        assert!(heard.item() == payload(number), "message {number} came back as it was");
    }
}

#[test]
fn message_over_the_limit_is_refused_and_the_server_goes_on() {
    let server = echo_server(WsBytes);
    let client = connected(&server, "/", WsBytes);
    let events = Recorder::on(client.events());
    client.next(payload(0));
    let code = events.find(|event| match event {
        ClientEvent::Disconnected { code, .. } => Some(code),
        _ => None,
    });
    assert_eq!(code, 1009);
    let other = connected(&server, "/", WsBytes);
    let heard = Recorder::on(other.clone());
    other.next(vec![1, 2, 3]);
    assert_eq!(heard.item(), [1u8, 2, 3][..]);
}
