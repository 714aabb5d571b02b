//! [`Run`]: messages that many outboxes get one after the other, kept once for all of them.
//!
//! Why: when a short message goes to many connections, most of a push is the wait for the memory in which the queue of each has
//! a place for it. So what they get lies in a run, and an outbox has only a [`Stretch`] of it behind its queue: where it begins
//! and ends. A push prolongs it, which touches nothing but the counts of the queue.
//!
//! ```text
//!   outbox    queue, then  stretch
//!                          |<-------->|
//!   run                [m1][m2][m3][m4][  ][  ] ..
//! ```
//!
//! An outbox that is behind by more than a run has [earlier](Earlier) stretches as well. Each goes to the end of its run, and
//! each but the first is a whole run.
//!
//! Only a push, a take, a confirmation and an acknowledgement know of stretches. Whatever else looks into an outbox first
//! [settles](State::settle) them: that moves the messages to where all others are.
//!
//! A run has the messages as frames, as a server writes them: they are encoded once, and each connection only copies them. These
//! are copies of the payloads. So a payload, whose destructor may be user code, goes as soon as it has been pushed. A
//! connection that has not written its part, or may have to write it again, keeps the run: at most 64 KiB of copies, and as many
//! in [pieces](joined), which it shares with others. One that leaves the tag, or misses a message, settles, or each of many
//! could keep a run of its own for one short message.

mod in_place;
mod joined;
mod stretch;

use std::{
    array::from_fn,
    sync::{Arc, OnceLock, Weak},
};

use bytes::Bytes;

use super::{Answer, FRAME_HEAD_LEN, Outbox, OutboxFrame};
use crate::{
    Frame, WsText,
    protocol::{
        deflate::Agreed,
        frame_head::{Kind, append_head},
    },
    stats::Tally,
};
use joined::Pieces;

pub(crate) use in_place::InPlace;
pub(crate) use joined::Several;
pub(super) use stretch::{Earlier, Stretch};

/// How many messages a run has at most.
const RUN_LEN: usize = 64;

/// The longest message of which a copy is made.
const LONGEST: usize = 1024;

/// From how many outboxes on it pays to make a copy.
const FEWEST: usize = 8;

/// Messages in the order in which they were pushed.
pub(crate) struct Run {
    messages: [OnceLock<Encoded>; RUN_LEN],
    pieces: Pieces,
}

/// A message of a run, with a copy of its payload.
pub(crate) struct Encoded {
    message: Frame,
    /// The frame that it is, not masked.
    frame: Bytes,
    /// The length of the messages before it, and of their frames.
    before: Lens,
}

/// The run that the next message belongs to, as the one who pushes it has it. It keeps no message by itself.
#[derive(Default)]
pub(crate) struct Runs {
    latest: Weak<Run>,
    /// How many messages the latest one has.
    len: usize,
    /// The length of these.
    lens: Lens,
}

/// How long messages of a run are, and their frames. A run has [`RUN_LEN`] of at most [`LONGEST`] bytes.
#[derive(Clone, Copy, Default)]
struct Lens {
    messages: u32,
    frames: u32,
}

/// A message of a run.
pub(crate) struct InRun {
    run: Arc<Run>,
    at: usize,
}

impl Runs {
    /// Adds a copy of a message for so many `outboxes`. `None` if it had better be pushed to each of them by itself.
    pub(crate) fn add(&mut self, message: &OutboxFrame, outboxes: usize) -> Option<InRun> {
        if outboxes < FEWEST || message.len() > LONGEST {
            return None;
        }
        let run = match self.latest.upgrade() {
            Some(latest) if self.len < RUN_LEN => latest,
            _ => self.begin(),
        };
        let at = self.len;
        let encoded = Encoded::of(message.frame(), self.lens)?;
        let lens = encoded.lens_behind();
        // Never full: the place is the next one.
        run.messages[at].set(encoded).ok()?;
        self.len += 1;
        self.lens = lens;
        Some(InRun { run, at })
    }

    fn begin(&mut self) -> Arc<Run> {
        let run = Arc::new(Run { messages: from_fn(|_| OnceLock::new()), pieces: Pieces::default() });
        *self = Self { latest: Arc::downgrade(&run), ..Self::default() };
        run
    }
}

impl Encoded {
    fn of(message: &Frame, before: Lens) -> Option<Self> {
        let mut frame = Vec::with_capacity(FRAME_HEAD_LEN + message.len());
        append_head(&mut frame, Kind::of(message), message.len(), None);
        let payload = frame.len()..;
        frame.extend_from_slice(message.as_bytes());
        let frame = Bytes::from(frame);
        let payload = frame.slice(payload);
        let message = match message {
            Frame::Text(_) => Frame::Text(WsText::from_utf8_bytes(payload.try_into().ok()?)),
            Frame::Binary(_) => Frame::Binary(payload),
        };
        Some(Self { message, frame, before })
    }

    pub(crate) fn message(&self) -> &Frame {
        &self.message
    }

    pub(crate) fn frame(&self) -> &[u8] {
        &self.frame
    }

    fn tally(&self) -> Tally {
        Tally::of(&self.message)
    }

    /// The length of all up to this one.
    fn lens_behind(&self) -> Lens {
        let Lens { messages, frames } = self.before;
        Lens { messages: messages + self.message.len() as u32, frames: frames + self.frame.len() as u32 }
    }
}

/// What messages that follow each other count.
fn tally_of(messages: &[OnceLock<Encoded>]) -> Tally {
    let ends = messages.first().and_then(OnceLock::get).zip(messages.last().and_then(OnceLock::get));
    let len = ends.map_or(0, |(first, last)| last.lens_behind().messages - first.before.messages);
    Tally { messages: messages.len() as u64, len: len.into() }
}

/// What the link takes.
pub(crate) enum Taken<'a> {
    Message(&'a OutboxFrame),
    /// One that is encoded already, for a server.
    Encoded(&'a Encoded),
    /// Some of these, one after the other.
    Several(Several<'a>),
}

impl Taken<'_> {
    /// A message that is there in compressed form, and that: as [`OutboxFrame::compressed`].
    pub(crate) fn compressed(&self, agreed: &Agreed) -> Option<(&Frame, &Bytes)> {
        match self {
            Self::Message(message) => Some((message.frame(), message.compressed(agreed)?)),
            Self::Encoded(_) | Self::Several(_) => None,
        }
    }

    /// The messages, for tests that do not care how they lie.
    #[cfg(test)]
    pub(crate) fn frames(&self) -> Vec<&Frame> {
        match self {
            Self::Message(message) => vec![message.frame()],
            Self::Encoded(encoded) => vec![encoded.message()],
            Self::Several(several) => {
                let frames: Vec<_> = several.messages().map(Encoded::frame).collect();
                assert_eq!(several.frames(), frames.concat());
                several.messages().map(Encoded::message).collect()
            }
        }
    }
}

impl Outbox {
    /// As [`offer`](Self::offer), for a message of a run.
    pub(crate) fn offer_of_run(&self, message: &InRun) -> Answer {
        let Some(encoded) = message.run.messages[message.at].get() else { return (Ok(()), None) };
        let mut state = self.lock_unsettled();
        if state.rare.is_some() || self.is_closing() || !state.has_room_for(encoded.message.len()) {
            drop(state);
            return self.offer(encoded.message.clone().into(), None);
        }
        state.append_of_run(message, encoded.tally());
        self.wake_link(state);
        (Ok(()), None)
    }

    /// Lets go of the run, as the next messages of it are not for this outbox.
    pub(crate) fn settle(&self) {
        drop(self.lock());
    }
}

#[cfg(test)]
impl Runs {
    /// Whether anybody has a message of the latest run.
    pub(crate) fn is_kept(&self) -> bool {
        self.latest.strong_count() > 0
    }
}
