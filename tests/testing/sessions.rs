//! Times of the resumable mode: how long a session that is over is known, and a peer that acknowledges nothing.

use futures::{SinkExt, StreamExt};
use rxplus::testing::{Recording, TestListener, TestStream};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{Callback, ErrorResponse, Request, Response},
    },
};

use super::*;

const PARK: Duration = Duration::from_secs(120);
const REMEMBERED: Duration = Duration::from_secs(600);

/// A client that tries each second.
fn resumable_client(network: &TestNetwork, resume: Resume) -> RxWsClient<WsStr> {
    let retry = RetryPolicy::fixed(SECOND).jitter(false);
    network.client(ROBOT, WsStr).resumable(resume).retry(retry).connect().unwrap()
}

fn session_events(network: &TestNetwork, client: &RxWsClient<WsStr>) -> Recording<SessionEvent> {
    network.record(client.events().filter_map(|event| match event {
        ClientEvent::Session(event) => Some(event),
        _ => None,
    }))
}

/// A client writes three messages to a link that is dead and two to none, misses two, and comes back when its session has been over
/// for `time`. What it hears of that, and what the server hears.
async fn comes_back_after(time: Duration) -> (Vec<SessionEvent>, Vec<WsText>) {
    let network = TestNetwork::new();
    let builder = RxWsServer::unbound(WsStr).resumable(Resume::new().park(PARK));
    let server = network.server(ROBOT, builder).unwrap();
    let heard = network.record(server.clone().map(|td| td.data));
    let connections = network.record(server.connections());
    let client = resumable_client(&network, Resume::new());
    network.advance(SECOND).await;
    let events = session_events(&network, &client);
    network.half_open(ROBOT);
    (0..3).for_each(|n| client.next(n.to_string()));
    network.advance(SECOND).await;
    network.refuse(ROBOT, u32::MAX);
    network.cut(ROBOT);
    network.mend(ROBOT);
    (3..5).for_each(|n| client.next(n.to_string()));
    let [connection] = &connections.items()[..] else { panic!("one connection") };
    (0..2).for_each(|n| connection.next(n.to_string()));
    // The attempt at that very time is the first that gets through.
    network.advance(PARK + time - SECOND / 2).await;
    network.refuse(ROBOT, 0);
    network.advance(SECOND).await;
    (events.items(), heard.items())
}

#[tokio::test(start_paused = true)]
async fn session_that_is_over_is_known_for_ten_minutes() {
    let (events, heard) = comes_back_after(REMEMBERED - SECOND).await;
    let known = SessionEvent::Lost { why: SessionLoss::Expired, missed: Some(2), unconfirmed: 0, kept: 5 };
    assert_eq!(events, [SessionEvent::Opened, known, SessionEvent::Opened]);
    assert_eq!(heard, ["0", "1", "2", "3", "4"]);
}

#[tokio::test(start_paused = true)]
async fn session_that_is_forgotten_leaves_what_was_written_in_doubt() {
    let (events, heard) = comes_back_after(REMEMBERED).await;
    let forgotten = SessionEvent::Lost { why: SessionLoss::Unknown, missed: None, unconfirmed: 3, kept: 2 };
    assert_eq!(events, [SessionEvent::Opened, forgotten, SessionEvent::Opened]);
    assert_eq!(heard, ["3", "4"]);
}

/// Chooses the resumable mode.
struct Choice;

impl Callback for Choice {
    fn on_request(self, _: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
        response.headers_mut().insert("Sec-WebSocket-Protocol", "rxplus.resume.1".parse().unwrap());
        Ok(response)
    }
}

/// A server of the resumable mode that the test plays. It answers pings.
struct Speaker(WebSocketStream<TestStream>);

impl Speaker {
    async fn accept(listener: &mut TestListener) -> Self {
        let mut speaker = Self(accept_hdr_async(listener.accept_raw().await, Choice).await.unwrap());
        speaker.say(&format!("hello {} 120", "A".repeat(22))).await;
        speaker
    }

    async fn say(&mut self, control: &str) {
        self.0.send(Message::text(format!("\u{10}{control}"))).await.unwrap();
    }

    /// The next text, with `!` in the place of the byte that begins a control message.
    async fn heard(&mut self) -> String {
        loop {
            if let Message::Text(text) = self.0.next().await.unwrap().unwrap() {
                return text.replace('\u{10}', "!");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn peer_that_acknowledges_nothing_is_left_after_a_minute_and_nothing_is_lost() {
    let network = TestNetwork::new();
    let mut listener = network.listener(ROBOT);
    let client = resumable_client(&network, Resume::new().window(1, 1000));
    let events = network.record(client.events());
    let mut first = Speaker::accept(&mut listener).await;
    assert_eq!(first.heard().await, "!new");
    first.say("ack 0").await;
    network.advance(SECOND).await;
    _ = events.take();
    (0..2).for_each(|n| client.next(n.to_string()));
    assert_eq!([first.heard().await, first.heard().await], ["0", "!ask"]);
    let asked = network.elapsed();
    // It reads on, and so answers pings.
    tokio::spawn(async move { while first.0.next().await.is_some_and(|message| message.is_ok()) {} });
    let mut second = Speaker::accept(&mut listener).await;
    assert_eq!(second.heard().await, format!("!resume {} 2 0", "A".repeat(22)));
    let told = events.take();
    let (at, error) = told
        .iter()
        .find_map(|(at, noted)| match noted {
            rxplus::testing::Noted::Next(ClientEvent::Disconnected { error, .. }) => Some((*at, error)),
            _ => None,
        })
        .unwrap();
    assert!(matches!(error, Some(WsError::PeerGone { .. })), "{error:?}");
    assert_eq!(at - asked, MINUTE);
    second.say("resumed 1 0").await;
    assert_eq!([second.heard().await, second.heard().await], ["!at 1", "1"]);
}

/// What was written in a session that is lost waits once more for a server without sessions. It may have arrived.
#[tokio::test(start_paused = true)]
async fn message_that_may_have_arrived_is_not_replaced_where_it_waits_again() {
    let network = TestNetwork::new();
    let server = network.server(ROBOT, RxWsServer::unbound(WsStr).resumable(Resume::new())).unwrap();
    let heard = network.record(server.clone().untag());
    let client = network.client(ROBOT, WsStr).resumable(Resume::new().resend_unconfirmed());
    let client = client.greeting(|_| ["x".repeat(100_000)]).conflate(|_, text| text.starts_with("k:").then_some("k"));
    let client = client.retry(RetryPolicy::fixed(SECOND).jitter(false)).connect().unwrap();
    network.advance(5 * SECOND).await;
    let older = client.send_tracked("k:1").unwrap();
    let changes = network.record(older.changes());
    network.advance(SECOND / 10).await;
    assert_eq!((heard.items().last().unwrap().as_str(), older.status()), ("k:1", DeliveryStatus::Written));
    let plain = network.server(ROBOT, RxWsServer::unbound(WsStr)).unwrap();
    let heard = network.record(plain.untag().filter(|text| text.len() < 10));
    network.delay(ROBOT, SECOND / 4);
    network.cut(ROBOT);
    drop(server);
    network.advance(16 * SECOND / 10).await;
    // The greeting is under way, and the message behind it waits.
    network.stall(ROBOT);
    client.send("k:2").unwrap();
    client.send("k:3").unwrap();
    network.advance(SECOND).await;
    network.mend(ROBOT);
    network.advance(MINUTE).await;
    assert_eq!(heard.items(), ["k:1", "k:3"]);
    assert_eq!(changes.items(), [DeliveryStatus::Queued, DeliveryStatus::Written, DeliveryStatus::Acknowledged]);
    assert_eq!(client.stats().sent.dropped.replaced.messages, 1);
}

/// What a session began with is what the next one begins with, not what is sent again in it.
#[tokio::test(start_paused = true)]
async fn greetings_of_a_session_that_is_lost_are_not_sent_again() {
    let network = TestNetwork::new();
    let serve = || network.server(ROBOT, RxWsServer::unbound(WsStr).resumable(Resume::new())).unwrap();
    let first = serve();
    let client = network.client(ROBOT, WsStr).resumable(Resume::new().resend_unconfirmed()).greeting(|_| ["login"]);
    let client = client.retry(RetryPolicy::fixed(SECOND).jitter(false)).connect().unwrap();
    let news = client.multiplex(|| "+news", || "-news", |_| true).log_errors().subscribe(|_| {});
    network.advance(SECOND / 4).await;
    client.next("kept");
    network.advance(SECOND / 4).await;
    let second = serve();
    let heard = network.record(second.clone().untag());
    network.cut(ROBOT);
    drop(first);
    news.unsubscribe();
    network.advance(30 * SECOND).await;
    assert_eq!(heard.items(), ["login", "kept"]);
    let sent = client.stats().sent;
    assert_eq!((sent.written.messages, sent.acknowledged, sent.retained, sent.lost), (4, 2, 0, 2));
}
