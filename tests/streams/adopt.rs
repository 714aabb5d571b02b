//! Streams whose opening handshake another library has made.

use std::{net::SocketAddr, sync::mpsc};

use rxplus::{Addr, Adopted, prelude::*};
use tokio::{
    io::{DuplexStream, duplex},
    net::{TcpListener, TcpStream},
};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async, client_async};
use tungstenite::{
    client::IntoClientRequest,
    handshake::server::{Request, Response},
    protocol::Role,
};

use crate::{
    ROOM, another_runtime, echoes, next, run, soon,
    support::{PATIENCE, Recorder, each_runtime, foreign::read, thread_name},
    unbound, unbound_with,
};

/// A client whose opening handshake is over.
async fn client(stream: DuplexStream) -> WebSocketStream<DuplexStream> {
    WebSocketStream::from_raw_socket(stream, Role::Client, None).await
}

/// Accepts with tokio-tungstenite, decides by itself, and hands over.
async fn accept_and_hand_over(listener: &TcpListener, server: &RxWsServer<WsStr>) -> SocketAddr {
    let (stream, addr) = listener.accept().await.unwrap();
    let mut path = String::new();
    #[expect(clippy::result_large_err, reason = "tungstenite's own type")]
    let decide = |request: &Request, mut response: Response| {
        path = request.uri().path().to_owned();
        response.headers_mut().append("Sec-WebSocket-Protocol", "chat".parse().unwrap());
        Ok(response)
    };
    let websocket = accept_hdr_async(stream, decide).await.unwrap();
    server.adopt(websocket.into_inner(), Adopted::new(path).subprotocol("chat").grant(7_u32));
    addr
}

#[test]
fn connection_of_tokio_tungstenite_is_served_and_outlives_its_runtime() {
    let (runtimes, _tokio) = each_runtime(2);
    for runtime in &runtimes {
        let server = unbound_with(|builder| builder.runtime(runtime));
        let (connections, events) = (Recorder::on(server.connections()), Recorder::on(server.events()));
        let (tell, told) = mpsc::channel();
        server.clone().log_errors().subscribe(move |td| tell.send((td, thread_name())).unwrap());
        let another = another_runtime();
        let listener = another.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let to = listener.local_addr().unwrap();
        let connecting = std::thread::spawn(move || {
            let mut request = "ws://robot/room".into_client_request().unwrap();
            request.headers_mut().append("Sec-WebSocket-Protocol", "chat".parse().unwrap());
            tungstenite::client(request, crate::support::foreign::tcp(to)).unwrap().0
        });
        let addr = another.block_on(soon(accept_and_hand_over(&listener, &server)));
        let mut peer = connecting.join().unwrap();
        drop((listener, another));
        let connection = connections.item();
        assert_eq!((&**connection.path(), connection.subprotocol()), ("/room", Some("chat")));
        assert_eq!((connection.peer_addr(), connection.grant()), (addr.into(), Some(&7_u32)));
        let opened = events.item();
        assert!(matches!(&opened, ServerEvent::Connected { peer, .. } if peer.addr == addr), "{opened:?}");
        for text in ["one", "two"] {
            peer.send(text.into()).unwrap();
            assert_eq!(read(&mut peer), text.into());
            let (TaggedData { tag, data, .. }, thread) = told.recv_timeout(PATIENCE).unwrap();
            assert_eq!((&*tag, &*data), ("/room", text));
            assert_ne!(thread, "another");
        }
        server.next(TaggedData::new("/room", "to all"));
        assert_eq!(read(&mut peer), "to all".into());
        server.complete();
    }
}

#[test]
fn stream_is_fresh_after_each_of_the_two_ways_to_accept() {
    let server = unbound();
    run(async {
        for early in ["at once", ""] {
            let (near, far) = duplex(ROOM);
            let accepting = tokio::spawn(tokio_tungstenite::accept_async(far));
            let mut peer = client_async("ws://robot/", near).await.unwrap().0;
            // Before the server has it.
            futures::SinkExt::send(&mut peer, early.into()).await.unwrap();
            server.adopt(accepting.await.unwrap().unwrap().into_inner(), Adopted::new("/"));
            assert_eq!(next(&mut peer).await, early.into());
        }
    });
    server.complete();
}

#[test]
fn early_bytes_come_before_what_the_stream_brings() {
    let server = unbound();
    let received = Recorder::on(server.clone());
    // Two texts, masked with zeros, and the head of a third one.
    let early = b"\x81\x83\0\0\0\0one\x81\x83\0\0\0\0two\x81\x85\0\0\0\0th";
    run(async {
        let (mut near, far) = duplex(ROOM);
        server.adopt(far, Adopted::new("/x").early(&early[..]));
        tokio::io::AsyncWriteExt::write_all(&mut near, b"ree\x81\x84\0\0\0\0four").await.unwrap();
        let texts: Vec<_> = received.items(4).into_iter().map(|tagged| tagged.data.to_string()).collect();
        assert_eq!(texts, ["one", "two", "three", "four"]);
    });
    server.complete();
}

#[test]
fn early_bytes_are_for_subscribers_that_come_with_the_connection() {
    let server = RxWsServer::unbound(WsStr).build().unwrap();
    let (tell, told) = mpsc::channel();
    server.connections().subscribe(move |connection| {
        let tell = tell.clone();
        connection.subscribe(move |text| tell.send(text.to_string()).unwrap());
    });
    let (_near, far) = duplex(ROOM);
    server.adopt(far, Adopted::new("/").early(&b"\x81\x83\0\0\0\0one"[..]));
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), "one");
    server.complete();
}

#[test]
fn path_and_address_are_as_given() {
    let server = unbound();
    let connections = Recorder::on(server.connections());
    run(async {
        let proxied: SocketAddr = "192.0.2.7:9".parse().unwrap();
        let given = [
            (Adopted::new("/chat"), "/chat", Addr::Memory),
            (Adopted::new("chat room?x=1").peer_addr(proxied), "/chat%20room", proxied.into()),
            (Adopted::new(""), "/", Addr::Memory),
        ];
        for (adopted, path, addr) in given {
            let (near, far) = duplex(ROOM);
            server.adopt(far, adopted);
            echoes(&mut client(near).await, "hello").await;
            let connection = connections.item();
            assert_eq!((&**connection.path(), connection.peer_addr()), (path, addr));
            assert_eq!((connection.subprotocol(), connection.grant::<u32>()), (None, None));
        }
    });
    server.complete();
}

#[test]
fn neither_authorize_nor_paths_are_asked() {
    let server =
        unbound_with(|builder| builder.paths(["/only"]).authorize(|_| async { Err::<(), _>(Refuse::status(401)) }));
    run(async {
        let (near, far) = duplex(ROOM);
        server.adopt(far, Adopted::new("/other"));
        echoes(&mut client(near).await, "hello").await;
    });
    server.complete();
}

#[test]
fn stream_without_a_known_kind_has_an_unknown_address() {
    let server = unbound();
    let connections = Recorder::on(server.connections());
    run(async {
        let (near, far) = duplex(ROOM);
        server.adopt(tokio::io::BufStream::new(far), Adopted::new("/"));
        // What is in the buffer of the stream itself has to be flushed.
        echoes(&mut client(near).await, "hello").await;
        assert_eq!(connections.item().peer_addr(), Addr::Unknown);
    });
    server.complete();
}

/// The address of a socket whose peer has gone is not known any more.
#[test]
fn socket_whose_peer_has_gone_is_no_harm() {
    let server = unbound();
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        for _ in 0..2 {
            let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            client.set_zero_linger().unwrap();
            drop(client);
            stream.readable().await.unwrap();
            server.adopt(stream, Adopted::new("/"));
        }
        echoes(&mut crate::open(crate::memory(&server), "/").await, "unharmed").await;
    });
    server.complete();
}
