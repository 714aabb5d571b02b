//! One connection on one socket, from the end of its opening handshake to its own end. The same code serves both sides.
//!
//! # The way of bytes and messages
//!
//! ```text
//!   program                                       subscribers
//!      | push                                          ^ subject (its own thread, or the task's: see `subject`)
//!      v                                               |
//!   Outbox (queue)                                  receive: decodes, then emits
//!      |                                               ^
//!      | take_each: encodes, masks                     | dispatch
//!      v                                               |
//!   WriteBuffer <---- answers: pongs, close frames -- Decoder (tungstenite for control frames and fragments)
//!      |                                               ^
//!      |                                               | ReadBuffer, one for all connections of a thread
//!      v                                               |
//!   +---------------------------- socket ------------------------------+
//! ```
//!
//! - **Up**, on the right: only the connection's task, in [`Driver::poll`](driver::Driver::poll).
//! - **Down**, on the left: one of three at a time, under the lock of the [`SharedWriter`]. On a runtime of one thread it is
//!   the [`WriteScheduler`], for connections whose task sleeps. Without a scheduler (on a client, or with several threads),
//!   a push wakes the task, which writes. A thread that pushes into a full outbox first writes as much as the socket takes.
//! - Answers, the closing handshake, the heartbeat and the deadlines are always the task's.
//!
//! # The flags of an end
//!
//! An end begins in many places, and the code that handles messages must see it at once. So several flags say that something
//! is ending. Where two say the same, the second is a copy for readers that cannot take the lock of the first.
//!
//! | Flag or state | It says | Set by | Read without a lock by |
//! |---|---|---|---|
//! | endpoint `Component.terminal` | how the subscribers are to end; the first call counts | `complete`, `error`, the end of the last handle; a task that dies | nobody |
//! | endpoint `Component.is_ending` | the subscribers have been ended | the first task that ends them | a second one, which a swap stops |
//! | server `close_code` | the close code of its end, 0 before | `begin_closing` | each push, each peer that comes or goes: `is_closing()` |
//! | server `closing` (a watch) | the same | `begin_closing`, after the code | the accept loop and the opening handshakes, which await it |
//! | group `Children.closing` | no more clients are made | `complete`, `error`; a group that dies | nobody |
//! | outbox `closing()` | the closing handshake to make behind the last message, and its deadline | `Outbox::close`; an overflow | nobody |
//! | outbox `is_closing()` | nothing more is accepted: a copy of the one above | the same, inside the lock of the queue | each push, before it encodes |
//! | outbox `has_overflown()` | the queue was dropped: the peer reads too slowly | an overflow, inside the lock of the queue | each turn of the driver; a client, when its link has ended |
//! | [`SharedWriter`] `is_open` | messages may be written: no close frame was sent or received | the driver, in `stop_taking` and `stop_writing` | nobody; it is an atomic so that `prefetch` may load it |
//! | `Writer.is_over` | nothing at all is written any more | `stop_writing`, `close_socket` | nobody |
//! | driver `phase` | how far the closing handshake is | the driver | the driver, which shares none of its fields |
//! | driver `draining` | the end is decided; arrived bytes are still dispatched | the driver: a failed or stalled write, a deadline, a cut | the driver |
//! | driver `close_by` | the deadline of the outbox's closing handshake, while messages go out before it | the driver, after each write | the driver's clock |
//! | driver `has_hung_up` | the peer has shut its side down | the driver, at the end of the stream | the driver |
//!
//! [`closing`] explains the phases.

use std::{
    fmt::{self, Write},
    future::poll_fn,
    io,
    ops::ControlFlow,
    pin::Pin,
    sync::Arc,
    task::{Poll, ready},
};

use bytes::Bytes;
use tokio_tungstenite::tungstenite::protocol::{Role, frame::coding::CloseCode};

use crate::{
    Frame, WsError,
    limits::Limits,
    link::{
        driver::Driver,
        session::{News, SessionLink},
        write_scheduler::WriteScheduler,
        writer::{Progress, SharedWriter, WriterHandle},
    },
    outbox::Outbox,
    protocol::{deflate::Agreed, heartbeat::Heartbeat},
    runtime::callback,
    subject::Backlog,
    transport::socket::Socket,
};

mod closing;
mod deadlines;
mod driver;
mod filling;
pub(crate) mod greeting;
mod in_place;
mod long_turns;
mod read_ahead;
mod read_buffer;
mod reading;
pub(crate) mod session;
pub(crate) mod write_scheduler;
mod writer;

#[cfg(test)]
mod tests;

pub(crate) use read_ahead::READ_AHEAD;

/// Whether a turn leaves something to do at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// There is more to do, and nothing else wakes the task for it.
    Again,
    /// Something else wakes the task: a readable or writable socket, a push, the clock.
    Wait,
}

impl Turn {
    pub(crate) fn again_if(again: bool) -> Self {
        if again { Self::Again } else { Self::Wait }
    }
}

/// A step of the driver: it goes on with a `T`, or the connection has ended.
pub(crate) type Flow<T> = ControlFlow<Box<Ending>, T>;

/// A link to be opened on a socket.
pub(crate) struct NewLink {
    pub(crate) link: Link,
    /// Writes the messages pushed while the driver sleeps; without a scheduler the driver wakes up and does so itself.
    pub(crate) scheduler: Option<Arc<WriteScheduler>>,
    pub(crate) heartbeat: Heartbeat,
    /// The bytes that came together with the opening handshake.
    pub(crate) early_bytes: Bytes,
}

/// What a link needs to its end.
pub(crate) struct Link {
    pub(crate) role: Role,
    /// What both sides have agreed on, if messages may be compressed.
    pub(crate) deflate: Option<Agreed>,
    pub(crate) recipient: Arc<dyn Recipient>,
    pub(crate) outbox: Outbox,
    pub(crate) limits: Arc<Limits>,
    /// The subject in which the events of the connection pile up.
    pub(crate) events: Arc<dyn Backlog>,
    /// The session that it belongs to, if there is one.
    pub(crate) session: Option<Box<SessionLink>>,
}

impl Link {
    /// Takes leave of the session, if there is one. What was received is not received again.
    pub(crate) fn leave_session(&mut self) -> Option<Box<SessionLink>> {
        let session = self.session.take()?;
        self.outbox.note_received(session.received());
        Some(session)
    }
}

impl Drop for Link {
    /// Also when the task is cancelled.
    fn drop(&mut self) {
        self.leave_session();
    }
}

/// Of a path and an address.
const USUAL_NAME_LEN: usize = 48;

/// Who gets what a link receives. Errors name the peer by what it prints.
pub(crate) trait Recipient: fmt::Display + Send + Sync {
    /// Where received messages pile up if their subscribers do not keep up.
    fn inbound(&self) -> &dyn Backlog;

    /// Is told what the link hears of its session.
    fn hear_news(&self, news: News);

    /// As errors name it. In one piece of memory, which most names fit.
    fn name(&self) -> String {
        let mut name = String::with_capacity(USUAL_NAME_LEN);
        let _ = write!(name, "{self}");
        name
    }
}

/// The outcome of handing a message on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receipt {
    Taken,
    /// The datatype could not decode it, and the receiver reports that.
    Undecodable,
}

/// A link on a socket: pushed messages are written from now on.
pub(crate) struct OpenLink<S: Socket> {
    writer: WriterHandle<S>,
    link: Link,
    heartbeat: Heartbeat,
    early_bytes: Bytes,
}

impl NewLink {
    /// Opens the link. `answer`, the end of a server's opening handshake, goes out before any message.
    pub(crate) fn open<S: Socket>(self, socket: S, answer: Vec<u8>) -> OpenLink<S> {
        let Self { link, scheduler, heartbeat, early_bytes } = self;
        let writer = SharedWriter::open(socket, answer, link.role, link.deflate, link.outbox.clone(), scheduler);
        OpenLink { writer, link, heartbeat, early_bytes }
    }
}

impl<S: Socket> OpenLink<S> {
    /// Writes the answer that the link was opened with.
    pub(crate) async fn answered(&self) -> io::Result<()> {
        poll_fn(|cx| {
            self.writer.set_task(cx.waker().clone());
            let (progress, status) = self.writer.write(&mut Vec::new(), cx);
            match progress? {
                Progress::Blocked if status.answers_len > 0 => Poll::Pending,
                // The driver writes the rest.
                _ => Poll::Ready(Ok(())),
            }
        })
        .await
    }
}

/// How a connection ended.
#[derive(Clone, Debug)]
pub(crate) struct Ending {
    /// The close code that decided it; 1006 without a closing handshake (RFC 6455, section 7.1.5).
    pub(crate) code: u16,
    pub(crate) reason: Arc<str>,
    /// `None` after a closing handshake.
    pub(crate) error: Option<WsError>,
    /// How many messages were written since the last ping that a pong answered: at most this many can have been lost.
    /// Counted last, when nothing is written any more.
    pub(crate) unconfirmed: u64,
}

impl Ending {
    /// The ending of a connection without a closing handshake.
    pub(crate) fn lost(error: WsError) -> Self {
        Self { code: CloseCode::Abnormal.into(), reason: Arc::default(), error: Some(error), unconfirmed: 0 }
    }
}

/// Serves a link until its connection ends, or is dropped because `cut` resolved. All text and binary messages that have
/// arrived go to `receive` before the end is reported.
pub(crate) fn drive<S, F>(
    link: OpenLink<S>,
    receive: F,
    cut: impl Future<Output = ()> + Unpin,
) -> impl Future<Output = Box<Ending>>
where
    S: Socket,
    F: FnMut(Frame) -> Receipt,
{
    // Not an `async fn`: its future would hold the arguments beside the driver made from them. And the ending is in a box, since
    // each future that awaits it has room for it from the beginning.
    let mut driver = Driver::new(link, receive);
    let mut cut = Some(cut);
    poll_fn(move |cx| {
        callback::begin_turn();
        if cut.as_mut().is_some_and(|cut| Pin::new(cut).poll(cx).is_ready()) {
            cut = None;
            driver.cut();
        }
        let mut ending = ready!(driver.poll(cx));
        driver.finish(&mut ending);
        Poll::Ready(ending)
    })
}
