//! The clock of a driver: it pings, and ends whatever takes too long.

use std::{
    ops::ControlFlow::{Break, Continue},
    pin::Pin,
    task::Context,
};

use bytes::Bytes;
use tokio::{
    task::unconstrained,
    time::{Instant, sleep_until},
};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    Frame, WsError,
    link::{
        Flow, Link, Receipt, Turn,
        closing::{LINGER, Phase},
        driver::{Driver, Intake},
    },
    protocol::{decoder::Decoder, heartbeat::Mark, memory_stream::MemoryStream},
    runtime::debts,
    time::after,
    transport::socket::Socket,
};

impl<S, F> Driver<S, F>
where
    S: Socket,
    F: FnMut(Frame) -> Receipt,
{
    /// Pings if it is time to, ends whatever takes too long, and sets the timer.
    pub(crate) fn keep_deadlines(&mut self, intake: Intake, cx: &mut Context<'_>) -> Flow<Turn> {
        // A task that is held may be waiting for another thread, to a time of its own.
        if intake != Intake::Held && self.is_calm() {
            return Continue(Turn::Wait);
        }
        if self.draining.is_none() && self.phase.hears_messages() {
            self.end_if_silent()?;
        }
        if self.is_late() {
            self.end_late()?;
        }
        if self.draining.is_some() && intake == Intake::Whole && !self.writer.has_arrived() {
            return Break(self.drained());
        }
        let pinged = self.ping_if_due();
        let timed = self.set_timer(cx);
        Continue(if pinged == Turn::Again { pinged } else { timed })
    }

    /// Whether only the heartbeat watches the clock, and the timer is set for it: so it is in most turns.
    fn is_calm(&self) -> bool {
        let is_watched = self.draining.is_some()
            || self.close_by.is_some()
            || self.write_status.stalled.is_some()
            || self.link.session.is_some()
            || !matches!(self.phase, Phase::Open);
        let is_timed = match self.pulse.next_ping() {
            Some(next) => self.timer.as_ref().is_some_and(|(set, _)| self.now < *set && *set <= next),
            None => true,
        };
        !is_watched && is_timed && !self.pulse.is_asking() && !self.link.outbox.wants_pong()
    }

    /// Ends a connection whose peer gives no sign of life, or its writing if the peer takes nothing.
    fn end_if_silent(&mut self) -> Flow<()> {
        let peer = || self.link.recipient.name();
        if self.pulse.is_overdue(self.now) && self.writer.has_arrived() {
            // The peer is alive; the reactor has not reported its bytes yet.
            self.pulse.hear(self.now);
        } else if let Some(silent) = self.pulse.silence(self.now) {
            return Break(self.lost(WsError::PeerGone { peer: peer(), silent }));
        }
        let stall = self.link.limits.write_stalled;
        if self.write_status.stalled.is_some_and(|since| after(since, stall) <= self.now) {
            self.begin_draining(WsError::WriteStalled { peer: peer(), stalled: stall }, None);
        }
        self.end_if_unanswered()
    }

    /// The time at which the connection ends at the latest, or begins to drain.
    fn deadline(&self) -> Option<Instant> {
        self.draining.as_ref().and_then(|draining| draining.until).or_else(|| self.closing_deadline())
    }

    /// Whether this turn is the last one, or the last one before the connection drains.
    pub(crate) fn is_late(&self) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= self.now)
    }

    fn end_late(&mut self) -> Flow<()> {
        if !self.phase.hears_messages() {
            return Break(self.ending_of_phase());
        }
        if self.draining.as_ref().is_some_and(|draining| draining.until.is_some()) {
            return Break(self.drained());
        }
        let peer = self.link.recipient.name();
        self.begin_draining(WsError::ClosingTimedOut { peer }, Some(self.now + LINGER));
        Continue(())
    }

    /// Queues a ping if one is due; it is written in another turn, at once.
    fn ping_if_due(&mut self) -> Turn {
        // For a peer that takes nothing, pings would only pile up.
        let may_ping =
            matches!(self.phase, Phase::Open) && self.draining.is_none() && self.write_status.stalled.is_none();
        let is_due = self.pulse.ping_due(self.now) || self.link.outbox.wants_pong();
        if !(is_due && may_ping) {
            return Turn::Wait;
        }
        // Inside the lock, so that exactly the messages counted here go out before the ping.
        let mut writer = self.writer.lock();
        append_ping(self.pulse.ping(self.writer.begun()), &self.link, &mut self.decoder, &mut self.answers);
        writer.answer(&mut self.answers);
        self.is_pinging = true;
        Turn::Again
    }

    /// Appends a ping that follows every message, if one of them is unconfirmed: a peer that reads them answers it before it
    /// answers the close frame. A close frame of its own would not say that: it may have crossed them.
    pub(crate) fn append_last_ping(&mut self) {
        let begun = self.writer.begun();
        if self.pulse.is_on() && self.link.session.is_none() && begun > self.confirmed {
            append_ping(self.pulse.ping(begun), &self.link, &mut self.decoder, &mut self.answers);
        }
    }

    /// Sets the timer to the next deadline. [`Turn::Again`] if that has passed already.
    fn set_timer(&mut self, cx: &mut Context<'_>) -> Turn {
        let stalled = self.write_status.stalled.map(|since| after(since, self.link.limits.write_stalled));
        let deadlines = match &self.draining {
            Some(_) => [None; 3],
            None => [self.pulse.deadline(), stalled, self.session_deadline()],
        };
        let deadlines = deadlines.into_iter().chain([self.deadline(), debts::until()]);
        let Some(next) = deadlines.flatten().min() else { return Turn::Wait };
        // A timer that fires too early costs one turn; setting it again for each message would cost more.
        if self.timer.as_ref().is_some_and(|(set, _)| self.now < *set && *set <= next) {
            return Turn::Wait;
        }
        let (set, timer) = self.timer.get_or_insert_with(|| (next, Box::pin(sleep_until(next))));
        *set = next;
        timer.as_mut().reset(next);
        // Outside tokio's cooperative budget: with the budget used up, the timer would not note which task to wake, and it
        // is not polled again before it has fired.
        Turn::again_if(Pin::new(&mut unconstrained(timer.as_mut())).poll(cx).is_ready())
    }
}

/// Appends a ping to `answers`, which go out behind the messages that it counts.
fn append_ping(mark: Mark, link: &Link, decoder: &mut Decoder, answers: &mut Vec<u8>) {
    link.outbox.note_pinged();
    let ping = Message::Ping(Bytes::copy_from_slice(&mark.bytes()));
    // The stream is memory, which takes all bytes; and an open protocol takes messages.
    let _ = decoder.with_protocol(|protocol| protocol.write(&mut MemoryStream::new(&[], answers), ping));
}
