//! Clients and groups that reach their servers by streams of the program.

use std::{
    future::pending,
    io,
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    time::Duration,
};

use rxplus::prelude::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    net::TcpStream,
};

use crate::{
    ROOM, another_runtime, memory, run,
    support::{PATIENCE, Recorder, chain, each_runtime, echo_server, sentinel, thread_name, until},
    unbound,
};

const SHORT: Duration = Duration::from_millis(50);

/// The options of a client whose connector is the subject of a test: after a failure it tries again at once.
fn client(address: &str) -> ClientBuilder<WsStr> {
    RxWsClient::builder(address, WsStr).retry(RetryPolicy::fixed(Duration::from_millis(1)))
}

/// As [`client`]: it gives up after the second attempt.
fn client_of_two_attempts() -> ClientBuilder<WsStr> {
    let policy = RetryPolicy::fixed(Duration::from_millis(1)).max_retries(1);
    RxWsClient::builder("ws://robot/control", WsStr).retry(policy)
}

/// The error of each attempt, and the one that ends the client.
fn failures(client: &RxWsClient<WsStr>) -> (Vec<WsError>, WsError) {
    let (events, end) = Recorder::on(client.events()).to_the_end();
    assert!(end.is_complete());
    let (mut attempts, mut last) = (Vec::new(), None);
    for event in events {
        match event {
            ClientEvent::ConnectFailed { error, .. } => attempts.push(error),
            ClientEvent::Failed { error } => last = Some(error),
            _ => {}
        }
    }
    (attempts, last.expect("it gives up"))
}

#[track_caller]
fn is_served(client: &RxWsClient<WsStr>) {
    let heard = Recorder::on(client.clone());
    client.next("hello");
    assert_eq!(heard.item(), "hello");
}

#[test]
fn client_and_server_meet_in_memory_on_each_kind_of_runtime() {
    let (runtimes, _tokio) = each_runtime(2);
    for runtime in &runtimes {
        let server = unbound();
        let (tell, told) = mpsc::channel();
        let accepting = server.clone();
        let connecting = move |endpoint: ConnConfig| {
            tell.send((endpoint.to_string(), thread_name())).unwrap();
            let stream = memory(&accepting);
            async { Ok(stream) }
        };
        let client = client("ws://robot/control?x=1").runtime(runtime).connector(connecting).connect().unwrap();
        is_served(&client);
        let (endpoint, thread) = told.recv_timeout(PATIENCE).unwrap();
        assert_eq!(endpoint, "ws://robot:80/control?x=1");
        assert!(thread != thread_name(), "on a thread of the client's runtime, not on {thread}");
        client.clone().complete();
        assert_eq!(client.wait_closed(PATIENCE).unwrap().unsent, 0);
        server.complete();
    }
}

#[test]
fn each_attempt_has_a_stream_of_its_own() {
    let server = unbound();
    let connections = Recorder::on(server.connections());
    let (accepting, attempts) = (server.clone(), Arc::new(AtomicUsize::new(0)));
    let count = attempts.clone();
    let client = client("ws://robot/")
        .connector(move |_| {
            count.fetch_add(1, SeqCst);
            let stream = memory(&accepting);
            async { Ok(stream) }
        })
        .connect()
        .unwrap();
    for attempt in 1..=5 {
        let connection = connections.item();
        client.wait_connected(PATIENCE).unwrap();
        assert_eq!(attempts.load(SeqCst), attempt);
        is_served(&client);
        connection.close(1012, "again").unwrap();
    }
    client.complete();
    server.complete();
}

#[test]
fn group_calls_the_connector_for_each_path() {
    let server = unbound();
    let (accepting, (tell, told)) = (server.clone(), mpsc::channel());
    let group = RxWsClientGroup::builder("ws://robot", WsStr)
        .connector(move |endpoint| {
            tell.send(endpoint.as_path().to_owned()).unwrap();
            let stream = memory(&accepting);
            async { Ok(stream) }
        })
        .build()
        .unwrap();
    let heard = Recorder::on(group.clone());
    for path in ["/a", "/b", "/a"] {
        group.next(TaggedData::new(path, "hello"));
        let TaggedData { tag, data, .. } = heard.item();
        assert_eq!((&*tag, &*data), (path, "hello"));
    }
    assert_eq!(told.try_iter().collect::<Vec<_>>(), ["/a", "/b"]);
    group.clone().complete();
    group.wait_closed(PATIENCE).unwrap();
    server.complete();
}

#[test]
fn failure_is_an_error_with_its_source_and_the_policy_decides() {
    let client = client_of_two_attempts()
        .connector(|_| async {
            Err::<DuplexStream, _>(io::Error::new(io::ErrorKind::HostUnreachable, "no robot today"))
        })
        .connect()
        .unwrap();
    let (attempts, last) = failures(&client);
    assert_eq!(attempts.len(), 2);
    for error in attempts {
        let WsError::Connect { endpoint, source } = &error else { panic!("{error:?}") };
        assert_eq!((endpoint.as_path(), source.kind()), ("/control", io::ErrorKind::HostUnreachable));
    }
    assert!(matches!(last, WsError::RetriesExhausted { attempts: 2, .. }), "{last:?}");
    assert!(chain(&last).contains("no robot today"), "{}", chain(&last));
}

#[test]
fn panic_of_a_connector_is_a_failed_attempt() {
    let in_the_function = client_of_two_attempts().connector(|_| {
        assert_eq!(1, 2, "no robot made");
        async { Ok(duplex(ROOM).0) }
    });
    let in_the_future = client_of_two_attempts().connector(|_| async {
        assert_eq!(1, 2, "no robot made");
        Ok(duplex(ROOM).0)
    });
    for builder in [in_the_function, in_the_future] {
        let (attempts, last) = failures(&builder.connect().unwrap());
        assert_eq!(attempts.len(), 2);
        assert!(matches!(&attempts[0], WsError::Connect { .. }), "{attempts:?}");
        let text = chain(&last);
        assert!(text.contains("the connector panicked") && text.contains("no robot made"), "{text}");
    }
}

#[test]
fn connector_that_never_comes_back_has_as_long_as_any_attempt() {
    let builder = client_of_two_attempts().connect_timeout(SHORT);
    let client = builder.connector(|_| pending::<io::Result<DuplexStream>>()).connect().unwrap();
    let (attempts, _) = failures(&client);
    assert_eq!(attempts.len(), 2);
    assert!(attempts.iter().all(|error| matches!(error, WsError::HandshakeTimedOut { .. })), "{attempts:?}");
}

#[test]
fn stream_whose_other_end_says_nothing_has_as_long_as_any_attempt() {
    let (keep, kept) = mpsc::channel();
    let builder = client_of_two_attempts().connect_timeout(SHORT).connector(move |_| {
        let (near, far) = duplex(ROOM);
        keep.send(far).unwrap();
        async { Ok(near) }
    });
    let (attempts, _) = failures(&builder.connect().unwrap());
    assert!(attempts.iter().all(|error| matches!(error, WsError::HandshakeTimedOut { .. })), "{attempts:?}");
    assert_eq!(kept.try_iter().count(), 2);
}

#[test]
fn client_that_completes_drops_a_connector_that_is_under_way() {
    let (sentinel, dropped) = sentinel();
    let sentinel = Arc::new(std::sync::Mutex::new(Some(sentinel)));
    let (call, called) = mpsc::channel();
    let client = client("ws://robot/")
        .connector(move |_| {
            call.send(()).unwrap();
            let held = sentinel.lock().unwrap().take();
            async move {
                let _held = held;
                pending::<io::Result<DuplexStream>>().await
            }
        })
        .connect()
        .unwrap();
    called.recv_timeout(PATIENCE).unwrap();
    client.clone().complete();
    client.wait_closed(PATIENCE).unwrap();
    dropped.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn connector_may_push_into_its_own_client() {
    let server = unbound();
    let (accepting, slot) = (server.clone(), Arc::new(std::sync::OnceLock::<RxWsClient<WsStr>>::new()));
    let (own, is_ready) = (slot.clone(), Arc::new(AtomicBool::new(false)));
    let ready = is_ready.clone();
    let client = client("ws://robot/")
        .connector(move |_| {
            let made = own.get().filter(|_| ready.load(SeqCst)).map(|client| {
                client.next("pushed by the connector");
                memory(&accepting)
            });
            async { made.ok_or_else(|| io::Error::other("not yet")) }
        })
        .connect()
        .unwrap();
    let heard = Recorder::on(client.clone());
    assert!(slot.set(client.clone()).is_ok());
    is_ready.store(true, SeqCst);
    assert_eq!(heard.item(), "pushed by the connector");
    client.complete();
    server.complete();
}

#[test]
fn tcp_stream_of_another_runtime_moves_and_outlives_it() {
    let server = echo_server(WsStr);
    let addr = server.local_addr().as_tcp().unwrap();
    let another = another_runtime();
    let handle = another.handle().clone();
    let client = client("ws://robot/")
        .connector(move |_| {
            let connecting = handle.spawn(TcpStream::connect(addr));
            async { connecting.await.map_err(io::Error::other)? }
        })
        .connect()
        .unwrap();
    client.wait_connected(PATIENCE).unwrap();
    drop(another);
    is_served(&client);
    client.complete();
    server.complete();
}

#[test]
fn redirect_is_followed_by_another_call_with_its_address() {
    let server = unbound();
    let (accepting, (tell, told)) = (server.clone(), mpsc::channel());
    let client = client("ws://old.example/a")
        .follow_redirects()
        .connector(move |endpoint| {
            tell.send(endpoint.to_string()).unwrap();
            let (near, mut far) = duplex(ROOM);
            if endpoint.host() == "new.example" {
                accepting.accept(far);
            } else {
                let answer =
                    b"HTTP/1.1 307 Temporary Redirect\r\nLocation: ws://new.example/b\r\nContent-Length: 0\r\n\r\n";
                tokio::spawn(async move {
                    far.write_all(answer).await.unwrap();
                    far.read_to_end(&mut Vec::new()).await
                });
            }
            async { Ok(near) }
        })
        .connect()
        .unwrap();
    is_served(&client);
    assert_eq!(told.try_iter().collect::<Vec<_>>(), ["ws://old.example:80/a", "ws://new.example:80/b"]);
    client.complete();
    server.complete();
}

/// What was pushed while nobody could be reached goes out on the first stream that there is.
#[test]
fn messages_wait_for_a_connector_that_fails_at_first() {
    let server = unbound();
    let (accepting, failures) = (server.clone(), AtomicUsize::new(0));
    let client = client("ws://robot/")
        .connector(move |_| {
            let made = (failures.fetch_add(1, SeqCst) >= 3).then(|| memory(&accepting));
            async { made.ok_or_else(|| io::Error::other("not yet")) }
        })
        .connect()
        .unwrap();
    let heard = Recorder::on(client.clone());
    (0..100).for_each(|n| client.next(n.to_string()));
    assert_eq!(heard.items(100), (0..100).map(|n| n.to_string()).collect::<Vec<_>>());
    client.complete();
    server.complete();
}

/// Neither the name of the host is looked up nor its port connected to.
#[test]
fn nothing_goes_over_the_network_beside_the_connector() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let server = unbound();
    let accepting = server.clone();
    let client = client(&format!("ws://{}/", listener.local_addr().unwrap()))
        .connector(move |_| {
            let stream = memory(&accepting);
            async { Ok(stream) }
        })
        .connect()
        .unwrap();
    is_served(&client);
    assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    client.complete();
    until("the connection gone", || server.connection_count() == 0);
    run(async { server.clone().complete() });
}
