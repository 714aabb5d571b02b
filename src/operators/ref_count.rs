//! Knowing how many subscribers there are: each has a seat, which it gives up once, by whatever way it leaves.

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

/// What `mutex` holds, also after a panic: the `Hash` and `Eq` of keys, all that is the user's under these locks, change
/// nothing.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
