//! The clock of a driver: it pings, and ends whatever takes too long.

use std::{
    ops::ControlFlow::{Break, Continue},
    pin::Pin,
    task::Context,
};

use bytes::Bytes;
use tokio::{task::unconstrained, time::sleep_until};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    Frame, WsError,
    link::{
        Flow, Receipt, Turn,
        closing::{LINGER, Phase},
        driver::{Driver, Intake},
    },
    protocol::memory_stream::MemoryStream,
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
        self.end_if_late()?;
        if let Some(draining) = &self.draining {
            let is_heard = intake == Intake::Whole && !self.writer.has_arrived();
            if is_heard || draining.until.is_some_and(|until| until <= self.now) {
                return Break(self.drained());
            }
        }
        let pinged = self.ping_if_due();
        let timed = self.set_timer(cx);
        Continue(if pinged == Turn::Again { pinged } else { timed })
    }

    /// Ends the connection, or its writing, if something has taken too long.
    fn end_if_late(&mut self) -> Flow<()> {
        if self.draining.is_some() {
            return Continue(());
        }
        let is_late = self.closing_deadline().is_some_and(|deadline| deadline <= self.now);
        if !self.phase.hears_messages() {
            return if is_late { Break(self.ending_of_phase()) } else { Continue(()) };
        }
        let peer = || self.link.peer.to_string();
        if self.pulse.is_overdue(self.now) && self.writer.has_arrived() {
            // The peer is alive; the reactor has not reported its bytes yet.
            self.pulse.hear(self.now);
        } else if let Some(silent) = self.pulse.silence(self.now) {
            return Break(self.lost(WsError::PeerGone { peer: peer(), silent }));
        }
        let stall = self.link.limits.write_stalled;
        if self.write_status.stalled.is_some_and(|since| after(since, stall) <= self.now) {
            self.begin_draining(WsError::WriteStalled { peer: peer(), stalled: stall }, None);
        } else if is_late {
            self.begin_draining(WsError::ClosingTimedOut { peer: peer() }, Some(self.now + LINGER));
        }
        Continue(())
    }

    /// Queues a ping if one is due; it is written in another turn, at once.
    fn ping_if_due(&mut self) -> Turn {
        // For a peer that takes nothing, pings would only pile up.
        let may_ping =
            matches!(self.phase, Phase::Open) && self.draining.is_none() && self.write_status.stalled.is_none();
        if !(self.pulse.ping_due(self.now) && may_ping) {
            return Turn::Wait;
        }
        // Inside the lock, so that exactly the messages counted here go out before the ping.
        let mut writer = self.writer.lock();
        let payload = Message::Ping(Bytes::copy_from_slice(&self.writer.begun().to_be_bytes()));
        // The stream is memory, which takes all bytes; and in this phase the protocol takes messages.
        let mut stream = MemoryStream::new(&[], &mut self.answers);
        let _ = self.decoder.with_protocol(|protocol| protocol.write(&mut stream, payload));
        writer.answer(&mut self.answers);
        self.is_pinging = true;
        Turn::Again
    }

    /// Sets the timer to the next deadline. [`Turn::Again`] if that has passed already.
    fn set_timer(&mut self, cx: &mut Context<'_>) -> Turn {
        let stalled = self.write_status.stalled.map(|since| after(since, self.link.limits.write_stalled));
        let deadlines = match &self.draining {
            Some(draining) => [draining.until, None, None, debts::until()],
            None => [self.pulse.deadline(), stalled, self.closing_deadline(), debts::until()],
        };
        let Some(next) = deadlines.into_iter().flatten().min() else { return Turn::Wait };
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
