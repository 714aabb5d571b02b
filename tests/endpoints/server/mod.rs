//! A server and its connections: what they emit, whom a push reaches, and whom they let in.

mod lanes;
mod presence;
mod rooms;

use std::{collections::HashSet, io::Write};

use tungstenite::Message;

use super::*;

#[test]
fn many_clients_exchange_messages_with_one_server() {
    let server = echo_server(WsStr);
    let runtime = IoRuntime::new("many-clients").unwrap();
    let join = |n| {
        let path = format!("/{}", n % 3);
        let client = RxWsClient::builder(url(&server, &path), WsStr).runtime(&runtime).connect().unwrap();
        (Recorder::on(client.clone()), client, n)
    };
    let clients: Vec<_> = (0..50).map(join).collect();
    clients.iter().for_each(|(_, client, n)| texts(0..20).iter().for_each(|text| client.next(format!("{n}:{text}"))));
    for (heard, _, n) in &clients {
        let expected: Vec<_> = texts(0..20).iter().map(|text| format!("{n}:{text}")).collect();
        assert_eq!(heard.items(20), expected);
    }
    assert_eq!(server.connection_count(), 50);
}

#[test]
fn server_emits_what_clients_send_tagged_with_their_path() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let heard = Recorder::on(server.clone());
    for path in ["/audio", "/chat", "/deep/er"] {
        let client = connected(&server, path, WsStr);
        client.next("hello");
        assert_eq!(heard.item(), TaggedData::new(path, "hello".into()));
    }
}

#[test]
fn push_reaches_every_client_on_its_path_and_no_other() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let connections = Recorder::on(server.connections());
    let join = |path| {
        let client = connected(&server, path, WsStr);
        connections.item(); // its route is open
        (Recorder::on(client.clone()), client)
    };
    let (first, second, other) = (join("/chat"), join("/chat"), join("/chat/room"));
    server.next(TaggedData::new("/chat", "to the two"));
    server.next(TaggedData::new("/chat/room", "to the other"));
    assert_eq!((first.0.item(), second.0.item()), ("to the two".into(), "to the two".into()));
    assert_eq!(other.0.item(), "to the other");
    server.complete();
    for (heard, _) in [first, second, other] {
        assert_eq!(heard.rest(), []);
    }
}

#[test]
fn push_reaches_a_client_that_knows_that_it_is_connected() {
    for runtime in [IoRuntime::new("one").unwrap(), IoRuntime::with_threads("several", 3).unwrap()] {
        let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).runtime(&runtime).bind().unwrap();
        for _ in 0..200 {
            let mut peer = foreign_client(server.local_addr(), "/");
            server.next(TaggedData::new("/", "hello"));
            assert_eq!(read(&mut peer), Message::text("hello"));
            assert!(server.connection_count() > 0);
        }
        assert_eq!(server.stats().unrouted, 0);
        server.complete();
    }
}

#[test]
fn push_to_a_path_without_clients_is_counted_and_gone() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    server.send(TaggedData::new("/empty", "lost")).unwrap();
    assert_eq!((server.stats().pushed, server.stats().unrouted), (1, 1));
    let connections = Recorder::on(server.connections());
    let client = connected(&server, "/empty", WsStr);
    connections.item();
    let heard = Recorder::on(client.clone());
    server.next(TaggedData::new("/empty", "found"));
    assert_eq!(heard.item(), "found");
    assert_eq!(server.stats().unrouted, 1);
}

#[test]
fn connections_emits_the_open_ones_first() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let early = Recorder::on(server.connections());
    let _open: Vec<_> = (0..3).map(|_| connected(&server, "/", WsStr)).collect();
    let ids: Vec<_> = early.items(3).iter().map(Connection::id).collect();
    let late = Recorder::on(server.connections());
    assert_eq!(late.items(3).iter().map(Connection::id).collect::<Vec<_>>(), ids);
    let _another = connected(&server, "/", WsStr);
    assert_eq!(late.item().id(), early.item().id());
}

#[test]
fn in_a_rush_the_first_connection_does_not_wait_for_the_last() {
    let runtime = IoRuntime::with_threads("several", 4).unwrap();
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).runtime(&runtime).bind().unwrap();
    let [(begin, begun), (come, came), (echoed, echo)] = [(); 3].map(|()| mpsc::channel::<()>());
    server.connections().subscribe(move |connection| {
        connection.clone().subscribe_with(connection.clone());
        let wait = |event: &Receiver<()>| event.recv_timeout(PATIENCE).expect("the other one goes on");
        if connection.path() == "/first" {
            begin.send(()).unwrap();
            wait(&came);
        } else {
            wait(&echo);
        }
    });
    let told = Recorder::on(server.events());
    let mut first = foreign_client(server.local_addr(), "/first");
    begun.recv_timeout(PATIENCE).unwrap();
    let _last = foreign_client(server.local_addr(), "/last");
    told.find(|event| matches!(event, ServerEvent::Connected { peer, .. } if peer.path == "/last").then_some(()));
    come.send(()).unwrap();
    first.send(Message::text("hello")).unwrap();
    assert_eq!(read(&mut first), Message::text("hello"));
    echoed.send(()).unwrap();
    server.complete();
}

#[test]
fn connections_leaves_out_those_that_are_gone() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let early = Recorder::on(server.connections());
    let (first, _second) = (connected(&server, "/1", WsStr), connected(&server, "/2", WsStr));
    let gone = Recorder::on(early.item());
    early.item();
    first.complete();
    assert_eq!(gone.hear(), Heard::Complete);
    assert_eq!(Recorder::on(server.connections()).item().path(), "/2");
    assert_eq!(server.connection_count(), 1);
}

#[test]
fn subscription_made_in_the_connections_callback_hears_everything() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let (record, recorders) = answers(|connection: Connection<WsStr>| Recorder::on(connection));
    server.connections().subscribe(record);
    for _ in 0..20 {
        let mut stream = tcp(server.local_addr());
        // The first message comes in one packet with the handshake.
        let masked_hi = [0x81, 0x82, 0, 0, 0, 0, b'h', b'i'];
        stream.write_all(&[upgrade_request("/").as_bytes(), &masked_hi].concat()).unwrap();
        assert_eq!(recorders.recv_timeout(PATIENCE).unwrap().item(), "hi");
    }
}

#[test]
fn connection_subscribed_with_itself_echoes() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsFrame).unwrap();
    server.connections().subscribe(|conn| {
        conn.clone().subscribe_with(conn);
    });
    let client = connected(&server, "/", WsFrame);
    let heard = Recorder::on(client.clone());
    for frame in [Frame::from("text"), Frame::from(vec![0, 159, 146, 150]), Frame::from(""), Frame::from(vec![])] {
        client.next(frame.clone());
        assert_eq!(heard.item(), frame);
    }
}

#[test]
fn echo_of_a_burst_longer_than_the_outbox_reaches_a_reading_client() {
    let server = echo_server(WsStr);
    let client = connected(&server, "/", WsStr);
    let heard = Recorder::on(client.clone());
    texts(0..20_000).into_iter().for_each(|text| client.next(text));
    assert_eq!(heard.items(20_000), texts(0..20_000));
    assert_eq!(server.stats().sent.dropped, Dropped::default());
}

#[test]
fn burst_passed_on_to_a_path_reaches_every_client_that_reads() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    server.clone().subscribe_with(server.clone());
    let connections = Recorder::on(server.connections());
    let members: Vec<_> = (0..5).map(|_| (connected(&server, "/chat", WsStr), connections.item())).collect();
    let recorders: Vec<_> = members.iter().map(|(client, _)| Recorder::on(client.clone())).collect();
    texts(0..20_000).into_iter().for_each(|text| members[0].0.next(text));
    for heard in recorders {
        assert_eq!(heard.items(20_000), texts(0..20_000));
    }
    assert_eq!(server.stats().sent.dropped, Dropped::default());
    server.complete();
}

#[test]
fn server_subscribed_with_itself_answers_on_the_path() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    server.clone().map(|td| TaggedData::new(td.tag, td.data.to_uppercase())).subscribe_with(server.clone());
    let (one, other) = (connected(&server, "/one", WsStr), connected(&server, "/other", WsStr));
    let (heard_by_one, heard_by_other) = (Recorder::on(one.clone()), Recorder::on(other.clone()));
    one.next("hello");
    assert_eq!(heard_by_one.item(), "HELLO");
    other.next("bye");
    assert_eq!(heard_by_other.item(), "BYE");
    server.complete();
}

#[test]
fn connection_knows_what_was_asked_for() {
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).subprotocols(["v2", "v1"]).bind().unwrap();
    let connections = Recorder::on(server.connections());
    let ask = RxWsClient::builder(url(&server, "/chat?room=7"), WsStr).header("X-Token", "secret");
    let client = ask.subprotocols(["v1", "v2"]).connect().unwrap();
    let events = Recorder::on(client.events());
    let connection = connections.item();
    assert_eq!(connection.headers()["x-token"], "secret");
    assert_eq!(connection.subprotocol(), Some("v2"));
    assert!(connection.peer_addr().as_tcp().unwrap().ip().is_loopback());
    let chosen = events.find(|event| match event {
        ClientEvent::Connected { subprotocol, .. } => Some(subprotocol),
        _ => None,
    });
    assert_eq!(chosen.as_deref(), Some("v2"));
    let other = connected(&server, "/", WsStr);
    assert_ne!(connections.item().id(), connection.id());
    other.complete();
}

#[test]
fn requests_that_open_no_connection_are_answered_and_told() {
    let limited = RxWsServer::builder("ws://127.0.0.1:0", WsStr).paths(["/chat"]).origins(["https://good.example"]);
    let server = limited.bind().unwrap();
    let events = Recorder::on(server.events());
    let with_origin = upgrade_request("/chat").replacen("\r\n", "\r\nOrigin: https://bad.example\r\n", 1);
    let plain = "GET /chat HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned();
    for (request, wanted) in [(upgrade_request("/other"), 404), (with_origin, 403), (plain, 426)] {
        let answer = http(server.local_addr(), &request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {wanted} ")), "{answer}");
        assert!(answer.ends_with('\n'), "{answer}");
        let status = events.find(|event| match event {
            ServerEvent::Rejected { status, .. } => status,
            _ => None,
        });
        assert_eq!(status, wanted);
    }
}

#[test]
fn connection_beyond_the_limit_is_answered_with_503() {
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).max_connections(1).bind().unwrap();
    let heard = Recorder::on(server.clone());
    let client = connected(&server, "/", WsStr);
    let answer = http(server.local_addr(), &upgrade_request("/"));
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    client.next("not disturbed");
    assert_eq!(heard.item().data, "not disturbed");
}

#[test]
fn connection_ids_are_unique() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let connections = Recorder::on(server.connections());
    let _clients: Vec<_> = (0..10).map(|_| connected(&server, "/", WsStr)).collect();
    let ids: HashSet<_> = connections.items(10).iter().map(Connection::id).collect();
    assert_eq!(ids.len(), 10);
}

#[test]
fn trouble_with_one_client_is_an_event_and_the_servers_stream_goes_on() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let (heard, events) = (Recorder::on(server.clone()), Recorder::on(server.events()));
    let mut peer = foreign_client(server.local_addr(), "/bad");
    peer.send(vec![0xff, 0xfe].into()).unwrap();
    peer.send("good".into()).unwrap();
    let (path, len) = events.find(|event| match event {
        ServerEvent::Undecodable { peer, len, .. } => Some((peer.path, len)),
        _ => None,
    });
    assert_eq!((&*path, len, server.stats().undecodable), ("/bad", 2, 1));
    assert_eq!(heard.item().data, "good");
    drop(peer);
    let mut another = foreign_client(server.local_addr(), "/");
    another.send("goes on".into()).unwrap();
    assert_eq!(heard.item().data, "goes on");
    server.complete();
}
