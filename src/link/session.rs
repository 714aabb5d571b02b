//! [`SessionLink`]: what a link says and hears for the session that it belongs to, beside the messages of the program.
//!
//! The link counts what arrives, acknowledges it, and hears the acknowledgements of the peer. It never outlives a mistake of
//! the peer: a control message out of its place ends the connection with 1002.

use std::time::Duration;

use tokio::time::Instant;
use tokio_tungstenite::tungstenite::protocol::{Role, frame::coding::CloseCode};

use crate::{
    Frame, WsError, WsText,
    link::{Flow, Receipt, Turn, closing::Phase, driver::Driver, writer::WriteStatus},
    outbox::Beyond,
    protocol::{close::too_long, text_frame::append_text},
    session::{
        receiving::Receiving,
        verb::{DLE, Incoming, Malformed, Verb, read},
    },
    time::after,
    transport::socket::Socket,
};

/// The latest that a message is acknowledged.
const ACK_WITHIN: Duration = Duration::from_secs(1);

/// How long a peer may take to answer `ask`: as long as a peer may take to answer a ping, by default.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// What a link hears of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// The session goes on, and so many messages of the peer do not come.
    Resumed { missed: u64, resumption: Resumption },
    /// So many messages of the peer do not come, between the last one and the next.
    Gap { missed: u64 },
}

/// How a link goes on with a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resumption {
    /// How many messages it sends again.
    pub(crate) resent: u64,
    /// When the link before it ended.
    pub(crate) ended: Instant,
}

/// The session of a link.
pub(crate) struct SessionLink {
    receiving: Receiving,
    /// Until the peer has said where it goes on. In a box, since most sessions are on their first link.
    resuming: Option<Box<Resumption>>,
    /// The position that the peer has acknowledged on this link.
    acknowledged: u64,
    /// Since when the peer owes an answer to `ask`.
    asked: Option<Instant>,
    /// When an acknowledgement is due.
    ack_by: Option<Instant>,
    /// The peer wants an acknowledgement at once.
    is_asked: bool,
}

impl SessionLink {
    /// The link goes on from the position `received`, which the peer was told. A peer that is resuming begins with the position of its
    /// next message.
    pub(crate) fn new(received: u64, resuming: Option<Resumption>) -> Self {
        let resuming = resuming.map(Box::new);
        Self {
            receiving: Receiving::told(received),
            resuming,
            acknowledged: 0,
            asked: None,
            ack_by: None,
            is_asked: false,
        }
    }

    /// The position that this side has come to.
    pub(super) fn received(&self) -> u64 {
        self.receiving.received()
    }

    /// Counts a payload, before anybody hears of it: one whose subscriber panics is not to come again.
    #[inline]
    fn count(&mut self, frame: &Frame, now: Instant) -> Result<(), Mistake> {
        if self.resuming.is_some() {
            return Err(AT_IS_MISSING);
        }
        self.receiving.take(frame.len())?;
        self.ack_by.get_or_insert_with(|| after(now, ACK_WITHIN));
        Ok(())
    }

    fn is_ack_due(&self, now: Instant) -> bool {
        self.is_asked || self.receiving.is_ack_due() || self.ack_by.is_some_and(|by| by <= now)
    }

    fn ack(&mut self) -> Verb {
        (self.is_asked, self.ack_by) = (false, None);
        self.receiving.ack()
    }

    /// Goes on at a position of the peer's.
    fn at(&mut self, position: u64) -> Result<Option<News>, Malformed> {
        let missed = self.receiving.at(position)?;
        Ok(match self.resuming.take() {
            Some(resumption) => Some(News::Resumed { missed, resumption: *resumption }),
            None => (missed > 0).then_some(News::Gap { missed }),
        })
    }
}

/// Why a control message ends the connection, or a payload.
struct Mistake(&'static str);

const AT_IS_MISSING: Mistake = Mistake("`at` is missing after `resumed`");

impl From<Malformed> for Mistake {
    fn from(malformed: Malformed) -> Self {
        Self(malformed.reason())
    }
}

impl From<Beyond> for Mistake {
    fn from(_: Beyond) -> Self {
        Self("`ack` is beyond what was sent")
    }
}

/// A control message as a frame.
pub(crate) fn encode(verb: &Verb, role: Role) -> Vec<u8> {
    let mut bytes = Vec::new();
    append_text(&mut bytes, &verb.text(), role);
    bytes
}

/// What comes before a payload on the wire, so that it is not taken for a control message.
pub(crate) fn escape(frame: &Frame) -> &'static [u8] {
    match frame {
        Frame::Text(text) if text.as_bytes().first() == Some(&DLE) => &[DLE],
        _ => &[],
    }
}

impl<S, F> Driver<S, F>
where
    S: Socket,
    F: FnMut(Frame) -> Receipt,
{
    /// Hands a payload on, or does what a control message says.
    #[inline(always)]
    pub(crate) fn hear(&mut self, frame: Frame) {
        match frame {
            _ if self.link.session.is_none() => self.hand_on(frame),
            Frame::Text(text) if text.as_bytes().first() == Some(&DLE) => self.hear_escape(text),
            _ => self.hear_payload(frame),
        }
    }

    /// Hears a text that begins with the byte by which control messages are known.
    #[cold]
    fn hear_escape(&mut self, text: WsText) {
        let heard = match read(&text) {
            Ok(Incoming::Payload) => return self.hear_payload(Frame::Text(text)),
            Ok(Incoming::EscapedPayload) => return self.hear_payload(Frame::Text(text.without_first())),
            Ok(Incoming::Control(verb)) => self.hear_verb(verb),
            Err(malformed) => Err(malformed.into()),
        };
        if let Err(mistake) = heard {
            self.fail_for(mistake);
        }
    }

    // Inlined, or each payload would be moved once more.
    #[inline(always)]
    fn hear_payload(&mut self, frame: Frame) {
        // The decoder lets a byte more pass, since a text may have one more on the wire.
        if frame.len() > self.link.limits.message_len {
            let (code, reason) = too_long(&self.link.limits);
            return self.fail_connection(code, reason);
        }
        match self.link.session.as_mut().map_or(Ok(()), |session| session.count(&frame, self.now)) {
            Ok(()) => self.hand_on(frame),
            Err(mistake) => self.fail_for(mistake),
        }
    }

    fn fail_for(&mut self, Mistake(reason): Mistake) {
        self.fail_connection(CloseCode::Protocol, reason.into());
    }

    fn hear_verb(&mut self, verb: Verb) -> Result<(), Mistake> {
        let Some(session) = &mut self.link.session else { return Ok(()) };
        match verb {
            Verb::At(position) => {
                let news = session.at(position)?;
                news.into_iter().for_each(|news| self.link.recipient.hear_news(news));
            }
            _ if session.resuming.is_some() => return Err(AT_IS_MISSING),
            Verb::Ask => session.is_asked = true,
            Verb::Ack(position) if position < session.acknowledged => return Err(Mistake("`ack` goes back")),
            Verb::Ack(position) => {
                // One that acknowledges nothing new is no answer: asked again at once, the peer could go on so for ever.
                if position > session.acknowledged {
                    (session.acknowledged, session.asked) = (position, None);
                }
                self.acknowledge(position)?;
            }
            _ => return Err(Mistake("a control message out of its place")),
        }
        Ok(())
    }

    fn acknowledge(&mut self, position: u64) -> Result<(), Beyond> {
        // Inside the lock: a thread that is writing has then confirmed what the peer can have.
        let writer = self.writer.lock();
        let spent = self.link.outbox.acknowledge(position);
        drop(writer);
        spent.map(drop)
    }

    /// Whether an acknowledgement may go out now: no earlier one is still to be written, the socket takes bytes, and nobody has
    /// said goodbye.
    fn may_ack(&self) -> bool {
        let WriteStatus { answers_len, stalled, .. } = self.write_status;
        answers_len == 0 && stalled.is_none() && matches!(self.phase, Phase::Open)
    }

    /// Acknowledges what is due.
    pub(crate) fn ack_if_due(&mut self) {
        let (now, role, may_ack) = (self.now, self.link.role, self.may_ack());
        if let Some(session) = &mut self.link.session
            && may_ack
            && session.is_ack_due(now)
        {
            let ack = session.ack();
            append_text(&mut self.answers, &ack.text(), role);
        }
    }

    /// Asks for an acknowledgement, since no more may be written before; once until it comes.
    pub(crate) fn ask(&mut self) -> Turn {
        let (now, role, is_open) = (self.now, self.link.role, matches!(self.phase, Phase::Open));
        match &mut self.link.session {
            Some(session) if session.asked.is_none() && is_open => {
                session.asked = Some(now);
                append_text(&mut self.answers, &Verb::Ask.text(), role);
                Turn::Again
            }
            _ => Turn::Wait,
        }
    }

    /// The last words before a close frame that ends the session: what will not be sent, and what has arrived.
    pub(crate) fn say_last_words(&mut self) {
        let (is_resumable, role) = (self.link.session.is_some(), self.link.role);
        if is_resumable && let Some(end) = self.link.outbox.untold_end() {
            append_text(&mut self.answers, &Verb::At(end).text(), role);
        }
        self.say_what_has_arrived();
    }

    /// The last words of a client whose server closes: it will ask for its session, and send the rest.
    pub(crate) fn say_what_has_arrived(&mut self) {
        let role = self.link.role;
        let Some(session) = &mut self.link.session else { return };
        if session.receiving.owes_ack() {
            let ack = session.ack();
            append_text(&mut self.answers, &ack.text(), role);
        }
    }

    /// When the session needs the task.
    pub(crate) fn session_deadline(&self) -> Option<Instant> {
        let session = self.link.session.as_ref()?;
        // What is due and may not go out waits for the socket, which announces itself. It may go out if this turn's write has
        // made way for it.
        let ack_by = match session.is_ack_due(self.now) {
            true => self.may_ack().then_some(self.now),
            false => session.ack_by,
        };
        [ack_by, session.asked.map(|asked| after(asked, ANSWER_WITHIN))].into_iter().flatten().min()
    }

    /// Ends a connection whose peer acknowledges nothing.
    pub(crate) fn end_if_unanswered(&mut self) -> Flow<()> {
        let asked = self.link.session.as_ref().and_then(|session| session.asked);
        match asked {
            Some(asked) if after(asked, ANSWER_WITHIN) <= self.now => {
                let error = WsError::PeerGone { peer: self.link.recipient.name(), silent: self.now - asked };
                Flow::Break(self.lost(error))
            }
            _ => Flow::Continue(()),
        }
    }
}
