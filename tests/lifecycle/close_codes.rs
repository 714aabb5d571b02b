//! Close codes: which one an endpoint sends for what, and what it tells of the one that comes.

use std::{
    io::{Read, Write},
    net::Shutdown,
};

use tungstenite::{
    Message,
    protocol::{
        CloseFrame,
        frame::{
            Frame as WireFrame,
            coding::{CloseCode, Data, OpCode},
        },
    },
};

use super::*;

#[test]
fn close_codes_say_who_ended_and_how() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let connections = Recorder::on(server.connections());
    let join = || {
        let peer = foreign_client(server.local_addr(), "/");
        (peer, connections.item())
    };
    let mut peers = [(); 4].map(|()| join());
    let [completed, failed, closed, _] = peers.each_ref().map(|(_, connection)| connection.clone());
    completed.complete();
    failed.error(WsError::application("broken"));
    closed.close(3456, "enough").unwrap();
    for ((peer, connection), code) in peers[..3].iter_mut().zip([1000, 1011, 3456]) {
        assert_eq!(read_to_the_end(peer).1, Some(code));
        connection.wait_closed(PATIENCE).unwrap();
    }
    server.clone().complete();
    assert_eq!(read_to_the_end(&mut peers[3].0).1, Some(1001));
    server.wait_closed(PATIENCE).unwrap();
}

#[test]
fn client_closes_with_1000_or_with_1011_after_what_is_queued() {
    let (addr, ends) = close_code_server();
    for (code, end) in [(1000, Heard::Complete), (1011, Heard::Error("broken".into()))] {
        let client = RxWsClient::connect(format!("ws://{addr}"), WsStr).unwrap();
        let heard = Recorder::<WsText>::on(client.clone());
        client.next("last words");
        match code {
            1000 => client.clone().complete(),
            _ => client.clone().error(WsError::application("broken")),
        }
        assert!(matches!(client.send("too late"), Err(SendError::Closed(_))));
        assert_eq!(ends.recv_timeout(PATIENCE).unwrap(), (vec!["last words".into()], Some(code)));
        assert_eq!(heard.to_the_end(), (vec![], end));
        assert_eq!(client.wait_closed(PATIENCE).unwrap(), CloseReport::default());
    }
}

fn close_frame(peer: &mut Foreign) -> CloseFrame {
    match read(peer) {
        Message::Close(Some(frame)) => frame,
        other => panic!("{other:?} instead of a close frame"),
    }
}

#[test]
fn completed_server_closes_foreign_clients_with_1001() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let connections = Recorder::on(server.connections());
    let mut peer = foreign_client(server.local_addr(), "/");
    connections.item();
    server.complete();
    assert_eq!(close_frame(&mut peer).code, CloseCode::Away);
}

#[test]
fn completed_client_closes_a_foreign_server_with_1000() {
    let server = ForeignServer::start();
    let client = RxWsClient::connect(server.url(), WsStr).unwrap();
    let mut peer = server.accept();
    client.wait_connected(PATIENCE).unwrap();
    client.complete();
    assert_eq!(close_frame(&mut peer).code, CloseCode::Normal);
}

#[test]
fn completed_connection_closes_a_foreign_client_with_1000() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let connections = Recorder::on(server.connections());
    let mut peer = foreign_client(server.local_addr(), "/");
    connections.item().complete();
    assert_eq!(close_frame(&mut peer).code, CloseCode::Normal);
}

#[test]
fn server_that_ends_with_an_error_closes_with_1011() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let ended = Recorder::on(server.clone());
    let mut peer = foreign_client(server.local_addr(), "/");
    let connection = Recorder::on(Recorder::on(server.connections()).item());
    server.error(WsError::application("out of order"));
    assert_eq!(read_to_the_end(&mut peer).1, Some(1011));
    assert_eq!(ended.hear(), Heard::Error("out of order".into()));
    // This one has ended by a closing handshake.
    assert_eq!(connection.hear(), Heard::Complete);
}

#[test]
fn group_that_ends_with_an_error_closes_with_1011() {
    let server = ForeignServer::start();
    let group = RxWsClientGroup::new(server.url(), WsStr).unwrap();
    let ended = Recorder::on(group.clone());
    let client = group.open("/chat").unwrap();
    let child = Recorder::on(client.clone());
    let mut peer = server.accept();
    client.wait_connected(PATIENCE).unwrap();
    group.error(WsError::application("out of order"));
    assert_eq!(read_to_the_end(&mut peer).1, Some(1011));
    assert_eq!(ended.hear(), Heard::Error("out of order".into()));
    assert_eq!(child.hear(), Heard::Error("out of order".into()));
}

#[test]
fn connection_that_ends_with_an_error_closes_with_1011_alone() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let (heard, connections) = (Recorder::on(server.clone()), Recorder::on(server.connections()));
    let mut peer = foreign_client(server.local_addr(), "/");
    let connection = connections.item();
    let ended = Recorder::on(connection.clone());
    connection.error(WsError::application("out of order"));
    assert_eq!(read_to_the_end(&mut peer).1, Some(1011));
    assert_eq!(ended.hear(), Heard::Error("out of order".into()));
    let client = connected(&server, "/", WsStr);
    client.next("still here");
    assert_eq!(heard.item().data, "still here");
}

#[test]
fn connection_completes_after_a_closing_handshake_and_errors_otherwise() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let connections = Recorder::on(server.connections());
    let events = Recorder::on(server.events());
    let join = || {
        let peer = foreign_client(server.local_addr(), "/");
        (peer, Recorder::<WsText>::on(connections.item()))
    };
    let (closing, heard_closing) = join();
    close(closing, 4321);
    assert_eq!(heard_closing.to_the_end().1, Heard::Complete);
    let (vanishing, heard_vanishing) = join();
    drop(vanishing);
    assert!(
        matches!(heard_vanishing.to_the_end().1, Heard::Error(error) if error.contains("without a closing handshake"))
    );
    let codes = [(); 2].map(|()| {
        events.find(|event| match event {
            ServerEvent::Disconnected { code, .. } => Some(code),
            _ => None,
        })
    });
    assert_eq!(codes, [4321, 1006]);
    server.complete();
}

#[test]
fn connection_closes_with_the_code_and_reason_given() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let connections = Recorder::on(server.connections());
    let mut peer = foreign_client(server.local_addr(), "/");
    let connection = connections.item();
    let ended = Recorder::on(connection.clone());
    assert!(matches!(connection.close(1005, ""), Err(WsError::InvalidClose { code: 1005, .. })));
    assert!(matches!(connection.close(4000, &"x".repeat(124)), Err(WsError::InvalidClose { .. })));
    connection.next("the last");
    connection.close(4000, "enough").unwrap();
    assert_eq!(read(&mut peer), Message::text("the last"));
    let Message::Close(Some(frame)) = read(&mut peer) else { panic!("something else than a close frame") };
    assert_eq!((u16::from(frame.code), frame.reason.as_str()), (4000, "enough"));
    assert!(peer.read().is_err());
    assert_eq!(ended.hear(), Heard::Complete);
    assert_eq!(server.connection_count(), 0);
}

#[test]
fn client_without_the_wanted_subprotocol_may_be_closed_with_1002() {
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).subprotocols(["ocpp2.0.1"]).bind().unwrap();
    let connections = Recorder::on(server.connections());
    let client = RxWsClient::builder(url(&server, "/ocpp/1"), WsStr).subprotocols(["ocpp1.6"]).connect().unwrap();
    let events = Recorder::on(client.events());
    let connection = connections.item();
    assert_eq!(connection.subprotocol(), None);
    connection.close(1002, "no such subprotocol").unwrap();
    let told = events.find(|event| match event {
        ClientEvent::Disconnected { code, reason, .. } => Some((code, reason.to_string())),
        _ => None,
    });
    assert_eq!(told, (1002, "no such subprotocol".into()));
}

#[test]
fn connection_closes_with_the_codes_that_an_endpoint_may_send() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let connections = Recorder::on(server.connections());
    for code in (1000..=1003).chain(1007..=1014).chain([3000, 3999, 4000, 4999]) {
        let mut peer = foreign_client(server.local_addr(), "/");
        connections.item().close(code, "").unwrap();
        // As it goes over the wire: the library takes some of them for others.
        let mut frame = [0; 4];
        peer.get_mut().read_exact(&mut frame).unwrap();
        assert_eq!(frame, [&[0x88, 2], &code.to_be_bytes()[..]].concat()[..]);
    }
    let _peer = foreign_client(server.local_addr(), "/");
    let connection = connections.item();
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000] {
        assert!(matches!(connection.close(code, ""), Err(WsError::InvalidClose { .. })), "{code}");
    }
}

#[test]
fn connection_errors_when_its_peer_vanishes_and_the_server_goes_on() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let (heard, events) = (Recorder::on(server.clone()), Recorder::on(server.events()));
    let connections = Recorder::on(server.connections());
    let peer = foreign_client(server.local_addr(), "/");
    let ended = Recorder::on(connections.item());
    // In the middle of a frame that announces five bytes.
    peer.get_ref().write_all(&[0x81, 0x85, 0, 0, 0, 0, b'h']).unwrap();
    peer.get_ref().shutdown(Shutdown::Both).unwrap();
    assert!(matches!(ended.hear(), Heard::Error(_)));
    let code = events.find(|event| match event {
        ServerEvent::Disconnected { code, error: Some(_), .. } => Some(code),
        _ => None,
    });
    assert_eq!(code, 1006);
    let client = connected(&server, "/", WsStr);
    client.next("hello");
    assert_eq!(heard.item().data, "hello");
}

#[test]
fn peer_that_breaks_the_protocol_is_told_so_and_the_others_go_on() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let (heard, events) = (Recorder::on(server.clone()), Recorder::on(server.events()));
    let mut peer = foreign_client(server.local_addr(), "/");
    peer.get_ref().write_all(&[0x83, 0x80, 0, 0, 0, 0]).unwrap(); // opcode 3 is reserved
    let Message::Close(Some(frame)) = read(&mut peer) else { panic!("something else than a close frame") };
    assert_eq!(u16::from(frame.code), 1002);
    drop(peer);
    let error = events.find(|event| match event {
        ServerEvent::Disconnected { code: 1002, error, .. } => error,
        _ => None,
    });
    assert!(matches!(error, WsError::Protocol { .. }), "{error:?}");
    let client = connected(&server, "/", WsStr);
    client.next("hello");
    assert_eq!(heard.item().data, "hello");
}

#[test]
fn close_code_and_reason_of_a_foreign_peer_are_told() {
    let ours = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let events = Recorder::on(ours.events());
    let goodbye = || Some(CloseFrame { code: CloseCode::from(4001), reason: "had enough".into() });
    let mut peer = foreign_client(ours.local_addr(), "/");
    peer.close(goodbye()).unwrap();
    assert_eq!(close_frame(&mut peer).code, CloseCode::from(4001));
    let told = events.find(|event| match event {
        ServerEvent::Disconnected { code, reason, error: None, .. } => Some((code, reason.to_string())),
        _ => None,
    });
    assert_eq!(told, (4001, "had enough".into()));

    let foreign = ForeignServer::start();
    let client = RxWsClient::connect(foreign.url(), WsStr).unwrap();
    let events = Recorder::on(client.events());
    let mut peer = foreign.accept();
    peer.close(goodbye()).unwrap();
    while peer.read().is_ok() {}
    drop(peer);
    let told = events.find(|event| match event {
        ClientEvent::Disconnected { code, reason, error: None, .. } => Some((code, reason.to_string())),
        _ => None,
    });
    assert_eq!(told, (4001, "had enough".into()));
}

#[test]
fn text_that_is_not_utf8_closes_with_1007() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let mut peer = foreign_client(server.local_addr(), "/");
    peer.send(Message::Frame(WireFrame::message(vec![0xff], OpCode::Data(Data::Text), true))).unwrap();
    assert_eq!(close_frame(&mut peer).code, CloseCode::Invalid);
}

#[test]
fn message_over_the_limit_closes_with_1009() {
    let small = RxWsServer::builder("ws://127.0.0.1:0", WsStr).limits(Limits::server().message_len(10));
    let server = small.bind().unwrap();
    let heard = Recorder::on(server.clone());
    let mut peer = foreign_client(server.local_addr(), "/");
    peer.send(Message::text("ten bytes.")).unwrap();
    assert_eq!(heard.item().data, "ten bytes.");
    peer.send(Message::text("eleven byte")).unwrap();
    assert_eq!(close_frame(&mut peer).code, CloseCode::Size);
}
