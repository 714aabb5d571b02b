//! Servers on a bus: whose clients hear what.

use super::*;

over_both! {
    item_pushed_into_a_server_reaches_the_clients_of_all_once,
    item_pushed_into_the_bus_reaches_all_clients_and_subscribers_once,
    what_clients_say_stays_unless_it_is_passed_on,
    servers_on_one_handle_hear_each_other,
    datatypes_of_server_and_bus_may_differ,
    resumable_and_unbound_servers_are_on_the_bus_too,
    server_goes_on_when_its_bus_has_ended,
    blocked_subscriber_loses_nothing,
    clients_on_all_threads_of_the_servers_hear_each_push_once,
}

/// Servers with a bus each, and a client on `/a` of each.
struct Both {
    buses: [RxBus<WsStr>; 2],
    servers: [RxWsServer<WsStr>; 2],
    clients: [RxWsClient<WsStr>; 2],
}

impl Both {
    fn on(joint: &Joint) -> Self {
        let buses = [joint.bus(), joint.bus()];
        let servers = [joint.server(&buses[0]), joint.server(&buses[1])];
        let clients = [connected(&servers[0], "/a", WsStr), connected(&servers[1], "/a", WsStr)];
        let both = Self { buses, servers, clients };
        both.wait();
        both
    }

    /// Until the broker knows the paths of all clients.
    fn wait(&self) {
        self.buses.iter().for_each(|bus| bus.wait_connected(PATIENCE).unwrap());
    }

    fn heard(&self) -> [Recorder<WsText>; 2] {
        [0, 1].map(|at| Recorder::on(self.clients[at].clone()))
    }
}

fn on_a(data: impl ToString) -> TaggedData<WsText> {
    TaggedData::new("/a", data.to_string().into())
}

fn item_pushed_into_a_server_reaches_the_clients_of_all_once(joint: &Joint) {
    let both = Both::on(joint);
    let (heard, subscribed) = (both.heard(), Recorder::on(both.buses[1].path("/a")));
    both.wait();
    for n in 0..100 {
        both.servers[0].next(on_a(n));
    }
    both.servers[0].send(on_a("end")).unwrap();
    for heard in &heard {
        assert_eq!(heard.items_until("end").len(), 101);
        assert_eq!(heard.rest(), []);
    }
    assert_eq!(subscribed.items(101).pop(), Some(on_a("end")));
    let stats = both.servers[1].stats();
    assert_eq!((stats.pushed, stats.unrouted, both.servers[0].stats().pushed), (0, 0, 101));
}

fn item_pushed_into_the_bus_reaches_all_clients_and_subscribers_once(joint: &Joint) {
    let both = Both::on(joint);
    let (heard, subscribed) = (both.heard(), both.buses.each_ref().map(|bus| Recorder::on(bus.clone())));
    both.wait();
    both.buses[0].next(on_a("x"));
    both.buses[0].next(on_a("end"));
    for heard in &heard {
        assert_eq!(heard.items_until("end"), ["x", "end"]);
    }
    for heard in &subscribed {
        assert_eq!(heard.items(2), [on_a("x"), on_a("end")]);
    }
}

fn what_clients_say_stays_unless_it_is_passed_on(joint: &Joint) {
    let both = Both::on(joint);
    let (heard, said) = (both.heard(), Recorder::on(both.servers[0].clone()));
    both.clients[0].next("to myself");
    assert_eq!(said.item(), on_a("to myself"));
    for at in 0..2 {
        both.servers[at].clone().merge_into(&both.buses[at]);
    }
    for at in 0..2 {
        both.clients[at].next("hello");
        for heard in &heard {
            assert_eq!(heard.item(), "hello");
        }
    }
    assert!(heard.iter().all(|heard| heard.rest().is_empty()));
}

fn servers_on_one_handle_hear_each_other(joint: &Joint) {
    let bus = joint.bus();
    let servers = [joint.server(&bus), joint.server(&bus)];
    let heard = servers.each_ref().map(|server| Recorder::on(connected(server, "/a", WsStr)));
    for server in &servers {
        server.next(on_a("x"));
        for heard in &heard {
            assert_eq!(heard.item(), "x");
        }
    }
}

fn datatypes_of_server_and_bus_may_differ(joint: &Joint) {
    let datatype = |kind| WsByPath::new(move |path| if path == "/a" { kind } else { WsKind::Str });
    let [here, there] = [0, 1].map(|_| joint.builder(datatype(WsKind::Str)).connect().unwrap());
    let servers = [(&here, WsKind::Bytes), (&there, WsKind::Object)]
        .map(|(bus, kind)| RxWsServer::builder("ws://127.0.0.1:0", datatype(kind)).bus(bus).bind().unwrap());
    let heard = Recorder::on(connected(&servers[1], "/b", WsStr));
    let bad = Recorder::on(servers[1].events());
    let _client = connected(&servers[1], "/a", WsFrame);
    there.wait_connected(PATIENCE).unwrap();
    // The bus has text on this path, and the server objects.
    here.next(TaggedData::new("/a", Payload::from("x")));
    bad.find(|event| matches!(event, ServerEvent::Unencodable { count: 1, .. }).then_some(()));
    servers[0].next(TaggedData::new("/b", Payload::from("y")));
    assert_eq!(heard.item(), "y");
}

fn resumable_and_unbound_servers_are_on_the_bus_too(joint: &Joint) {
    let (bus, away) = (joint.bus(), joint.bus());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = RxWsServer::unbound(WsStr).resumable(Resume::new()).bus(&bus).listen_on(listener).unwrap();
    let client = RxWsClient::builder(url(&server, "/a"), WsStr).resumable(Resume::new()).connect().unwrap();
    let heard = Recorder::on(client.clone());
    client.wait_connected(PATIENCE).unwrap();
    bus.wait_connected(PATIENCE).unwrap();
    away.next(on_a(0));
    assert_eq!(heard.item(), "0");
    // The session, and with it the interest, outlives the link.
    client.reconnect();
    for n in 1..100 {
        away.next(on_a(n));
    }
    for n in 1..100 {
        assert_eq!(heard.item(), n.to_string());
    }
}

fn server_goes_on_when_its_bus_has_ended(joint: &Joint) {
    let both = Both::on(joint);
    let heard = both.heard();
    both.buses[0].clone().complete();
    both.buses[0].wait_closed(PATIENCE).unwrap();
    both.servers[0].send(on_a("x")).unwrap();
    both.servers[0].send(TaggedData::new("/nobody", WsText::from("x"))).unwrap();
    assert_eq!(heard[0].item(), "x");
}

fn blocked_subscriber_loses_nothing(joint: &Joint) {
    let [here, there] = [joint.bus(), joint.bus()];
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let (sender, received) = std::sync::mpsc::channel();
    let mut first = true;
    there.path("/a").log_errors().subscribe(move |td| {
        if std::mem::take(&mut first) {
            let _ = wait.recv();
        }
        let _ = sender.send(td.data);
    });
    there.wait_connected(PATIENCE).unwrap();
    for n in 0..20_000 {
        here.send(on_a(n)).unwrap();
    }
    until("that all is confirmed", || here.stats().sent.queued.messages == 0);
    drop(go);
    for n in 0..20_000 {
        assert_eq!(received.recv_timeout(PATIENCE).unwrap(), n.to_string());
    }
}

fn clients_on_all_threads_of_the_servers_hear_each_push_once(joint: &Joint) {
    let servers = [(); 2].map(|()| {
        let bus = joint.bus();
        let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).threads(3).bus(&bus).bind().unwrap();
        let clients = [(); 3].map(|()| connected(&server, "/a", WsStr));
        bus.wait_connected(PATIENCE).unwrap();
        (server, clients, bus)
    });
    let heard: Vec<_> = servers.iter().flat_map(|(_, clients, _)| clients).map(|c| Recorder::on(c.clone())).collect();
    // Each is told by a callback on its own thread.
    for (server, clients, _) in &servers {
        let same = server.clone();
        server.connections().subscribe(move |connection| {
            let same = same.clone();
            connection
                .log_errors()
                .subscribe(move |text| (0..100).for_each(|n| same.next(on_a(format!("{text} {n}")))));
        });
        clients.iter().enumerate().for_each(|(n, client)| client.next(format!("{} {n}", server.local_addr())));
    }
    for heard in heard {
        let mut told = std::collections::BTreeMap::<String, Vec<String>>::new();
        for text in heard.items(600) {
            let (by, n) = text.rsplit_once(' ').unwrap();
            told.entry(by.to_owned()).or_default().push(n.to_owned());
        }
        assert!(told.len() == 6 && told.into_values().all(|of_one| of_one == texts(0..100)));
        assert_eq!(heard.rest(), []);
    }
}
