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
