//! `send_when_ready` and `send_timeout`.

use std::sync::{Arc, Barrier};

use super::*;

#[test]
fn item_waits_for_room_and_is_sent_in_its_turn() {
    let server = ForeignServer::start();
    let client = RxWsClient::builder(server.url(), WsStr).outbox(2, 1000, Overflow::DropLatest).connect().unwrap();
    let sender = thread::spawn(move || {
        texts(0..100).into_iter().for_each(|text| block_on(client.send_when_ready(text)).unwrap());
        client.complete();
    });
    let mut peer = server.accept();
    assert_eq!(read_to_the_end(&mut peer), (texts(0..100), Some(1000)));
    sender.join().unwrap();
}

#[test]
fn peer_that_reads_slowly_is_not_disconnected_by_one_who_waits() {
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsBytes).outbox(4, 1 << 20, Overflow::Disconnect);
    let server = server.ping_interval(None).bind().unwrap();
    let connections = Recorder::on(server.connections());
    let mut slow = foreign_client(server.local_addr(), "/");
    let connection = connections.item();
    let pushed = connection.clone();
    let sender = thread::spawn(move || {
        // More than the buffers of the system hold.
        (0..64u8).for_each(|n| block_on(pushed.send_when_ready(vec![n; 1 << 19])).unwrap());
    });
    until("a full outbox", || connection.stats().sent.queued.messages >= 2);
    for n in 0..64u8 {
        assert!(*read(&mut slow).into_data() == vec![n; 1 << 19]);
    }
    sender.join().unwrap();
    assert_eq!(connection.stats().sent.dropped, Dropped::default());
    server.complete();
}

#[test]
fn those_who_wait_are_served_in_the_order_in_which_they_came() {
    let (client, _silent) = unanswered(1, 1000);
    client.send("full").unwrap();
    let mut waiting: Vec<_> = texts(0..3).into_iter().map(|text| Box::pin(client.send_when_ready(text))).collect();
    waiting.iter_mut().for_each(|future| assert!(poll(future).is_pending()));
    for n in 0..3 {
        client.clear_outbox();
        for later in (n + 1..3).rev() {
            assert!(poll(&mut waiting[later]).is_pending(), "{later} before {n}");
        }
        assert!(matches!(poll(&mut waiting[n]), Poll::Ready(Ok(()))));
    }
    assert_eq!((client.stats().sent.queued.messages, client.stats().sent.dropped.overflow), (1, Tally::default()));
    client.complete();
}

#[test]
fn dropped_future_has_not_sent_and_the_next_moves_up() {
    let (client, _silent) = unanswered(1, 1000);
    client.send("full").unwrap();
    let mut first = Box::pin(client.send_when_ready("first"));
    assert!(poll(&mut first).is_pending());
    let (waits, second) = (mpsc::channel(), client.clone());
    let second = thread::spawn(move || {
        let mut future = Box::pin(second.send_when_ready("second"));
        assert!(poll(&mut future).is_pending());
        waits.0.send(()).unwrap();
        block_on(future)
    });
    waits.1.recv_timeout(PATIENCE).unwrap();
    // The call goes to the first, which is dropped before it comes back.
    client.clear_outbox();
    drop(first);
    second.join().unwrap().unwrap();
    assert_eq!(client.stats().sent.accepted, tally(2, 10));
    client.complete();
}

#[test]
fn item_that_waits_comes_back_when_the_endpoint_ends() {
    for end in [RxWsClient::complete, |client: RxWsClient<WsStr>| client.error(WsError::application("enough"))] {
        let (client, _silent) = unanswered(1, 1000);
        client.send("full").unwrap();
        let sender = client.clone();
        let (waits, waiting) = mpsc::channel();
        let sender = thread::spawn(move || {
            let mut future = Box::pin(sender.send_when_ready("back"));
            assert!(poll(&mut future).is_pending());
            waits.send(()).unwrap();
            block_on(future)
        });
        waiting.recv_timeout(PATIENCE).unwrap();
        end(client.clone());
        assert!(matches!(sender.join().unwrap(), Err(SendError::Closed(item)) if item == "back"));
        assert!(matches!(block_on(client.send_when_ready("late")), Err(SendError::Closed(item)) if item == "late"));
    }
}

#[test]
fn item_that_waits_comes_back_when_the_peer_goes() {
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsBytes).outbox(1, 1 << 30, Overflow::Disconnect);
    let server = server.ping_interval(None).bind().unwrap();
    let connections = Recorder::on(server.connections());
    let peer = foreign_client(server.local_addr(), "/");
    let connection = connections.item();
    connection.send(vec![7; 12 << 20]).unwrap();
    peer.get_ref().peek(&mut [0]).unwrap();
    let mut waiting = Box::pin(connection.send_when_ready(vec![1]));
    assert!(poll(&mut waiting).is_pending());
    drop(peer);
    assert!(matches!(block_on(waiting), Err(SendError::Closed(item)) if *item == [1]));
    server.complete();
}

#[test]
fn future_keeps_its_client_until_the_item_has_its_place() {
    let server = ForeignServer::start();
    let client = RxWsClient::builder(server.url(), WsStr).outbox(1, 1000, Overflow::DropLatest).connect().unwrap();
    client.send("first").unwrap();
    let last = client.send_when_ready("last");
    drop(client);
    let sender = thread::spawn(|| block_on(last));
    assert_eq!(read_to_the_end(&mut server.accept()).0, ["first", "last"]);
    sender.join().unwrap().unwrap();
}

#[test]
fn item_longer_than_the_outbox_waits_until_that_is_empty() {
    let (client, _silent) = unanswered(9, 10);
    client.send("short").unwrap();
    let long = "x".repeat(11);
    let mut waiting = Box::pin(client.send_when_ready(long.clone()));
    assert!(poll(&mut waiting).is_pending());
    // It is not passed by one that would fit.
    let mut behind = Box::pin(client.send_when_ready("y"));
    assert!(poll(&mut behind).is_pending());
    client.clear_outbox();
    assert!(matches!(poll(&mut waiting), Poll::Ready(Ok(()))));
    assert!(poll(&mut behind).is_pending());
    assert_eq!(client.stats().sent.queued, tally(1, 11));
    client.complete();
}

#[test]
fn item_waits_for_another_link() {
    let server = echo_server(WsStr);
    let client = RxWsClient::builder(url(&server, "/"), WsStr).conn_retry_timeout(Duration::from_millis(10)).outbox(
        1,
        1000,
        Overflow::DropLatest,
    );
    let client = client.connect().unwrap();
    let heard = Recorder::on(client.clone());
    client.wait_connected(PATIENCE).unwrap();
    let sender = client.clone();
    let sender = thread::spawn(move || {
        texts(0..200).into_iter().for_each(|text| block_on(sender.send_when_ready(text)).unwrap());
    });
    client.reconnect();
    sender.join().unwrap();
    until("the last one", || client.stats().sent.queued.messages == 0);
    assert_eq!(client.stats().sent.written.messages, 200);
    drop(heard);
    client.complete();
}

#[test]
fn waker_that_panics_keeps_nobody_from_its_place() {
    let (client, _silent) = unanswered(1, 1000);
    client.send("full").unwrap();
    let panicking = poll_with_waker_that_panics(client.send_when_ready("first"));
    let mut next = Box::pin(client.send_when_ready("next"));
    assert!(poll(&mut next).is_pending());
    client.clear_outbox();
    drop(panicking);
    block_on(next).unwrap();
    client.send("refused").unwrap_err();
    client.complete();
}

#[test]
fn what_cannot_be_encoded_is_handed_back_at_once() {
    let (client, _silent) = unanswered(1, 1000);
    let broken = RxWsClient::connect(client_url(&_silent), Unencodable).unwrap();
    assert!(matches!(block_on(broken.send_when_ready(7)), Err(SendError::Encode(7, _))));
    assert!(matches!(broken.send_timeout(7, PATIENCE), Err(SendError::Encode(7, _))));
    assert_eq!(broken.stats().unencodable, 2);
    client.complete();
    broken.complete();
}

fn client_url(listener: &TcpListener) -> String {
    format!("ws://{}", listener.local_addr().unwrap())
}

struct Unencodable;

impl WsDatatype for Unencodable {
    type Item = u8;
    type Outgoing = u8;

    fn encode(&self, _: &str, _: &u8) -> Result<Frame, DatatypeError> {
        panic!("a datatype of the program")
    }

    fn decode(&self, _: &str, _: Frame) -> Result<u8, DatatypeError> {
        Ok(0)
    }
}

#[test]
fn timeout_hands_the_item_back_and_counts_nothing() {
    let (client, _silent) = unanswered(1, 1000);
    client.send_timeout("full", Duration::ZERO).unwrap();
    let answer = client.send_timeout("late", Duration::from_millis(1));
    assert!(matches!(answer, Err(SendError::Full(item)) if item == "late"));
    assert_eq!(client.stats().sent.accepted, tally(1, 4));
    let sender = client.clone();
    let sender = thread::spawn(move || sender.send_timeout("in time", Duration::MAX));
    until("its place", || {
        client.clear_outbox();
        client.stats().sent.accepted == tally(2, 11)
    });
    sender.join().unwrap().unwrap();
    client.clone().complete();
    assert!(matches!(client.send_timeout("x", PATIENCE), Err(SendError::Closed(item)) if item == "x"));
}

#[test]
fn timeout_on_the_endpoint_s_own_thread_is_an_error_at_once() {
    let server = echo_server(WsStr);
    let client = RxWsClient::connect(url(&server, "/"), WsStr).unwrap();
    let (answer, answers) = mpsc::channel();
    let pushed = client.clone();
    client.state().subscribe(move |_| _ = answer.send(pushed.send_timeout("never", PATIENCE)));
    // The present state comes on the thread that subscribes.
    let all: Vec<_> = (0..2).map(|_| answers.recv_timeout(PATIENCE).unwrap()).collect();
    assert!(all.iter().any(|answer| matches!(answer, Err(SendError::WouldDeadlock(item)) if item == "never")));
    client.complete();
}

#[test]
fn what_many_send_at_once_arrives_and_what_is_given_up_does_not() {
    const SENDERS: usize = 8;
    const EACH: usize = 200;
    let server = ForeignServer::start();
    let client = RxWsClient::builder(server.url(), WsStr).outbox(3, 1000, Overflow::DropLatest).connect().unwrap();
    let start = Arc::new(Barrier::new(SENDERS));
    let senders = (0..SENDERS).map(|sender| {
        let (client, start) = (client.clone(), start.clone());
        thread::spawn(move || {
            start.wait();
            let mut sent = Vec::new();
            for n in 0..EACH {
                let text = format!("{sender}:{n}");
                let mut future = Box::pin(client.send_when_ready(text.clone()));
                let gives_up = n % 3 == 0;
                match poll(&mut future) {
                    Poll::Ready(answer) => answer.unwrap(),
                    Poll::Pending if gives_up => continue,
                    Poll::Pending => block_on(future).unwrap(),
                }
                sent.push(text);
            }
            sent
        })
    });
    let senders: Vec<_> = senders.collect();
    let mut peer = server.accept();
    let reader = thread::spawn(move || read_to_the_end(&mut peer).0);
    let sent: Vec<_> = senders.into_iter().map(|sender| sender.join().unwrap()).collect();
    client.complete();
    let arrived = reader.join().unwrap();
    for (sender, sent) in sent.iter().enumerate() {
        let own = arrived.iter().filter(|text| text.starts_with(&format!("{sender}:")));
        assert!(own.eq(sent), "in order, and no other");
    }
}
