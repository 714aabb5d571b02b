//! [`SerializedSubject`], the only place that calls observers.
//!
//! A thread that gets the [token](token::Token), with the list of observers, delivers, and keeps delivering the events that others leave in
//! the inbox meanwhile; then it gives the token back. No thread waits for the token. All other data are under one mutex, held
//! for moments and never while an observer runs.
//!
//! | file | contents |
//! |---|---|
//! | here | the subject as its users see it |
//! | [`feeding`] | the subject as drivers, tasks and other subjects of rxplus feed it |
//! | [`core`] | which thread delivers, and when: the emission loop, and a table of its verbs |
//! | [`token`] | what the thread that emits holds, and how others call it |
//! | [`pushing`] | how events come in: at once, or through the inbox |
//! | [`state`], [`waits`] | the data under the mutex; those that wait |
//! | [`joining`] | how an observer comes in, and hears its backlog |
//! | [`delivery`] | the calls of observers, each isolated from the others |
//! | [`subscription`] | how an observer leaves |
//! | [`replay`] | the items that are remembered for a late subscriber |
//! | [`branch`], [`audience`] | a subject that flows into a main one; who hears that |
//! | [`holding`] | an observer that holds a count |

pub(crate) mod audience;
pub(crate) mod branch;
mod core;
mod delivery;
mod feeding;
pub(crate) mod holding;
mod joining;
mod pushing;
pub(crate) mod replay;
mod state;
mod subscription;
mod token;
mod waits;

use std::{convert::Infallible, fmt, sync::Arc};

use rxrust::{
    context::Context,
    observable::{CoreObservable, ObservableType},
    observer::Observer,
};

pub(crate) use delivery::{OnPanic, PanicHook, discard};
pub(crate) use feeding::{Backlog, Merge, Merged, at_most};
pub use subscription::SerializedSubscription;

use crate::{
    runtime::callback,
    subject::{
        core::Core,
        replay::Replay,
        state::{Event, Terminal},
    },
    sync::{AtomicBool, Ordering},
};

/// A subject into which any thread may push, at any time, even from inside a callback: ReactiveX's *serialize*.
///
/// RxRust's own `Shared` subject panics when two threads push at once, and falls silent after a subscriber has panicked.
/// This one gives its observers the Rx grammar, `next* (error | complete)?`, whatever its callers do. It is *hot*.
///
/// Subscribe through a context, which lends it RxRust's operators:
///
/// ```
/// use rxplus::prelude::*;
/// use std::convert::Infallible;
///
/// let subject = SerializedSubject::<u32, Infallible>::new();
/// Io::new(subject.clone()).map(|n| n * 2).subscribe(|n| println!("{n}"));
/// subject.next(21);
/// subject.complete();
/// ```
///
/// # Emission
///
/// On the thread that pushes, or, when another thread is emitting, on that one. Items pushed by one thread keep their order.
/// A thread of a runtime or of a [`RunLoop`](crate::RunLoop), which has other work to do, delivers 256 items in a row that
/// others left it; then the next thread that pushes goes on, or a task on that runtime or loop, after it has looked at its
/// sockets.
///
/// A push from a callback, into this subject or any other of rxplus, is never delivered on the callback's own thread before
/// the outermost callback of that thread has returned. Another thread that is emitting, or that pushes into the same subject
/// meanwhile, may deliver it at once. So never wait in a callback for the effect of such a push, and never assume that the
/// effect is still to come.
///
/// If the callbacks of a connection push more than is delivered, the connection makes as many deliveries itself before it
/// reads on. So does a client before it connects again, a server before it accepts, and a
/// [`deliver_on`](crate::ObservableExt::deliver_on) before it delivers its next item. While another
/// thread delivers and more than 1,024 items wait, it waits for that thread, for a second at most. So a fast peer is slowed
/// down to the pace of the observers.
///
/// When a million items wait because observers are slower than producers, a push waits for room. A thread of a runtime, or
/// one that has a `RunLoop`, never waits, and a push from a callback on another thread waits once the thread is outside any
/// callback. If such threads have pushed another million meanwhile, the newest items are dropped, counted by
/// [`lost`](Self::lost), and logged (`tracing::error!`).
///
/// This subject cannot help in one case: a cold source that emits while it is being subscribed to, such as `Io::of` or
/// `Io::from_iter`, is no callback, yet RxRust's combining operators hold their lock meanwhile. If the items of such a
/// source make an observer push into the other side of a `merge`, start it with `.subscribe_on(IoScheduler::default())`.
///
/// A subscriber that panics is removed and logged (`tracing::error!`); the others go on. A subscriber that comes after the
/// terminal event hears it at once, on its own thread, inside `subscribe`.
pub struct SerializedSubject<T, E = Infallible> {
    core: Arc<Core<T, E>>,
}

impl<T, E> Default for SerializedSubject<T, E> {
    fn default() -> Self {
        Self::of(Core::new(None, Replay::Nothing, None))
    }
}

impl<T, E> SerializedSubject<T, E> {
    /// Makes a subject without observers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn of(core: Core<T, E>) -> Self {
        Self { core: Arc::new(core) }
    }

    /// How many items were lost because two million (2^21) were waiting already.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.core.lock().waits.lost()
    }

    #[cfg(test)]
    pub(crate) fn inbox_capacity(&self) -> usize {
        self.core.lock().inbox.capacity()
    }
}

impl<T: Clone + Send + 'static, E: Clone + Send + Sync + 'static> SerializedSubject<T, E> {
    /// Emits `item`, or leaves it to the thread that is emitting. Ignored after a terminal event.
    pub fn next(&self, item: T) {
        if callback::is_inside() {
            self.core.push_later(Event::Next(item));
        } else {
            self.core.emit_item(item);
        }
    }

    /// Ends the subject with an error. Ignored after a terminal event.
    pub fn error(self, error: E) {
        self.end(Terminal::Error(Arc::new(error)));
    }

    /// Ends the subject. Ignored after a terminal event.
    pub fn complete(self) {
        self.end(Terminal::Complete);
    }

    fn end(&self, terminal: Terminal<E>) {
        let event = Event::Terminal(terminal);
        if callback::is_inside() {
            self.core.push_later(event);
        } else {
            self.core.emit(event);
        }
    }

    pub(crate) fn add(&self, observer: impl Observer<T, E> + Send + 'static) -> SerializedSubscription {
        let open = Arc::new(AtomicBool::new(true));
        let number = self.core.join(open.clone(), Box::new(observer));
        SerializedSubscription::new(number, open, &self.core)
    }
}

impl<T, E> Clone for SerializedSubject<T, E> {
    fn clone(&self) -> Self {
        Self { core: self.core.clone() }
    }
}

impl<T: Clone + Send + 'static, E: Clone + Send + Sync + 'static> Observer<T, E> for SerializedSubject<T, E> {
    fn next(&mut self, item: T) {
        (*self).next(item);
    }

    fn error(self, error: E) {
        self.error(error);
    }

    fn complete(self) {
        self.complete();
    }

    fn is_closed(&self) -> bool {
        self.core.closed.load(Ordering::Acquire)
    }
}

impl<T, E> ObservableType for SerializedSubject<T, E> {
    type Item<'a>
        = T
    where
        Self: 'a;
    type Err = E;
}

impl<T, E, C> CoreObservable<C> for SerializedSubject<T, E>
where
    T: Clone + Send + 'static,
    E: Clone + Send + Sync + 'static,
    C: Context,
    C::Inner: Observer<T, E> + Send + 'static,
{
    type Unsub = SerializedSubscription;

    fn subscribe(self, context: C) -> SerializedSubscription {
        self.add(context.into_inner())
    }
}

impl<T, E> fmt::Debug for SerializedSubject<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SerializedSubject").field("closed", &self.core.closed).finish_non_exhaustive()
    }
}
