//! Counts subscribers: each has a seat, which it gives up once, however it leaves.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rxrust::observer::Observer;

/// A subscriber's place.
pub(super) trait Leave: Send + Sync {
    /// Gives the place up, unless that has been done.
    fn leave(&self);
}

/// An observer that leaves its seat when it is dropped: unsubscribed, finished or panicked.
pub(super) struct RefCounted<O> {
    observer: O,
    seat: LeaveOnDrop,
}

struct LeaveOnDrop(Arc<dyn Leave>);

impl<O> RefCounted<O> {
    pub(super) fn new(observer: O, seat: Arc<dyn Leave>) -> Self {
        Self { observer, seat: LeaveOnDrop(seat) }
    }
}

impl<O, Item, Err> Observer<Item, Err> for RefCounted<O>
where
    O: Observer<Item, Err>,
{
    fn next(&mut self, item: Item) {
        self.observer.next(item);
    }

    fn error(self, error: Err) {
        let _leaves_after = self.seat;
        self.observer.error(error);
    }

    fn complete(self) {
        let _leaves_after = self.seat;
        self.observer.complete();
    }

    fn is_closed(&self) -> bool {
        self.observer.is_closed()
    }
}

impl Drop for LeaveOnDrop {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// Locks `mutex`. Ignores poisoning: the `Hash` and `Eq` of keys are the only user code under these locks, and a panic in
/// them leaves the data unchanged.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
