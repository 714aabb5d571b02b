//! [`Waiters`]: futures of the program that wait for one thing.

use std::{
    future::poll_fn,
    mem::take,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
};

use crate::{numbered::Numbered, runtime::callback};

/// The wakers of those who wait until something has happened. They are user code: one that panics keeps no other from being
/// woken, as it does in tokio's `Notify` and `watch`.
#[derive(Debug, Default)]
pub(crate) struct Waiters(Mutex<Places>);

#[derive(Debug, Default)]
struct Places {
    wakers: Numbered<Waker>,
    last_number: u64,
}

impl Waiters {
    /// Waits until `look` finds something.
    pub(crate) async fn until<R>(&self, look: impl Fn() -> Option<R>) -> R {
        let mut place = Place { waiters: self, number: None };
        poll_fn(|cx| {
            // Before the look: what happens after it wakes this waker.
            place.take(cx.waker());
            look().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Wakes all, once that which they wait for has happened.
    pub(crate) fn wake_all(&self) {
        let wakers = take(&mut self.lock().wakers);
        wakers.into_values().for_each(callback::wake);
    }

    /// Ignores poisoning: nothing can panic while the lock is held.
    fn lock(&self) -> MutexGuard<'_, Places> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of one who waits, given up when this is dropped.
struct Place<'a> {
    waiters: &'a Waiters,
    number: Option<u64>,
}

impl Place<'_> {
    fn take(&mut self, waker: &Waker) {
        // Made here, and the one before dropped, outside the lock.
        let waker = waker.clone();
        let mut places = self.waiters.lock();
        let number = *self.number.get_or_insert_with(|| {
            places.last_number += 1;
            places.last_number
        });
        let before = places.wakers.insert(number, waker);
        drop(places);
        drop(before);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let waker = self.number.and_then(|number| self.waiters.lock().wakers.remove(number));
        drop(waker);
    }
}
