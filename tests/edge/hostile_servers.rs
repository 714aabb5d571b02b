//! What servers do to a client, and what it must not cost.

use std::{
    net::TcpListener,
    sync::MutexGuard,
    time::{Duration, Instant},
};

use rxplus::prelude::*;

use crate::{
    ROOM, alone, memory,
    raw::{BINARY, CLOSE, PING, Raw, Side::Server, TEXT, frame, header, switching},
    support::{PATIENCE, Recorder, until},
};

const SHORT: Duration = Duration::from_millis(300);

/// A client, and the hostile server it connects to.
struct Den {
    listener: TcpListener,
    client: RxWsClient<WsStr>,
    events: Recorder<ClientEvent>,
    heard: Recorder<WsText>,
    before: usize,
    _alone: MutexGuard<'static, ()>,
}

impl Den {
    fn new() -> Self {
        Self::with(|builder| builder)
    }

    fn with(options: impl FnOnce(ClientBuilder<WsStr>) -> ClientBuilder<WsStr>) -> Self {
        let alone = alone();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("ws://{}", listener.local_addr().unwrap());
        let before = memory();
        let builder = RxWsClient::builder(address, WsStr).conn_retry_timeout(Duration::from_millis(10));
        let client = options(builder).connect().unwrap();
        let (events, heard) = (Recorder::on(client.events()), Recorder::on(client.clone()));
        Self { listener, client, events, heard, before, _alone: alone }
    }

    /// Waits for an attempt that failed, and returns why.
    fn refusal(&self) -> String {
        self.failure().to_string()
    }

    fn failure(&self) -> WsError {
        self.events.find(|event| match event {
            ClientEvent::ConnectFailed { error, .. } => Some(error),
            _ => None,
        })
    }

    /// Refuses the client with `answer`, as it stands, and returns what the client has of that.
    fn refused(&self, answer: &str) -> (Raw, String, HttpResponse) {
        let (mut raw, _) = Raw::asked(&self.listener);
        raw.send(answer.as_bytes());
        let error = self.failure();
        let text = error.to_string();
        let WsError::Rejected { response, .. } = error else { panic!("{error:?}") };
        (raw, text, response)
    }

    /// Waits for the end of a connection: the code and why.
    fn ending(&self) -> (u16, String) {
        self.events.find(|event| match event {
            ClientEvent::Disconnected { code, error, .. } => {
                Some((code, error.map_or(String::new(), |error| error.to_string())))
            }
            _ => None,
        })
    }

    /// The client must be as good as new: the next connection works, within a second of being there.
    fn is_unharmed(&self) {
        let mut good = Raw::accepted(&self.listener);
        let began = Instant::now();
        good.send(&frame(Server, TEXT, b"hello"));
        assert_eq!(self.heard.item(), "hello");
        let time = began.elapsed();
        assert!(time < crate::SOON, "{time:?}");
        until("memory back", || memory() < self.before + ROOM);
        crate::show(time, self.before);
    }
}

/// Answers a request with `lines`, the first of which is the status.
fn answered(den: &Den, lines: impl FnOnce(&str) -> Vec<String>) -> String {
    let (mut raw, accept) = Raw::asked(&den.listener);
    raw.ask(&lines(&accept));
    den.refusal()
}

fn and(mut lines: Vec<String>, line: &str) -> Vec<String> {
    lines.push(line.into());
    lines
}

#[test]
fn server_that_does_not_answer_is_given_up_after_the_connect_timeout() {
    let den = Den::with(|builder| builder.connect_timeout(SHORT));
    let _mute = Raw::asked(&den.listener);
    assert!(den.refusal().contains("no handshake answer"));
    den.is_unharmed();
}

#[test]
fn answers_that_break_the_protocol_fail_the_attempt() {
    let den = Den::new();
    let error = answered(&den, |_| switching("d3JvbmcgYWNjZXB0IGtleQ=="));
    assert!(error.contains("Sec-WebSocket-Accept"), "{error}");
    let error = answered(&den, |accept| and(switching(accept), &format!("Sec-WebSocket-Accept: {accept}")));
    assert!(error.contains("Sec-WebSocket-Accept"), "{error}");
    let error = answered(&den, |accept| and(switching(accept), "Sec-WebSocket-Extensions: permessage-deflate"));
    assert!(error.contains("extension that was not offered"), "{error}");
    let error = answered(&den, |accept| and(switching(accept), "Sec-WebSocket-Protocol: chat"));
    assert!(error.contains("subprotocol that was not offered"), "{error}");
    let error = answered(&den, |accept| switching(accept)[..2].to_vec());
    assert!(error.contains("does not upgrade"), "{error}");
    let old =
        |accept: &str| [vec!["HTTP/1.0 101 Switching Protocols".into()], switching(accept)[1..].to_vec()].concat();
    let error = answered(&den, old);
    assert!(error.contains("does not upgrade"), "{error}");
    let error = answered(&den, |_| vec!["HTTP/1.1 200 OK".into(), "Content-Length: 0".into()]);
    assert!(error.contains("HTTP status 200"), "{error}");
    let error = answered(&den, |_| vec!["SSH-2.0-OpenSSH_9.6".into()]);
    assert!(error.contains("does not speak WebSocket"), "{error}");
    den.is_unharmed();
}

#[test]
fn refusal_comes_with_its_headers_and_what_its_body_begins_with() {
    let den = Den::new();
    let (_, error, response) = den.refused(
        "HTTP/1.1 429 Slow down\r\nX-Request-Id: 7\r\nX-A: 1\r\nX-A: 2\r\nContent-Length: 22\r\n\r\ntoo\u{1b}[2J fast\nslow down",
    );
    assert_eq!((response.status(), response.header("x-request-id")), (429, Some("7")));
    assert_eq!(response.headers().get_all("x-a").iter().count(), 2);
    assert_eq!(response.body(), b"too\x1b[2J fast\nslow down");
    assert!(error.ends_with("HTTP status 429: \"too\\u{1b}[2J fast\""), "{error}");
    let (_, error, response) =
        den.refused("HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"a\":\r\n2\r\n1}\r\n0\r\n\r\n");
    assert_eq!(response.body(), b"{\"a\":1}");
    assert!(error.contains("other credentials"), "{error}");
    den.is_unharmed();
}

#[test]
fn refusal_whose_body_does_not_end_is_told_in_time() {
    let den = Den::with(|builder| builder.connect_timeout(SHORT));
    let (_, _, response) = den.refused("HTTP/1.1 500 No\r\nContent-Length: 100\r\n\r\nhalf of");
    assert_eq!(response.body(), b"half of");
    let (_, _, response) = den.refused("HTTP/1.1 500 No\r\n\r\nuntil I hang up");
    assert_eq!(response.body(), b"until I hang up");
    let long = format!("HTTP/1.1 500 No\r\nContent-Length: 1000000000\r\n\r\n{}", "x".repeat(5000));
    assert_eq!(den.refused(&long).2.body(), [b'x'; 1024]);
    den.is_unharmed();
}

#[test]
fn headers_of_the_answer_that_opens_a_connection_are_there() {
    let den = Den::new();
    assert!(den.client.response().is_none());
    let (mut raw, accept) = Raw::asked(&den.listener);
    raw.ask(&and(switching(&accept), "Set-Cookie: sticky=7"));
    let (response, debug) = den.events.find(|event| match &event {
        ClientEvent::Connected { response, .. } => Some((response.clone(), format!("{event:?}"))),
        _ => None,
    });
    assert_eq!((response.status(), response.header("set-cookie"), response.body()), (101, Some("sticky=7"), &[][..]));
    assert!(!debug.contains("sticky"), "{debug}");
    assert_eq!(den.client.response().unwrap().header("set-cookie"), Some("sticky=7"));
    drop(raw);
    den.ending();
    until("no answer without a connection", || den.client.response().is_none());
    den.is_unharmed();
}

#[test]
fn offered_subprotocol_is_taken_and_two_of_them_are_not() {
    let den = Den::with(|builder| builder.subprotocols(["chat", "talk"]));
    let both =
        |accept: &str| and(and(switching(accept), "Sec-WebSocket-Protocol: chat"), "Sec-WebSocket-Protocol: talk");
    assert!(answered(&den, both).contains("subprotocol"));
    let (mut raw, accept) = Raw::asked(&den.listener);
    raw.ask(&and(switching(&accept), "Sec-WebSocket-Protocol: talk"));
    den.client.wait_connected(PATIENCE).unwrap();
}

#[test]
fn endless_head_is_cut_off() {
    let den = Den::new();
    let (mut raw, _) = Raw::asked(&den.listener);
    raw.send(b"HTTP/1.1 101 Switching Protocols\r\n");
    let lines = b"X: endless\r\n".repeat(1000);
    let taken = raw.flood(&lines, 64 << 20);
    assert!(taken < 32 << 20, "{taken}");
    let error = den.refusal();
    assert!(error.contains("Limits::header"), "{error}");
    den.is_unharmed();
}

#[test]
fn head_with_too_many_headers_is_not_taken() {
    let den = Den::new();
    let many: Vec<_> = (0..200).map(|number| format!("X{number}: x")).collect();
    let error = answered(&den, |accept| [switching(accept), many].concat());
    assert!(error.contains("Limits::headers"), "{error}");
    den.is_unharmed();
}

#[test]
fn head_that_ends_in_the_middle_fails_the_attempt() {
    let den = Den::new();
    let (mut raw, _) = Raw::asked(&den.listener);
    raw.send(b"HTTP/1.1 101 Switching Proto");
    drop(raw);
    assert!(den.refusal().contains("does not speak WebSocket"));
    den.is_unharmed();
}

#[test]
fn endless_provisional_answers_do_not_outlast_the_connect_timeout() {
    let den = Den::with(|builder| builder.connect_timeout(SHORT));
    let (mut raw, _) = Raw::asked(&den.listener);
    let began = Instant::now();
    // As fast as they are taken.
    while raw.send(&b"HTTP/1.1 100 Continue\r\n\r\n".repeat(1000)) {
        assert!(began.elapsed() < PATIENCE, "the client is still listening");
    }
    assert!(den.refusal().contains("no handshake answer"));
    den.is_unharmed();
}

#[test]
fn limits_of_messages_and_frames_hold_on_a_client_too() {
    for (limits, len, named) in [
        (Limits::client(), (16 << 20) + 1, "Limits::message_len"),
        (Limits::client().message_len(1000), 1001, "Limits::message_len"),
        (Limits::client().frame_len(1000), 1001, "Limits::frame_len"),
    ] {
        let den = Den::with(|builder| builder.limits(limits));
        let mut raw = Raw::accepted(&den.listener);
        raw.send(&header(Server, TEXT, len));
        assert_eq!(raw.close_code(), Some(1009));
        drop(raw);
        let (code, error) = den.ending();
        assert!(code == 1009 && error.contains(named), "{code} {error}");
        den.is_unharmed();
    }
}

#[test]
fn broken_frames_end_the_connection_and_the_server_is_told_why() {
    let den = Den::new();
    for (bytes, code) in [
        (frame(crate::raw::Side::Client, TEXT, b"masked"), 1002),
        (frame(Server, TEXT | 0x40, b""), 1002),
        (frame(Server, TEXT, b"\xff"), 1007),
        (frame(Server, CLOSE, &1005_u16.to_be_bytes()), 1002),
        (frame(Server, CLOSE, &999_u16.to_be_bytes()), 1002),
        (header(Server, TEXT, (16 << 20) + 1), 1009),
        (header(Server, TEXT, (1 << 63) - 1), 1009),
    ] {
        let mut raw = Raw::accepted(&den.listener);
        raw.send(&bytes);
        assert_eq!(raw.close_code(), Some(code));
        drop(raw);
        let (told, error) = den.ending();
        assert!(told == code && error.contains("broke the protocol"), "{told} {error}");
    }
    den.is_unharmed();
}

#[test]
fn pings_whose_answers_nobody_reads_do_not_pile_up() {
    let den = Den::with(|builder| builder.limits(Limits::client().write_stalled(2 * SHORT)));
    let mut raw = Raw::accepted(&den.listener);
    let taken = raw.flood(&frame(Server, PING, &[0; 125]).repeat(1000), 256 << 20);
    assert!(taken < 32 << 20, "{taken}");
    assert!(memory() < den.before + ROOM, "{} KiB more", (memory() - den.before) / 1024);
    assert!(den.ending().1.contains("has taken nothing"));
    den.is_unharmed();
}

#[test]
fn server_gone_silent_is_dropped_by_the_heartbeat() {
    let den = Den::with(|builder| builder.ping_interval(SHORT).ping_timeout(SHORT));
    let _silent = Raw::accepted(&den.listener);
    assert!(den.ending().1.contains("silent"));
    den.is_unharmed();
}

#[test]
fn close_after_which_the_server_does_not_hang_up_is_ended_by_the_client() {
    let den = Den::new();
    let mut raw = Raw::accepted(&den.listener);
    raw.send(&frame(Server, CLOSE, &1001_u16.to_be_bytes()));
    assert_eq!(den.ending(), (1001, String::new()));
    den.is_unharmed();
}

#[test]
fn close_without_a_code_is_1005() {
    let den = Den::new();
    let mut raw = Raw::accepted(&den.listener);
    raw.send(&frame(Server, CLOSE, b""));
    drop(raw);
    assert_eq!(den.ending(), (1005, String::new()));
    den.is_unharmed();
}

#[test]
fn server_that_does_not_answer_a_close_is_left_after_the_close_timeout() {
    let den = Den::with(|builder| builder.limits(Limits::client().close_timeout(SHORT)));
    let _mute = Raw::accepted(&den.listener);
    den.client.wait_connected(PATIENCE).unwrap();
    let began = Instant::now();
    den.client.clone().complete();
    den.client.wait_closed(PATIENCE).unwrap();
    assert!(began.elapsed() < 2 * crate::SOON, "{:?}", began.elapsed());
}

fn moved(to: &str) -> Vec<String> {
    vec!["HTTP/1.1 302 Found".into(), format!("Location: {to}"), "Content-Length: 0".into()]
}

#[test]
fn redirect_is_an_error_unless_it_was_asked_for() {
    let den = Den::new();
    let error = answered(&den, |_| moved("/there"));
    assert!(error.contains("HTTP status 302") && error.contains("follow_redirects"), "{error}");
}

#[test]
fn redirects_are_followed_five_times_if_asked_for() {
    let den = Den::with(ClientBuilder::follow_redirects);
    for hop in 0..5 {
        Raw::asked(&den.listener).0.ask(&moved(&format!("/{hop}")));
    }
    let good = Raw::accepted(&den.listener);
    den.client.wait_connected(PATIENCE).unwrap();
    drop(good);
    for hop in 0..6 {
        Raw::asked(&den.listener).0.ask(&moved(&format!("/{hop}")));
    }
    assert!(den.refusal().contains("more than 5 redirects"));
    den.is_unharmed();
}

#[test]
fn client_never_closes_for_messages_that_it_cannot_decode() {
    let den = Den::with(|builder| builder.limits(Limits::client().undecodable(3)));
    let mut raw = Raw::accepted(&den.listener);
    raw.send(&frame(Server, BINARY, b"not a text").repeat(1500));
    raw.send(&frame(Server, TEXT, b"good"));
    assert_eq!((&*den.heard.item(), den.client.stats().undecodable), ("good", 1500));
}
