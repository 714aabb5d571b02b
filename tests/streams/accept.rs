//! What a server does with streams that it accepts.

use std::sync::mpsc;

use rxplus::{Addr, prelude::*};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};

use crate::{
    another_runtime, echoes, memory, open, run, soon,
    support::{
        PATIENCE, Recorder, each_runtime, echoing,
        foreign::{tcp, upgrade_request},
        thread_name,
    },
    unbound, unbound_with,
};

#[test]
fn stream_in_memory_is_served_on_each_kind_of_runtime() {
    let (runtimes, _tokio) = each_runtime(2);
    for runtime in &runtimes {
        let server = unbound_with(|builder| builder.runtime(runtime));
        assert_eq!(server.local_addr(), Addr::Mounted);
        let connections = Recorder::on(server.connections());
        run(async {
            let mut peer = open(memory(&server), "/chat").await;
            echoes(&mut peer, "hello").await;
            echoes(&mut peer, &"long ".repeat(10_000)).await;
        });
        let connection = connections.item();
        assert_eq!((&**connection.path(), connection.peer_addr()), ("/chat", Addr::Memory));
        server.complete();
    }
}

#[test]
fn push_reaches_accepted_streams_and_connections_of_the_listener_alike() {
    let server = echoing(RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap());
    run(async {
        let tcp = TcpStream::connect(server.local_addr().as_tcp().unwrap()).await.unwrap();
        let mut peers = (open(memory(&server), "/a").await, open(tcp, "/a").await);
        echoes(&mut peers.0, "here").await;
        echoes(&mut peers.1, "here").await;
        server.next(TaggedData::new("/a", "all"));
        assert_eq!(crate::next(&mut peers.0).await, "all".into());
        assert_eq!(crate::next(&mut peers.1).await, "all".into());
    });
    server.complete();
}

#[test]
fn tcp_stream_of_another_runtime_moves_and_outlives_it() {
    let (runtimes, _tokio) = each_runtime(2);
    for runtime in &runtimes {
        let server = unbound_with(|builder| builder.runtime(runtime));
        let (tell, told) = mpsc::channel();
        server.clone().log_errors().subscribe(move |_| tell.send(thread_name()).unwrap());
        let events = Recorder::on(server.events());
        let another = another_runtime();
        let listener = another.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let client = tcp(listener.local_addr().unwrap());
        let addr = client.local_addr().unwrap();
        let (stream, _) = another.block_on(listener.accept()).unwrap();
        server.accept(stream);
        let mut peer = tungstenite::client("ws://robot/", client).unwrap().0;
        drop((listener, another));
        for text in ["one", "two"] {
            peer.send(text.into()).unwrap();
            assert_eq!(crate::support::foreign::read(&mut peer), text.into());
            assert_ne!(told.recv_timeout(PATIENCE).unwrap(), "another");
        }
        let from = events.find(|event| match event {
            ServerEvent::Connected { peer, .. } => Some(peer.addr),
            _ => None,
        });
        assert_eq!(from, addr);
        server.complete();
    }
}

/// The other runtime ends before the server has looked at the stream.
#[test]
fn tcp_stream_moves_even_if_its_runtime_ends_first() {
    let runtime = IoRuntime::new("late").unwrap();
    let server = unbound_with(|builder| builder.runtime(&runtime));
    let (names, told) = mpsc::channel();
    server.clone().log_errors().subscribe(move |_| names.send(thread_name()).unwrap());
    let another = another_runtime();
    let (client, stream) = another.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = tcp(listener.local_addr().unwrap());
        (client, listener.accept().await.unwrap().0)
    });
    let held = crate::support::stall(&runtime);
    server.accept(stream);
    drop(another);
    drop(held);
    let mut peer = tungstenite::client("ws://robot/", client).unwrap().0;
    peer.send("hello".into()).unwrap();
    assert_eq!(crate::support::foreign::read(&mut peer), "hello".into());
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), "late");
    server.complete();
}

#[test]
fn bytes_sent_together_with_the_request_arrive() {
    let server = unbound();
    let received = Recorder::on(server.clone());
    run(async {
        let mut stream = memory(&server);
        // Masked with zeros, which leaves the text as it is.
        let frame = [&[0x81, 0x85, 0, 0, 0, 0], &b"early"[..]].concat();
        stream.write_all(&[upgrade_request("/x").as_bytes(), &frame].concat()).await.unwrap();
        let TaggedData { tag, data, .. } = received.item();
        assert_eq!((&*tag, &*data), ("/x", "early"));
    });
    server.complete();
}

#[test]
fn stream_may_be_given_in_a_callback() {
    let server = unbound();
    let (give, given) = mpsc::channel();
    let accepting = server.clone();
    server.clone().log_errors().subscribe(move |_| give.send(memory(&accepting)).unwrap());
    run(async {
        let mut first = open(memory(&server), "/").await;
        echoes(&mut first, "another one").await;
        let stream = given.recv_timeout(PATIENCE).unwrap();
        let mut second = soon(open(stream, "/")).await;
        echoes(&mut second, "here").await;
    });
    server.complete();
}

#[test]
fn authorize_decides_on_accepted_streams_and_sees_where_they_come_from() {
    let server = unbound_with(|builder| {
        builder.authorize(|request| async move { Ok(format!("{} from {}", request.path(), request.peer_addr())) })
    });
    let connections = Recorder::on(server.connections());
    run(async {
        let mut peer = open(memory(&server), "/chat").await;
        echoes(&mut peer, "hello").await;
    });
    assert_eq!(connections.item().grant::<String>().unwrap(), "/chat from memory");
    server.complete();
}

#[test]
fn streams_of_the_program_are_spread_over_the_threads_of_the_server() {
    let server = unbound_with(|builder| builder.name("spread").threads(3));
    let (tell, told) = mpsc::channel();
    server.connections().subscribe(move |connection| {
        let tell = tell.clone();
        connection.log_errors().subscribe(move |_| tell.send(thread_name()).unwrap());
    });
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let mut in_memory = Vec::new();
        let mut over_tcp = Vec::new();
        for _ in 0..3 {
            in_memory.push(open(memory(&server), "/a").await);
            let (near, accepted) = tokio::join!(TcpStream::connect(to), listener.accept());
            server.accept(accepted.unwrap().0);
            over_tcp.push(open(near.unwrap(), "/a").await);
        }
        for text in ["one", &"long ".repeat(10_000)] {
            for (near, far) in in_memory.iter_mut().zip(&mut over_tcp) {
                echoes(near, text).await;
                echoes(far, text).await;
            }
        }
    });
    let mut threads: Vec<_> = (0..12).map(|_| told.recv_timeout(PATIENCE).unwrap()).collect();
    threads.sort_unstable();
    let expected = ["rxplus-spread", "rxplus-spread-2", "rxplus-spread-3"].map(|name| [name; 4]);
    assert_eq!(threads, expected.as_flattened());
}
