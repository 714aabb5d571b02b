//! Topics of a client: what is under way when a link breaks, and the resumable mode.

use std::sync::Arc;

use rxplus::testing::{TestListener, TestPeer};

use super::*;

type Text = IoBoxedObservable<'static, WsText, WsError>;

fn topic(client: &RxWsClient<WsStr>) -> Text {
    client.multiplex(|| "+a", || "-a", |text| text.starts_with('a')).box_it()
}

/// A client that tries each second, and the listener of the test.
async fn played(network: &TestNetwork) -> (TestListener, RxWsClient<WsStr>, TestPeer) {
    let mut listener = network.listener(ROBOT);
    let retry = RetryPolicy::fixed(SECOND).jitter(false);
    let client =
        network.client(ROBOT, WsStr).retry(retry).outbox(3, 1_000_000, Overflow::DropLatest).connect().unwrap();
    let peer = listener.accept().await;
    network.advance(SECOND).await;
    (listener, client, peer)
}

/// Longer than what the network takes of a link that is stalled.
fn long() -> String {
    "x".repeat(100_000)
}

/// Stalls the link in the middle of a message, so that what comes next waits.
async fn stall(network: &TestNetwork, client: &RxWsClient<WsStr>) {
    network.stall(ROBOT);
    client.next(long());
    network.advance(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn topic_that_was_not_written_when_the_link_broke_is_subscribed_to_once_on_the_next() {
    let network = TestNetwork::new();
    let (mut listener, client, _peer) = played(&network).await;
    stall(&network, &client).await;
    let heard = network.record(topic(&client));
    network.advance(SECOND).await;
    assert_eq!(client.stats().sent.queued.messages, 2);
    network.cut(ROBOT);
    network.mend(ROBOT);
    let mut peer = listener.accept().await;
    client.next("end");
    peer.expect("+a").await;
    peer.expect(long()).await;
    peer.expect("end").await;
    peer.send("a1").await;
    network.advance(SECOND).await;
    assert_eq!(heard.items(), ["a1"]);
}

#[tokio::test(start_paused = true)]
async fn end_of_a_topic_that_was_not_written_when_the_link_broke_is_not_told_on_the_next() {
    let network = TestNetwork::new();
    let (mut listener, client, mut peer) = played(&network).await;
    let seen = topic(&client).log_errors().subscribe(|_| {});
    peer.expect("+a").await;
    stall(&network, &client).await;
    seen.unsubscribe();
    network.advance(SECOND).await;
    assert_eq!(client.stats().sent.queued.messages, 2);
    network.cut(ROBOT);
    network.mend(ROBOT);
    let mut peer = listener.accept().await;
    client.next("end");
    peer.expect(long()).await;
    peer.expect("end").await;
    assert_eq!(client.stats().sent.queued.messages, 0);
}

#[tokio::test(start_paused = true)]
async fn topic_that_the_outbox_refuses_or_drops_ends_with_an_error() {
    let network = TestNetwork::new();
    let (_listener, client, mut peer) = played(&network).await;
    stall(&network, &client).await;
    client.next("y");
    client.next("z");
    let refused = network.record(topic(&client));
    network.advance(SECOND).await;
    let log = refused.log();
    assert!(log.len() == 1 && log[0].contains("did not send the request: the outbox is full"), "{log:?}");
    client.clear_outbox();
    let cleared = network.record(topic(&client));
    network.advance(SECOND).await;
    client.clear_outbox();
    network.advance(SECOND).await;
    let log = cleared.log();
    assert!(log.len() == 1 && log[0].contains("the outbox has dropped it"), "{log:?}");
    network.mend(ROBOT);
    let _again = topic(&client).log_errors().subscribe(|_| {});
    loop {
        match peer.next().await.unwrap().into_text().unwrap().as_str() {
            "+a" => break,
            other => assert!(other == long(), "{other}"),
        }
    }
}

/// What a function of the program's holds, and cannot be dropped without a panic.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "as it is to be");
    }
}

#[tokio::test(start_paused = true)]
async fn client_outlives_the_destructors_of_functions_given_to_multiplex() {
    let network = TestNetwork::new();
    let (mut listener, client, mut peer) = played(&network).await;
    let bomb = Bomb;
    let unsubscribe = move || {
        let _held = &bomb;
        "-a"
    };
    let topic = client.multiplex(|| "+a", unsubscribe, |text| text.starts_with('a'));
    let seen = topic.log_errors().subscribe(|_| {});
    peer.expect("+a").await;
    stall(&network, &client).await;
    seen.unsubscribe();
    network.advance(SECOND).await;
    network.cut(ROBOT);
    network.mend(ROBOT);
    let mut peer = listener.accept().await;
    peer.expect(long()).await;
}

/// A resumable client, and the recording of what its server hears.
#[tokio::test(start_paused = true)]
async fn topic_whose_messages_were_both_dropped_is_told_afresh_and_ends_afresh() {
    let network = TestNetwork::new();
    let (_listener, client, mut peer) = played(&network).await;
    stall(&network, &client).await;
    let topic = client.multiplex(|| "+a", || "-a", |text| text.starts_with('a'));
    let seen = topic.clone().log_errors().subscribe(|_| {});
    network.advance(SECOND).await;
    seen.unsubscribe();
    network.advance(SECOND).await;
    assert_eq!(client.stats().sent.queued.messages, 3);
    client.clear_outbox();
    network.mend(ROBOT);
    peer.expect(long()).await;
    let seen = topic.log_errors().subscribe(|_| {});
    peer.expect("+a").await;
    network.advance(SECOND).await;
    seen.unsubscribe();
    peer.expect("-a").await;
}

/// How the message that ends a topic is lost.
#[derive(Clone, Copy, PartialEq)]
enum Lost {
    Panics,
    Refused,
    Cleared,
}

#[tokio::test(start_paused = true)]
async fn nothing_is_kept_of_a_topic_whose_end_cannot_be_told() {
    for lost in [Lost::Panics, Lost::Refused, Lost::Cleared] {
        let network = TestNetwork::new();
        let (_listener, client, mut peer) = played(&network).await;
        let kept = Arc::new(());
        let held = kept.clone();
        let unsubscribe = move || {
            let _held = &held;
            assert!(lost != Lost::Panics, "as it is to be");
            "-a"
        };
        let topic = client.multiplex(|| "+a", unsubscribe, |text| text.starts_with('a'));
        let seen = topic.log_errors().subscribe(|_| {});
        peer.expect("+a").await;
        stall(&network, &client).await;
        if lost == Lost::Refused {
            client.next("y");
            client.next("z");
        }
        seen.unsubscribe();
        network.advance(SECOND).await;
        if lost == Lost::Cleared {
            client.clear_outbox();
            network.advance(SECOND).await;
        }
        assert_eq!(Arc::strong_count(&kept), 1);
    }
}

fn resumable(network: &TestNetwork, resume: Resume) -> (RxWsServer<WsStr>, RxWsClient<WsStr>) {
    let builder = RxWsServer::unbound(WsStr).resumable(Resume::new());
    let server = network.server(ROBOT, builder).unwrap();
    let retry = RetryPolicy::fixed(SECOND).jitter(false);
    let client = network.client(ROBOT, WsStr).resumable(resume).retry(retry).connect().unwrap();
    (server, client)
}

#[tokio::test(start_paused = true)]
async fn resumed_session_is_told_what_has_changed_and_nothing_twice() {
    let network = TestNetwork::new();
    let (server, client) = resumable(&network, Resume::new());
    let told = network.record(server.clone().map(|td| td.data));
    network.advance(SECOND).await;
    let stays = client.multiplex(|| "+stays", || "-stays", |_| false).log_errors().subscribe(|_| {});
    let leaves = client.multiplex(|| "+leaves", || "-leaves", |_| false).log_errors().subscribe(|_| {});
    network.advance(SECOND).await;
    assert_eq!(told.items(), ["+stays", "+leaves"]);
    network.refuse(ROBOT, u32::MAX);
    network.cut(ROBOT);
    network.advance(5 * SECOND).await;
    leaves.unsubscribe();
    let _comes = client.multiplex(|| "+comes", || "-comes", |_| false).log_errors().subscribe(|_| {});
    client.multiplex(|| "+visits", || "-visits", |_| false).log_errors().subscribe(|_| {}).unsubscribe();
    network.advance(5 * SECOND).await;
    network.refuse(ROBOT, 0);
    network.advance(5 * SECOND).await;
    assert_eq!(told.items(), ["-leaves", "+comes"]);
    stays.unsubscribe();
    network.advance(SECOND).await;
    assert_eq!(told.items(), ["-stays"]);
}

/// Loses a session with a topic that was acknowledged, one that was written, and one that waits. Returns what the server hears of the next.
async fn told_in_the_next_session(resume: Resume) -> Vec<WsText> {
    let network = TestNetwork::new();
    let (server, client) = resumable(&network, resume);
    let told = network.record(server.clone().map(|td| td.data));
    network.advance(SECOND).await;
    let topic =
        |subscribe: &'static str| client.multiplex(move || subscribe, || "-", |_| false).log_errors().subscribe(|_| {});
    let _acknowledged = topic("+acknowledged");
    network.advance(5 * SECOND).await;
    assert_eq!(told.items(), ["+acknowledged"]);
    network.half_open(ROBOT);
    let _written = topic("+written");
    network.advance(SECOND).await;
    network.refuse(ROBOT, u32::MAX);
    network.cut(ROBOT);
    network.mend(ROBOT);
    let _waits = topic("+waits");
    // Longer than the server remembers that there was such a session.
    network.advance(20 * MINUTE).await;
    network.refuse(ROBOT, 0);
    network.advance(MINUTE).await;
    let sent = client.stats().sent;
    assert_eq!(sent.accepted.messages, sent.written.messages + sent.dropped.total().messages, "{sent:?}");
    assert_eq!(sent.written.messages, sent.acknowledged + sent.lost, "{sent:?}");
    told.items()
}

#[tokio::test(start_paused = true)]
async fn new_session_is_told_of_each_topic_once() {
    let expected = ["+acknowledged", "+written", "+waits"];
    assert_eq!(told_in_the_next_session(Resume::new()).await, expected);
    assert_eq!(told_in_the_next_session(Resume::new().resend_unconfirmed()).await, expected);
}

#[tokio::test(start_paused = true)]
async fn nothing_that_was_to_be_told_before_a_topic_failed_is_told_after_it_is_wanted_again() {
    let network = TestNetwork::new();
    let (mut listener, client, _peer) = played(&network).await;
    stall(&network, &client).await;
    let news = client.multiplex(|| "+a", || "-a", |text| text.starts_with('a'));
    // With the long message these two fill the outbox.
    let seen = news.clone().log_errors().subscribe(|_| {});
    network.advance(SECOND / 10).await;
    seen.unsubscribe();
    network.advance(SECOND / 10).await;
    assert_eq!(client.stats().sent.queued.messages, 3);
    let refused = network.record(news.clone());
    network.advance(SECOND / 10).await;
    assert!(refused.log()[0].contains("the outbox is full"), "{:?}", refused.log());
    network.cut(ROBOT);
    network.mend(ROBOT);
    network.advance(SECOND / 10).await;
    let heard = network.record(news);
    let mut peer = listener.accept().await;
    client.next("end");
    peer.expect("+a").await;
    peer.expect(long()).await;
    peer.expect("end").await;
    peer.send("a1").await;
    network.advance(SECOND).await;
    assert_eq!(heard.items(), ["a1"]);
}
