//! To whom a server sends: one connection of many, all but one, and those who have joined a room.

use super::*;

/// A server, its connections as they come, and its events.
struct House {
    server: RxWsServer<WsStr>,
    connections: Recorder<Connection<WsStr>>,
    events: Recorder<ServerEvent>,
}

/// A client and its connection.
struct Guest {
    client: RxWsClient<WsStr>,
    heard: Recorder<WsText>,
    connection: Connection<WsStr>,
}

impl House {
    fn open() -> Self {
        let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
        let (connections, events) = (Recorder::on(server.connections()), Recorder::on(server.events()));
        Self { server, connections, events }
    }

    fn guest(&self, path: &str) -> Guest {
        let client = connected(&self.server, path, WsStr);
        Guest { heard: Recorder::on(client.clone()), client, connection: self.connections.item() }
    }

    fn until_gone(&self, id: u64) {
        self.events
            .find(|event| matches!(event, ServerEvent::Disconnected { peer, .. } if peer.id == id).then_some(()));
    }
}

#[test]
fn connection_is_found_by_its_id_between_its_first_event_and_its_last() {
    let house = House::open();
    let same = house.server.clone();
    let (found, was_found) = mpsc::channel();
    house.server.events().subscribe(move |event| {
        if let ServerEvent::Connected { peer, .. } | ServerEvent::Disconnected { peer, .. } = event {
            found.send(same.connection(peer.id).is_some()).unwrap();
        }
    });
    let guest = house.guest("/");
    let id = guest.connection.id();
    assert!(was_found.recv_timeout(PATIENCE).unwrap());
    house.server.connection(id).unwrap().next("hello");
    assert_eq!(guest.heard.item(), "hello");
    assert!(house.server.connection(id + 1).is_none());
    guest.client.complete();
    assert!(!was_found.recv_timeout(PATIENCE).unwrap());
    assert!(house.server.connection(id).is_none());
}

#[test]
fn what_is_sent_to_all_but_one_reaches_each_other_once() {
    let house = House::open();
    let guests = [(); 3].map(|()| house.guest("/chat"));
    let elsewhere = house.guest("/other");
    for (n, guest) in guests.iter().enumerate() {
        house.server.next_except(TaggedData::new("/chat", n.to_string()), &guest.connection);
    }
    // One that is not on the path changes nothing.
    house.server.send_except(TaggedData::new("/chat", "all"), &elsewhere.connection).unwrap();
    let expected = [["1", "2", "all"], ["0", "2", "all"], ["0", "1", "all"]];
    for (guest, expected) in guests.iter().zip(expected) {
        assert_eq!(guest.heard.items(3), expected);
    }
    assert_eq!((house.server.stats().pushed, house.server.stats().unrouted), (4, 0));
    house.server.complete();
    assert!(guests.iter().chain([&elsewhere]).all(|guest| guest.heard.rest().is_empty()));
}

#[test]
fn message_to_all_but_the_only_one_goes_nowhere_and_says_so() {
    let house = House::open();
    let guest = house.guest("/chat");
    let push = || house.server.send_except(TaggedData::new("/chat", "x"), &guest.connection);
    push().unwrap();
    assert_eq!((house.server.stats().pushed, house.server.stats().unrouted), (1, 1));
    assert_eq!(guest.connection.stats().sent.accepted, Tally::default());
    house.server.clone().complete();
    assert!(matches!(push(), Err(SendError::Closed(refused)) if refused.data == "x"));
}

#[test]
fn sender_may_leave_while_its_words_go_to_the_others() {
    let house = House::open();
    let stays = house.guest("/chat");
    let mut expected = Vec::new();
    for n in 0..50 {
        let guest = house.guest("/chat");
        let start = Arc::new(std::sync::Barrier::new(2));
        let (ready, client) = (start.clone(), guest.client);
        let leaving = thread::spawn(move || {
            ready.wait();
            client.complete();
        });
        start.wait();
        house.server.next_except(TaggedData::new("/chat", n.to_string()), &guest.connection);
        leaving.join().unwrap();
        house.until_gone(guest.connection.id());
        house.server.next_except(TaggedData::new("/chat", "gone"), &guest.connection);
        expected.extend([n.to_string(), "gone".into()]);
    }
    assert_eq!(stays.heard.items(100), expected);
}

#[test]
fn item_that_cannot_be_encoded_for_the_others_is_an_event() {
    let datatype = WsByPath::new(|_| WsKind::Str);
    let server = RxWsServer::bind("ws://127.0.0.1:0", datatype).unwrap();
    let (connections, events) = (Recorder::on(server.connections()), Recorder::on(server.events()));
    let _client = connected(&server, "/", WsStr);
    server.next_except(TaggedData::new("/", Payload::from(vec![1u8])), &connections.item());
    events.find(|event| matches!(event, ServerEvent::Unencodable { count: 1, .. }).then_some(()));
    assert_eq!(server.stats().unencodable, 1);
}

fn in_room(text: impl ToString) -> TaggedData<String> {
    TaggedData::new("/room", text.to_string())
}

#[test]
fn message_to_a_room_reaches_those_who_are_there_once() {
    let house = House::open();
    let [first, second, other] = [(); 3].map(|()| house.guest("/chat"));
    // A path of the same name is the same tag.
    let at_home = house.guest("/room");
    assert!(first.connection.join("/room").unwrap() && second.connection.join("/room").unwrap());
    assert!(!first.connection.join("/room").unwrap(), "joining twice is one join");
    assert_eq!(first.connection.tags(), ["/chat", "/room"]);
    house.server.next(in_room("to three"));
    house.server.next_except(in_room("to two"), &first.connection);
    let stats = house.server.path_stats("/room");
    assert_eq!((stats.connections, stats.all.sent.accepted.messages), (3, 5));
    assert_eq!((house.server.path_stats("/chat").connections, house.server.stats().unrouted), (3, 0));
    assert!(first.connection.leave("/room") && !first.connection.leave("/room"));
    house.server.next(in_room("to those who stayed"));
    house.server.next(TaggedData::new("/chat", "end"));
    assert_eq!(first.heard.items(2), ["to three", "end"]);
    assert_eq!(second.heard.items(4), ["to three", "to two", "to those who stayed", "end"]);
    assert_eq!(at_home.heard.items(3), ["to three", "to two", "to those who stayed"]);
    assert_eq!(other.heard.item(), "end");
    house.server.complete();
    assert!([first, second, other, at_home].iter().all(|guest| guest.heard.rest().is_empty()));
}

#[test]
fn what_clients_say_keeps_the_tag_of_their_path_whatever_rooms_they_are_in() {
    let house = House::open();
    let (said, guest) = (Recorder::on(house.server.clone()), house.guest("/chat"));
    guest.connection.join("/room").unwrap();
    guest.client.next("hello");
    assert_eq!(said.item(), TaggedData::new("/chat", "hello".into()));
}

#[test]
fn name_that_is_no_room_and_one_room_too_many_are_refused() {
    let limits = Limits::server().rooms(2);
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).limits(limits).bind().unwrap();
    let connections = Recorder::on(server.connections());
    let _client = connected(&server, "/chat", WsStr);
    let connection = connections.item();
    for name in ["", "lobby", &format!("/{}", "x".repeat(1024))] {
        assert!(matches!(connection.join(name), Err(WsError::InvalidRoom(refused)) if refused == name));
    }
    assert!(connection.join(format!("/{}", "x".repeat(1023))).unwrap() && connection.join("/2").unwrap());
    assert!(!connection.join("/2").unwrap(), "it is there");
    let refused = connection.join("/3").unwrap_err();
    assert!(matches!(&refused, WsError::TooManyRooms(name) if name == connection.name()), "{refused}");
    assert!(connection.leave("/2") && connection.join("/3").unwrap());
}

#[test]
fn connection_is_always_on_its_path() {
    let house = House::open();
    let guest = house.guest("/chat?name=Ali");
    assert!(!guest.connection.join("/chat").unwrap() && !guest.connection.leave("/chat"));
    assert_eq!(guest.connection.tags(), ["/chat"]);
    house.server.next(TaggedData::new("/chat", "once"));
    house.server.next(TaggedData::new("/chat", "end"));
    assert_eq!(guest.heard.items(2), ["once", "end"]);
}

#[test]
fn everything_that_is_pushed_after_join_has_returned_arrives_and_nothing_from_before() {
    let house = House::open();
    let guest = house.guest("/chat");
    for round in 0..100 {
        let pushed = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let (server, count) = (house.server.clone(), pushed.clone());
        let pushing = thread::spawn(move || {
            for n in 0..200 {
                server.next(in_room(n));
                count.store(n + 1, std::sync::atomic::Ordering::SeqCst);
            }
        });
        let seen = || pushed.load(std::sync::atomic::Ordering::SeqCst);
        until("a push", || seen() > round % 20);
        let before = seen();
        assert!(guest.connection.join("/room").unwrap());
        let after = seen();
        pushing.join().unwrap();
        house.server.next(in_room("end"));
        assert!(guest.connection.leave("/room"));
        house.server.next(in_room("not for it"));
        let heard = guest.heard.items_until("end");
        let numbers: Vec<u64> = heard.iter().filter_map(|text| text.parse().ok()).collect();
        let first = *numbers.first().unwrap_or(&200);
        // A push may be under way at either look.
        assert!((before..=after + 1).contains(&first), "{before} {first} {after}");
        assert!(numbers.into_iter().eq(first..200));
    }
}

#[test]
fn of_many_threads_that_join_at_once_one_has_joined() {
    let house = House::open();
    let guest = house.guest("/chat");
    for _ in 0..100 {
        let start = std::sync::Barrier::new(4);
        let at_once = |change: fn(&Connection<WsStr>) -> bool| {
            thread::scope(|scope| {
                let threads = [(); 4].map(|()| {
                    scope.spawn(|| {
                        start.wait();
                        change(&guest.connection)
                    })
                });
                threads.map(|thread| thread.join().unwrap()).into_iter().filter(|done| *done).count()
            })
        };
        assert_eq!(at_once(|connection| connection.join("/room").unwrap()), 1);
        house.server.next(in_room("once"));
        assert_eq!(at_once(|connection| connection.leave("/room")), 1);
        house.server.next(TaggedData::new("/chat", "end"));
        assert_eq!(guest.heard.items_until("end"), ["once", "end"]);
    }
    assert_eq!(house.server.stats().unrouted, 0);
}

#[test]
fn callback_may_join_and_leave() {
    let house = House::open();
    let server = house.server.clone();
    let (record, joined) = answers(move |connection: Connection<WsStr>| {
        assert!(connection.join("/room").unwrap());
        let (guest, server) = (connection.clone(), server.clone());
        connection.subscribe(move |text| {
            assert!(guest.leave("/room") && guest.join(format!("/{text}")).unwrap());
            server.next(in_room("nobody is there"));
            server.next(TaggedData::new(format!("/{text}"), "moved"));
        });
    });
    house.server.connections().subscribe(record);
    let guest = house.guest("/chat");
    joined.recv_timeout(PATIENCE).unwrap();
    house.server.next(in_room("welcome"));
    assert_eq!(guest.heard.item(), "welcome");
    guest.client.next("elsewhere");
    assert_eq!(guest.heard.item(), "moved");
    assert_eq!(guest.connection.tags(), ["/chat", "/elsewhere"]);
}

#[test]
fn connection_leaves_its_rooms_before_its_last_event_and_joins_none_after_it() {
    let house = House::open();
    let guest = house.guest("/chat");
    guest.connection.join("/room").unwrap();
    let (same, connection) = (house.server.clone(), guest.connection.clone());
    let (record, found) = answers(move |event| {
        let is_last = matches!(event, ServerEvent::Disconnected { .. });
        is_last.then(|| (same.path_stats("/room").connections, connection.tags(), connection.join("/room").is_err()))
    });
    house.server.events().subscribe(record);
    let (connection, end) = (guest.connection.clone(), Recorder::on(guest.connection.clone()));
    guest.client.complete();
    let found = std::iter::from_fn(|| found.recv_timeout(PATIENCE).ok()).find_map(|found| found).unwrap();
    assert_eq!(found, (0, vec![], true));
    assert!(end.to_the_end().1.is_complete());
    assert!(matches!(connection.join("/room"), Err(WsError::Closed(name)) if name == connection.name()));
    assert!(!connection.leave("/room"));
    house.server.next(in_room("nobody"));
    assert_eq!(house.server.stats().unrouted, 1);
}

#[test]
fn nobody_joins_a_room_of_a_server_or_by_a_connection_that_is_to_end() {
    let house = House::open();
    let (first, second) = (house.guest("/chat"), house.guest("/chat"));
    second.connection.clone().complete();
    assert!(matches!(second.connection.join("/room"), Err(WsError::Closed(_))));
    house.server.clone().complete();
    assert!(matches!(first.connection.join("/room"), Err(WsError::Closed(_))));
    house.server.wait_closed(PATIENCE).unwrap();
    drop(house);
    assert!(matches!(first.connection.join("/room"), Err(WsError::Closed(_))));
    assert!(first.connection.tags().is_empty());
}

#[test]
fn join_at_the_moment_of_the_end_leaves_nothing_behind() {
    let house = House::open();
    for n in 0..100 {
        let guest = house.guest("/chat");
        let start = Arc::new(std::sync::Barrier::new(2));
        let (ready, connection) = (start.clone(), guest.connection.clone());
        let joining = thread::spawn(move || {
            ready.wait();
            for n in 0..50 {
                let _ = connection.join(format!("/{}", n % 10));
                connection.leave(format!("/{}", (n + 5) % 10));
            }
        });
        start.wait();
        if n % 2 == 0 {
            guest.connection.clone().complete();
        }
        guest.client.complete();
        joining.join().unwrap();
        house.until_gone(guest.connection.id());
    }
    for n in 0..10 {
        house.server.next(TaggedData::new(format!("/{n}"), "nobody"));
    }
    assert_eq!(house.server.stats().unrouted, 10);
}

#[test]
fn session_keeps_its_rooms_while_its_client_is_away_until_it_is_given_up() {
    let resume = Resume::new().park(Duration::from_millis(300));
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).resumable(resume).bind().unwrap();
    let (connections, events) = (Recorder::on(server.connections()), Recorder::on(server.events()));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let shared = IoRuntime::from_tokio(runtime.handle().clone());
    let builder = RxWsClient::builder(url(&server, "/chat"), WsStr).resumable(Resume::new()).runtime(&shared);
    let client = builder.connect().unwrap();
    let (heard, connection) = (Recorder::on(client.clone()), connections.item());
    let session = |wanted: fn(&SessionEvent) -> bool| {
        let event = |event| matches!(event, ServerEvent::Session { event, .. } if wanted(&event)).then_some(());
        events.find(event);
    };
    connection.join("/room").unwrap();
    client.wait_connected(PATIENCE).unwrap();
    client.reconnect();
    session(|event| matches!(event, SessionEvent::Resumed { .. }));
    server.next(in_room("still there"));
    assert_eq!(heard.item(), "still there");
    // A client that never comes back.
    runtime.shutdown_background();
    session(|event| matches!(event, SessionEvent::Parked));
    server.next(in_room("kept"));
    assert_eq!((server.path_stats("/room").connections, connection.stats().sent.accepted.messages), (1, 2));
    events.find(|event| matches!(event, ServerEvent::Disconnected { .. }).then_some(()));
    assert_eq!((server.path_stats("/room").connections, connection.tags().len()), (0, 0));
}
