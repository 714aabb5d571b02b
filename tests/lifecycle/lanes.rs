//! How a server on several threads ends: on all of them, whoever ends it, and whatever happens on them meanwhile.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use super::{lifetime::wait_for_no_thread, *};

const THREADS: usize = 3;

/// A name is short enough not to be cut with a number behind it: six bytes after `rxplus-`.
fn server_named(name: &str) -> RxWsServer<WsStr> {
    echoing(RxWsServer::builder("ws://127.0.0.1:0", WsStr).name(name).threads(THREADS).bind().unwrap())
}

fn wait_for_no_thread_of(name: &str) {
    wait_for_no_thread(&format!("rxplus-{name}"));
    (2..=THREADS).for_each(|n| wait_for_no_thread(&format!("rxplus-{name}-{n}")));
}

/// Clients of which each thread has as many, with their connections.
fn join(server: &RxWsServer<WsStr>, path: &str, each: usize) -> Vec<(RxWsClient<WsStr>, Connection<WsStr>)> {
    let connections = Recorder::on(server.connections());
    connections.items(server.connection_count());
    (0..each * THREADS).map(|_| (connected(server, path, WsStr), connections.item())).collect()
}

#[test]
fn completed_server_sends_what_it_holds_on_all_threads_and_leaves_none() {
    const MESSAGES: usize = 1000;
    let server = server_named("1-lan");
    let joined = join(&server, "/", 3);
    let heard: Vec<_> = joined.iter().map(|(client, _)| Recorder::on(client.clone())).collect();
    texts(0..MESSAGES).into_iter().for_each(|text| server.next(TaggedData::new("/", text)));
    joined.iter().for_each(|(_, connection)| connection.next("last"));
    server.clone().complete();
    assert_eq!(server.wait_closed(PATIENCE).unwrap(), CloseReport::default());
    // Handles of closed components keep nothing alive.
    wait_for_no_thread_of("1-lan");
    for heard in heard {
        assert_eq!(heard.items(MESSAGES), texts(0..MESSAGES));
        assert_eq!(heard.item(), "last");
    }
}

#[test]
fn dropped_server_leaves_no_thread_with_connections_on_all() {
    let server = server_named("2-lan");
    let joined = join(&server, "/", 2);
    let heard: Vec<_> = joined.iter().map(|(_, connection)| Recorder::on(connection.clone())).collect();
    joined.iter().for_each(|(client, _)| client.next("hello"));
    heard.iter().for_each(|heard| assert_eq!(heard.item(), "hello"));
    drop(server);
    wait_for_no_thread_of("2-lan");
    heard.iter().for_each(|heard| assert_eq!(heard.hear(), Heard::Complete));
    drop(RxWsServer::builder("ws://127.0.0.1:0", WsStr).name("2-lan").threads(THREADS).bind().unwrap());
    wait_for_no_thread_of("2-lan");
}

#[test]
fn server_may_be_ended_in_a_callback_on_each_of_its_threads() {
    for (n, by_drop) in (0..THREADS).flat_map(|n| [(n, false), (n, true)]) {
        let server = server_named("3-lan");
        let joined = join(&server, "/", 1);
        let (client, connection) = &joined[n];
        let ends: Vec<_> = joined.iter().map(|(_, connection)| Recorder::on(connection.clone())).collect();
        let handle = Mutex::new(Some(server));
        connection.clone().log_errors().subscribe(move |_| {
            let server = handle.lock().unwrap().take();
            server.into_iter().filter(|_| !by_drop).for_each(|server| server.complete());
        });
        client.next("end");
        for end in ends {
            assert!(end.to_the_end().1.is_complete());
        }
        wait_for_no_thread_of("3-lan");
    }
}

#[test]
fn server_that_ends_waits_for_the_callback_that_blocks_one_of_its_threads() {
    let server = server_named("4-lan");
    let joined = join(&server, "/", 1);
    let (blocking, connection) = &joined[1];
    let ((enter, inside), (release, held)) = (mpsc::channel(), mpsc::channel::<()>());
    let held = Mutex::new(held);
    connection.clone().log_errors().subscribe(move |_| {
        enter.send(()).unwrap();
        _ = held.lock().unwrap().recv_timeout(PATIENCE);
    });
    blocking.next("block");
    inside.recv_timeout(PATIENCE).unwrap();
    server.next(TaggedData::new("/", "last"));
    server.clone().complete();
    for n in [0, 2] {
        joined[n].1.wait_closed(PATIENCE).unwrap();
    }
    assert!(matches!(server.wait_closed(Duration::from_millis(50)), Err(WsError::TimedOut { .. })));
    drop(release);
    server.wait_closed(PATIENCE).unwrap();
    wait_for_no_thread_of("4-lan");
}

/// Clients that come, say something, and go, in all the ways in which clients go, until `ended`.
fn come_and_go(server: &RxWsServer<WsStr>, nth: usize, ended: &AtomicBool) {
    for n in nth.. {
        if ended.load(SeqCst) {
            break;
        }
        let Ok(stream) = std::net::TcpStream::connect(server.local_addr().to_string()) else { continue };
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        if n % 7 == 0 {
            continue; // without a request
        }
        let Ok((mut peer, _)) = tungstenite::client(format!("ws://{}/all", server.local_addr()), stream) else {
            continue;
        };
        let _ = peer.send("hello".into());
        match n % 3 {
            0 => drop(peer),
            1 => close(peer, 1000),
            _ => drop(peer.read()),
        }
    }
}

#[test]
fn connections_that_come_and_go_while_the_server_ends_all_end_with_it() {
    for round in 0..30 {
        let server = server_named("5-lan");
        let events = Recorder::on(server.events());
        let emitted = Arc::new(AtomicUsize::new(0));
        let count = emitted.clone();
        server.connections().subscribe(move |connection| {
            count.fetch_add(1, SeqCst);
            connection.join("/room").unwrap_or_default();
            connection.subscribe(|_| {});
        });
        let ended = AtomicBool::new(false);
        thread::scope(|scope| {
            for nth in 0..4 {
                let (server, ended) = (&server, &ended);
                scope.spawn(move || come_and_go(server, nth, ended));
            }
            let began = Instant::now();
            while began.elapsed() < Duration::from_millis(5 * (round % 10)) {
                server.next(TaggedData::new("/all", "hello"));
                server.next(TaggedData::new("/room", "hello"));
                thread::yield_now();
            }
            server.clone().complete();
            let closed = server.wait_closed(PATIENCE);
            ended.store(true, SeqCst);
            closed.unwrap();
        });
        let (events, end) = events.to_the_end();
        assert!(end.is_complete());
        let mut open = BTreeMap::new();
        for event in &events {
            match event {
                ServerEvent::Connected { peer, .. } => assert!(open.insert(peer.id, ()).is_none()),
                ServerEvent::Disconnected { peer, .. } => assert!(open.remove(&peer.id).is_some()),
                _ => {}
            }
        }
        assert!(open.is_empty() && matches!(events.last(), Some(ServerEvent::Closed(_))), "{events:?}");
        let stats = server.stats();
        assert_eq!((stats.connections, emitted.load(SeqCst) as u64), (0, stats.accepted));
        wait_for_no_thread_of("5-lan");
    }
}

#[test]
fn limit_of_connections_holds_for_all_threads_together() {
    const MOST: usize = 5;
    let builder = RxWsServer::builder("ws://127.0.0.1:0", WsStr).threads(THREADS);
    let server = builder.max_connections(MOST).bind().unwrap();
    let most = AtomicUsize::new(0);
    thread::scope(|scope| {
        let rush = |nth: usize| {
            for n in 0..50 {
                let url = format!("ws://{}/", server.local_addr());
                if let Ok((peer, _)) = tungstenite::client(url, tcp(server.local_addr())) {
                    most.fetch_max(server.connection_count(), SeqCst);
                    if (n + nth).is_multiple_of(2) { drop(peer) } else { close(peer, 1000) }
                }
            }
        };
        (0..8).for_each(|nth| _ = scope.spawn(move || rush(nth)));
    });
    assert!((1..=MOST).contains(&most.load(SeqCst)), "{most:?}");
    until("the end of the connections", || server.connection_count() == 0);
    let _few: Vec<_> = (0..MOST).map(|_| connected(&server, "/", WsStr)).collect();
    assert!(tungstenite::client(format!("ws://{}/", server.local_addr()), tcp(server.local_addr())).is_err());
}
