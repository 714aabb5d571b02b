//! One link of a client: a connection to the server, from its opening to its end.

use std::{
    fmt,
    future::poll_fn,
    pin::pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::{
    DatatypeError, Frame, SendError, SessionEvent, WsDatatype, WsError,
    calls::Loss,
    client::{
        core::{ClientCore, report_drops},
        multiplex::Watch,
        session::Beginning,
    },
    endpoint::{
        event::{ClientEvent, ConnectionState},
        events::Events,
        inbound::Inbound,
    },
    handshake::{Connected, Opened},
    link::{
        Ending, Link, NewLink, Receipt, Recipient, drive,
        session::{News, SessionLink, encode},
    },
    protocol::deflate::Agreed,
    runtime::{UserValue, callback, guard::isolated},
    session::verb::Verb,
    subject::Backlog,
};

/// A connection that the server has opened.
pub(crate) struct Established {
    pub(crate) connected: Connected,
    /// The server's address, as errors name it.
    pub(crate) peer: String,
    pub(crate) beginning: Beginning,
}

/// How a link ended.
pub(crate) struct LinkEnd {
    pub(crate) outcome: Outcome,
    /// Whether the link was a good one, after which the count of attempts starts afresh.
    pub(crate) proven: bool,
}

pub(crate) enum Outcome {
    /// `reconnect()` was called.
    Cut,
    /// The link was lost, or the server closed it: with an error in either case, for the retry policy.
    /// It may be an error of the program's.
    Ended(UserValue<WsError>),
}

/// Serves a link until it ends, or `reconnect()` was called more often than `served` times. `attempt` is the number of
/// attempts that failed before.
pub(crate) async fn serve<D: WsDatatype>(
    client: &ClientCore<D>,
    established: Established,
    attempt: u32,
    served: u64,
) -> LinkEnd {
    let began = Instant::now();
    let received_before = client.incoming.counts.received();
    client.links.fetch_add(1, Relaxed);
    let Established { connected: Connected { opened, response }, peer, beginning } = established;
    let Opened { stream, early_bytes, subprotocol, deflate } = opened;
    client.set_response(Some(response.clone()));
    let Begun { session, answer, event } = begin(client, beginning);
    let is_plain = session.is_none();
    // Before the subscribers know of the connection and push: waiting messages come first.
    let link = link(client, &peer, early_bytes, deflate, session).open(stream, answer);
    client.set_state(ConnectionState::Connected);
    let compressed = deflate.is_some();
    client.component.events.next(ClientEvent::Connected { attempt, subprotocol, response, compressed });
    if let Some(event) = event {
        client.component.events.next(ClientEvent::Session(event));
    }
    let driving = drive(link, |frame| receive(client, frame), Box::pin(telling_until_cut(client, served)));
    let ending = isolated("a connection", driving).await.unwrap_or_else(|panic| {
        let what = format!("the connection to {peer}");
        Ending::lost(WsError::Panicked { what, panic: panic.into() }).into()
    });
    client.set_response(None);
    let has_received = client.incoming.counts.received() != received_before;
    let lasted = began.elapsed();
    let proven = client.dialing.is_proven(lasted, has_received);
    LinkEnd { outcome: end(client, *ending, peer, lasted, is_plain).await, proven }
}

/// Tells the server of the client's topics, until `reconnect()` was called more often than `served` times.
async fn telling_until_cut<D: WsDatatype>(client: &ClientCore<D>, served: u64) {
    let mut asked = pin!(client.asked_again(served));
    let mut watch = Watch::default();
    poll_fn(|cx| {
        client.topics.keep_told(client, &mut watch, cx);
        asked.as_mut().poll(cx)
    })
    .await;
}

/// What a link begins with.
struct Begun {
    session: Option<SessionLink>,
    /// What the server is told before any message.
    answer: Vec<u8>,
    event: Option<SessionEvent>,
}

/// Makes the outbox ready for a link: messages wait in it in the order in which this link sends them.
fn begin<D: WsDatatype>(client: &ClientCore<D>, beginning: Beginning) -> Begun {
    let (mut answer, session) = (Vec::new(), || Some(SessionLink::new(client.outbox.received(), None)));
    let (session, event) = match beginning {
        Beginning::Simple | Beginning::Plain => {
            client.outbox.greet(greetings(client));
            (None, matches!(beginning, Beginning::Plain).then_some(SessionEvent::Plain))
        }
        Beginning::Opened => {
            client.begin_session(greetings(client));
            (session(), Some(SessionEvent::Opened))
        }
        Beginning::Resumed { at, event } => {
            answer = encode(&Verb::At(at), Role::Client);
            (session(), Some(event))
        }
    };
    Begun { session, answer, event }
}

fn link<D: WsDatatype>(
    client: &ClientCore<D>,
    server: &str,
    early_bytes: Bytes,
    deflate: Option<Agreed>,
    session: Option<SessionLink>,
) -> NewLink {
    let link = Link {
        role: Role::Client,
        deflate,
        recipient: Arc::new(Subscribers {
            server: server.to_owned(),
            inbound: client.inbound.clone(),
            events: client.component.events.clone(),
        }),
        outbox: client.outbox.clone(),
        limits: client.options.limits.clone(),
        events: client.events.clone(),
        session: session.map(Box::new),
    };
    NewLink { link, scheduler: None, heartbeat: client.options.heartbeat, early_bytes }
}

/// Those who get what the client receives on a link.
struct Subscribers<T> {
    /// Whose messages they get.
    server: String,
    inbound: Inbound<T>,
    events: Events<ClientEvent>,
}

impl<T: Clone + Send + 'static> Recipient for Subscribers<T> {
    fn inbound(&self) -> &dyn Backlog {
        self.inbound.backlog()
    }

    fn hear_news(&self, news: News) {
        // That it goes on has been told, with what the server said of it.
        let (News::Resumed { missed, .. } | News::Gap { missed }) = news;
        self.events.next(ClientEvent::Session(SessionEvent::Gap { missed }));
    }
}

impl<T> fmt::Display for Subscribers<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.server)
    }
}

/// Emits the message that is in a frame.
fn receive<D: WsDatatype>(client: &ClientCore<D>, frame: Frame) -> Receipt {
    let len = frame.len();
    match client.take_in(frame) {
        Ok(Some(received)) => client.inbound.emit(received),
        Ok(None) => {}
        Err(error) => {
            client.component.events.next(ClientEvent::Undecodable { error, len, count: 1 });
            return Receipt::Undecodable;
        }
    }
    Receipt::Taken
}

/// Emits the end of a link, after everything that arrived on it. With a plain one go the replies to what was written on it.
async fn end<D: WsDatatype>(
    client: &ClientCore<D>,
    ending: Ending,
    peer: String,
    lasted: Duration,
    is_plain: bool,
) -> Outcome {
    let Ending { code, reason, error, unconfirmed } = ending;
    // With several threads another one may still be delivering messages of this connection.
    client.component.inbound.delivered().await;
    client.set_state(ConnectionState::Disconnected);
    report_drops(&client.outbox, &client.component.events);
    let event = ClientEvent::Disconnected { code, reason: reason.clone(), error: error.clone(), unconfirmed, lasted };
    client.component.events.next(event);
    let error = error.unwrap_or(WsError::ClosedByPeer { peer, code, reason });
    if is_plain {
        client.topics.lost(client);
        client.calling.lost(Loss::Link, &error);
    }
    match error {
        // The error of `drive` for a link that was cut short.
        WsError::Cut(_) => Outcome::Cut,
        error => Outcome::Ended(UserValue::new(error)),
    }
}

/// What is sent first: the greetings, and the topics that are wanted.
fn greetings<D: WsDatatype>(client: &ClientCore<D>) -> Vec<Frame> {
    let mut frames = given_greetings(client);
    client.topics.greet(client, &mut frames);
    frames
}

/// Encodes the program's greetings. One that panics or cannot be encoded is left out, with an event.
fn given_greetings<D: WsDatatype>(client: &ClientCore<D>) -> Vec<Frame> {
    let Some(greeting) = &client.dialing.greeting else { return Vec::new() };
    let (codec, path) = (&client.incoming.codec, &client.path);
    let leave_out = |error| client.component.events.post(ClientEvent::Unencodable { error, count: 1 });
    let panicked = |panic: &str| {
        codec.count_unencodable();
        leave_out(DatatypeError::new(format!("a greeting panicked: {panic}")));
    };
    let mut frames = Vec::new();
    let mut add = |make: Box<dyn FnOnce() -> D::Outgoing + '_>| {
        match callback::attempt("a greeting", || codec.encode(path, &make(), || false)) {
            Ok(Ok(frame)) => frames.push(frame),
            Ok(Err(SendError::Encode((), error))) => leave_out(error),
            // The codec gives no other error.
            Ok(Err(_)) => {}
            Err(panic) => panicked(&panic),
        }
    };
    callback::run(|| {
        if let Err(panic) = callback::attempt("a greeting", || greeting(path, &mut add)) {
            panicked(&panic);
        }
    });
    frames
}
