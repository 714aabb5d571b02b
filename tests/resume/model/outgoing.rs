//! The outbound half of a session: a queue that keeps a message until it is acknowledged.

use std::{collections::VecDeque, mem};

use super::{Event, Fate, Mutant, Tally, facts::Broken, wire::Message};

/// What a full queue does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overflow {
    DropLatest,
    DropOldest,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// How many messages wait at most for being written.
    pub(crate) bound: usize,
    /// How many are at most written and unacknowledged.
    pub(crate) window: usize,
    pub(crate) overflow: Overflow,
    pub(crate) mutant: Option<Mutant>,
}

#[derive(Clone, Copy, Debug)]
struct Queued {
    position: u64,
    id: u64,
}

/// Whether a message was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Push {
    Accepted,
    Refused,
}

/// ```text
///  acknowledged |  on the link: `on_link`  |  waiting              |
///    forgotten  |  queue ...               |               ... end |
/// ```
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    limits: Limits,
    queue: VecDeque<Queued>,
    /// How many of the queue, from the front, are written on this link.
    on_link: usize,
    /// The position that the other end expects next on this link.
    expected: u64,
    /// What the other end acknowledged on this link.
    acked: u64,
    /// One past the highest position that may have arrived, and of which the other end has not told.
    written: u64,
    /// One past the highest position that was ever written: the most that the other end can claim. It does not fall, since a clone
    /// may have had less than the client that it is a copy of.
    highest: u64,
    /// The position that the next accepted message gets.
    end: u64,
    /// Written and given up while there was no link: the next one tells whether they had arrived.
    shelved: Vec<Queued>,
    /// How many were dropped unwritten since the positions began.
    pub(crate) dropped: u64,
    fates: Vec<(u64, Fate)>,
    pub(crate) tally: Tally,
}

impl Outgoing {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            queue: VecDeque::new(),
            on_link: 0,
            expected: 0,
            acked: 0,
            written: 0,
            highest: 0,
            end: 0,
            shelved: Vec::new(),
            dropped: 0,
            fates: Vec::new(),
            tally: Tally::default(),
        }
    }

    /// Accepts a message, if there is room. Only what is not on the link counts as waiting, and without a link that is all.
    pub(crate) fn push(&mut self, id: u64, is_linked: bool) -> Push {
        if self.queue.len() - self.on_link >= self.limits.bound {
            match self.limits.overflow {
                Overflow::DropLatest => return Push::Refused,
                Overflow::DropOldest => self.give_up(if is_linked { self.on_link } else { 0 }),
            }
        }
        self.queue.push_back(Queued { position: self.end, id });
        self.end += 1;
        Push::Accepted
    }

    /// What is written next, if the window has room: one payload, and before it `at` if it is not the expected one.
    pub(crate) fn write(&mut self) -> Option<Vec<Message>> {
        let Queued { position, id } = *self.queue.get(self.on_link)?;
        if self.on_link >= self.limits.window {
            self.tally.count(Event::WindowFull);
            return None;
        }
        let mut messages = Vec::new();
        if position != self.expected && self.limits.mutant != Some(Mutant::AtLeftOut) {
            messages.push(Message::At(position));
        }
        messages.push(Message::payload(id));
        self.expected = position + 1;
        self.written = self.written.max(position + 1);
        self.highest = self.highest.max(position + 1);
        match self.limits.mutant {
            Some(Mutant::ForgottenWhenWritten) => _ = self.queue.pop_front(),
            _ => self.on_link += 1,
        }
        Some(messages)
    }

    /// The other end has come to `position`.
    pub(crate) fn ack(&mut self, position: u64) -> Result<(), Broken> {
        if !(self.acked..=self.expected).contains(&position) {
            let range = format!("{} to {}", self.acked, self.expected);
            return Err(Broken::protocol(format!("an ack of {position}, which cannot be: {range}")));
        }
        self.acked = position;
        let count = self.queue.partition_point(|queued| queued.position < position);
        self.fates.extend(self.queue.drain(..count).map(|queued| (queued.id, Fate::Acknowledged)));
        self.on_link = self.on_link.saturating_sub(count);
        Ok(())
    }

    /// On a new link the other end has come to `position`. Returns the position of the next payload, which it has to be told.
    pub(crate) fn resume(&mut self, position: u64) -> Result<u64, Broken> {
        if position > self.highest {
            return Err(Broken::protocol(format!("claims to be at {position} of {}", self.highest)));
        }
        self.on_link = 0;
        self.settle_shelved(position);
        (self.acked, self.expected) = (position, position);
        self.ack(position)?;
        let next = self.queue.front().map_or(self.end, |queued| queued.position).max(position);
        self.expected = next;
        // What was written and has not arrived is known not to have: only what is written from now on can be in doubt.
        self.written = next;
        self.highest = self.highest.max(next);
        Ok(next)
    }

    /// The link is gone: what was on it waits again, and is no better than the rest.
    pub(crate) fn lose_link(&mut self) {
        self.on_link = 0;
        while self.limits.overflow == Overflow::DropOldest && self.queue.len() > self.limits.bound {
            self.give_up(0);
        }
    }

    /// The session is over; the other end had come to `received`, if anybody knows. Returns what goes into the next session.
    pub(crate) fn lose_session(mut self, received: Option<u64>) -> Self {
        match received {
            Some(position) => self.settle_shelved(position),
            None => self.fates.extend(self.shelved.drain(..).map(|queued| (queued.id, Fate::Doubtful))),
        }
        let is_resent = self.limits.mutant == Some(Mutant::DoubtfulSentAgain);
        for queued in mem::take(&mut self.queue) {
            match received {
                Some(received) if queued.position < received => self.fates.push((queued.id, Fate::Acknowledged)),
                None if queued.position < self.written && !is_resent => self.fates.push((queued.id, Fate::Doubtful)),
                _ => self.queue.push_back(queued),
            }
        }
        self.begin()
    }

    /// The same messages, in a session of which nothing is written: the positions are given anew.
    pub(crate) fn begin(self) -> Self {
        let mut fresh = Self::new(self.limits);
        fresh.queue = (0..).zip(self.queue).map(|(position, Queued { id, .. })| Queued { position, id }).collect();
        fresh.end = fresh.queue.len() as u64;
        (fresh.fates, fresh.tally) = (self.fates, self.tally);
        fresh
    }

    pub(crate) fn position_told(&self) -> u64 {
        self.acked
    }

    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether nothing waits for being written.
    pub(crate) fn is_written(&self) -> bool {
        self.on_link == self.queue.len()
    }

    pub(crate) fn has_unacknowledged(&self) -> bool {
        self.on_link > 0
    }

    pub(crate) fn take_fates(&mut self) -> Vec<(u64, Fate)> {
        mem::take(&mut self.fates)
    }

    fn give_up(&mut self, index: usize) {
        match self.queue.remove(index) {
            Some(queued) if queued.position < self.written => {
                self.tally.count(Event::Shelved);
                self.shelved.push(queued);
            }
            Some(Queued { id, .. }) => {
                self.dropped += 1;
                self.fates.push((id, Fate::Dropped));
            }
            None => {}
        }
    }

    /// What was given up had arrived if the other end has come past it.
    fn settle_shelved(&mut self, position: u64) {
        for queued in self.shelved.drain(..) {
            let fate = if queued.position < position { Fate::Acknowledged } else { Fate::Dropped };
            self.fates.push((queued.id, fate));
        }
    }
}
