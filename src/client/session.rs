//! [`Session`]: a client's side of a session, from one link to the next.

use std::sync::Arc;

use tokio::time::Instant;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::{
    Resume, SessionEvent, SessionLoss, WsDatatype, WsError,
    calls::Loss,
    client::{
        core::{ClientCore, report_drops},
        suspicion::{LEAST_TIME, MOST_LINKS, UNWANTED},
    },
    endpoint::event::ClientEvent,
    handshake::{
        Opened,
        subprotocol::{self, Mode},
    },
    link::greeting::{Greeting, Unsettled},
    protocol::close::TAKEN_OVER,
    runtime::UserValue,
    session::{
        Token,
        verb::{Known, Verb},
    },
    transport::Transport,
};

const NO_HELLO: &str = "the server does not begin with `hello`";

/// What a resumable client keeps between its links.
#[derive(Default)]
pub(crate) struct Session(Option<Held>);

/// A session that the server has given.
struct Held {
    token: Token,
    /// The number of its latest link, the first being 1.
    link: u64,
    /// When its latest link ended.
    ended: Instant,
    /// How that link ended: the error may be one of the program's.
    error: Option<UserValue<WsError>>,
    /// The position that the server had come to when it began.
    position: u64,
    /// How many links in a row have broken there.
    fruitless: u32,
    /// When the first of them did.
    fruitless_since: Instant,
}

impl Held {
    fn new(token: Token) -> Self {
        let now = Instant::now();
        Self { token, link: 1, ended: now, error: None, position: 0, fruitless: 0, fruitless_since: now }
    }

    /// Notes where the server is. Returns whether so many links have broken, and for so long, while a message was to arrive
    /// there, that this is taken for the reason.
    fn is_stuck(&mut self, position: u64, has_begun: bool) -> bool {
        let is_fruitless = position <= self.position && has_begun && self.error.is_some();
        self.fruitless = if is_fruitless { self.fruitless + 1 } else { 0 };
        if self.fruitless <= 1 {
            self.fruitless_since = self.ended;
        }
        self.position = position;
        self.fruitless >= MOST_LINKS && self.fruitless_since.elapsed() >= LEAST_TIME
    }
}

/// How a link begins.
pub(crate) enum Beginning {
    /// Without a session, since the client wants none.
    Simple,
    /// Without a session, since the server has none to offer.
    Plain,
    /// With a new session.
    Opened,
    /// With the one from before.
    Resumed { at: u64, event: SessionEvent },
}

/// Settles with which session a new link begins.
pub(crate) async fn settle<D: WsDatatype>(
    client: &ClientCore<D>,
    session: &mut Session,
    opened: &mut Opened,
) -> Result<Beginning, WsError> {
    let Some(resume) = &client.dialing.resume else { return Ok(Beginning::Simple) };
    let chosen = opened.subprotocol.take();
    let (application, mode) = chosen.as_deref().map_or((None, Mode::Plain), subprotocol::split);
    opened.subprotocol = application.map(str::to_owned);
    let mut side = Side { client, resume, session };
    if mode == Mode::Plain {
        side.lose(SessionLoss::Unknown, None);
        client.outbox.keep_nothing();
        return Ok(Beginning::Plain);
    }
    let mut greeting = Greeting::new(&mut opened.stream, Role::Client, opened.deflate, &opened.early_bytes);
    let settled = side.greet(&mut greeting).await;
    opened.early_bytes = greeting.into_unread();
    settled.map_err(|unsettled| side.error(unsettled))
}

/// A client, as it settles on a session with its server.
struct Side<'a, D: WsDatatype> {
    client: &'a ClientCore<D>,
    resume: &'a Resume,
    session: &'a mut Session,
}

impl<D: WsDatatype> Side<'_, D> {
    async fn greet(&mut self, greeting: &mut Greeting<&mut Transport>) -> Result<Beginning, Unsettled> {
        let Verb::Hello { token, .. } = greeting.hear().await? else { return Err(greeting.refuse(NO_HELLO).await) };
        if let Some(held) = &mut self.session.0 {
            held.link += 1;
            let received = self.client.outbox.received();
            greeting.say(&Verb::Resume { token: held.token, link: held.link, received }).await?;
            match greeting.hear().await? {
                Verb::Resumed { received, next } => match self.go_on(received, next) {
                    Some(resumed) => return Ok(resumed),
                    None => return Err(greeting.refuse("`resumed` is beyond what was sent").await),
                },
                Verb::Lost { why, known } => self.lose(why, known),
                _ => return Err(greeting.refuse("neither `resumed` nor `lost` answers `resume`").await),
            }
        }
        greeting.say(&Verb::New).await?;
        // Nothing is written before, so that a link which breaks here leaves nothing in doubt.
        let Verb::Ack(0) = greeting.hear().await? else {
            return Err(greeting.refuse("no `ack 0` answers `new`").await);
        };
        self.session.0 = Some(Held::new(token));
        Ok(Beginning::Opened)
    }

    /// Goes on where the server is.
    fn go_on(&mut self, received: u64, next: u64) -> Option<Beginning> {
        let held = self.session.0.as_mut()?;
        let missed = next.checked_sub(self.client.outbox.received())?;
        let mut at = self.client.outbox.rewind(received).ok()?;
        if held.is_stuck(received, self.client.outbox.has_begun_first()) {
            give_up_first(self.client, held.fruitless, held.error.take());
            held.fruitless = 0;
            at = self.client.outbox.rewind(received).ok()?;
        }
        self.client.outbox.note_received(next);
        let resent = self.client.outbox.stats().retained;
        let event = SessionEvent::Resumed { missed, resent, away: held.ended.elapsed() };
        Some(Beginning::Resumed { at, event })
    }

    /// Takes leave of the session, if there is one.
    fn lose(&mut self, why: SessionLoss, known: Option<Known>) {
        let Some(held) = self.session.0.take() else { return };
        let Self { client, resume, .. } = self;
        let missed = known.map(|known| known.end.saturating_sub(client.outbox.received()));
        let leftover = client.outbox.lose_session(known.map(|known| known.received), resume.resends);
        let events = &client.component.events;
        let refused = held.error.filter(|error| known.is_some() && refuses(error));
        let given_up = refused.and_then(|error| Some((client.outbox.give_up_first()?, error)));
        let kept = leftover.kept - u64::from(given_up.is_some());
        let unconfirmed = leftover.unconfirmed;
        // Tells of what has arrived, before the replies to it are given up.
        drop(leftover);
        events.next(ClientEvent::Session(SessionEvent::Lost { why, missed, unconfirmed, kept }));
        client.topics.lost(client);
        let peer = client.ask.endpoint.to_string();
        client.calling.lost(Loss::Session, &WsError::SessionLost { peer, why, unconfirmed, unsent: kept });
        if let Some((len, error)) = given_up {
            events.next(ClientEvent::Undeliverable { len, links: 1, error: error.into_inner() });
        }
        report_drops(&client.outbox, events);
    }

    fn error(&mut self, unsettled: Unsettled) -> WsError {
        let peer = self.client.ask.endpoint.to_string();
        match unsettled {
            Unsettled::Broken(error) => WsError::Transport { peer, source: Arc::new(error) },
            Unsettled::Closed { code, reason } => {
                if code == TAKEN_OVER {
                    self.lose(SessionLoss::TakenOver, None);
                }
                WsError::ClosedByPeer { peer, code, reason: reason.into() }
            }
            Unsettled::Mistake(reason) => WsError::Protocol { peer, reason },
        }
    }
}

/// Notes how a link of the session ended.
pub(crate) fn note_end<D: WsDatatype>(client: &ClientCore<D>, session: &mut Session, error: Option<&WsError>) {
    let (Some(resume), Some(held)) = (&client.dialing.resume, &mut session.0) else { return };
    (held.ended, held.error) = (Instant::now(), error.cloned().map(UserValue::new));
    if let Some(WsError::ClosedByPeer { code: TAKEN_OVER, .. }) = error {
        Side { client, resume, session }.lose(SessionLoss::TakenOver, None);
    }
}

/// Gives up the first message, at which so many `links` in a row have broken.
fn give_up_first<D: WsDatatype>(client: &ClientCore<D>, links: u32, error: Option<UserValue<WsError>>) {
    let (outbox, events) = (&client.outbox, &client.component.events);
    if let Some(error) = error
        && let Some(len) = outbox.give_up_first()
    {
        events.next(ClientEvent::Undeliverable { len, links, error: error.into_inner() });
        report_drops(outbox, events);
    }
}

/// Whether the peer closed the connection because of a message.
fn refuses(error: &WsError) -> bool {
    matches!(error, WsError::ClosedByPeer { code, .. } if UNWANTED.contains(code))
}
