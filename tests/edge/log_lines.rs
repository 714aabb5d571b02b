//! Texts that peers choose, where a program prints them.

use rxplus::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{
    alone,
    raw::{KEY, Raw, Side::Client, frame},
    support::Recorder,
};

const BINARY: u8 = 0x82;

#[derive(Clone, Serialize, Deserialize)]
enum Command {
    Start,
}

/// What no line of a log may hold: it ends the line, or a terminal acts on it.
fn acts(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202e}')
}

/// A client on a path that has a control character, which says something else than a command and breaks the protocol then.
fn forger(server: &RxWsServer<WsObject<Command>>) -> Raw {
    let mut raw = Raw::connect(server.local_addr());
    let request = "GET /\u{9b}2J HTTP/1.1";
    raw.ask(&[request, "Host: h", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", KEY]);
    assert!(raw.head().starts_with("HTTP/1.1 101 "));
    let forged = "x\nINFO login of root accepted\u{1b}[2J\u{85}\u{2028}\u{202e}";
    raw.send(&frame(Client, BINARY, &rmp_serde::to_vec(forged).unwrap()));
    raw.send(&frame(Client, 0xf1, b""));
    raw
}

#[test]
fn peer_cannot_write_lines_of_its_own_into_a_log() {
    let _alone = alone();
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsObject::<Command>::new()).unwrap();
    let events = Recorder::on(server.events());
    server.clone().log_errors().subscribe(|command| match command.data {
        Command::Start => {}
    });
    let _forger = forger(&server);
    let (undecodable, error) = events.find(|event| match &event {
        ServerEvent::Undecodable { error, .. } => Some((format!("{event:?}"), error.to_string())),
        _ => None,
    });
    assert!(undecodable.contains(r"x\nINFO login of root accepted\u{1b}[2J\u{85}\u{2028}\u{202e}"), "{undecodable:?}");
    let (ended, why) = events.find(|event| match &event {
        ServerEvent::Disconnected { error: Some(error), .. } => Some((format!("{event:?}"), error.to_string())),
        _ => None,
    });
    assert!(why.contains(r"on /\u{9b}2J broke the protocol"), "{why:?}");
    for printed in [undecodable, error, ended, why] {
        assert!(!printed.contains(acts), "{printed:?}");
    }
}

#[test]
fn long_message_is_not_repeated_whole_in_the_event_about_it() {
    let _alone = alone();
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsObject::<Command>::new()).unwrap();
    let events = Recorder::on(server.events());
    server.clone().log_errors().subscribe(|_| {});
    let mut peer = Raw::upgraded(server.local_addr());
    peer.send(&frame(Client, BINARY, &rmp_serde::to_vec(&"x".repeat(500_000)).unwrap()));
    let printed = events.find(|event| matches!(event, ServerEvent::Undecodable { .. }).then(|| format!("{event:?}")));
    assert!(printed.len() < 1000, "{} bytes", printed.len());
}
