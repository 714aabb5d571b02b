//! Unix sockets, on both sides.

use std::path::PathBuf;

use rxplus::{Addr, prelude::*};
use tokio::net::{UnixListener, UnixStream};

use crate::{
    another_runtime, echoes, memory, open, rest, run,
    support::{PATIENCE, Recorder, each_runtime},
    unbound, unbound_with,
};

/// A socket of the file system, which goes with this.
struct Socket(PathBuf);

impl Socket {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("rxplus-{name}-{}.sock", std::process::id())))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // It may not have been made.
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn pair_of_sockets_is_served() {
    let server = unbound();
    let connections = Recorder::on(server.connections());
    run(async {
        let (near, far) = UnixStream::pair().unwrap();
        server.accept(far);
        echoes(&mut open(near, "/chat").await, "hello").await;
    });
    let connection = connections.item();
    assert_eq!((connection.peer_addr(), &**connection.path()), (Addr::Unix, "/chat"));
    server.complete();
}

#[test]
fn socket_of_another_runtime_moves_and_outlives_it() {
    let (runtimes, _tokio) = each_runtime(2);
    for runtime in &runtimes {
        let server = unbound_with(|builder| builder.runtime(runtime));
        let another = another_runtime();
        let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        near.set_read_timeout(Some(PATIENCE)).unwrap();
        far.set_nonblocking(true).unwrap();
        let inside = another.enter();
        server.accept(UnixStream::from_std(far).unwrap());
        drop(inside);
        let mut peer = tungstenite::client("ws://robot/", near).unwrap().0;
        drop(another);
        for text in ["one", "two"] {
            peer.send(text.into()).unwrap();
            assert_eq!(peer.read().unwrap(), text.into());
        }
        server.complete();
    }
}

#[test]
fn socket_for_which_there_is_no_room_is_told_so() {
    let server = unbound_with(|builder| builder.limits(Limits::server().handshakes(1)));
    run(async {
        let _young = memory(&server);
        let (near, far) = UnixStream::pair().unwrap();
        server.accept(far);
        let answer = rest(near).await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("Limits::handshakes"), "{answer}");
    });
    server.complete();
}

#[test]
fn client_and_group_meet_a_server_at_a_socket_of_the_file_system() {
    let (socket, server, another) = (Socket::new("meet"), unbound(), another_runtime());
    let inside = another.enter();
    let listener = UnixListener::bind(&socket.0).unwrap();
    let accepting = server.clone();
    another.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            accepting.accept(stream);
        }
    });
    drop(inside);
    let path = socket.0.clone();
    let client = RxWsClient::builder("ws://robot/control", WsStr)
        .connector(move |_| UnixStream::connect(path.clone()))
        .connect()
        .unwrap();
    let heard = Recorder::on(client.clone());
    client.next("hello");
    assert_eq!(heard.item(), "hello");

    let path = socket.0.clone();
    let group = RxWsClientGroup::builder("ws://robot", WsStr)
        .connector(move |_| UnixStream::connect(path.clone()))
        .build()
        .unwrap();
    let heard = Recorder::on(group.clone());
    for tag in ["/a", "/b"] {
        group.next(TaggedData::new(tag, "hello"));
        let TaggedData { tag: from, data, .. } = heard.item();
        assert_eq!((&*from, &*data), (tag, "hello"));
    }
    group.clone().complete();
    group.wait_closed(PATIENCE).unwrap();
    client.clone().complete();
    assert_eq!(client.wait_closed(PATIENCE).unwrap().unsent, 0);
    server.complete();
}

#[test]
fn socket_that_is_not_there_is_an_error_with_the_systems_reason() {
    let client = RxWsClient::builder("ws://robot/", WsStr)
        .connector(|_| UnixStream::connect("/nowhere/rxplus.sock"))
        .connect()
        .unwrap();
    let error = Recorder::on(client.events()).find(|event| match event {
        ClientEvent::ConnectFailed { error, .. } => Some(error),
        _ => None,
    });
    let WsError::Connect { source, .. } = &error else { panic!("{error:?}") };
    assert_eq!(source.kind(), std::io::ErrorKind::NotFound);
    client.complete();
}
