//! Requests that are answered: [`Calls`] of an endpoint, and each [`Call`].
//!
//! ```text
//! Calls::call -> Registry (number -> Ask) -> Caller::offer -> the outbox -> link
//! link -> the endpoint's subject -> Replies -> Registry -> Ask -> the future, or the observer
//!             the outbox (Fate), the timer, a lost link -----^
//! ```
//!
//! A call is in the registry before its request is in the outbox, so no reply is too early. It leaves the registry with its reply,
//! its error, or the one who waits for it.

mod ask;
mod call;
mod core;
mod replies;
mod shares;
mod timer;

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use crate::{IoScheduler, SendError, SerializedSubscription, WsDatatype, WsError, calls::core::Core, fate::Fate};

pub use call::{Call, CallFuture, CallSource, CallSubscription};
pub(crate) use replies::Replies;

/// How long a call waits for its reply, unless the program says otherwise.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Requests on one endpoint, each with one reply: what [`RxWsClient::calls`](crate::RxWsClient::calls) and
/// [`Connection::calls`](crate::Connection::calls) return.
///
/// A reply is told from all else that arrives by a number. [`call`](Self::call) gives the number of a new request, which the program
/// puts into it, and the function given to `calls` reads the number of a reply:
///
/// ```no_run
/// use rxplus::prelude::*;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Clone, Serialize, Deserialize)]
/// struct Command { id: u64, what: String }
///
/// #[derive(Clone, Serialize, Deserialize)]
/// struct Reply { id: u64, result: f64 }
///
/// # async fn program() -> Result<(), WsError> {
/// let robot = RxWsClient::connect("ws://10.0.0.8:9000/control", WsObject::<Reply, Command>::pair())?;
/// let calls = robot.calls(|reply| reply.id).timeout(Duration::from_secs(2));
/// let volts = calls.call(|id| Command { id, what: "voltage".into() });
/// let turned = calls.call(|id| Command { id, what: "turn left".into() }); // both are under way
/// println!("{} V, turned by {}", volts.await?.result, turned.await?.result);
/// # Ok(())
/// # }
/// ```
///
/// The answering side needs no word of its own: it is a `map`. A function that finds no number, in a message that is no reply, says so by
/// `None`: `calls(|message| message.reply_to)` with an `Option<u64>`. A protocol whose numbers are texts makes them of the number
/// and back.
///
/// # Numbers
///
/// They count from 1, over all `Calls` of an endpoint, and never come twice. So a reply that comes after its call has timed out
/// answers no other one, and neither does one of another connection.
///
/// # The end of a call
///
/// A call ends once, with its reply or one of these errors:
///
/// - [`WsError::NotSent`]: the outbox refused the request, or dropped it unwritten; or the datatype could not encode it.
/// - [`WsError::TimedOut`]: no reply within the [timeout](Self::timeout), in which the client may have been waiting for a connection.
///   That ends the waiting, not the request: one that still waits in the outbox is sent with the next connection, however late
///   that is. A command that must not come late has a deadline in it, which the peer checks.
/// - [`WsError::Unanswered`]: the request was written, and the connection has ended since. Whether the peer has done what was asked
///   nobody knows. See [`resend_unconfirmed`](Self::resend_unconfirmed).
/// - [`WsError::Closed`], or the error with which the endpoint ended.
///
/// A request that was not written when the connection ended waits in the outbox for the next one, and so does its call. In the
/// [resumable mode](crate::Resume) all calls outlive the link, since their requests and replies do, and only the loss of the session
/// ends those that were written.
///
/// Dropping a [`Call`], its future or its subscription by `unsubscribe` gives up the reply, and keeps nothing of it. The request is sent all
/// the same.
///
/// # Emission
///
/// Replies are ordinary items: all other subscribers of the endpoint hear them too. `calls` subscribes at once, so make the subscriptions
/// that are to hear [early items](crate::RxWsClient#emission) before it. The function that reads numbers is called on the I/O thread with every
/// item; an item for which it panics answers no call. Many calls wait at once at the cost of one lookup for each item. They hold a handle of
/// the endpoint, as long as there is one of them or a call that waits.
///
/// Clones share everything but their options.
pub struct Calls<D: WsDatatype> {
    core: Arc<Core<D>>,
    timeout: Duration,
    resends: bool,
}

/// An endpoint, as calls need it.
pub(crate) trait Caller<D: WsDatatype>: Send + Sync {
    fn name(&self) -> &str;

    fn home(&self) -> &IoScheduler;

    /// A number that no request of this endpoint has had.
    fn next_number(&self) -> u64;

    /// Encodes and queues a request. Tells `fate` what becomes of it.
    fn offer(&self, request: &D::Outgoing, fate: &Arc<dyn Fate>) -> Result<(), SendError<()>>;

    /// Subscribes to what arrives, and does not keep the endpoint open for that.
    fn hear(&self, replies: Replies<D>) -> SerializedSubscription;

    /// Tells `calls` of each loss.
    fn watch(&self, calls: Weak<dyn OnLoss>);
}

/// What was lost.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// A plain link, with all that was written on it and not answered.
    Link,
    /// A session, with the answers to what the peer has acknowledged.
    Session,
}

/// Hears of losses, on the I/O thread, after everything that had arrived was emitted.
pub(crate) trait OnLoss: Send + Sync {
    fn lost(self: Arc<Self>, loss: Loss, error: &WsError);
}

impl<D: WsDatatype> Calls<D> {
    pub(crate) fn new<R: Into<Option<u64>>>(
        caller: impl Caller<D> + 'static,
        mut number_of: impl FnMut(&D::Item) -> R + Send + 'static,
    ) -> Self {
        let core = Core::listening(Box::new(caller), Box::new(move |item| number_of(item).into()));
        Self { core, timeout: TIMEOUT, resends: false }
    }

    /// Sends what `request` makes of the number it is given, and returns the call. Never blocks.
    ///
    /// ```
    /// # use rxplus::prelude::*;
    /// # fn program(calls: Calls<WsStr>) -> Result<(), WsError> {
    /// let reply = calls.call(|id| format!("{id} battery")).wait()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The request is in the outbox when this returns, behind what this thread has pushed before. A refusal is the
    /// [error](Self#the-end-of-a-call) of the call.
    pub fn call<R: Into<D::Outgoing>>(&self, request: impl FnOnce(u64) -> R) -> Call<D> {
        let number = self.core.caller().next_number();
        let request = request(number).into();
        Call::new(self.core.clone(), self.core.ask(number, request, self.timeout, self.resends))
    }

    /// Sets how long the calls made by this handle wait for their reply, from the call on. The default is 30 s; `Duration::MAX` means
    /// no limit. The request is [sent all the same](Self#the-end-of-a-call), if late.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Sends a request again that was written and not answered when its connection, or in the resumable mode its session, was lost: behind
    /// all that waits in the outbox, as often as that happens, until the call ends. By default such a call ends with
    /// [`WsError::Unanswered`].
    ///
    /// For requests that may be done twice: the peer may have done it, and its answer may be what was lost.
    #[must_use]
    pub fn resend_unconfirmed(self) -> Self {
        Self { resends: true, ..self }
    }

    /// How many calls wait for their reply.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.core.pending()
    }
}

impl<D: WsDatatype> Clone for Calls<D> {
    fn clone(&self) -> Self {
        Self { core: self.core.clone(), ..*self }
    }
}

impl<D: WsDatatype> fmt::Debug for Calls<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calls")
            .field("pending", &self.pending())
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
