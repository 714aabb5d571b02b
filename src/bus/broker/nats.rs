//! [`Nats`]: links to a NATS server, by way of async-nats.
//!
//! Each link has a client of its own, which never connects again by itself: what waited in it would be sent then, behind later
//! messages or before earlier ones that the outbox sends again, and receivers would take those for doubles.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    task::{Context, Poll},
    time::Duration,
};

use async_nats::{
    Client, ConnectErrorKind, ConnectOptions, Event as NatsEvent, HeaderMap, HeaderName, Message, ReconnectToServer,
    ServerAddr, ServerError, Subject, Subscriber,
};
use bytes::Bytes;
use futures_util::{
    Stream, StreamExt,
    stream::{AbortHandle, Abortable, SelectAll},
};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::{
    ClientTls, WsError,
    bus::broker::{Broker, Connect, Envelope, Event, Mark, address::name_of},
    sparse,
};

/// The header with the [`Mark`] of a message.
const HEADER: HeaderName = HeaderName::from_static("Rx");

/// Bytes of the header in front of a payload, which `max_payload` counts: less than this.
const HEADER_LEN: usize = 128;

/// The server answers questions to this subject in the order in which it reads them, so an answer confirms everything that was
/// published before: the library keeps the PONGs of the server to itself. Since nats-server 2.9; older ones, and those that have
/// just started, answer that nobody answers, and those that do not allow it say so, which is as good.
const QUESTION: &str = "$SYS.REQ.USER.INFO";

/// How many commands may wait in the library: more than the window of the outbox and all interests, so that none has to wait.
const COMMANDS: usize = 65_536;

/// How many messages may wait per subscription. The library drops what is beyond, and the numbers tell.
const ROOM: usize = 65_536;

/// How long a server may take to answer when a link is made, as that of a client.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The number of the interest in answers. Those of the bus begin with 1.
const ANSWERS: u64 = 0;

/// What a bus shows to its broker.
#[derive(Default)]
pub(crate) struct Credentials {
    pub(crate) token: Option<String>,
    pub(crate) user: Option<(String, String)>,
}

/// Connects to the servers of a cluster, in turn.
pub(crate) struct Nats {
    servers: Vec<ServerAddr>,
    next: AtomicUsize,
    name: Arc<str>,
    credentials: Credentials,
    tls: Option<ClientTls>,
}

impl Nats {
    /// # Errors
    ///
    /// When TLS is wanted and the system has no certificates.
    pub(crate) fn new(
        servers: Vec<ServerAddr>,
        name: Arc<str>,
        credentials: Credentials,
        tls: Option<ClientTls>,
    ) -> Result<Self, WsError> {
        let wants_tls = servers.iter().any(ServerAddr::tls_required);
        let tls = match tls {
            None if wants_tls => Some(ClientTls::system()?),
            tls => tls,
        };
        Ok(Self { servers, next: AtomicUsize::new(0), name, credentials, tls })
    }

    fn options(&self, server: &ServerAddr, denied: Sender<String>) -> ConnectOptions {
        let mut options = ConnectOptions::new()
            .name(&*self.name)
            .no_echo()
            .ignore_discovered_servers()
            .skip_subject_validation(true)
            .connection_timeout(CONNECT_TIMEOUT)
            .client_capacity(COMMANDS)
            .subscription_capacity(ROOM)
            .event_callback(move |event| {
                let denied = denied.clone();
                async move {
                    if let NatsEvent::ServerError(ServerError::Other(text)) = event {
                        // An error means that the link is gone.
                        let _ = denied.send(text).await;
                    }
                }
            });
        if let Some(tls) = &self.tls {
            options = options.tls_client_config(tls.without_alpn()).require_tls(true);
        }
        if let Some(token) = &self.credentials.token {
            options = options.token(token.clone());
        }
        let in_address = || Some((server.username()?.to_owned(), server.password().unwrap_or_default().to_owned()));
        if let Some((user, password)) = self.credentials.user.clone().or_else(in_address) {
            options = options.user_and_password(user, password);
        }
        connecting_once(options, server.clone())
    }
}

impl Connect for Nats {
    type Link = NatsLink;

    async fn connect(&self) -> Result<NatsLink, WsError> {
        let server = &self.servers[self.next.fetch_add(1, Relaxed) % self.servers.len()];
        let name = name_of(server);
        let (sender, denied) = channel(ROOM);
        let failed = |error: async_nats::ConnectError| match error.kind() {
            ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
                WsError::BrokerRefused(name.clone())
            }
            _ => WsError::Broker { server: name.clone(), source: Arc::new(error) },
        };
        let client = self.options(server, sender).connect(vec![server.clone(), nowhere()]).await.map_err(failed)?;
        let answers = client.new_inbox();
        let all_answers = format!("{answers}.*");
        let arriving = SelectAll::new();
        let ends = HashMap::new();
        let mut link = NatsLink { client, answers, arriving, ends, taken: 0, denied, denied_questions: 0, name };
        link.subscribe(ANSWERS, &all_answers).await?;
        Ok(link)
    }
}

/// Keeps a client from connecting again. It offers no option for that: after the first time it is sent to a server that is
/// none, and gives up at the second attempt.
fn connecting_once(options: ConnectOptions, server: ServerAddr) -> ConnectOptions {
    let has_tried = Arc::new(AtomicBool::new(false));
    options.max_reconnects(1).reconnect_to_server_callback(move |_, _| {
        let addr = if has_tried.swap(true, SeqCst) { nowhere() } else { server.clone() };
        async move { Some(ReconnectToServer { addr, delay: Some(Duration::ZERO) }) }
    })
}

/// An address at which nothing listens (RFC 6335, section 6: port 0 is reserved).
fn nowhere() -> ServerAddr {
    "nats://127.0.0.1:0".parse().expect("this is an address")
}

/// A link to a NATS server.
pub(crate) struct NatsLink {
    client: Client,
    /// Where the answers of the server go: behind this, the number of the question.
    answers: String,
    arriving: SelectAll<Abortable<Arriving>>,
    /// What ends them, by interest: looking for them would take seconds for ten thousand that end together.
    ends: HashMap<u64, AbortHandle>,
    /// How many messages were taken.
    taken: u64,
    /// Complaints of the server.
    denied: Receiver<String>,
    /// How many questions the server did not allow: it refuses each of them, in their order.
    denied_questions: u64,
    name: String,
}

/// The messages of one interest.
struct Arriving {
    interest: u64,
    subscriber: Subscriber,
}

impl Stream for Arriving {
    type Item = (u64, Message);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<(u64, Message)>> {
        let interest = self.interest;
        self.subscriber.poll_next_unpin(cx).map(|message| message.map(|message| (interest, message)))
    }
}

impl NatsLink {
    fn lost(&self, error: impl std::error::Error + Send + Sync + 'static) -> WsError {
        WsError::Broker { server: self.name.clone(), source: Arc::new(error) }
    }
}

impl Broker for NatsLink {
    async fn publish(&mut self, Envelope { subject, mark, payload }: Envelope) -> Result<(), WsError> {
        let mut headers = HeaderMap::new();
        if let Some(mark) = mark {
            headers.insert(HEADER, mark.to_string());
        }
        let published = self.client.publish_with_headers(Subject::from(&*subject), headers, payload).await;
        published.map_err(|error| self.lost(error))
    }

    async fn subscribe(&mut self, interest: u64, pattern: &str) -> Result<(), WsError> {
        let subscriber = self.client.subscribe(Subject::from(pattern)).await.map_err(|error| self.lost(error))?;
        let (end, registration) = AbortHandle::new_pair();
        self.arriving.push(Abortable::new(Arriving { interest, subscriber }, registration));
        self.ends.insert(interest, end);
        Ok(())
    }

    async fn unsubscribe(&mut self, interest: u64) -> Result<(), WsError> {
        // The subscriber tells the server when it is dropped, at the next look at what has arrived. One that the server has refused
        // may be gone.
        if let Some(end) = sparse::remove(&mut self.ends, &interest) {
            end.abort();
        }
        Ok(())
    }

    async fn flush(&mut self, question: u64) -> Result<(), WsError> {
        let answer = format!("{}.{question}", self.answers);
        let asked = self.client.publish_with_reply(QUESTION, answer, Bytes::new()).await;
        asked.map_err(|error| self.lost(error))
    }

    async fn next_event(&mut self) -> Event {
        loop {
            tokio::select! {
                arrived = self.arriving.next() => match arrived {
                    Some((interest, message)) => {
                        self.taken += 1;
                        if interest != ANSWERS {
                            return arrived_for(interest, message);
                        }
                        if let Some(question) = question_of(&message) {
                            return Event::Flushed(question);
                        }
                    }
                    // The client has let go of all of its subscriptions, the one for answers among them.
                    None => return Event::Lost(self.lost(std::io::Error::other("the server or the network ended the link"))),
                },
                Some(text) = self.denied.recv() => match denied_subject(&text) {
                    Some((_, QUESTION)) => {
                        self.denied_questions += 1;
                        return Event::Flushed(self.denied_questions);
                    }
                    Some((action, subject)) => return denial(action, subject),
                    None => {}
                }
            }
        }
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn max_len(&self) -> usize {
        self.client.max_payload().saturating_sub(HEADER_LEN)
    }

    fn waiting(&self) -> u64 {
        self.client.statistics().in_messages.load(Relaxed).saturating_sub(self.taken)
    }
}

fn arrived_for(interest: u64, message: Message) -> Event {
    let mark = message.headers.as_ref().and_then(|headers| Mark::parse(headers.get(HEADER)?.as_str()));
    let envelope = Envelope { subject: message.subject.as_str().into(), mark, payload: message.payload };
    Event::Arrived { interest, envelope }
}

/// The number of the question that a message answers.
fn question_of(message: &Message) -> Option<u64> {
    message.subject.rsplit('.').next()?.parse().ok()
}

/// What the server does not allow, and on which subject, by a complaint such as `Permissions Violation for Publish to "rx.a"`.
fn denied_subject(text: &str) -> Option<(&str, &str)> {
    let (_, rest) = text.split_once("Permissions Violation for ")?;
    Some((rest.split(' ').next()?, rest.split('"').nth(1)?))
}

fn denial(action: &str, subject: &str) -> Event {
    let action = if action == "Subscription" { "subscribe" } else { "publish" };
    let why = format!("the broker does not let this bus {action} to {subject}");
    Event::Denied { subject: subject.into(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_of_the_server_are_understood() {
        let publish = r#"Permissions Violation for Publish to "rx.a""#;
        assert_eq!(denied_subject(publish), Some(("Publish", "rx.a")));
        let subscribe = r#"Permissions Violation for Subscription to "rx.>""#;
        assert_eq!(denied_subject(subscribe), Some(("Subscription", "rx.>")));
        assert_eq!(denied_subject("Stale Connection"), None);
        let Event::Denied { why, .. } = denial("Subscription", "rx.>") else { panic!("no denial") };
        assert_eq!(why, "the broker does not let this bus subscribe to rx.>");
    }
}
