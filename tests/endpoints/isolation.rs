//! Subscribers that panic, and those that push, subscribe or unsubscribe from within a callback.

use std::{future::ready, iter};

use super::*;

#[test]
fn subscriber_of_a_client_that_panics_is_removed_alone() {
    let server = echo_server(WsStr);
    let client = connected(&server, "/", WsStr);
    let events = Recorder::on(client.events());
    client.clone().log_errors().subscribe(|_| panic!("a bug of the subscriber's"));
    let heard = Recorder::on(client.clone());
    for text in texts(0..3) {
        client.next(text.clone());
        assert_eq!(heard.item(), text);
    }
    client.complete();
    let mut panics = 0;
    while let Heard::Item(event) = events.hear() {
        panics += usize::from(matches!(event, ClientEvent::SubscriberPanicked));
    }
    assert_eq!(panics, 1);
}

#[test]
fn subscriber_of_a_group_that_panics_is_removed_alone() {
    let server = echo_server(WsStr);
    let group = RxWsClientGroup::new(url(&server, "/"), WsStr).unwrap();
    let events = Recorder::on(group.events());
    group.clone().log_errors().subscribe(|_| panic!("a bug of the subscriber's"));
    let heard = Recorder::on(group.clone());
    for text in texts(0..3) {
        group.next(TaggedData::new("/", text.clone()));
        assert_eq!(heard.item().data, text);
    }
    events.find(|event| matches!(event.data, ClientEvent::SubscriberPanicked).then_some(()));
}

#[test]
fn subscribers_of_a_server_that_panic_are_removed_alone() {
    let server = echo_server(WsStr);
    let events = Recorder::on(server.events());
    server.clone().log_errors().subscribe(|_| panic!("a bug of the subscriber's"));
    server.connections().subscribe(|_| panic!("another bug"));
    server.events().subscribe(|_| panic!("and another"));
    let heard = Recorder::on(server.clone());
    let client = connected(&server, "/", WsStr);
    let echoed = Recorder::on(client.clone());
    for text in texts(0..3) {
        client.next(text.clone());
        assert_eq!(heard.item().data, text);
        assert_eq!(echoed.item(), text);
    }
    events.find(|event| matches!(event, ServerEvent::SubscriberPanicked).then_some(()));
}

#[test]
fn subscriber_of_a_connection_that_panics_is_removed_alone() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    server.connections().subscribe(|connection| {
        connection.clone().log_errors().subscribe(|_| panic!("a bug of the subscriber's"));
        connection.clone().subscribe_with(connection);
    });
    let watched = Recorder::on(server.connections());
    let client = connected(&server, "/", WsStr);
    let events = Recorder::on(watched.item().events());
    let heard = Recorder::on(client.clone());
    for text in texts(0..3) {
        client.next(text.clone());
        assert_eq!(heard.item(), text);
    }
    events.find(|event| matches!(event, ServerEvent::SubscriberPanicked).then_some(()));
}

#[test]
fn panic_on_the_terminal_event_keeps_nobody_from_hearing_it() {
    let client = RxWsClient::connect("ws://127.0.0.1:1", WsStr).unwrap();
    client.clone().on_complete(|| panic!("a bug of the subscriber's")).log_errors().subscribe(|_| {});
    let ended = Recorder::on(client.clone());
    client.clone().complete();
    assert_eq!(ended.hear(), Heard::Complete);
    client.wait_closed(PATIENCE).unwrap();
}

#[test]
fn client_pushed_into_from_its_own_callback_counts_up_with_the_echo() {
    let server = echo_server(WsObject::<u32>::new());
    let client = connected(&server, "/", WsObject::<u32>::new());
    let heard = Recorder::on(client.clone());
    client.clone().map(|n| n + 1).filter(|n| *n < 100).log_errors().merge_into(&client);
    client.next(0u32);
    assert_eq!(heard.items(100), (0..100).collect::<Vec<_>>());
    client.complete();
}

#[test]
fn subscription_made_in_a_callback_hears_what_comes_next() {
    let server = echo_server(WsStr);
    let client = connected(&server, "/", WsStr);
    let source = client.clone();
    let (on_message, recorders) = answers(move |_| Recorder::on(source.clone()));
    client.clone().take(1).log_errors().subscribe(on_message);
    client.next("first");
    let inner = recorders.recv_timeout(PATIENCE).unwrap();
    client.next("second");
    assert_eq!(inner.item(), "second");
    client.complete();
}

#[test]
fn subscriber_that_unsubscribes_itself_hears_no_more_and_the_others_do() {
    let server = echo_server(WsStr);
    let client = connected(&server, "/", WsStr);
    let (send, heard_by_it) = mpsc::channel();
    let subscription = Arc::new(Mutex::new(None::<SerializedSubscription>));
    let own = subscription.clone();
    let subscribed = client.clone().log_errors().subscribe(move |text| {
        send.send(text).unwrap();
        if let Some(subscription) = own.lock().unwrap().take() {
            subscription.unsubscribe();
        }
    });
    *subscription.lock().unwrap() = Some(subscribed);
    let heard = Recorder::on(client.clone());
    texts(0..3).into_iter().for_each(|text| client.next(text));
    assert_eq!(heard.items(3), texts(0..3));
    assert_eq!(heard_by_it.iter().collect::<Vec<_>>(), ["0"]);
}

#[test]
fn push_from_the_connections_callback_is_sent_before_anything_else() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let all = server.clone();
    server.connections().subscribe(move |connection| {
        connection.next("welcome");
        all.next(TaggedData::new(connection.path(), "somebody came"));
    });
    let client = connected(&server, "/", WsStr);
    assert_eq!(Recorder::on(client).items(2), ["welcome", "somebody came"]);
    server.complete();
}

/// Text, with a bug in copying it.
#[derive(Debug, PartialEq)]
struct Brittle(WsText);

impl Clone for Brittle {
    fn clone(&self) -> Self {
        assert_ne!(self.0, "brittle", "a bug of the item's");
        Self(self.0.clone())
    }
}

struct WsBrittle;

impl WsDatatype for WsBrittle {
    type Item = Brittle;
    type Outgoing = Brittle;

    fn encode(&self, path: &str, item: &Brittle) -> Result<Frame, DatatypeError> {
        WsStr.encode(path, &item.0)
    }

    fn decode(&self, path: &str, frame: Frame) -> Result<Brittle, DatatypeError> {
        WsStr.decode(path, frame).map(Brittle)
    }
}

#[test]
fn connection_outlives_an_item_that_panics_when_it_is_copied() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsBrittle).unwrap();
    let (send, heard) = mpsc::channel();
    server.connections().subscribe(move |connection| {
        let send = send.clone();
        connection.log_errors().subscribe(move |item| send.send(item).unwrap());
    });
    let all = Recorder::on(server.clone().map(|tagged: TaggedData<Brittle>| tagged.data.0));
    let client = connected(&server, "/", WsStr);
    client.next("brittle");
    client.next("fine");
    let fine = Brittle("fine".into());
    // What could not be copied for the server's subscribers is the connection's own.
    assert_eq!([heard.recv_timeout(PATIENCE), heard.recv_timeout(PATIENCE)], [Ok(Brittle("brittle".into())), Ok(fine)]);
    assert_eq!(all.item(), "fine");
}

/// Text that does not like to be "bad", nor "unencodable".
#[derive(Clone, Copy)]
struct Fragile;

impl WsDatatype for Fragile {
    type Item = WsText;
    type Outgoing = WsText;

    fn encode(&self, path: &str, item: &WsText) -> Result<Frame, DatatypeError> {
        match &**item {
            "bad" => panic!("a bug of the datatype's"),
            "unencodable" => Err(DatatypeError::new("it has no encoding")),
            _ => WsStr.encode(path, item),
        }
    }

    fn decode(&self, path: &str, frame: Frame) -> Result<WsText, DatatypeError> {
        WsStr.decode(path, frame)
    }
}

/// That a message was refused because its encoding panicked.
fn is_refused<I>(sent: Result<(), SendError<I>>) {
    assert!(matches!(&sent, Err(SendError::Encode(_, why)) if why.to_string().contains("a bug of the datatype's")));
}

#[test]
fn encoding_that_panics_ends_nobodys_pipeline() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", Fragile).unwrap();
    server.clone().subscribe_with(server.clone());
    let events = Recorder::on(server.events());
    let (hostile, other) = (connected(&server, "/hostile", WsStr), connected(&server, "/other", WsStr));
    let heard = Recorder::on(other.clone());
    hostile.next("bad");
    let path = events.find(|event| match event {
        ServerEvent::Unencodable { path, .. } => Some(path),
        _ => None,
    });
    other.next("good");
    assert_eq!((heard.item(), path), ("good".into(), "/hostile".into()));
}

#[test]
fn encoding_that_panics_is_refused_told_and_counted_on_every_endpoint() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", Fragile).unwrap();
    let connections = Recorder::on(server.connections());
    let client = connected(&server, "/", Fragile);
    let connection = connections.item();
    let group = RxWsClientGroup::new(url(&server, "/"), Fragile).unwrap();
    let (of_server, of_connection) = (Recorder::on(server.events()), Recorder::on(connection.events()));
    let (of_client, of_group) = (Recorder::on(client.events()), Recorder::on(group.events()));
    is_refused(server.send(TaggedData::new("/", "bad")));
    is_refused(connection.send("bad"));
    is_refused(client.send("bad"));
    is_refused(group.send(TaggedData::new("/", "bad")));
    server.next(TaggedData::new("/", "bad"));
    connection.next("bad");
    client.next("bad");
    group.next(TaggedData::new("/", "bad"));
    for events in [of_server, of_connection] {
        events.find(|event| matches!(event, ServerEvent::Unencodable { .. }).then_some(()));
    }
    of_client.find(|event| matches!(event, ClientEvent::Unencodable { .. }).then_some(()));
    of_group.find(|event| matches!(event.data, ClientEvent::Unencodable { .. }).then_some(()));
    let rejected = [server.stats().unencodable, connection.stats().unencodable, client.stats().unencodable];
    assert_eq!((rejected, group.stats().all.unencodable), ([2; 3], 2));
    let heard = Recorder::on(client.clone());
    connection.next("good");
    assert_eq!(heard.item(), "good");
}

/// Converts into text, unless it is "inconvertible".
struct Word(&'static str);

impl From<Word> for WsText {
    fn from(word: Word) -> Self {
        assert_ne!(word.0, "inconvertible", "a bug of the conversion's");
        word.0.into()
    }
}

#[test]
fn greeting_that_panics_or_cannot_be_encoded_is_left_out() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let heard = Recorder::on(server.clone());
    let words = ["log in", "bad", "unencodable", "inconvertible", "subscribe"];
    let greeting = move |_: &str| words.into_iter().map(Word).chain(iter::once_with(|| panic!("out of words")));
    let client = RxWsClient::builder(url(&server, "/"), Fragile).greeting(greeting).connect().unwrap();
    let events = Recorder::on(client.events());
    client.next("hello");
    let heard: Vec<_> = heard.items(3).into_iter().map(|tagged| tagged.data).collect();
    assert_eq!(heard, ["log in", "subscribe", "hello"]);
    // One event may stand for all of them.
    let (mut reasons, mut sum) = (Vec::new(), 0);
    while sum < 4 {
        sum += events.find(|event| match event {
            ClientEvent::Unencodable { error, count } => {
                reasons.push(error.to_string());
                Some(count)
            }
            _ => None,
        });
    }
    assert!(reasons[0].contains("a bug of the datatype's"), "{reasons:?}");
    assert_eq!((sum, client.stats().unencodable), (4, 4));
}

/// Waits for so many events that a subscriber panicked.
fn panics<V: Send + 'static>(events: &Recorder<V>, count: usize, is_panic: impl Fn(&V) -> bool) {
    for _ in 0..count {
        events.find(|event| is_panic(&event).then_some(()));
    }
}

fn of_server(event: &ServerEvent) -> bool {
    matches!(event, ServerEvent::SubscriberPanicked)
}

fn of_client(event: &ClientEvent) -> bool {
    matches!(event, ClientEvent::SubscriberPanicked)
}

#[test]
fn panic_in_a_subscriber_of_connections_events_or_state_is_told() {
    let server = echo_server(WsStr);
    let events = Recorder::on(server.events());
    server.connections().subscribe(|_| panic!("a bug"));
    let client = connected(&server, "/", WsStr);
    panics(&events, 1, of_server);
    server.events().subscribe(|_| panic!("another, whenever something is told"));
    client.clone().complete();
    panics(&events, 1, of_server);

    let client = connected(&server, "/", WsStr);
    let events = Recorder::on(client.events());
    client.state().subscribe(|_| panic!("a bug"));
    panics(&events, 1, of_client);

    let group = RxWsClientGroup::new(url(&server, "/"), WsStr).unwrap();
    let events = Recorder::on(group.events());
    group.events().subscribe(|_| panic!("a bug"));
    let child = group.open("/a").unwrap();
    panics(&events, 1, |event| of_client(&event.data) && event.tag.is_empty());
    child.state().subscribe(|_| panic!("a bug"));
    panics(&events, 1, |event| of_client(&event.data) && event.tag == "/a");
}

#[test]
fn panic_in_a_subscriber_of_a_connections_events_is_told() {
    let server = echo_server(WsStr);
    let connections = Recorder::on(server.connections());
    let client = connected(&server, "/", WsBytes);
    let connection = connections.item();
    connection.events().subscribe(|_| panic!("a bug"));
    let events = Recorder::on(connection.events());
    client.next(b"undecodable".to_vec());
    panics(&events, 1, of_server);
    connection.events().subscribe(|_| panic!("a bug"));
    client.complete();
    let (events, _) = events.to_the_end();
    // What comes behind its end is not told any more.
    assert!(matches!(events.last(), Some(ServerEvent::Disconnected { .. })), "{events:?}");
}

#[test]
fn panic_in_the_destructor_of_any_subscriber_is_told() {
    let server = echo_server(WsStr);
    let (client, events) = (connected(&server, "/", WsStr), Recorder::on(server.events()));
    let connection = Recorder::on(server.connections()).item();
    let bombs = || (Bomb, Bomb, Bomb);
    let (first, second, third) = bombs();
    server.clone().log_errors().subscribe(move |_| _ = &first).unsubscribe();
    server.connections().subscribe(move |_| _ = &second).unsubscribe();
    server.events().subscribe(move |_| _ = &third).unsubscribe();
    panics(&events, 3, of_server);

    let events = Recorder::on(client.events());
    let (first, second, third) = bombs();
    client.clone().log_errors().subscribe(move |_| _ = &first).unsubscribe();
    client.state().subscribe(move |_| _ = &second).unsubscribe();
    client.events().subscribe(move |_| _ = &third).unsubscribe();
    panics(&events, 3, of_client);

    let events = Recorder::on(connection.events());
    let (first, second) = (Bomb, Bomb);
    connection.clone().log_errors().subscribe(move |_| _ = &first).unsubscribe();
    connection.events().subscribe(move |_| _ = &second).unsubscribe();
    panics(&events, 2, of_server);
}

/// Text, but for one that cannot be copied.
struct Uncopyable;

#[derive(Debug)]
struct Once(WsText);

impl Clone for Once {
    fn clone(&self) -> Self {
        assert_ne!(self.0, "panic");
        Self(self.0.clone())
    }
}

impl WsDatatype for Uncopyable {
    type Item = Once;
    type Outgoing = Once;

    fn encode(&self, path: &str, item: &Once) -> Result<Frame, DatatypeError> {
        WsStr.encode(path, &item.0)
    }

    fn decode(&self, path: &str, frame: Frame) -> Result<Once, DatatypeError> {
        WsStr.decode(path, frame).map(Once)
    }
}

#[test]
fn message_that_cannot_be_copied_for_the_server_is_told_of() {
    let server = RxWsServer::bind("ws://127.0.0.1:0", Uncopyable).unwrap();
    let events = Recorder::on(server.events());
    let heard = Recorder::on(server.clone().map(|tagged| tagged.data.0));
    let (sender, received) = mpsc::channel();
    server.connections().subscribe(move |connection| {
        let sender = sender.clone();
        connection.log_errors().subscribe(move |item| _ = sender.send(item.0));
    });
    let client = connected(&server, "/", WsStr);
    ["first", "panic", "last"].iter().for_each(|text| client.next(*text));
    assert_eq!(heard.items(2), ["first", "last"]);
    assert!(["first", "panic", "last"].iter().all(|text| received.recv_timeout(PATIENCE).unwrap() == *text));
    events.find(|event| matches!(event, ServerEvent::SubscriberPanicked).then_some(()));
}

/// Messages that cannot be dropped without a panic.
struct Explosive;

impl WsDatatype for Explosive {
    type Item = Arc<Bomb>;
    type Outgoing = WsText;

    fn encode(&self, path: &str, item: &WsText) -> Result<Frame, DatatypeError> {
        WsStr.encode(path, item)
    }

    fn decode(&self, _: &str, _: Frame) -> Result<Arc<Bomb>, DatatypeError> {
        Ok(Arc::new(Bomb))
    }
}

/// A client that has received three messages which nobody has heard.
fn with_early_bombs(server: &RxWsServer<WsStr>) -> RxWsClient<Explosive> {
    let client = connected(server, "/", Explosive);
    (0..3).for_each(|n| client.next(n.to_string()));
    until("the echoes", || client.stats().received.messages == 3);
    client
}

/// A second panic while the first one unwinds would end the process.
#[test]
fn messages_that_nobody_hears_and_panic_in_drop_harm_nobody() {
    let server = echo_server(WsStr);
    let client = with_early_bombs(&server);
    client.clone().complete();
    client.wait_closed(PATIENCE).unwrap();
    drop(client);

    let client = with_early_bombs(&server);
    let states = Recorder::on(client.state());
    let events = Recorder::on(client.events());
    client.clone().log_errors().subscribe(|bomb| {
        std::mem::forget(bomb);
        panic!("a bug");
    });
    panics(&events, 1, of_client);
    client.complete();
    assert!(states.to_the_end().1.is_complete());
}

/// A server whose connections have grants that panic in their destructors, with three of them.
fn with_explosive_grants(runtime: &IoRuntime) -> (RxWsServer<WsStr>, Vec<RxWsClient<WsStr>>) {
    let builder = RxWsServer::builder("ws://127.0.0.1:0", WsStr).runtime(runtime);
    let server = builder.authorize(|_| ready(Ok::<_, Refuse>(Bomb))).bind().unwrap();
    let clients = (0..3).map(|_| connected(&server, "/", WsStr)).collect();
    until("three connections", || server.stats().connections == 3);
    (server, clients)
}

/// A second panic while the first one unwinds would end the process.
#[test]
fn grants_that_panic_in_drop_harm_nobody() {
    let (runtimes, tokio) = each_runtime(2);
    for runtime in &runtimes {
        let (server, clients) = with_explosive_grants(runtime);
        let events = Recorder::on(server.events());
        for client in clients {
            client.complete();
            events.find(|event| matches!(event, ServerEvent::Disconnected { .. }).then_some(()));
        }
        connected(&server, "/", WsStr).wait_connected(PATIENCE).unwrap();
        server.clone().complete();
        server.wait_closed(PATIENCE).unwrap();
    }
    let (server, clients) = with_explosive_grants(&runtimes[2]);
    let states = Recorder::on(clients[0].state());
    tokio.shutdown_timeout(PATIENCE);
    states.find(|state| (state != ConnectionState::Connected).then_some(()));
    drop(server);
}
