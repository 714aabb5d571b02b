//! A group of clients.

use tungstenite::Message;

use super::*;

/// The first event on `path` that `wanted` finds something in.
fn event_on<R>(events: &Recorder<TaggedData<ClientEvent>>, path: &str, wanted: impl Fn(ClientEvent) -> Option<R>) -> R {
    events.find(|TaggedData { tag, data, .. }| if tag == path { wanted(data) } else { None })
}

#[test]
fn group_opens_a_path_at_the_first_message_for_it() {
    let server = echo_server(WsStr);
    let connections = Recorder::on(server.connections());
    let group = RxWsClientGroup::new(url(&server, "/"), WsStr).unwrap();
    assert!(group.paths().is_empty());
    group.next(TaggedData::new("/audio", "..."));
    assert_eq!(group.paths(), ["/audio"]);
    assert_eq!(connections.item().path(), "/audio");
    group.next(TaggedData::new("/audio", "..."));
    group.next(TaggedData::new("/chat", "hello"));
    assert_eq!(connections.item().path(), "/chat");
    assert_eq!(group.paths(), ["/audio", "/chat"]);
}

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
fn child_whose_attempts_are_used_up_leaves_the_others_alone() {
    let server = ForeignServer::start();
    let retry = RetryPolicy::fixed(Duration::from_millis(1)).max_retries(1);
    let group = RxWsClientGroup::builder(server.url(), WsStr).retry(retry).build().unwrap();
    let (heard, events) = (Recorder::on(group.clone()), Recorder::on(group.events()));
    let sound = group.open("/sound").unwrap();
    let mut peer = server.accept();
    let broken = group.open("/broken").unwrap();
    (0..2).for_each(|_| drop(server.accept_tcp())); // hung up on before any handshake
    event_on(&events, "/broken", |event| matches!(event, ClientEvent::Closed(_)).then_some(()));
    assert!(matches!(Recorder::on(broken).hear(), Heard::Error(error) if error.contains("after 2 attempts")));
    peer.send(Message::text("still here")).unwrap();
    assert_eq!(heard.item(), TaggedData::new("/sound", "still here".into()));
    group.next(TaggedData::new("/broken", "another try"));
    assert_eq!(read(&mut server.accept()).to_text().unwrap(), "another try");
    sound.complete();
}

#[test]
fn path_that_was_closed_opens_again_and_the_others_stay() {
    let server = echo_server(WsStr);
    let connections = Recorder::on(server.connections());
    let group = RxWsClientGroup::new(url(&server, "/"), WsStr).unwrap();
    let heard = Recorder::on(group.clone());
    for path in ["/stays", "/closed"] {
        group.next(TaggedData::new(path, "hello"));
        assert_eq!(heard.item().tag, path);
    }
    let closed = Recorder::on(connections.items(2).pop().unwrap());
    group.close("/closed");
    assert_eq!(group.paths(), ["/stays"]);
    assert_eq!(closed.hear(), Heard::Complete);
    for path in ["/closed", "/stays"] {
        group.next(TaggedData::new(path, "again"));
        assert_eq!(heard.item(), TaggedData::new(path, "again".into()));
    }
}

#[test]
fn child_completed_by_its_own_handle_is_forgotten_and_sends_what_was_queued() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let heard = Recorder::on(server.clone());
    let group = RxWsClientGroup::new(url(&server, "/"), WsStr).unwrap();
    let child = group.open("/once").unwrap();
    group.next(TaggedData::new("/once", "first"));
    child.clone().complete();
    group.next(TaggedData::new("/once", "second")); // opens it afresh
    let mut both = heard.items(2);
    both.sort_by(|a, b| a.data.cmp(&b.data));
    assert_eq!(both, ["first", "second"].map(|text| TaggedData::new("/once", text.into())));
    assert_eq!(child.wait_closed(PATIENCE).unwrap(), CloseReport::default());
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
fn children_share_the_groups_thread() {
    let server = echo_server(WsStr);
    let group = RxWsClientGroup::builder(url(&server, "/"), WsStr).name("one-thr").build().unwrap();
    let (on_message, names) = answers(|_| thread::current().name().map(str::to_owned));
    group.clone().log_errors().subscribe(on_message);
    for path in ["/audio", "/pose"] {
        group.next(TaggedData::new(path, "hello"));
        assert_eq!(names.recv_timeout(PATIENCE).unwrap().as_deref(), Some("rxplus-one-thr"));
    }
}

#[test]
fn completed_group_closes_all_its_paths_and_then_completes() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let (heard, connections) = (Recorder::on(server.clone()), Recorder::on(server.connections()));
    let group = RxWsClientGroup::new(url(&server, "/"), WsStr).unwrap();
    let ended = Recorder::on(group.clone());
    for path in ["/audio", "/chat", "/pose"] {
        group.next(TaggedData::new(path, "the last"));
    }
    group.clone().complete();
    assert!(matches!(group.open("/late"), Err(WsError::Closed(_))));
    assert_eq!(ended.hear(), Heard::Complete);
    assert_eq!(group.wait_closed(PATIENCE).unwrap(), CloseReport::default());
    assert!(heard.items(3).iter().all(|tagged| tagged.data == "the last"));
    for connection in connections.items(3) {
        assert_eq!(Recorder::on(connection).hear(), Heard::Complete);
    }
}

#[test]
fn messages_pushed_while_their_path_is_closed_all_arrive() {
    const PUSHERS: usize = 4;
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let heard = Recorder::on(server.clone());
    let group = RxWsClientGroup::new(url(&server, "/"), WsStr).unwrap();
    thread::scope(|scope| {
        let pushers = [(); PUSHERS].map(|()| {
            scope.spawn(|| texts(0..500).into_iter().for_each(|text| group.send(TaggedData::new("/a", text)).unwrap()))
        });
        while !pushers.iter().all(|pusher| pusher.is_finished()) {
            group.close("/a");
        }
    });
    let mut counts = [0; 500];
    for tagged in heard.items(PUSHERS * 500) {
        counts[tagged.data.parse::<usize>().unwrap()] += 1;
    }
    assert_eq!(counts, [PUSHERS; 500]);
}
