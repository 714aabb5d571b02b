//! [`Call`]: a request that waits for its reply, as a future and as an observable.

use std::{
    fmt,
    future::IntoFuture,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rxrust::{
    context,
    observable::{CoreObservable, ObservableType},
    observer::Observer,
    subscription::Subscription,
};

use crate::{
    IoScheduler, WsDatatype, WsError,
    calls::{
        ask::{Ask, Reply},
        core::Core,
    },
    context::io_context,
    time,
};

/// A request that was sent and waits for its reply: what [`Calls::call`](crate::Calls::call) returns.
///
/// It is a future (`call.await`), and an observable that emits the reply and completes, or ends with the
/// [error](crate::Calls#the-end-of-a-call). It has one reply for one taker: await it, [`wait`](Self::wait) for it, or subscribe.
///
/// ```no_run
/// use rxplus::prelude::*;
///
/// # fn program(calls: Calls<WsStr>, buttons: RxWsClient<WsStr>) {
/// // One after the other, each answered before the next is sent:
/// buttons
///     .concat_map(move |button| calls.call(|id| format!("{id} {button}")))
///     .log_errors()
///     .subscribe(|reply| println!("{reply}"));
/// # }
/// ```
///
/// To call again after an error, make the call inside `Io::defer`: `Io::defer(move || calls.call(..).box_it()).retry(3)`, with an observer that
/// is `Clone`.
///
/// # Emission
///
/// On the I/O thread of the endpoint, also when the reply is there before somebody subscribes. The future is woken there.
///
/// # Cancel safety
///
/// Dropping the call, or its future, gives up the reply. The request is sent all the same.
#[must_use = "a call that is dropped gives up its reply"]
pub struct Call<D: WsDatatype> {
    inner: CallSource<D>,
    scheduler: IoScheduler,
}

/// The observable inside a [`Call`], as RxRust's operators see it.
pub struct CallSource<D: WsDatatype>(Waiting<D>);

/// The reply, awaited.
#[must_use = "futures do nothing unless they are awaited"]
pub struct CallFuture<D: WsDatatype>(Waiting<D>);

/// The subscription to a [`Call`].
///
/// Dropping it does not unsubscribe.
pub struct CallSubscription<D: WsDatatype>(Arc<Ask<D>>);

/// The place of one who waits for a reply, and gives it up when this is dropped.
struct Waiting<D: WsDatatype> {
    core: Arc<Core<D>>,
    ask: Arc<Ask<D>>,
}

impl<D: WsDatatype> Call<D> {
    pub(super) fn new(core: Arc<Core<D>>, ask: Arc<Ask<D>>) -> Self {
        let scheduler = core.caller().home().clone();
        Self { inner: CallSource(Waiting { core, ask }), scheduler }
    }

    /// The number that the request was given.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.inner.0.ask.number
    }

    /// The future that `.await` makes of it, for those who put it among others.
    // Two traits have a method of this name.
    pub fn into_future(self) -> CallFuture<D> {
        CallFuture(self.inner.0)
    }

    /// Blocks until the reply, for as long as [`Calls::timeout`](crate::Calls::timeout) allows.
    ///
    /// # Errors
    ///
    /// - [`WsError::WouldDeadlock`] on the I/O thread of the endpoint, or the only one of its tokio runtime, at once.
    /// - Those [of a call](crate::Calls#the-end-of-a-call).
    pub fn wait(self) -> Result<D::Item, WsError> {
        if self.scheduler.waits_for() {
            return Err(WsError::WouldDeadlock("Call::wait"));
        }
        let timeout = self.inner.0.ask.timeout;
        // The timer of the calls ends it; a runtime that has died ends the endpoint.
        time::block_on(self.into_future(), Duration::MAX)
            .unwrap_or(Err(WsError::TimedOut { what: "the reply to a call", after: timeout }))
    }
}

io_context!(Call<D: WsDatatype>, CallSource<D>);

impl<D: WsDatatype> IntoFuture for Call<D> {
    type Output = Reply<D>;
    type IntoFuture = CallFuture<D>;

    fn into_future(self) -> CallFuture<D> {
        self.into_future()
    }
}

impl<D: WsDatatype> Future for CallFuture<D> {
    type Output = Reply<D>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.ask.poll(cx)
    }
}

impl<D: WsDatatype> ObservableType for CallSource<D> {
    type Item<'a>
        = D::Item
    where
        Self: 'a;
    type Err = WsError;
}

impl<D, C> CoreObservable<C> for CallSource<D>
where
    D: WsDatatype,
    C: context::Context,
    C::Inner: Observer<D::Item, WsError> + Send + 'static,
{
    type Unsub = CallSubscription<D>;

    fn subscribe(self, context: C) -> CallSubscription<D> {
        let (waiting, mut observer) = (self.0, context.into_inner());
        let ask = waiting.ask.clone();
        ask.observe(Box::new(move |reply| {
            let _waiting = waiting;
            match reply {
                Ok(reply) => {
                    observer.next(reply);
                    observer.complete();
                }
                Err(error) => observer.error(error),
            }
        }));
        CallSubscription(ask)
    }
}

impl<D: WsDatatype> Subscription for CallSubscription<D> {
    fn unsubscribe(self) {
        self.0.give_up();
    }

    fn is_closed(&self) -> bool {
        self.0.is_over()
    }
}

impl<D: WsDatatype> Drop for Waiting<D> {
    fn drop(&mut self) {
        self.ask.give_up();
        self.core.forget(&self.ask);
    }
}

impl<D: WsDatatype> fmt::Debug for Call<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("number", &self.number()).finish_non_exhaustive()
    }
}

impl<D: WsDatatype> fmt::Debug for CallSource<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallSource").field("number", &self.0.ask.number).finish_non_exhaustive()
    }
}

impl<D: WsDatatype> fmt::Debug for CallFuture<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallFuture").field("number", &self.0.ask.number).finish_non_exhaustive()
    }
}

impl<D: WsDatatype> fmt::Debug for CallSubscription<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallSubscription").field("is_closed", &self.is_closed()).finish()
    }
}
