//! The bounded queue between the thread that emits and the one that observes.
//!
//! One mutex, held for moments, and never while user code runs: lost items are handed back, to be dropped outside.

use std::{
    collections::VecDeque,
    mem::{swap, take},
    sync::PoisonError,
    task::{Context, Poll, Waker},
};

use crate::{
    runtime::callback,
    sync::{AtomicBool, Condvar, Mutex, MutexGuard, Ordering},
};

/// How a full queue of an operator treats one more item.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lossy {
    /// Drops the oldest item: the newest matters, as for positions and frames.
    DropOldest,
    /// Refuses the new item: the work already begun matters, as for commands.
    DropLatest,
}

/// The size of a channel, and how it treats an item that finds no room.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    /// How many items, at least one.
    pub(crate) capacity: usize,
    pub(crate) lossy: Lossy,
    /// A sender that may wait does so while this many items are queued; above `capacity`, no sender waits.
    pub(crate) crowd: usize,
}

/// How a source ended.
pub(crate) enum End<E> {
    Error(E),
    Complete,
    /// It dropped its observer without a terminal event.
    Dropped,
}

/// The result of a receiver's poll, besides the items.
pub(crate) struct Received<E> {
    /// How many items have been lost so far.
    pub(crate) lost: u64,
    /// Only once all items have been received.
    pub(crate) end: Option<End<E>>,
}

pub(crate) struct Channel<T, E> {
    bounds: Bounds,
    /// Cleared when nothing more is to be delivered. Outside the lock, so that it can be checked for each item.
    open: AtomicBool,
    state: Mutex<State<T, E>>,
    /// Signalled when a crowded queue has been read from.
    room: Condvar,
}

struct State<T, E> {
    items: VecDeque<T>,
    end: Option<End<E>>,
    /// The receiver's, while it has nothing to do.
    waker: Option<Waker>,
    lost: u64,
    /// How many senders wait for room.
    waiting: usize,
}

/// A queue that grew beyond this in a burst is freed once it is empty.
const KEPT_CAPACITY: usize = 4_096;

impl<T, E> Channel<T, E> {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let state = State { items: VecDeque::new(), end: None, waker: None, lost: 0, waiting: 0 };
        Self { bounds, open: AtomicBool::new(true), state: Mutex::new(state), room: Condvar::new() }
    }

    /// Whether anything may still be delivered.
    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Queues `item`. An item that is lost by it comes back.
    pub(crate) fn push(&self, item: T) -> Pushed<T> {
        let mut state = self.lock();
        if !self.is_open() || state.end.is_some() {
            return Pushed { lost: Some(item), is_crowded: false };
        }
        let lost = state.push(item, self.bounds);
        let is_crowded = state.items.len() >= self.bounds.crowd;
        let waker = state.waker.take();
        drop(state);
        wake(waker);
        Pushed { lost, is_crowded }
    }

    /// Ends the queue, unless that has been done.
    pub(crate) fn end(&self, end: End<E>) {
        let mut state = self.lock();
        if !self.is_open() || state.end.is_some() {
            // The error's destructor is user code.
            drop(state);
            return drop(end);
        }
        state.end = Some(end);
        let waker = state.waker.take();
        drop(state);
        wake(waker);
    }

    /// Moves up to `limit` items into `batch`, or leaves a waker.
    pub(crate) fn poll(&self, batch: &mut VecDeque<T>, limit: usize, cx: &mut Context<'_>) -> Poll<Received<E>> {
        let mut state = self.lock();
        if state.is_idle() && self.is_open() {
            drop(state);
            if self.leave_waker(cx) {
                return Poll::Pending;
            }
            state = self.lock();
        }
        if batch.is_empty() && state.items.len() <= limit && state.items.capacity() <= KEPT_CAPACITY {
            // The usual case: the lock is held only for the swap.
            swap(batch, &mut state.items);
        } else {
            let count = limit.min(state.items.len());
            batch.extend(state.items.drain(..count));
        }
        if state.waiting > 0 && state.items.len() < self.bounds.crowd {
            self.room.notify_all();
        }
        if !state.items.is_empty() {
            return Poll::Ready(Received { lost: state.lost, end: None });
        }
        if state.items.capacity() > KEPT_CAPACITY {
            state.items = VecDeque::new();
        }
        Poll::Ready(Received { lost: state.lost, end: state.end.take() })
    }

    /// Leaves a waker, unless something has come meanwhile. Returns whether it left one. A waker is user code, and so are its
    /// `clone` and `drop`.
    fn leave_waker(&self, cx: &Context<'_>) -> bool {
        let waker = cx.waker().clone();
        let mut state = self.lock();
        let is_waiting = state.is_idle() && self.is_open();
        let unused = if is_waiting { state.waker.replace(waker) } else { Some(waker) };
        drop(state);
        drop(unused);
        is_waiting
    }

    /// Delivers nothing more. The queued items come back, to be dropped by the caller.
    pub(crate) fn close(&self) -> (VecDeque<T>, Option<End<E>>) {
        let mut state = self.lock();
        self.open.store(false, Ordering::Release);
        let queued = (take(&mut state.items), state.end.take());
        let waker = state.waker.take();
        self.room.notify_all();
        drop(state);
        wake(waker);
        queued
    }

    /// Blocks while the queue is crowded.
    pub(crate) fn wait_for_room(&self) {
        let mut state = self.lock();
        while self.is_open() && state.items.len() >= self.bounds.crowd {
            state.waiting += 1;
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
    }

    /// How many items have been lost so far.
    pub(crate) fn lost(&self) -> u64 {
        self.lock().lost
    }

    /// Ignores poisoning: nothing can panic while the lock is held.
    fn lock(&self) -> MutexGuard<'_, State<T, E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The fate of a pushed item.
#[must_use]
pub(crate) struct Pushed<T> {
    /// The item itself or another one, to be dropped by the caller.
    pub(crate) lost: Option<T>,
    /// A sender that may wait for room is to do so.
    pub(crate) is_crowded: bool,
}

impl<T, E> State<T, E> {
    fn push(&mut self, item: T, bounds: Bounds) -> Option<T> {
        if self.items.len() < bounds.capacity {
            self.items.push_back(item);
            return None;
        }
        self.lost += 1;
        match bounds.lossy {
            Lossy::DropLatest => Some(item),
            Lossy::DropOldest => {
                let oldest = self.items.pop_front();
                self.items.push_back(item);
                oldest
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.items.is_empty() && self.end.is_none()
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        callback::wake(waker);
    }
}
