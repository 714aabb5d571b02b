//! Rule 2: what is kept for a first subscriber, and how much.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use super::*;

#[test]
fn early_messages_reach_the_first_subscriber_alone_and_in_order() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let client = connected(&server, "/", WsStr);
    texts(0..100).into_iter().for_each(|text| client.next(text));
    until_settled("the arrival of the messages", &server, |server| server.stats().received.messages == 100);
    let first = Recorder::on(server.clone());
    let untagged = |recorder: &Recorder<_>, count| -> Vec<WsText> {
        recorder.items(count).into_iter().map(|tagged: TaggedData<_>| tagged.data).collect()
    };
    assert_eq!(untagged(&first, 100), texts(0..100));
    let second = Recorder::on(server.clone());
    client.next("next");
    assert_eq!(untagged(&first, 1), ["next"]);
    assert_eq!(untagged(&second, 1), ["next"]);
}

#[test]
fn early_messages_beyond_the_buffer_are_counted_and_told_once() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let events = Recorder::on(server.events());
    let client = connected(&server, "/", WsStr);
    texts(0..1030).into_iter().for_each(|text| client.next(text));
    until("the arrival of the messages", || server.stats().early_lost.messages == 6);
    let heard = Recorder::on(server.clone());
    assert_eq!(heard.item().data, "6");
    events.find(|event| matches!(event, ServerEvent::EarlyLost).then_some(()));
    client.complete();
    events.find(|event| match event {
        ServerEvent::EarlyLost => panic!("told twice"),
        ServerEvent::Disconnected { .. } => Some(()),
        _ => None,
    });
}

/// A client that has received `texts` and has no subscriber.
fn client_that_received(texts: Vec<String>) -> RxWsClient<WsStr> {
    let count = texts.len() as u64;
    let server = foreign_server(move |_, mut peer| {
        texts.iter().for_each(|text| peer.send(text.as_str().into()).unwrap());
        // Echoes from then on.
        while let Ok(message) = peer.read() {
            let _ = peer.send(message);
        }
    });
    let client = RxWsClient::connect(format!("ws://{server}"), WsStr).unwrap();
    until_settled("receiving", &client, |client| client.stats().received.messages == count);
    client
}

#[test]
fn first_subscriber_hears_what_came_before_it_on_the_io_thread() {
    let client = client_that_received(texts(0..3));
    let (send, threads) = mpsc::channel();
    let first =
        Recorder::on(client.clone().tap(move |_| send.send(thread::current().name().map(str::to_owned)).unwrap()));
    assert_eq!(first.items(3), ["0", "1", "2"]);
    let second = Recorder::on(client.clone());
    client.next("newer");
    assert_eq!((first.item(), second.item()), ("newer".into(), "newer".into()));
    assert!(threads.try_iter().all(|name| name.as_deref() == Some("rxplus-client")));
    client.complete();
}

#[test]
fn of_too_many_early_messages_the_oldest_go_counted_with_one_event() {
    let client = client_that_received(texts(0..1500));
    let stats = client.stats();
    let heard = Recorder::on(client.clone());
    assert_eq!(heard.items(1024), texts(0..1500)[476..]);
    assert_eq!(stats.early_lost.messages, 476);
    assert_eq!(stats.early_lost.len, texts(0..476).iter().map(|text| text.len() as u64).sum::<u64>());
    let events = Recorder::on(client.events());
    client.clone().complete();
    let (events, _) = events.to_the_end();
    assert_eq!(events.iter().filter(|event| matches!(event, ClientEvent::EarlyLost)).count(), 1);
}

#[test]
fn early_messages_take_no_more_than_a_mebibyte() {
    let long = |letter: &str| letter.repeat(500_000);
    let client = client_that_received(vec![long("a"), long("b"), long("c")]);
    assert_eq!(client.stats().early_lost, tally(1, 500_000));
    assert_eq!(Recorder::on(client.clone()).items(2), [long("b"), long("c")]);
    client.complete();
}

#[test]
fn server_has_one_early_buffer_for_all_connections_and_paths() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let clients = ["/a", "/b"].map(|path| foreign_client(server.local_addr(), path));
    for mut client in clients {
        let before = server.stats().received.messages;
        for text in texts(0..800) {
            client.send(text.into()).unwrap();
        }
        until_settled("receiving", &server, |server| server.stats().received.messages == before + 800);
    }
    assert_eq!(server.stats().early_lost.messages, 576);
    let heard = Recorder::on(server.clone());
    let (first, second): (Vec<_>, Vec<_>) = heard.items(1024).into_iter().partition(|tagged| tagged.tag == "/a");
    assert_eq!((first.len(), second.len()), (224, 800));
    assert_eq!(first[0].data, "576");
    server.complete();
}

#[test]
fn group_has_one_early_buffer_for_all_its_paths() {
    let server = foreign_server(|_, mut peer| {
        texts(0..800).into_iter().for_each(|text| peer.send(text.into()).unwrap());
        while peer.read().is_ok() {}
    });
    let group = RxWsClientGroup::new(format!("ws://{server}"), WsStr).unwrap();
    for (path, received) in [("/a", 800), ("/b", 1600)] {
        group.open(path).unwrap();
        until_settled("receiving", &group, |group| group.stats().all.received.messages == received);
    }
    assert_eq!(group.stats().all.early_lost.messages, 576);
    let heard = Recorder::on(group.clone());
    let (first, second): (Vec<_>, Vec<_>) = heard.items(1024).into_iter().partition(|tagged| tagged.tag == "/a");
    assert_eq!((first.len(), second.len()), (224, 800));
    let events = Recorder::on(group.events());
    group.complete();
    let told = events.to_the_end().0.into_iter().filter(|tagged| matches!(tagged.data, ClientEvent::EarlyLost));
    assert_eq!(told.count(), 1);
}

#[test]
fn connection_with_its_own_subscriber_leaves_the_servers_buffer_alone() {
    let server = echo_server(WsStr);
    let mut client = foreign_client(server.local_addr(), "/echo");
    client.send("for the connection".into()).unwrap();
    assert_eq!(read(&mut client).to_text().unwrap(), "for the connection");
    let heard = Recorder::on(server.clone());
    client.send("for both".into()).unwrap();
    assert_eq!(heard.item().data, "for both");
    server.complete();
}

#[test]
fn server_that_has_had_a_subscriber_keeps_nothing_for_the_next() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let mut client = foreign_client(server.local_addr(), "/");
    server.clone().log_errors().subscribe(|_| {}).unsubscribe();
    client.send("unheard".into()).unwrap();
    until_settled("receiving", &server, |server| server.stats().received.messages == 1);
    let heard = Recorder::on(server.clone());
    client.send("heard".into()).unwrap();
    assert_eq!(heard.item().data, "heard");
    assert_eq!(server.stats().early_lost, Tally::default());
    server.complete();
}

#[test]
fn connection_that_is_open_already_has_kept_what_its_client_sent() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let mut clients = ["/one", "/other"].map(|path| foreign_client(server.local_addr(), path));
    for (number, client) in clients.iter_mut().enumerate() {
        client.send("early".into()).unwrap();
        client.send(number.to_string().into()).unwrap();
    }
    until_settled("receiving", &server, |server| server.stats().received.messages == 4);
    let connections = Recorder::on(server.connections());
    let [one, _other] = connections.items(2).try_into().unwrap();
    let (heard, number) = (Recorder::on(one.clone()), if one.path() == "/one" { 0 } else { 1 });
    assert_eq!(heard.items(2), ["early".to_string(), number.to_string()]);
    // A second subscriber starts with what arrives next, and what nobody heard is left to the server's.
    let (second, heard_by_server) = (Recorder::on(one), Recorder::on(server.clone()));
    let left: Vec<_> = heard_by_server.items(2).into_iter().map(|tagged| tagged.data).collect();
    assert_eq!(left, ["early".to_string(), (1 - number).to_string()]);
    clients[number].send("newer".into()).unwrap();
    assert_eq!([heard.item(), second.item(), heard_by_server.item().data], ["newer"; 3]);
    server.complete();
}

/// The connections of a server on `runtime`, as a thread gets them that subscribes while each client is sending `count` texts.
fn talking_clients(runtime: &IoRuntime, count: usize) -> impl Iterator<Item = Connection<WsStr>> {
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).runtime(runtime).bind().unwrap();
    let connections = Recorder::on(server.connections());
    (0..40).map(move |_| {
        let addr = server.local_addr();
        thread::spawn(move || {
            let mut client = foreign_client(addr, "/");
            texts(0..count).into_iter().for_each(|text| client.send(text.into()).unwrap());
            // And one more once it is told to.
            while let Ok(message) = client.read() {
                if message.is_text() {
                    client.send(count.to_string().into()).unwrap();
                }
            }
        });
        connections.item()
    })
}

#[test]
fn connection_subscribed_to_while_its_client_sends_loses_nothing() {
    let (runtimes, _tokio) = each_runtime(3);
    for runtime in runtimes {
        for (round, connection) in talking_clients(&runtime, 900).enumerate() {
            until("receiving", || connection.stats().received.messages >= round as u64 % 7 * 100);
            let heard = Recorder::on(connection.clone());
            assert_eq!(heard.items(900), texts(0..900));
            connection.complete();
        }
    }
}

#[test]
fn what_comes_between_two_subscribers_is_kept_for_the_second() {
    let (runtimes, _tokio) = each_runtime(3);
    for runtime in runtimes {
        for connection in talking_clients(&runtime, 900) {
            let last = Arc::new(AtomicU64::new(0));
            let note = last.clone();
            let first =
                connection.clone().log_errors().subscribe(move |text| note.store(text.parse().unwrap(), SeqCst));
            until("hearing", || last.load(SeqCst) > 100);
            first.unsubscribe();
            let heard = Recorder::on(connection.clone());
            connection.next("go on");
            let heard = heard.items_until("900");
            let begin = 901 - heard.len();
            assert_eq!(heard, texts(0..901)[begin..]);
            // One whose turn it was when the first one left may be nobody's.
            let last = last.load(SeqCst) as usize;
            assert!((last + 1..=last + 2).contains(&begin), "{begin} came after {last}");
            connection.complete();
        }
    }
}

#[test]
fn what_a_subscriber_leaves_of_the_early_messages_is_kept_for_the_next() {
    let (runtimes, _tokio) = each_runtime(3);
    for runtime in runtimes {
        for connection in talking_clients(&runtime, 9) {
            until("receiving", || connection.stats().received.messages == 9);
            assert_eq!(Recorder::on(connection.clone().take(1)).to_the_end().0, ["0"]);
            let first = connection.clone().log_errors().subscribe(|_| {});
            first.unsubscribe();
            connection.next("go on");
            let heard = Recorder::on(connection.clone()).items_until("9");
            assert_eq!(heard, texts(0..10)[10 - heard.len()..]);
            connection.complete();
        }
    }
}

#[test]
fn rest_of_the_early_messages_goes_to_the_next_then_to_the_server() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let connections = Recorder::on(server.connections());
    let mut client = foreign_client(server.local_addr(), "/");
    texts(0..9).into_iter().for_each(|text| client.send(text.into()).unwrap());
    let connection = connections.item();
    until_settled("receiving", &server, |server| server.stats().received.messages == 9);
    for taken in 0..3 {
        assert_eq!(Recorder::on(connection.clone().take(1)).to_the_end().0, [taken.to_string()]);
    }
    let left = Recorder::on(server.clone()).items(6).into_iter().map(|tagged| tagged.data).collect::<Vec<_>>();
    assert_eq!(left, texts(0..9)[3..]);
    // Its end changes nothing of that.
    let late = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let connections = Recorder::on(late.connections());
    let mut client = foreign_client(late.local_addr(), "/");
    texts(0..3).into_iter().for_each(|text| client.send(text.into()).unwrap());
    let connection = connections.item();
    close(client, 1000);
    connection.wait_closed(PATIENCE).unwrap();
    assert_eq!(Recorder::on(connection.clone().take(1)).to_the_end().0, ["0"]);
    assert_eq!(
        Recorder::on(connection).to_the_end(),
        (texts(0..3)[1..].iter().map(|text| text.into()).collect(), Heard::Complete)
    );
    server.complete();
    late.complete();
}

/// Texts that count how often they are copied.
#[derive(Clone)]
struct Copies(Arc<AtomicU64>);

/// One of them.
struct Counted(Arc<AtomicU64>);

impl Clone for Counted {
    fn clone(&self) -> Self {
        self.0.fetch_add(1, SeqCst);
        Self(self.0.clone())
    }
}

impl WsDatatype for Copies {
    type Item = Counted;
    type Outgoing = Counted;

    fn encode(&self, _: &str, _: &Counted) -> Result<Frame, DatatypeError> {
        Ok(Frame::Text("x".into()))
    }

    fn decode(&self, _: &str, _: Frame) -> Result<Counted, DatatypeError> {
        Ok(Counted(self.0.clone()))
    }
}

#[test]
fn nothing_is_copied_for_a_server_whose_last_subscriber_has_left() {
    let copies = Copies(Arc::default());
    let server = RxWsServer::bind("ws://127.0.0.1:0", copies.clone()).unwrap();
    let (send, heard) = mpsc::channel();
    server.connections().subscribe(move |connection| {
        let send = send.clone();
        connection.log_errors().subscribe(move |_| send.send(()).unwrap());
    });
    let mut client = foreign_client(server.local_addr(), "/");
    let mut exchange = || {
        (0..10).for_each(|_| client.send("x".into()).unwrap());
        (0..10).for_each(|_| heard.recv_timeout(PATIENCE).unwrap());
        copies.0.swap(0, SeqCst)
    };
    assert_eq!(exchange(), 0);
    let subscription = server.clone().log_errors().subscribe(|_| {});
    assert_eq!(exchange(), 10);
    subscription.unsubscribe();
    assert_eq!(exchange(), 0);
    server.complete();
}

#[test]
fn nothing_is_copied_for_subscribers_of_other_paths() {
    let copies = Copies(Arc::default());
    let server = RxWsServer::bind("ws://127.0.0.1:0", copies.clone()).unwrap();
    let (send, heard) = mpsc::channel();
    let send_of_server = send.clone();
    server.connections().subscribe(move |connection| {
        let send = send.clone();
        connection.log_errors().subscribe(move |_| send.send("connection").unwrap());
    });
    let mut client = foreign_client(server.local_addr(), "/here");
    let mut exchange = |others: usize| {
        (0..10).for_each(|_| client.send("x".into()).unwrap());
        let heard: Vec<_> = (0..10 + others).map(|_| heard.recv_timeout(PATIENCE).unwrap()).collect();
        assert_eq!(heard.iter().filter(|who| **who == "server").count(), others);
        copies.0.swap(0, SeqCst)
    };
    let hear = |path| {
        let send = send_of_server.clone();
        server.clone().tag_filter(path).untag().log_errors().subscribe(move |_| send.send("server").unwrap())
    };
    let there = hear("/there");
    assert_eq!(exchange(0), 0);
    let here = hear("/here");
    assert_eq!(exchange(10), 20);
    there.unsubscribe();
    assert_eq!(exchange(10), 10);
    here.unsubscribe();
    let there = hear("/there");
    assert_eq!(exchange(0), 0);
    there.unsubscribe();
    server.complete();
}

#[test]
fn nothing_is_copied_for_subscribers_of_a_groups_other_paths() {
    let copies = Copies(Arc::default());
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    server.clone().subscribe_with(server.clone());
    let group = RxWsClientGroup::new(format!("ws://{}", server.local_addr()), copies.clone()).unwrap();
    let there = Recorder::on(group.clone().tag_filter("/there").map(|_| "/there"));
    let (send, heard) = mpsc::channel();
    let here = group.open("/here").unwrap();
    here.clone().log_errors().subscribe(move |_| send.send(()).unwrap());
    let exchange = |count| {
        (0..count).for_each(|_| here.next(Counted(copies.0.clone())));
        (0..count).for_each(|_| heard.recv_timeout(PATIENCE).unwrap());
        copies.0.swap(0, SeqCst)
    };
    assert_eq!(exchange(10), 0);
    group.next(TaggedData::new("/there", Counted(copies.0.clone())));
    assert_eq!(there.item(), "/there");
    let all = group.clone().log_errors().subscribe(|_| {});
    assert_eq!(exchange(10), 20);
    all.unsubscribe();
    assert_eq!(exchange(10), 0);
    group.complete();
    server.complete();
}

#[test]
fn first_256_events_are_kept_for_the_first_subscriber() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    for _ in 0..200 {
        drop(foreign_client(server.local_addr(), "/"));
    }
    until("coming and going", || server.stats().accepted == 200 && server.connection_count() == 0);
    let events = Recorder::on(server.events());
    // One connection after another comes and goes, so each makes two events.
    let (first, later) = (events.items(256), Recorder::on(server.events()));
    let ids = first.iter().filter_map(|event| match event {
        ServerEvent::Connected { peer, .. } => Some(peer.id),
        _ => None,
    });
    assert_eq!(ids.min(), Some(1));
    let _client = foreign_client(server.local_addr(), "/");
    for events in [events, later] {
        assert!(matches!(events.item(), ServerEvent::Connected { peer, .. } if peer.id == 201));
    }
    server.complete();
}

/// The clients of a group on `runtime`, as a thread gets them that subscribes while the server is sending `count` texts.
fn listening_children(runtime: &IoRuntime, count: usize) -> impl Iterator<Item = RxWsClient<WsStr>> {
    let server = foreign_server(move |_, mut peer| {
        texts(0..count).into_iter().for_each(|text| peer.send(text.into()).unwrap());
        while peer.read().is_ok() {}
    });
    let group = RxWsClientGroup::builder(format!("ws://{server}"), WsStr).runtime(runtime).build().unwrap();
    (0..40).map(move |n| group.open(format!("/{n}")).unwrap())
}

#[test]
fn child_subscribed_to_while_its_server_sends_loses_nothing() {
    let (runtimes, _tokio) = each_runtime(3);
    for runtime in runtimes {
        for (round, child) in listening_children(&runtime, 900).enumerate() {
            until("receiving", || child.stats().received.messages >= round as u64 % 7 * 100);
            let heard = Recorder::on(child.clone());
            assert_eq!(heard.items(900), texts(0..900));
            child.complete();
        }
    }
}

#[test]
fn child_with_its_own_subscriber_leaves_the_groups_buffer_alone() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    server.connections().subscribe(|connection| connection.next(connection.path().to_string()));
    let group = RxWsClientGroup::new(url(&server, "/"), WsStr).unwrap();
    let children = ["/own", "/not"].map(|path| group.open(path).unwrap());
    until_settled("receiving", &group, |group| group.stats().all.received.messages == 2);
    assert_eq!(Recorder::on(children[0].clone()).item(), "/own");
    let heard = Recorder::on(group.clone());
    group.complete();
    assert_eq!(heard.to_the_end().0, [TaggedData::new("/not", "/not".into())]);
}
