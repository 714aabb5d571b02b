//! How rxplus's own sources feed a subject: drivers, tasks and other subjects.

use std::{
    future::poll_fn,
    sync::{Arc, atomic::AtomicU64},
    task::{self, Poll},
};

use rxrust::observer::Observer;
use tokio::sync::oneshot;

use crate::{
    runtime::{IoScheduler, callback},
    subject::{
        PanicHook, SerializedSubject,
        core::Core,
        pushing::UpTo,
        replay::{Noted, Replay},
        state::{Event, State, Terminal},
    },
    sync::{AtomicUsize, Ordering},
};

/// An item that can stand for several of its kind, so that not all of them have to wait for slow observers.
pub(crate) trait Merge {
    /// Merges `later` into this waiting item. Must not call user code: a lock is held.
    fn merge(&mut self, later: &Self) -> Merged;
}

/// Whether an item stands for a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Merged {
    Done,
    /// Not this one, but an item that has waited longer may.
    NotHere,
    /// Neither this one nor any that has waited longer.
    Never,
}

/// Subjects of components.
impl<T, E> SerializedSubject<T, E> {
    /// A component's subject: posted items, and the backlog of a new observer, are delivered on `home`.
    pub(crate) fn at_home(home: IoScheduler, replay: Replay<T>, on_panic: Option<PanicHook>) -> Self {
        Self::of(Core::new(Some(home), replay, on_panic))
    }

    /// As [`at_home`](Self::at_home). Items that wait are [merged](Merge).
    pub(crate) fn merging(home: IoScheduler, replay: Replay<T>, on_panic: Option<PanicHook>) -> Self
    where
        T: Merge,
    {
        let mut core = Core::new(Some(home), replay, on_panic);
        core.merge = Some(State::merge);
        Self::of(core)
    }

    /// A subject that counts, in `unheard`, the items that nobody took.
    pub(crate) fn counting(unheard: Arc<AtomicU64>) -> Self {
        let mut core = Core::new(None, Replay::Nothing, None);
        core.unheard = Some(unheard);
        Self::of(core)
    }

    /// Reports that user code panicked on an item's way to this subject.
    pub(crate) fn report_panic(&self) {
        self.core.report_panic();
    }

    /// Whether items are still kept for a first observer.
    pub(crate) fn keeps_early(&self) -> bool {
        self.core.keeps_early.load(Ordering::Acquire)
    }

    /// Takes out the items kept for a first observer that are `wanted`, which must call nobody.
    pub(crate) fn take_early(&self, wanted: &dyn Fn(&T) -> bool) -> Vec<T> {
        self.core.lock().replay.take_early(wanted)
    }

    /// Whether nothing waits to be delivered.
    pub(crate) fn is_idle(&self) -> bool {
        self.core.lock().inbox.is_empty()
    }

    /// Forgets a member, so that later observers do not hear of it.
    pub(crate) fn forget(&self, number: u64) {
        let forgotten = self.core.lock().replay.forget(number);
        drop(forgotten);
    }
}

impl<T: Clone + Send + 'static, E: Clone + Send + Sync + 'static> SerializedSubject<T, E> {
    /// Emits as a part of the emission that this is called in, as an operator does: at once, unless another thread is
    /// emitting.
    pub(crate) fn relay(&self, item: T) {
        self.core.emit_item(item);
    }

    /// As [`relay`](Self::relay), with the terminal event.
    pub(crate) fn relay_end(&self, error: Option<Arc<E>>) {
        self.core.emit(Event::Terminal(error.map_or(Terminal::Complete, Terminal::Error)));
    }

    /// This subject as a component's own sources feed it: each item is [relayed](Self::relay).
    ///
    /// Only for items that come straight from a driver or from another subject of rxplus. Then no user callback is under way
    /// on this thread whose lock the emission could wait for, and nothing has to be deferred. For a message through a
    /// server's own subject that is worth 0.15 us.
    pub(crate) fn fed(&self) -> Fed<T, E> {
        Fed(self.clone())
    }

    /// As [`next`](Self::next), outside any callback, for a subject that [remembers elsewhere](Replay::Elsewhere): returns
    /// the item if nobody is there to hear it, and it is not kept there.
    pub(crate) fn offer(&self, item: T) -> Option<T> {
        self.core.offer(item)
    }

    /// Keeps an item for the first observer, as long as there has been none. Calls nobody.
    ///
    /// An item does not wait for its turn behind events in the inbox: as long as items are kept, none is there.
    pub(crate) fn keep_early(&self, item: T) -> Noted<T> {
        let mut state = self.core.lock();
        if self.core.closed.load(Ordering::Relaxed) {
            return Noted::unkept(item);
        }
        let nobody = state.replay.is_early();
        state.replay.note(item, nobody)
    }

    /// Queues `item`, in the order of the calls, for the home thread to deliver.
    pub(crate) fn post(&self, item: T) {
        if self.core.enqueue(Event::Next(item), None) == UpTo::Caller {
            self.core.wake_home();
        }
    }

    /// Queues `item` without delivering it: the thread that emits next does, or the one that
    /// [`wake_home`](Self::wake_home) wakes. Calls no observer.
    pub(crate) fn enqueue(&self, item: T) {
        self.core.enqueue(Event::Next(item), None);
    }

    /// As [`enqueue`](Self::enqueue), with the terminal event.
    pub(crate) fn enqueue_end(&self) {
        self.core.enqueue(Event::Terminal(Terminal::Complete), None);
    }

    /// Ends the subject with `last` as the last item: nothing comes in between.
    pub(crate) fn complete_with(self, last: T) {
        self.core.enqueue_last(last);
        // Comes too late, and so only delivers.
        self.complete();
    }

    /// Makes the home thread deliver the items that wait.
    pub(crate) fn wake_home(&self) {
        self.core.wake_home();
    }

    /// Delivers `item` if it comes first, on this thread, which is one of the home's. Otherwise makes a task there do so, and waits
    /// until it has, but not for the items behind it. Not for a callback.
    ///
    /// A caller that delivered it behind others by itself would have to deliver those, too.
    pub(crate) async fn deliver_at_home(&self, item: T) {
        let Some(item) = self.core.emit_first(item) else { return };
        let (mark, passed) = oneshot::channel();
        if self.core.enqueue(Event::Next(item), Some(mark)) == UpTo::Caller {
            callback::run(|| self.core.wake_home());
        }
        // A mark that is dropped counts as passed, too.
        let _ = passed.await;
    }

    /// Waits until everything pushed so far is delivered, but not for later pushes of others. Not for a callback, which
    /// would wait for itself.
    pub(crate) async fn delivered(&self) {
        let Some((up_to, passed)) = self.core.enqueue_mark() else { return };
        if up_to == UpTo::Caller {
            self.core.wake_home();
        }
        // A mark that is dropped counts as passed, too.
        let _ = passed.await;
    }

    /// The events that this subject has still to deliver, for sources that are not to run ahead of it.
    pub(crate) fn backlog(&self) -> Arc<dyn Backlog> {
        self.core.clone()
    }
}

/// What [`SerializedSubject::fed`] gives.
#[derive(Clone)]
pub(crate) struct Fed<T, E>(SerializedSubject<T, E>);

impl<T: Clone + Send + 'static, E: Clone + Send + Sync + 'static> Observer<T, E> for Fed<T, E> {
    fn next(&mut self, item: T) {
        self.0.relay(item);
    }

    fn error(self, error: E) {
        self.0.relay_end(Some(Arc::new(error)));
    }

    fn complete(self) {
        self.0.relay_end(None);
    }

    fn is_closed(&self) -> bool {
        self.0.core.closed.load(Ordering::Acquire)
    }
}

/// The part of a subject that its sources need, whatever its types.
pub(crate) trait Backlog: Send + Sync {
    /// Ready when at most `most` events wait or are being delivered; otherwise the task is woken once none is left.
    fn poll_at_most(&self, most: usize, cx: &task::Context<'_>) -> Poll<()>;

    /// How many bytes of long inflated messages all sources have read since last nothing waited, as they count them.
    fn inflated(&self) -> &AtomicUsize;
}

impl<T: Send + 'static, E: Send + Sync + 'static> Backlog for SerializedSubject<T, E> {
    fn poll_at_most(&self, most: usize, cx: &task::Context<'_>) -> Poll<()> {
        self.core.poll_at_most(most, cx)
    }

    fn inflated(&self) -> &AtomicUsize {
        self.core.inflated()
    }
}

/// Waits until at most `most` events wait or are being delivered.
pub(crate) async fn at_most(backlog: &dyn Backlog, most: usize) {
    poll_fn(|cx| backlog.poll_at_most(most, cx)).await;
}

impl<T: Send + 'static, E: Send + Sync + 'static> Backlog for Core<T, E> {
    fn poll_at_most(&self, most: usize, cx: &task::Context<'_>) -> Poll<()> {
        if most > 0 && !self.token.is_called() {
            // Nothing waits: what does calls whoever emits.
            return Poll::Ready(());
        }
        let mut state = self.lock();
        let waiting = state.inbox.len();
        if waiting < most || (waiting == most && self.token.try_hold().is_some()) {
            return Poll::Ready(());
        }
        state.waits.note_task(cx.waker());
        Poll::Pending
    }

    fn inflated(&self) -> &AtomicUsize {
        &self.inflated
    }
}
