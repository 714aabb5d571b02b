//! Rooms of connections on a bus: what is pushed into any server reaches those who are there, and all know who that is.

use std::{
    collections::BTreeSet,
    sync::{Arc, Barrier},
    thread,
};

use super::{presence::Seen, *};

over_both! {
    message_for_a_room_reaches_those_who_are_there_on_all_servers,
    what_is_sent_to_all_but_one_reaches_the_clients_of_other_servers_as_usual,
    who_is_in_a_room_is_known_on_all_servers,
    presence_in_rooms_equals_the_truth_whatever_threads_join_and_leave,
    presence_of_a_server_is_that_of_all_and_ends_with_it,
}

/// A server, and the connections of its clients.
struct House {
    bus: RxBus<WsStr>,
    server: RxWsServer<WsStr>,
    connections: Recorder<Connection<WsStr>>,
}

struct Guest {
    client: RxWsClient<WsStr>,
    heard: Recorder<WsText>,
    connection: Connection<WsStr>,
}

impl House {
    fn on(joint: &Joint) -> Self {
        let bus = joint.bus();
        let server = presence::server_on(&bus);
        let connections = Recorder::on(server.connections());
        Self { bus, server, connections }
    }

    fn guest(&self, path: &str) -> Guest {
        let client = connected(&self.server, path, WsStr);
        Guest { heard: Recorder::on(client.clone()), client, connection: self.connections.item() }
    }
}

fn in_room(text: &str) -> TaggedData<String> {
    TaggedData::new("/room", text.into())
}

fn message_for_a_room_reaches_those_who_are_there_on_all_servers(joint: &Joint) {
    let houses = [House::on(joint), House::on(joint)];
    let guests = houses.each_ref().map(|house| house.guest("/chat"));
    let other = houses[1].guest("/other");
    guests.iter().for_each(|guest| assert!(guest.connection.join("/room").unwrap()));
    houses.iter().for_each(|house| house.bus.wait_connected(PATIENCE).unwrap());
    houses[0].server.next(in_room("from one"));
    houses[1].bus.next(in_room("by the bus"));
    for guest in &guests {
        assert_eq!(BTreeSet::from_iter(guest.heard.items(2)), BTreeSet::from(["from one".into(), "by the bus".into()]));
    }
    guests[1].connection.leave("/room");
    houses[0].server.next(in_room("to one"));
    houses[0].server.next(TaggedData::new("/other", "end"));
    assert_eq!((guests[0].heard.item(), other.heard.item()), ("to one".into(), "end".into()));
    assert!(guests[1].heard.rest().is_empty());
}

fn what_is_sent_to_all_but_one_reaches_the_clients_of_other_servers_as_usual(joint: &Joint) {
    let houses = [House::on(joint), House::on(joint)];
    let [here, neighbour, there] = [0, 0, 1].map(|at| houses[at].guest("/chat"));
    houses.iter().for_each(|house| house.bus.wait_connected(PATIENCE).unwrap());
    houses[0].server.next_except(TaggedData::new("/chat", "x"), &here.connection);
    houses[0].server.next(TaggedData::new("/chat", "end"));
    assert_eq!(here.heard.item(), "end");
    for other in [&neighbour, &there] {
        assert_eq!(other.heard.items(2), ["x", "end"]);
    }
    // Nobody else is here, and somebody there.
    let alone = houses[0].guest("/alone");
    houses[0].server.send_except(TaggedData::new("/alone", "x"), &alone.connection).unwrap();
    assert_eq!(houses[0].server.stats().unrouted, 1);
}

fn who_is_in_a_room_is_known_on_all_servers(joint: &Joint) {
    let houses = [House::on(joint), House::on(joint)];
    // Before its name is known.
    houses[0].server.connections().subscribe(|connection| drop(connection.join("/room")));
    let seen = houses.each_ref().map(|house| Seen::by(&house.bus, "/room"));
    let until = |connections, servers, names: &[&str]| {
        seen.iter().for_each(|seen| seen.until(connections, servers, names));
    };
    let [ali, nobody, zoe] = [(0, "/a?Ali"), (0, "/a"), (1, "/b?Zoe")].map(|(at, path)| houses[at].guest(path));
    until(2, 1, &["Ali"]);
    zoe.connection.join("/room").unwrap();
    until(3, 2, &["Ali", "Zoe"]);
    zoe.connection.leave("/room");
    nobody.client.complete();
    until(1, 1, &["Ali"]);
    zoe.connection.join("/room").unwrap();
    ali.client.complete();
    until(1, 1, &["Zoe"]);
    houses[1].server.clone().complete();
    until(0, 0, &[]);
}

fn presence_in_rooms_equals_the_truth_whatever_threads_join_and_leave(joint: &Joint) {
    let houses = [House::on(joint), House::on(joint)];
    let guests = ["/a?Ali", "/a?Zoe"].map(|path| houses[0].guest(path));
    let seen = houses.each_ref().map(|house| Seen::by(&house.bus, "/room"));
    for round in 0..20 {
        let start = Arc::new(Barrier::new(4));
        let storm = |at: usize| {
            let (start, connection): (_, Connection<WsStr>) = (start.clone(), guests[at % 2].connection.clone());
            thread::spawn(move || {
                start.wait();
                for _ in 0..200 {
                    let _ = connection.join("/room");
                    connection.leave("/room");
                }
            })
        };
        (0..4).map(storm).collect::<Vec<_>>().into_iter().for_each(|thread| thread.join().unwrap());
        let mut names = Vec::new();
        for (guest, name) in guests.iter().zip(["Ali", "Zoe"]).take(round % 3) {
            assert!(guest.connection.join("/room").unwrap());
            names.push(name);
        }
        seen.iter().for_each(|seen| seen.until(names.len() as u64, names.len().min(1), &names));
        guests.iter().for_each(|guest| _ = guest.connection.leave("/room"));
    }
}

fn presence_of_a_server_is_that_of_all_and_ends_with_it(joint: &Joint) {
    let houses = [House::on(joint), House::on(joint)];
    let heard = houses.each_ref().map(|house| Recorder::on(house.server.presence()));
    let [ali, zoe] = [(0, "/a?Ali"), (1, "/a?Zoe")].map(|(at, path)| houses[at].guest(path));
    zoe.connection.join("/room").unwrap();
    let until = |heard: &Recorder<TaggedData<Presence>>, tag: &str, names: &[&str]| {
        let is_so = |td: &TaggedData<Presence>| td.tag == tag && td.data.names().into_iter().eq(names.iter().copied());
        heard.find(|td| is_so(&td).then_some(()));
    };
    heard.iter().for_each(|heard| until(heard, "/a", &["Ali", "Zoe"]));
    let late = Recorder::on(houses[0].server.presence());
    let first: BTreeSet<_> = late.items(2).into_iter().map(|td| (td.tag, td.data.connections)).collect();
    assert_eq!(first, BTreeSet::from([("/a".into(), 2), ("/room".into(), 1)]));
    houses[1].server.clone().complete();
    assert!(heard[1].to_the_end().1.is_complete());
    until(&heard[0], "/a", &["Ali"]);
    assert!(Recorder::on(houses[1].server.presence()).to_the_end().1.is_complete());
    ali.client.complete();
    until(&heard[0], "/a", &[]);
    // A server whose bus has ended does not know.
    houses[0].bus.clone().complete();
    assert!(heard[0].to_the_end().1.is_complete());
}
