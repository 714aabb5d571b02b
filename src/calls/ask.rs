//! [`Ask`]: one request, and the place for its reply.

use std::{
    mem::replace,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    DeliveryStatus, DropReason, WsDatatype, WsError,
    calls::{Loss, core::Core},
    fate::Fate,
    runtime::callback,
    subject::discard,
};

const QUEUED: u8 = 0;
const WRITTEN: u8 = 1;
/// The peer has acknowledged it, in the resumable mode.
const ACKNOWLEDGED: u8 = 2;
/// Its reply will not come. It has still to be sent again, or to end.
const LOST: u8 = 3;

pub(super) type Reply<D> = Result<<D as WsDatatype>::Item, WsError>;

/// What is done with a reply.
pub(super) type OnReply<D> = Box<dyn FnOnce(Reply<D>) + Send>;

/// One request, and the place for its reply.
pub(super) struct Ask<D: WsDatatype> {
    pub(super) number: u64,
    pub(super) deadline: Instant,
    pub(super) timeout: Duration,
    /// The request, if it may be sent again. In a mutex, since it need not be `Sync`.
    again: Mutex<Option<D::Outgoing>>,
    core: Weak<Core<D>>,
    /// How far the request has come.
    stage: AtomicU8,
    slot: Mutex<Slot<D>>,
}

enum Slot<D: WsDatatype> {
    /// Nobody waits yet.
    Open,
    Awaited(Waker),
    Observed(OnReply<D>),
    Done(Reply<D>),
    /// The reply was handed out, or nobody wants it.
    Over,
}

impl<D: WsDatatype> Ask<D> {
    pub(super) fn new(core: Weak<Core<D>>, number: u64, timeout: Duration, again: Option<D::Outgoing>) -> Self {
        let (again, slot) = (Mutex::new(again), Mutex::new(Slot::Open));
        let deadline = crate::time::after(Instant::now(), timeout);
        Self { number, deadline, timeout, again, core, stage: AtomicU8::new(QUEUED), slot }
    }

    /// Notes whether the request is among what was lost: once, however often that is asked before it is sent again.
    pub(super) fn lose(&self, loss: Loss) -> bool {
        let least = match loss {
            Loss::Link => WRITTEN,
            Loss::Session => ACKNOWLEDGED,
        };
        let lost = |stage| (least..LOST).contains(&stage).then_some(LOST);
        self.stage.fetch_update(Ordering::AcqRel, Ordering::Acquire, lost).is_ok()
    }

    /// The request, to be sent again.
    pub(super) fn again(&self) -> Option<D::Outgoing> {
        let again = lock(&self.again).take()?;
        self.stage.store(QUEUED, Ordering::Release);
        Some(again)
    }

    /// Keeps a request that is sent again, for the next time.
    pub(super) fn keep(&self, request: D::Outgoing) {
        *lock(&self.again) = Some(request);
    }

    /// Ends the call. The first reply counts. On the I/O thread, or before anybody waits.
    pub(super) fn finish(&self, reply: Reply<D>) {
        let mut slot = self.lock();
        match replace(&mut *slot, Slot::Over) {
            Slot::Open => *slot = Slot::Done(reply),
            Slot::Awaited(waker) => {
                *slot = Slot::Done(reply);
                drop(slot);
                callback::wake(waker);
            }
            Slot::Observed(observer) => {
                drop(slot);
                callback::run(|| callback::isolate("an observer of a reply", || observer(reply)));
            }
            ended @ (Slot::Done(_) | Slot::Over) => {
                *slot = ended;
                drop(slot);
                discard(reply);
            }
        }
    }

    /// Calls `observer` with the reply, on the I/O thread.
    pub(super) fn observe(self: &Arc<Self>, observer: OnReply<D>) {
        let mut slot = self.lock();
        let before = replace(&mut *slot, Slot::Observed(observer));
        drop(slot);
        // One who waited has become one who observes: no other state is possible.
        let (Slot::Done(reply), Some(core)) = (before, self.core.upgrade()) else { return };
        let ask = self.clone();
        core.caller().home().spawn(async move { callback::task(|| ask.finish(reply)) });
    }

    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<Reply<D>> {
        // Its `clone` is user code, as is the destructor of the one before.
        let waker = cx.waker().clone();
        let mut slot = self.lock();
        match replace(&mut *slot, Slot::Over) {
            Slot::Done(reply) => Poll::Ready(reply),
            before => {
                *slot = Slot::Awaited(waker);
                drop(slot);
                drop(before);
                Poll::Pending
            }
        }
    }

    /// Drops the one who waits, who wants no reply any more.
    pub(super) fn give_up(&self) {
        let before = replace(&mut *self.lock(), Slot::Over);
        callback::isolate("the destructor of an observer", || drop(before));
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(*self.lock(), Slot::Over)
    }

    fn lock(&self) -> MutexGuard<'_, Slot<D>> {
        lock(&self.slot)
    }
}

impl<D: WsDatatype> Fate for Ask<D> {
    fn queued(&self) {}

    fn written(&self) {
        self.stage.store(WRITTEN, Ordering::Release);
    }

    /// A pong says nothing of the reply.
    fn needs_pong(&self) -> bool {
        false
    }

    fn moved(&self, _: DeliveryStatus, to: DeliveryStatus) {
        match to {
            DeliveryStatus::Queued | DeliveryStatus::Written => {}
            DeliveryStatus::Acknowledged => self.stage.store(ACKNOWLEDGED, Ordering::Release),
            DeliveryStatus::Dropped(reason) => self.dropped(reason),
        }
    }
}

impl<D: WsDatatype> Ask<D> {
    /// Not here, where any thread may be: on the I/O thread.
    fn dropped(&self, reason: DropReason) {
        let Some(core) = self.core.upgrade() else { return };
        let number = self.number;
        let home = core.caller().home().clone();
        home.spawn(async move { callback::task(|| core.dropped(number, reason)) });
    }
}

/// Locks `mutex`. Ignores poisoning: no user code runs under these locks.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
