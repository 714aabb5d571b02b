//! Topics on one link: `multiplex` of clients.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use super::*;

/// The topic `name`: `+name` subscribes to it, `-name` ends that, and its items begin with it.
fn topic(client: &RxWsClient<WsStr>, name: &'static str) -> IoBoxedObservable<'static, WsText, WsError> {
    let topic =
        client.multiplex(move || format!("+{name}"), move || format!("-{name}"), move |text| text.starts_with(name));
    topic.box_it()
}

/// A client on a server that the test plays, and the connection between them.
fn played() -> (ForeignServer, RxWsClient<WsStr>, Foreign) {
    let server = ForeignServer::start();
    let client =
        RxWsClient::builder(server.url(), WsStr).conn_retry_timeout(Duration::from_millis(1)).connect().unwrap();
    let peer = server.accept();
    client.wait_connected(PATIENCE).unwrap();
    (server, client, peer)
}

fn text(peer: &mut Foreign) -> String {
    read(peer).to_text().unwrap().to_owned()
}

fn say(peer: &mut Foreign, text: &'static str) {
    peer.send(tungstenite::Message::text(text)).unwrap();
}

#[test]
fn topic_hears_what_belongs_to_it_from_its_first_observer_to_its_last() {
    let (_server, client, mut peer) = played();
    let (pen, heard) = mpsc::channel();
    let both = client.multiplex(|| "+a", || "-a", |text| text.starts_with('a'));
    let observers: Vec<_> = (0..2)
        .map(|n| {
            let pen = pen.clone();
            both.clone().log_errors().subscribe(move |text| pen.send((n, text)).unwrap())
        })
        .collect();
    assert_eq!(text(&mut peer), "+a");
    ["b1", "a1", "b2"].into_iter().for_each(|item| say(&mut peer, item));
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), (0, "a1".into()));
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), (1, "a1".into()));
    observers.into_iter().for_each(Subscription::unsubscribe);
    assert_eq!(text(&mut peer), "-a");
    // And anew, for another observer.
    let next = Recorder::on(both.take(1));
    assert_eq!(text(&mut peer), "+a");
    say(&mut peer, "a2");
    assert_eq!(next.to_the_end().0, ["a2"]);
    assert_eq!(text(&mut peer), "-a", "what has had enough has left");
}

#[test]
fn topics_that_are_wanted_are_subscribed_to_once_on_each_connection() {
    let server = ForeignServer::start();
    let client = RxWsClient::builder(server.url(), WsStr)
        .conn_retry_timeout(Duration::from_millis(1))
        .greeting(|_| ["hello"])
        .connect()
        .unwrap();
    let refused = server.accept_tcp();
    // There is no connection yet.
    client.next("queued");
    let (heard, other) = (Recorder::on(topic(&client, "a")), topic(&client, "b").log_errors().subscribe(|_| {}));
    topic(&client, "c").log_errors().subscribe(|_| {}).unsubscribe();
    drop(refused);
    let mut peer = server.accept();
    assert_eq!([(); 4].map(|()| text(&mut peer)), ["hello", "+a", "+b", "queued"]);
    other.unsubscribe();
    assert_eq!(text(&mut peer), "-b");
    for n in 0..3 {
        drop(peer);
        peer = server.accept();
        assert_eq!([(); 2].map(|()| text(&mut peer)), ["hello", "+a"], "{n}");
    }
    say(&mut peer, "a1");
    assert_eq!(heard.item(), "a1");
    client.next("end");
    assert_eq!(text(&mut peer), "end");
}

#[test]
fn topics_that_a_connection_has_no_room_for_end_and_may_be_tried_again() {
    let server = ForeignServer::start();
    let client = RxWsClient::builder(server.url(), WsStr)
        .conn_retry_timeout(Duration::from_millis(1))
        .greeting(|_| vec!["."; 65_535])
        .connect()
        .unwrap();
    let refused = server.accept_tcp();
    let [a, b, c] = ["a", "b", "c"].map(|name| Recorder::on(topic(&client, name)));
    drop(refused);
    let mut peer = server.accept();
    for late in [b, c] {
        let Heard::Error(error) = late.hear() else { panic!("no error") };
        assert!(error.ends_with("a connection begins with at most 65,536 messages, or 64 MiB of them"), "{error}");
    }
    let again = Recorder::on(topic(&client, "b"));
    (0..65_535).for_each(|_| assert_eq!(text(&mut peer), "."));
    assert_eq!([(); 2].map(|()| text(&mut peer)), ["+a", "+b"]);
    ["b1", "a1"].into_iter().for_each(|item| say(&mut peer, item));
    assert_eq!((a.item(), again.item()), ("a1".into(), "b1".into()));
    assert_eq!(client.stats().sent.dropped, Dropped::default());
}

#[test]
fn topic_ends_as_its_client_does_and_says_nothing_then() {
    for error in [None, Some("\"out of order\"")] {
        let (_server, client, mut peer) = played();
        let topics = [Recorder::on(topic(&client, "a")), Recorder::on(topic(&client, "a"))];
        assert_eq!([(); 2].map(|()| text(&mut peer)), ["+a"; 2], "two calls of `multiplex` are two topics");
        match error {
            None => client.clone().complete(),
            Some(_) => client.clone().error(WsError::application("out of order")),
        }
        assert!(read_to_the_end(&mut peer).0.is_empty());
        client.wait_closed(PATIENCE).unwrap();
        let end = error.map(|error| error.trim_matches('"'));
        topics.iter().for_each(|heard| assert_eq!(heard.hear(), Heard::end(end)));
        assert_eq!(Recorder::on(topic(&client, "b")).hear(), Heard::end(end), "one that comes late");
    }
}

#[test]
fn observers_keep_their_client_open_and_topics_without_observers_are_handles() {
    let (_server, client, mut peer) = played();
    let closed = client.closed();
    let (topic, held) = (topic(&client, "a"), topic(&client, "b"));
    drop(client);
    let seen = topic.log_errors().subscribe(|_| {});
    drop(held);
    assert_eq!(text(&mut peer), "+a");
    seen.unsubscribe();
    read_to_the_end(&mut peer);
    futures::executor::block_on(closed);
}

#[test]
fn panics_of_the_functions_end_the_topic_alone() {
    let (_server, client, mut peer) = played();
    let events = Recorder::on(client.events());
    let asks = AtomicUsize::new(0);
    let fails_once = move || if asks.fetch_add(1, SeqCst) == 0 { panic!("a bug of the program's") } else { "+a" };
    let bad = client.multiplex(fails_once, || "-a", |text| text.starts_with('a'));
    let error = match Recorder::on(bad.clone()).hear() {
        Heard::Error(error) => error,
        other => panic!("{other:?}"),
    };
    assert!(error.contains("multiplex panicked"), "{error}");
    events.find(|event| matches!(event, ClientEvent::Unencodable { .. }).then_some(()));
    // Who subscribes again makes it try again.
    let again = Recorder::on(bad);
    assert_eq!(text(&mut peer), "+a");
    say(&mut peer, "a1");
    assert_eq!(again.item(), "a1");
    let belongs_to_none =
        client.multiplex(|| "+b", || "-b", |text| if text.starts_with('b') { panic!("a bug") } else { false });
    let ended = Recorder::on(belongs_to_none);
    assert_eq!(text(&mut peer), "+b");
    say(&mut peer, "b1");
    assert!(matches!(ended.hear(), Heard::Error(error) if error.contains("multiplex panicked")));
    assert_eq!(text(&mut peer), "-b");
    let quiet = client.multiplex(|| "+c", || -> &str { panic!("a bug") }, |_| false);
    let seen = quiet.log_errors().subscribe(|_| {});
    assert_eq!(text(&mut peer), "+c");
    seen.unsubscribe();
    topic(&client, "d").log_errors().subscribe(|_| panic!("an observer"));
    assert_eq!(text(&mut peer), "+d");
    say(&mut peer, "d1");
    assert_eq!(text(&mut peer), "-d");
    say(&mut peer, "a2");
    assert_eq!(again.item(), "a2");
}

/// A server that takes note of what each connection wants, and answers `?` with that. Counts what it is told twice.
fn noting_server() -> (RxWsServer<WsStr>, Arc<AtomicUsize>) {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap();
    let mistakes = Arc::new(AtomicUsize::new(0));
    let counted = mistakes.clone();
    server.connections().subscribe(move |connection| {
        let (mut wants, answers, mistakes) = (false, connection.clone(), counted.clone());
        connection.subscribe(move |text| match text.as_str() {
            "?" => answers.next(if wants { "yes" } else { "no" }),
            told => {
                let before = std::mem::replace(&mut wants, told == "+a");
                mistakes.fetch_add(usize::from(before == wants), SeqCst);
            }
        });
    });
    (server, mistakes)
}

/// Asks the server of [`noting_server`] until it answers so.
fn asks_until(client: &RxWsClient<WsStr>, answers: &Recorder<WsText>, answer: &str) {
    until("the server knows", || {
        client.next("?");
        answers.item() == answer
    });
}

#[test]
fn first_observers_that_leave_while_others_come_leave_the_server_with_the_truth() {
    const ROUNDS: usize = 300;
    let (server, mistakes) = noting_server();
    let client = connected(&server, "/", WsStr);
    let answers = Recorder::on(client.clone().filter(|text| text == "yes" || text == "no"));
    let shared = client.multiplex(|| "+a", || "-a", |text| text.starts_with('a'));
    for round in 0..ROUNDS {
        let first = shared.clone().log_errors().subscribe(|_| {});
        let start = std::sync::Barrier::new(2);
        let second = thread::scope(|scope| {
            let second = scope.spawn(|| {
                start.wait();
                shared.clone().log_errors().subscribe(|_| {})
            });
            start.wait();
            first.unsubscribe();
            second.join().unwrap()
        });
        asks_until(&client, &answers, "yes");
        second.unsubscribe();
        asks_until(&client, &answers, "no");
        assert_eq!(mistakes.load(SeqCst), 0, "round {round}");
    }
}

#[test]
fn server_is_told_each_change_once_while_observers_and_connections_come_and_go() {
    let (server, mistakes) = noting_server();
    let retry = Duration::from_millis(1);
    let client = RxWsClient::builder(url(&server, "/"), WsStr).conn_retry_timeout(retry).connect().unwrap();
    client.wait_connected(PATIENCE).unwrap();
    let shared = client.multiplex(|| "+a", || "-a", |text| text.starts_with('a'));
    let come_and_go = || {
        for _ in 0..500 {
            let visit = shared.clone().log_errors().subscribe(|_| {});
            thread::yield_now();
            visit.unsubscribe();
        }
    };
    thread::scope(|scope| {
        let visitors: Vec<_> = (0..3).map(|_| scope.spawn(come_and_go)).collect();
        while !visitors.iter().all(|visitor| visitor.is_finished()) {
            client.reconnect();
            thread::sleep(Duration::from_millis(3));
        }
    });
    let answers = Recorder::on(client.clone().filter(|text| text == "yes" || text == "no"));
    // What is asked on a connection that is being dropped has no answer.
    client.wait_connected(PATIENCE).unwrap();
    asks_until(&client, &answers, "no");
    let last = shared.log_errors().subscribe(|_| {});
    asks_until(&client, &answers, "yes");
    last.unsubscribe();
    assert_eq!(mistakes.load(SeqCst), 0);
}
