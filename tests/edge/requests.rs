//! What a client asks for, and what it refuses to ask for.

use std::net::TcpListener;

use rxplus::prelude::*;

use crate::{
    raw::{Raw, switching},
    support::{PATIENCE, Recorder, url},
};

/// The head of the request of a client with these options.
fn request_of(options: impl FnOnce(ClientBuilder<WsStr>) -> ClientBuilder<WsStr>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("ws://{}/chat?room=7", listener.local_addr().unwrap());
    let client = options(RxWsClient::builder(address, WsStr)).connect().unwrap();
    let (_, request) = Raw::requested(&listener);
    client.complete();
    request
}

/// Why a client and a group with these options are not made.
fn errors_of(
    client: impl FnOnce(ClientBuilder<WsStr>) -> ClientBuilder<WsStr>,
    group: impl FnOnce(GroupBuilder<WsStr>) -> GroupBuilder<WsStr>,
) -> [WsError; 2] {
    let client = client(RxWsClient::builder("ws://127.0.0.1:9", WsStr)).connect().unwrap_err();
    [client, group(RxWsClientGroup::builder("ws://127.0.0.1:9", WsStr)).build().unwrap_err()]
}

/// The error of the first attempt of a client whose request is changed by `change`.
fn failure_of(change: fn(ConnRequest) -> ConnRequest) -> WsError {
    let client = RxWsClient::builder("ws://127.0.0.1:9", WsStr).request(change).connect().unwrap();
    let failure = Recorder::on(client.events()).find(|event| match event {
        ClientEvent::ConnectFailed { error, .. } => Some(error),
        _ => None,
    });
    client.complete();
    failure
}

#[test]
fn header_names_are_spelled_as_the_standard_spells_them() {
    let request = request_of(|builder| builder.subprotocols(["chat"]).header("x-api-key", "1"));
    let names: Vec<_> = request.lines().filter_map(|line| Some(line.split_once(": ")?.0)).collect();
    for name in
        ["Host", "Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version", "Sec-WebSocket-Protocol"]
    {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
    assert!(request.starts_with("GET /chat?room=7 HTTP/1.1\r\n") && request.contains("X-Api-Key: 1\r\n"), "{request}");
}

#[test]
fn subprotocol_given_as_a_header_is_offered_and_understood() {
    const NAME: &str = "sec-websocket-protocol";
    let request = request_of(|builder| builder.subprotocols(["a"]).header(NAME, "b,, c").header(NAME, "d"));
    assert_eq!(request.matches("Sec-WebSocket-Protocol: a, b, c, d\r\n").count(), 1, "{request}");
    let request = request_of(|builder| builder.header(NAME, "a").request(|request| request.header(NAME, "b, c")));
    assert_eq!(request.matches("Sec-WebSocket-Protocol: b, c\r\n").count(), 1, "{request}");

    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).subprotocols(["mqtt"]).bind().unwrap();
    let connections = Recorder::on(server.connections());
    let client = RxWsClient::builder(url(&server, "/"), WsStr).header(NAME, "mqtt").connect().unwrap();
    client.wait_connected(PATIENCE).unwrap();
    assert_eq!(connections.item().subprotocol(), Some("mqtt"));
    client.complete();
    server.complete();
}

#[test]
fn subprotocol_that_cannot_be_sent_makes_no_client() {
    for name in ["chat\nX-Evil: 1", "", "a b", "a,b", "\u{fc}", "rxplus.resume.1", "a+rxplus.resume.1"] {
        for error in errors_of(|client| client.subprotocols([name]), |group| group.subprotocols([name])) {
            assert!(matches!(&error, WsError::InvalidSubprotocol(told) if told == name), "{error:?}");
            assert!(!error.to_string().contains('\n'), "{error}");
        }
    }
    let error = failure_of(|request| request.subprotocols(["a b"]));
    assert!(matches!(error, WsError::InvalidSubprotocol(_)), "{error:?}");
    let error = failure_of(|request| request.header("Sec-WebSocket-Protocol", "a b"));
    assert!(matches!(error, WsError::InvalidSubprotocol(_)), "{error:?}");
}

#[test]
fn header_that_the_handshake_sets_itself_makes_no_client() {
    for name in [
        "connection",
        "Upgrade",
        "Sec-WebSocket-Key",
        "sec-websocket-version",
        "Sec-WebSocket-Extensions",
        "Content-Length",
    ] {
        for error in errors_of(|client| client.header(name, "1"), |group| group.header(name, "1")) {
            assert!(matches!(&error, WsError::ReservedHeader(told) if told.eq_ignore_ascii_case(name)), "{error:?}");
        }
    }
    let error = failure_of(|request| request.header("Connection", "close"));
    assert!(matches!(error, WsError::ReservedHeader(_)), "{error:?}");
    let request = request_of(|builder| builder.header("Host", "virtual.example"));
    assert_eq!(request.matches("Host: ").count(), 1, "{request}");
    assert!(request.contains("Host: virtual.example\r\n"), "{request}");
}

#[test]
fn empty_headers_of_an_answer_choose_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("ws://{}", listener.local_addr().unwrap());
    let client = RxWsClient::builder(address, WsStr).subprotocols(["chat"]).connect().unwrap();
    let events = Recorder::on(client.events());
    let (mut raw, accept) = Raw::asked(&listener);
    let empty =
        ["Sec-WebSocket-Protocol:", "Sec-WebSocket-Extensions:  ", "Sec-WebSocket-Protocol: "].map(String::from);
    raw.ask(&[switching(&accept), empty.to_vec()].concat());
    let subprotocol = events.find(|event| match event {
        ClientEvent::Connected { subprotocol, .. } => Some(subprotocol),
        ClientEvent::ConnectFailed { error, .. } => panic!("{error}"),
        _ => None,
    });
    assert_eq!(subprotocol, None);
    client.complete();
}
