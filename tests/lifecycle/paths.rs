//! Rule 15: how the paths of a group open, fail, close and open again, how many there may be, and how the group ends.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};

use tungstenite::Message;

use super::*;

fn message(path: impl Into<Tag>, text: impl Into<WsText>) -> TaggedData<WsText> {
    TaggedData::new(path, text.into())
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
fn group_lives_on_when_a_child_fails_and_opens_it_afresh() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).paths(["/good"]).bind().unwrap();
    let heard_by_server = Recorder::on(server.clone());
    let policy = RetryPolicy::exponential().on_rejected(OnRejected::GiveUp);
    let group = RxWsClientGroup::builder(url(&server, "/"), WsStr)
        .retry(policy)
        .request(move |request| {
            count.fetch_add(usize::from(request.endpoint().as_path() == "/bad"), SeqCst);
            request
        })
        .build()
        .unwrap();
    let (events, heard) = (Recorder::on(group.events()), Recorder::on(group.clone()));
    for round in 1..=2 {
        group.next(TaggedData::new("/bad", "lost"));
        let error = events.find(|tagged| match tagged.data {
            ClientEvent::Failed { error } if tagged.tag == "/bad" => Some(error),
            _ => None,
        });
        assert!(matches!(error, WsError::RetriesExhausted { .. }));
        assert_eq!(asked.load(SeqCst), round);
        group.next(TaggedData::new("/good", "heard"));
        assert_eq!(heard_by_server.item().data, "heard");
        until("forgetting", || group.paths() == ["/good"]);
    }
    assert_eq!(group.stats().all.sent.dropped.closed, tally(2, 8));
    group.complete();
    assert_eq!(heard.to_the_end().1, Heard::Complete);
    server.complete();
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
fn child_completed_by_its_own_handle_sends_what_was_queued() {
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
fn path_whose_client_was_completed_is_opened_afresh() {
    let server = echo_server(WsStr);
    let group = RxWsClientGroup::new(url(&server, "/"), WsStr).unwrap();
    let heard = Recorder::on(group.clone());
    for text in ["first", "second"] {
        let client = group.open("/a").unwrap();
        client.send(text).unwrap();
        assert_eq!(heard.item(), message("/a", text));
        client.complete();
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

/// Text that cannot be encoded if it is "unencodable".
struct Touchy;

impl WsDatatype for Touchy {
    type Item = WsText;
    type Outgoing = WsText;

    fn encode(&self, path: &str, item: &WsText) -> Result<Frame, DatatypeError> {
        if item == "unencodable" { Err(DatatypeError::new("it has no encoding")) } else { WsStr.encode(path, item) }
    }

    fn decode(&self, path: &str, frame: Frame) -> Result<WsText, DatatypeError> {
        WsStr.decode(path, frame)
    }
}

// The one who tells a child's events may be another thread than the one on which the child ends.
#[test]
fn group_tells_the_last_events_of_all_its_children_before_its_own() {
    const PATHS: usize = 4;
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let (runtimes, _tokio) = each_runtime(3);
    for runtime in runtimes.iter().flat_map(|runtime| [runtime; 30]) {
        let group = RxWsClientGroup::builder(url(&server, "/"), Touchy).runtime(runtime).build().unwrap();
        let (heard, told) = (Recorder::on(group.events()), mpsc::channel());
        let children: Vec<_> = (0..PATHS).map(|n| group.open(format!("/{n}")).unwrap()).collect();
        for child in &children {
            child.wait_connected(PATIENCE).unwrap();
            let told = told.0.clone();
            child.events().subscribe(move |event| {
                if matches!(event, ClientEvent::Unencodable { .. }) {
                    told.send(()).unwrap_or(());
                    thread::sleep(Duration::from_millis(1)); // a callback that takes its time
                }
            });
            child.next("unencodable");
        }
        told.1.recv_timeout(PATIENCE).unwrap();
        group.clone().complete();
        let (events, _) = heard.to_the_end();
        assert!(matches!(events.last(), Some(TaggedData { tag, data: ClientEvent::Closed(_), .. }) if tag.is_empty()));
        for child in (0..PATHS).map(|n| format!("/{n}")) {
            let last: Vec<_> = events.iter().filter(|event| event.tag == *child).rev().take(2).collect();
            assert!(matches!(last[0].data, ClientEvent::Closed(_)), "{child}: {last:?}");
            assert!(matches!(last[1].data, ClientEvent::Disconnected { .. }), "{child}: {last:?}");
        }
    }
}

#[test]
#[expect(clippy::result_large_err, reason = "tungstenite wants it")]
fn children_of_a_group_are_opened_and_closed_side_by_side() {
    const CHILDREN: usize = 8;
    // Nobody's handshake is answered before all have asked for it, neither the opening nor the closing one.
    let all = Arc::new(std::sync::Barrier::new(CHILDREN));
    let server = raw_server(move |_, stream| {
        let opening = |_: &_, response| {
            all.wait();
            Ok(response)
        };
        let mut peer = tungstenite::accept_hdr(stream, opening).unwrap();
        while !read(&mut peer).is_close() {}
        all.wait();
        while peer.read().is_ok() {}
    });
    let group = RxWsClientGroup::new(format!("ws://{server}"), WsStr).unwrap();
    let events = Recorder::on(group.events());
    (0..CHILDREN).for_each(|number| drop(group.open(format!("/{number}")).unwrap()));
    for _ in 0..CHILDREN {
        events.find(|tagged| matches!(tagged.data, ClientEvent::Connected { attempt: 0, .. }).then_some(()));
    }
    group.complete();
    for _ in 0..CHILDREN {
        let (code, error) = events.find(|tagged| match tagged.data {
            ClientEvent::Disconnected { code, error, .. } => Some((code, error)),
            _ => None,
        });
        assert!(code == 1000 && error.is_none(), "{code} {error:?}");
    }
    assert!(events.to_the_end().1.is_complete());
}

#[test]
fn group_with_all_its_paths_refuses_another_until_one_is_closed() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let heard = Recorder::on(server.clone());
    let group = RxWsClientGroup::builder(url(&server, "/"), WsStr).name("robot").max_paths(2).build().unwrap();
    let events = Recorder::on(group.events());
    group.open("/a").unwrap();
    group.send(message("/b", "b")).unwrap();
    assert!(
        matches!(group.send(message("/c", "no room")), Err(SendError::TooManyPaths(item)) if item.data == "no room")
    );
    let refused = group.open("/d").unwrap_err();
    assert!(matches!(&refused, WsError::TooManyPaths { name, max_paths: 2 } if name == "robot"), "{refused:?}");
    let told = events.find(|TaggedData { tag, data, .. }| match data {
        ClientEvent::PathRefused { refused } => Some((tag, refused)),
        _ => None,
    });
    assert_eq!(told, ("/c".into(), tally(1, 7)));
    assert_eq!((group.stats().refused, group.stats().clients), (tally(1, 7), 2));
    group.send(message("/b", "there is room on a path that is open")).unwrap();
    group.close("/a");
    group.send(message("/c", "c")).unwrap();
    assert_eq!(group.paths(), ["/b", "/c"]);
    assert!(heard.items(3).iter().any(|tagged| tagged.tag == "/c" && tagged.data == "c"));
}

#[test]
fn idle_path_is_closed_and_opens_again_but_one_held_open_stays() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let idle_timeout = Duration::from_millis(50);
    let group = RxWsClientGroup::builder(url(&server, "/"), WsStr).idle_timeout(idle_timeout).build().unwrap();
    let (heard, events) = (Recorder::on(server.clone()), Recorder::on(group.events()));
    let opened = group.open("/opened").unwrap();
    for _ in 0..2 {
        group.next(message("/used", "hello"));
        assert_eq!(heard.item(), message("/used", "hello"));
        let mut told = Vec::new();
        events.note_until(&mut told, |event| event.tag == "/used" && matches!(event.data, ClientEvent::Closed(_)));
        let of_used: Vec<_> = told.iter().filter(|event| event.tag == "/used").map(|event| &event.data).collect();
        let closed = CloseReport::default();
        assert!(matches!(
            of_used[..],
            [
                ClientEvent::Connected { .. },
                ClientEvent::Idle,
                ClientEvent::Disconnected { code: 1000, error: None, .. },
                ClientEvent::Closed(report),
            ] if *report == closed
        ));
        assert_eq!(group.paths(), ["/opened"]);
    }
    opened.next("still there");
    assert_eq!(heard.item(), message("/opened", "still there"));
}

/// What several threads counted of what they did to a group.
#[derive(Default)]
struct Counts {
    accepted: AtomicU64,
    full: AtomicU64,
    no_room: AtomicU64,
    closed: AtomicU64,
}

impl Counts {
    fn note<I>(&self, answer: Result<(), SendError<I>>) {
        let count = match answer {
            Ok(()) => &self.accepted,
            Err(SendError::Full(_)) => &self.full,
            Err(SendError::TooManyPaths(_)) => &self.no_room,
            Err(SendError::Closed(_)) => &self.closed,
            Err(_) => panic!("a text can be encoded"),
        };
        count.fetch_add(1, SeqCst);
    }

    fn all(&self) -> [u64; 4] {
        [&self.accepted, &self.full, &self.no_room, &self.closed].map(|count| count.load(SeqCst))
    }
}

/// Says so when it is dropped, which a test that fails does, too.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

// Paths are opened, closed, idle, refused by the server and beyond the bound, clients are completed while they connect, and
// callbacks push to other paths, while three threads push and one looks at the sums; then the group ends in the middle of it.
#[test]
fn group_whose_paths_come_and_go_accounts_for_every_message_and_ends() {
    const PATHS: u64 = 9;
    let (runtimes, _tokio) = each_runtime(3);
    for runtime in &runtimes {
        let known = (0..PATHS).filter(|n| n % 4 != 0).map(|n| format!("/{n}"));
        let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).paths(known).bind().unwrap();
        server.clone().subscribe_with(server.clone());
        let never = RetryPolicy::exponential().max_retries(0);
        let group = RxWsClientGroup::builder(url(&server, "/"), WsStr).retry(never).runtime(runtime).max_paths(6);
        let group =
            group.outbox(50, 1 << 20, Overflow::DropOldest).idle_timeout(Duration::from_millis(4)).build().unwrap();
        let (heard, events, counts) =
            (Recorder::on(group.clone()), Recorder::on(group.events()), Arc::new(Counts::default()));
        let (pushing, counted) = (group.clone(), counts.clone());
        group.events().subscribe(move |tagged| {
            if let ClientEvent::Connected { .. } = tagged.data {
                counted.note(pushing.send(message("/1", tagged.tag.to_string())));
            }
        });
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let _over = Over(&is_over);
            for thread in 0..3 {
                let (group, counts) = (&group, &counts);
                scope.spawn(move || {
                    for n in 0..1000 {
                        let path = format!("/{}", (n * 7 + thread) % PATHS);
                        match n % 50 {
                            0 => group.close(path),
                            25 => drop(group.open(path).map(RxWsClient::complete)),
                            _ => counts.note(group.send(message(path, n.to_string()))),
                        }
                    }
                });
            }
            let (group, is_over) = (&group, &is_over);
            scope.spawn(move || {
                let mut before = group.stats();
                while !is_over.load(SeqCst) {
                    let now = group.stats();
                    assert_accounted(now.all.sent);
                    assert!(now.all.sent.accepted.messages >= before.all.sent.accepted.messages, "{before:?}, {now:?}");
                    assert!(now.all.received.messages >= before.all.received.messages, "{before:?}, {now:?}");
                    before = now;
                }
            });
            until("much of it", || counts.all().iter().sum::<u64>() > 2000);
            group.clone().complete();
            // Beside busy neighbours the server, too, may take its close timeout.
            group.wait_closed(3 * PATIENCE).unwrap();
        });
        let (stats, [accepted, full, no_room, _]) = (group.stats(), counts.all());
        assert_accounted(stats.all.sent);
        assert_eq!((stats.clients, stats.all.sent.queued, full), (0, tally(0, 0), 0));
        assert_eq!((stats.all.sent.accepted.messages, stats.refused.messages), (accepted, no_room));
        let (events, _) = events.to_the_end();
        let (mut refused, mut opened, mut closed) = (0, 0, 0);
        for tagged in &events {
            match tagged.data {
                ClientEvent::PathRefused { refused: tally } => refused += tally.messages,
                ClientEvent::Connected { .. } => opened += 1,
                ClientEvent::Disconnected { .. } => closed += 1,
                _ => {}
            }
        }
        let (dropped, _) = announced_by_client(events.iter().map(|tagged| &tagged.data));
        assert_eq!((dropped, refused, opened), (stats.all.sent.dropped.total(), no_room, closed));
        assert_eq!(heard.to_the_end().0.len() as u64, stats.all.received.messages);
        println!("{accepted} accepted, {no_room} refused, {opened} connections, {stats:?}");
        server.complete();
    }
}
