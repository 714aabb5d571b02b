//! How a connection ends: the closing handshake (RFC 6455, section 7), a mistake of the peer's, a failure.
//!
//! ```text
//!                   our close frame sent              peer's close frame
//!            Open ------------------------> CloseSent ------------------+
//!             | |                               |                       v
//!             | +----- peer's close frame ------|---------------> CloseReceived
//!             |                                 |
//!             +------ the peer's mistake -------+---------------> Failing
//! ```
//!
//! In the two phases to the right the last bytes are flushed, the socket is shut down, and the connection ends; at the
//! latest when the deadline of the phase has passed.
//!
//! In any phase the connection may begin to drain instead: a write failed or stalled, the time for closing is over, or
//! another connection is wanted. Then nothing is written any more, but the bytes that have arrived are still read and
//! dispatched, and they count: if the peer's close frame is among them, that frame decides the ending. Once the time for closing
//! is over, that lasts a second at most.

use std::{
    io,
    ops::ControlFlow::{Break, Continue},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::Instant;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, frame::coding::CloseCode};

use crate::{
    Frame, WsError,
    link::{Ending, Flow, Receipt, driver::Driver, read_buffer::READ_BUFFER_LEN, writer::WriteStatus},
    outbox::Closing,
    protocol::{
        close::{TAKEN_OVER, fitting_reason},
        memory_stream::MemoryStream,
    },
    transport::socket::Socket,
};

/// How long a peer may take to read why it is dropped, and how long this side goes on reading bytes that have arrived by
/// then.
pub(crate) const LINGER: Duration = Duration::from_secs(1);

/// Stands for a close frame without a code (RFC 6455, section 7.1.5).
const NO_CODE: u16 = 1005;

/// How far the closing handshake is. In boxes, since each connection has room for all phases.
pub(crate) enum Phase {
    Open,
    /// Our close frame is on its way. The peer's is still to come.
    CloseSent(Box<Closing>),
    /// The peer's close frame has come. The rest is being flushed, the answer to it last.
    CloseReceived(Box<Closing>),
    /// The peer made a mistake. The close frame that says so is on its way.
    Failing(Box<Failure>),
}

/// A mistake of the peer's.
pub(crate) struct Failure {
    code: u16,
    error: WsError,
    deadline: Instant,
}

impl Phase {
    /// Whether messages of the peer still count: none does after its close frame or its mistake (RFC 6455, sections 1.4 and
    /// 7.1.7).
    pub(crate) fn hears_messages(&self) -> bool {
        matches!(self, Self::Open | Self::CloseSent(_))
    }
}

/// A decided end: nothing more is written, but the bytes that have arrived are dispatched before the end is reported.
pub(crate) struct Draining {
    pub(crate) error: WsError,
    /// The latest time at which it ends. `None` if the socket has failed: it ends by itself, unless closing is asked for.
    pub(crate) until: Option<Instant>,
    /// How many more bytes may be read: as many as can have arrived.
    pub(crate) left: usize,
    /// Resolves when closing is asked for.
    closing: Pin<Box<dyn Future<Output = Closing> + Send>>,
}

impl<S, F> Driver<S, F>
where
    S: Socket,
    F: FnMut(Frame) -> Receipt,
{
    /// Ends all writing, and goes on dispatching the bytes that have arrived, `until` then. The first call decides the error,
    /// but one with a limit replaces one without.
    pub(crate) fn begin_draining(&mut self, error: WsError, until: Option<Instant>) {
        match &mut self.draining {
            Some(draining) if draining.until.is_none() => (draining.error, draining.until) = (error, until),
            Some(_) => {}
            None => {
                self.writer.stop_writing();
                let left = self.writer.arrived_len().saturating_add(READ_BUFFER_LEN);
                let outbox = self.link.outbox.clone();
                let closing = Box::pin(async move { outbox.until_closing().await });
                self.draining = Some(Draining { error, until, left, closing }.into());
                self.drop_answers();
            }
        }
    }

    /// Drops the answers. Nobody would receive them, and reading must not be [paused](Self::is_paused) for them.
    fn drop_answers(&mut self) {
        self.answers.clear();
        self.write_status = WriteStatus::default();
    }

    /// Takes the place of a turn's write while the connection drains. After the peer's last message there is nothing to wait
    /// for.
    pub(crate) fn skip_write(&mut self, cx: &mut Context<'_>) -> Flow<()> {
        self.drop_answers();
        if self.close_by.is_none()
            && let Some(draining) = &mut self.draining
            && let Poll::Ready(closing) = draining.closing.as_mut().poll(cx)
        {
            self.close_by = Some(closing.deadline);
        }
        if self.phase.hears_messages() { Continue(()) } else { Break(self.drained()) }
    }

    /// Enters a phase after `Open`. No message follows a close frame, whoever sent it (RFC 6455, section 5.5.1).
    fn enter(&mut self, phase: Phase) {
        self.writer.stop_taking();
        self.phase = phase;
    }

    fn send_close_frame(&mut self, code: CloseCode, reason: &str) {
        let frame = CloseFrame { code, reason: fitting_reason(reason).into() };
        // The stream is memory, which takes all bytes. The only error is that the peer's close frame came first, and then no
        // other is to be sent.
        let mut stream = MemoryStream::new(&[], &mut self.answers);
        let _ = self.decoder.with_protocol(|protocol| protocol.close(&mut stream, Some(frame)));
    }

    /// Tells a client that another link has its session: if it is somebody else's, it must not come back for it. Does not wait,
    /// since mostly it is the client's own, which hears nothing on this one any more.
    pub(crate) fn say_taken_over(&mut self) {
        if self.link.session.is_some() && self.link.role == Role::Server && matches!(self.phase, Phase::Open) {
            self.answers.clear();
            self.send_close_frame(TAKEN_OVER.into(), "another link has the session");
            self.writer.write_last(&self.answers);
        }
    }

    /// Begins the closing handshake that the program asked for, once every message is on its way.
    pub(crate) fn begin_closing_handshake(&mut self, closing: Closing) {
        self.say_last_words();
        self.append_last_ping();
        self.send_close_frame(CloseCode::from(closing.code), &closing.reason);
        self.enter(Phase::CloseSent(closing.into()));
    }

    /// Answers the peer's close frame, and notes it.
    pub(crate) fn on_close_frame(&mut self, frame: Option<CloseFrame>) {
        match &self.phase {
            // No message follows this side's close frame. What the peer has read it said before its own: a close frame that
            // crossed this one says nothing.
            Phase::CloseSent(_) => {}
            _ if self.link.role == Role::Client => self.say_what_has_arrived(),
            _ => self.say_last_words(),
        }
        // tungstenite has made the answer. The stream is memory, which takes all bytes; the error only says that the
        // connection is closed.
        let mut stream = MemoryStream::new(&[], &mut self.answers);
        let _ = self.decoder.with_protocol(|protocol| protocol.flush(&mut stream));
        let (code, reason) =
            frame.map_or((NO_CODE, "".into()), |frame| (frame.code.into(), frame.reason.as_str().into()));
        self.enter(Phase::CloseReceived(Closing { code, reason, deadline: self.linger_until() }.into()));
    }

    /// Fails the connection (RFC 6455, section 7.1.7): tells the peer its mistake before the connection is dropped.
    pub(crate) fn fail_connection(&mut self, code: CloseCode, reason: String) {
        self.send_close_frame(code, &reason);
        let error = WsError::Protocol { peer: self.link.recipient.name(), reason };
        self.enter(Phase::Failing(Failure { code: code.into(), error, deadline: self.linger_until() }.into()));
    }

    /// The time until which the peer may take the last bytes: never later than a deadline that was set before.
    fn linger_until(&self) -> Instant {
        let own = self.now + LINGER;
        self.closing_deadline().map_or(own, |set| set.min(own))
    }

    pub(crate) fn closing_deadline(&self) -> Option<Instant> {
        let of_phase = match &self.phase {
            Phase::Open => return self.close_by,
            Phase::CloseSent(closing) | Phase::CloseReceived(closing) => closing.deadline,
            Phase::Failing(failure) => failure.deadline,
        };
        // The program may close as well, and have less time.
        let asked = self.link.outbox.closing();
        Some(asked.map_or(of_phase, |asked| asked.deadline.min(of_phase)))
    }

    /// Shuts the socket down once the last bytes are flushed, and ends the connection unless the peer is the one to hang up.
    pub(crate) fn shut_down_if_flushed(&mut self, cx: &mut Context<'_>) -> Flow<()> {
        // After a closing handshake the server closes the socket (RFC 6455, section 7.1.1). A connection that failed stays
        // until the peer hangs up: a socket dropped with unread bytes would take the close frame along.
        let ends = match self.phase {
            Phase::Open | Phase::CloseSent(_) => return Continue(()),
            Phase::CloseReceived(_) => self.has_hung_up || self.link.role == Role::Server,
            Phase::Failing(_) => self.has_hung_up,
        };
        let shuts_down = ends || matches!(self.phase, Phase::Failing(_));
        // An error counts as done: the socket is to be dropped anyway.
        let is_shut_down = shuts_down && self.write_status.is_flushed && self.writer.poll_shutdown(cx).is_ready();
        if ends && is_shut_down { Break(self.ending_of_phase()) } else { Continue(()) }
    }

    /// Handles the end of the peer's stream.
    pub(crate) fn on_end_of_stream(&mut self) -> Flow<()> {
        match self.phase {
            _ if self.draining.is_some() => Break(self.drained()),
            Phase::Open | Phase::CloseSent(_) => {
                Break(self.lost(WsError::AbnormalClosure { peer: self.link.recipient.name() }))
            }
            // The peer may have shut down only its own side, and wait for the answer.
            Phase::CloseReceived(_) | Phase::Failing(_) => {
                self.has_hung_up = true;
                Continue(())
            }
        }
    }

    /// The ending of a connection from which reading failed.
    pub(crate) fn unreadable(&self, error: io::Error) -> Box<Ending> {
        match self.phase {
            Phase::Open | Phase::CloseSent(_) if self.draining.is_none() => self.lost(self.transport_error(error)),
            _ => self.drained(),
        }
    }

    pub(crate) fn transport_error(&self, error: io::Error) -> WsError {
        WsError::Transport { peer: self.link.recipient.name(), source: Arc::new(error) }
    }

    /// The ending of a connection that has drained, or from which nothing more can be read.
    pub(crate) fn drained(&self) -> Box<Ending> {
        match (self.draining.as_deref(), &self.phase) {
            (Some(Draining { error, .. }), Phase::Open | Phase::CloseSent(_)) => self.lost(error.clone()),
            // Even after a closing handshake: another connection is wanted at once.
            (Some(Draining { error: error @ WsError::Cut(_), .. }), _) => self.lost(error.clone()),
            _ => self.ending_of_phase(),
        }
    }

    /// The ending that the phase leads to.
    pub(crate) fn ending_of_phase(&self) -> Box<Ending> {
        let (code, reason, error) = match &self.phase {
            Phase::CloseReceived(closing) => (closing.code, closing.reason.clone(), None),
            Phase::Failing(failure) => (failure.code, failure.error.to_string().into(), Some(failure.error.clone())),
            Phase::Open | Phase::CloseSent(_) => {
                return self.lost(WsError::ClosingTimedOut { peer: self.link.recipient.name() });
            }
        };
        Box::new(Ending { code, reason, error, unconfirmed: 0 })
    }

    pub(crate) fn lost(&self, error: WsError) -> Box<Ending> {
        Box::new(Ending::lost(error))
    }
}
