//! A group of clients: what it emits and tells, and that its options reach all of them.

use tungstenite::Message;

use super::*;

#[test]
fn group_emits_what_all_its_paths_receive_tagged() {
    let server = echo_server(WsStr);
    let group = RxWsClientGroup::new(url(&server, "/"), WsStr).unwrap();
    let heard = Recorder::on(group.clone());
    for path in ["/audio", "/chat", "/pose"] {
        for text in texts(0..10) {
            group.next(TaggedData::new(path, text));
        }
    }
    let mut by_path = heard.items(30);
    by_path.sort_by(|a, b| a.tag.cmp(&b.tag)); // stable: the order within a path stays
    for (path, part) in ["/audio", "/chat", "/pose"].iter().zip(by_path.chunks(10)) {
        assert!(part.iter().all(|tagged| tagged.tag == *path));
        assert!(part.iter().map(|tagged| &tagged.data).eq(&texts(0..10)));
    }
}

#[test]
fn group_subscribed_before_any_path_and_after_hears_the_same() {
    let server = echo_server(WsStr);
    let group = RxWsClientGroup::new(url(&server, "/"), WsStr).unwrap();
    group.next(TaggedData::new("/early", "kept"));
    until_settled("the arrival of the echo", &group, |group| group.stats().all.received.messages == 1);
    assert_eq!(Recorder::on(group.clone()).item(), TaggedData::new("/early", "kept".into()));
}

#[test]
fn options_of_a_group_reach_its_children() {
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).subprotocols(["telemetry"]).bind().unwrap();
    let (heard, connections) = (Recorder::on(server.clone()), Recorder::on(server.connections()));
    let group = RxWsClientGroup::builder(url(&server, "/"), WsStr)
        .name("robot")
        .header("X-Token", "secret")
        .subprotocols(["telemetry"])
        .greeting(|path| [format!("greeting of {path}")])
        .build()
        .unwrap();
    for path in ["/audio", "/pose"] {
        let child = group.open(path).unwrap();
        assert_eq!(child.name(), format!("robot:{path}"));
        let connection = connections.item();
        assert_eq!(connection.path(), path);
        assert_eq!(connection.headers()["x-token"], "secret");
        assert_eq!(connection.subprotocol(), Some("telemetry"));
        assert_eq!(heard.item(), TaggedData::new(path, format!("greeting of {path}").into()));
    }
}

#[test]
fn outbox_and_retry_of_a_group_reach_its_children() {
    let nobody_accepts = ForeignServer::start();
    let small = RxWsClientGroup::builder(nobody_accepts.url(), WsStr).outbox(2, 1000, Overflow::DropLatest);
    let group = small.connect_timeout(Duration::from_millis(50)).retry(give_up_at_once()).build().unwrap();
    let events = Recorder::on(group.events());
    for path in ["/audio", "/pose"] {
        group.send(TaggedData::new(path, "1")).unwrap();
        group.send(TaggedData::new(path, "2")).unwrap();
        let refused = group.send(TaggedData::new(path, "3"));
        assert!(matches!(refused, Err(SendError::Full(item)) if item == TaggedData::new(path, "3".into())));
        let error = event_on(&events, path, |event| match event {
            ClientEvent::ConnectFailed { error, .. } => Some(error),
            _ => None,
        });
        assert!(matches!(error, WsError::HandshakeTimedOut { .. }), "{error:?}");
        event_on(&events, path, |event| matches!(event, ClientEvent::Closed(_)).then_some(()));
    }
}

fn give_up_at_once() -> RetryPolicy {
    RetryPolicy::exponential().max_retries(0)
}

#[test]
fn limits_and_heartbeat_of_a_group_reach_its_children() {
    let server = ForeignServer::start();
    let group = RxWsClientGroup::builder(server.url(), WsStr)
        .limits(Limits::client().message_len(10))
        .ping_interval(Duration::from_millis(1))
        .ping_timeout(None)
        .build()
        .unwrap();
    let events = Recorder::on(group.events());
    group.open("/audio").unwrap();
    let mut peer = server.accept();
    assert!(matches!(peer.read().unwrap(), Message::Ping(_)));
    peer.send(Message::text("longer than ten bytes")).unwrap();
    while peer.read().is_ok() {}
    drop(peer);
    let code = event_on(&events, "/audio", |event| match event {
        ClientEvent::Disconnected { code, .. } => Some(code),
        _ => None,
    });
    assert_eq!(code, 1009);
}

#[test]
fn flood_of_paths_is_no_flood_of_events() {
    const REFUSED: u64 = 10_000;
    let runtime = IoRuntime::new("held").unwrap();
    let group = RxWsClientGroup::builder("ws://127.0.0.1:1", WsStr).runtime(&runtime).max_paths(1).build().unwrap();
    let events = Recorder::on(group.events());
    group.open("/first").unwrap();
    let release = stall(&runtime);
    (0..REFUSED).for_each(|n| group.next(TaggedData::new(format!("/{n}"), "x")));
    drop(release);
    let told = events.find(|TaggedData { tag, data, .. }| match data {
        ClientEvent::PathRefused { refused } => Some((tag, refused)),
        _ => None,
    });
    assert_eq!(told, ("/0".into(), tally(REFUSED, REFUSED)));
    assert_eq!(group.stats().refused, tally(REFUSED, REFUSED));
    assert!(matches!(group.send(TaggedData::new("/another", "x")), Err(SendError::TooManyPaths(_))));
    group.complete();
    let (rest, _) = events.to_the_end();
    let told_again = |tagged: &TaggedData<ClientEvent>| matches!(tagged.data, ClientEvent::PathRefused { .. });
    assert_eq!(rest.iter().filter(|event| told_again(event)).count(), 1);
}

// Who finds a path that another thread is opening must not be the first one to listen to it.
#[test]
fn group_hears_all_events_of_clients_that_others_listen_to() {
    const PATHS: usize = 30;
    let (runtimes, _tokio) = each_runtime(3);
    for runtime in runtimes.iter().flat_map(|runtime| [runtime; 10]) {
        // Nobody listens there, so there is something to be told at once.
        let never = RetryPolicy::exponential().max_retries(0);
        let group = RxWsClientGroup::builder("ws://127.0.0.1:1", WsStr).retry(never).runtime(runtime).build().unwrap();
        let events = Recorder::on(group.events());
        thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    for n in 0..PATHS {
                        group.open(format!("/{n}")).unwrap().events().subscribe(drop);
                    }
                });
            }
        });
        until("failing", || group.paths().is_empty());
        group.complete();
        let (events, _) = events.to_the_end();
        let count = |wanted: fn(&ClientEvent) -> bool| events.iter().filter(|event| wanted(&event.data)).count();
        let failed = count(|event| matches!(event, ClientEvent::ConnectFailed { .. }));
        assert!(failed >= PATHS, "{failed} clients failed");
        assert_eq!(count(|event| matches!(event, ClientEvent::Failed { .. })), failed);
        assert_eq!(count(|event| matches!(event, ClientEvent::Closed(_))), failed + 1); // the group's own
    }
}
