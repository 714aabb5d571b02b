//! `sink()`.

use futures::{FutureExt, Sink, SinkExt, StreamExt, TryStreamExt, stream};

use super::*;

fn ready<S: Sink<T> + Unpin, T>(sink: &mut S) -> Poll<Result<(), S::Error>> {
    sink.poll_ready_unpin(&mut Cx::from_waker(Waker::noop()))
}

fn flushed<S: Sink<T> + Unpin, T>(sink: &mut S) -> Poll<Result<(), S::Error>> {
    sink.poll_flush_unpin(&mut Cx::from_waker(Waker::noop()))
}

#[test]
fn stream_is_forwarded_as_fast_as_the_peer_reads_and_the_endpoint_ends_with_it() {
    let server = ForeignServer::start();
    let client = RxWsClient::builder(server.url(), WsStr).outbox(3, 1000, Overflow::DropLatest).connect().unwrap();
    let sink = client.sink();
    let sender = thread::spawn(|| block_on(stream::iter(texts(0..500)).map(Ok).forward(sink)));
    assert_eq!(read_to_the_end(&mut server.accept()), (texts(0..500), Some(1000)));
    sender.join().unwrap().unwrap();
    // It has ended already, not only been asked to.
    assert_eq!(client.closed().now_or_never().unwrap(), CloseReport::default());
    assert_eq!(client.stats().sent.written.messages, 500);
}

#[test]
fn relay_is_a_stream_of_one_endpoint_forwarded_to_another() {
    let (front, back) = (ForeignServer::start(), ForeignServer::start());
    let from = RxWsClient::connect(front.url(), WsStr).unwrap();
    let to = RxWsClient::connect(back.url(), WsStr).unwrap();
    let relay = from.clone().into_bounded_stream(8, Lossy::DropOldest).forward(to.sink::<WsText>());
    let relay = thread::spawn(|| block_on(relay));
    let mut peer = front.accept();
    peer.send("over".into()).unwrap();
    let mut other = back.accept();
    assert_eq!(read(&mut other).to_text().unwrap(), "over");
    from.complete();
    assert_eq!(read_to_the_end(&mut peer).1, Some(1000));
    assert_eq!(read_to_the_end(&mut other).1, Some(1000));
    relay.join().unwrap().unwrap();
}

#[test]
fn flush_is_over_when_the_system_has_taken_what_this_sink_has_sent() {
    let (client, silent) = unanswered(9, 1000);
    let mut sink = client.sink();
    assert!(matches!(flushed(&mut sink), Poll::Ready(Ok(()))));
    sink.feed("one").now_or_never().unwrap().unwrap();
    assert!(flushed(&mut sink).is_pending());
    let peer = thread::spawn(move || tungstenite::accept(silent.accept().unwrap().0).unwrap());
    block_on(sink.flush()).unwrap();
    assert_eq!(client.stats().sent.written.messages, 1);
    // What is dropped is not waited for, and told by an event.
    let _peer = peer.join().unwrap();
    client.complete();
}

#[test]
fn flush_waits_for_its_own_items_whatever_becomes_of_others() {
    let (client, _silent) = unanswered(9, 1000);
    let (mut one, mut other) = (client.sink(), client.sink());
    one.feed("one").now_or_never().unwrap().unwrap();
    other.feed("two").now_or_never().unwrap().unwrap();
    client.clear_outbox();
    assert!(matches!((flushed(&mut one), flushed(&mut other)), (Poll::Ready(Ok(())), Poll::Ready(Ok(())))));
    one.feed("three").now_or_never().unwrap().unwrap();
    assert!(flushed(&mut one).is_pending());
    assert!(matches!(flushed(&mut other), Poll::Ready(Ok(()))));
    client.complete();
}

#[test]
fn two_sinks_that_are_ready_for_one_place_lose_nothing_and_exceed_nothing() {
    let (client, _silent) = unanswered(1, 1000);
    let (mut one, mut other) = (client.sink(), client.sink());
    assert!(matches!((ready(&mut one), ready(&mut other)), (Poll::Ready(Ok(())), Poll::Ready(Ok(())))));
    one.start_send_unpin("one").unwrap();
    other.start_send_unpin("two").unwrap();
    assert_eq!(client.stats().sent.accepted, tally(1, 3));
    assert!(ready(&mut other).is_pending());
    assert!(other.start_send_unpin("three").is_err(), "before it is ready");
    assert!(ready(&mut one).is_pending());
    client.clear_outbox();
    assert!(ready(&mut other).is_pending(), "it has its place now, and there is none for another");
    assert!(ready(&mut one).is_pending());
    assert_eq!((client.stats().sent.accepted, client.stats().sent.queued), (tally(2, 6), tally(1, 3)));
    client.complete();
}

#[test]
fn sink_that_was_woken_holds_up_nobody() {
    let (client, _silent) = unanswered(1, 1000);
    // One has waited for room, and one has an item that found none. Neither is polled again.
    let (mut one, mut other) = (client.sink::<&str>(), client.sink());
    assert!(matches!(ready(&mut other), Poll::Ready(Ok(()))));
    client.send("full").unwrap();
    other.start_send_unpin("late").unwrap();
    assert!(ready(&mut one).is_pending() && ready(&mut other).is_pending());
    let mut third = pin!(client.send_when_ready("third"));
    assert!(third.as_mut().now_or_never().is_none());
    client.clear_outbox();
    assert!(third.as_mut().now_or_never().unwrap().is_ok());
    // They have kept their places.
    let mut fourth = pin!(client.send_when_ready("fourth"));
    assert!(ready(&mut one).is_pending() && ready(&mut other).is_pending());
    assert!(fourth.as_mut().now_or_never().is_none());
    client.clear_outbox();
    assert!(matches!(ready(&mut one), Poll::Ready(Ok(()))));
    assert!(matches!(flushed(&mut other), Poll::Pending), "queued");
    assert!(fourth.as_mut().now_or_never().is_none());
    assert_eq!(client.stats().sent.queued, tally(1, 4));
    client.complete();
}

#[test]
fn item_that_is_too_long_for_the_room_waits_in_the_sink() {
    let (client, _silent) = unanswered(9, 10);
    let mut sink = client.sink();
    sink.feed("12345678").now_or_never().unwrap().unwrap();
    sink.feed("90123").now_or_never().unwrap().unwrap();
    assert_eq!(client.stats().sent.queued, tally(1, 8));
    assert!(ready(&mut sink).is_pending());
    client.clear_outbox();
    assert!(matches!(ready(&mut sink), Poll::Ready(Ok(()))));
    assert_eq!(client.stats().sent.queued, tally(1, 5));
    client.complete();
}

#[test]
fn item_that_waits_in_a_sink_that_is_dropped_is_counted() {
    let (client, _silent) = unanswered(1, 1000);
    let events = Recorder::on(client.events());
    let mut sink = client.sink();
    assert!(ready(&mut sink).is_ready());
    client.send("full").unwrap();
    sink.start_send_unpin("late").unwrap();
    drop(sink);
    let told = |event| match event {
        ClientEvent::Dropped { reason, dropped } => Some((reason, dropped)),
        _ => None,
    };
    assert_eq!(events.find(told), (DropReason::Overflow, tally(1, 4)));
    assert_accounted(client.stats().sent);
    client.complete();
}

#[test]
fn sink_ends_with_its_endpoint() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let limits = Limits::client().close_timeout(Duration::from_millis(50));
    let url = format!("ws://{}", silent.local_addr().unwrap());
    let client = RxWsClient::builder(url, WsStr).limits(limits).connect().unwrap();
    let mut sink = client.sink();
    sink.feed("never written").now_or_never().unwrap().unwrap();
    let waiting = thread::spawn(move || {
        let flushed = block_on(sink.flush());
        (flushed, block_on(sink.send("late")))
    });
    until("a place", || client.stats().sent.queued.messages == 1);
    client.clone().error(WsError::application("enough"));
    let (flushed, late) = waiting.join().unwrap();
    let enough = |answer: Result<(), WsError>| answer.unwrap_err().to_string();
    assert_eq!((enough(flushed), enough(late)), ("enough".into(), "enough".into()));
}

#[test]
fn sink_of_a_connection_whose_peer_goes_says_so() {
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsBytes).outbox(1, 1 << 30, Overflow::Disconnect);
    let server = server.ping_interval(None).bind().unwrap();
    let connections = Recorder::on(server.connections());
    let peer = foreign_client(server.local_addr(), "/");
    let mut sink = connections.item().sink();
    let sender = thread::spawn(move || block_on(sink.send(vec![7; 12 << 20])));
    peer.get_ref().peek(&mut [0]).unwrap();
    drop(peer);
    assert!(sender.join().unwrap().is_err());
    server.complete();
}

#[test]
fn sink_keeps_its_client_and_closes_it() {
    let server = ForeignServer::start();
    let mut sink = RxWsClient::connect(server.url(), WsStr).unwrap().sink();
    let mut peer = server.accept();
    let sender = thread::spawn(move || {
        block_on(async {
            sink.send("said").await?;
            sink.close().await?;
            sink.close().await
        })
    });
    assert_eq!(read_to_the_end(&mut peer), (vec!["said".into()], Some(1000)));
    sender.join().unwrap().unwrap();
}

#[test]
fn item_that_cannot_be_encoded_ends_the_stream_and_not_the_sink() {
    let server = ForeignServer::start();
    let client = RxWsClient::connect(server.url(), Odd).unwrap();
    let (mut peer, mut sink) = (server.accept(), client.sink());
    let sent = block_on(sink.send_all(&mut stream::iter([1, 3, 4, 5]).map(Ok)));
    assert!(matches!(sent, Err(WsError::Encode { .. })));
    block_on(sink.send(7)).unwrap();
    assert_eq!([1, 3, 7].map(|_| read(&mut peer).into_data()[0]), [1, 3, 7]);
    client.complete();
}

/// Cannot encode an even number.
struct Odd;

impl WsDatatype for Odd {
    type Item = u8;
    type Outgoing = u8;

    fn encode(&self, _: &str, item: &u8) -> Result<Frame, DatatypeError> {
        if item % 2 == 1 { Ok(vec![*item].into()) } else { Err(DatatypeError::new("even")) }
    }

    fn decode(&self, _: &str, _: Frame) -> Result<u8, DatatypeError> {
        Ok(0)
    }
}

#[test]
fn many_sinks_and_links_that_break_lose_nothing() {
    const SINKS: usize = 6;
    let server = echo_server(WsStr);
    let client = RxWsClient::builder(url(&server, "/"), WsStr)
        .conn_retry_timeout(Duration::from_millis(1))
        .outbox(4, 1000, Overflow::DropLatest)
        .connect()
        .unwrap();
    client.wait_connected(PATIENCE).unwrap();
    let senders = (0..SINKS).map(|_| {
        let mut sink = client.sink();
        thread::spawn(move || {
            let all = stream::iter(texts(0..100)).map(Ok::<_, WsError>);
            block_on(async {
                sink.send_all(&mut all.into_stream()).await?;
                sink.flush().await
            })
        })
    });
    let senders: Vec<_> = senders.collect();
    (0..5).for_each(|_| {
        client.reconnect();
        client.wait_connected(PATIENCE).unwrap();
    });
    senders.into_iter().for_each(|sender| sender.join().unwrap().unwrap());
    let sent = client.stats().sent;
    assert_eq!((sent.written.messages, sent.dropped), (100 * SINKS as u64, Dropped::default()));
    client.complete();
}
