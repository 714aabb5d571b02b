//! [`State`]: the data of a subject, under its lock.

use std::{collections::VecDeque, mem::take, sync::Arc, task::Waker};

use rxrust::observer::BoxedObserverSend;
use tokio::sync::oneshot;

use crate::{
    runtime::{callback, debts},
    subject::{
        feeding::{Merge, Merged},
        joining::Joining,
        replay::{Noted, Replay},
        waits::Waits,
    },
    sync::{AtomicBool, Ordering},
};

/// How many items may wait while another thread emits, before a push waits for room.
///
/// Far above the size of any burst; it is there so that a producer faster than its observers cannot take all memory.
pub(crate) const INBOX_CROWD: usize = 1 << 20;

/// How many items may wait at most. Callbacks, and the threads of runtimes and loops, may not wait: they can go on for as
/// long again.
pub(crate) const INBOX_BOUND: usize = 2 * INBOX_CROWD;

/// An inbox, or a list of observers, that grew beyond this is freed once it is empty.
pub(crate) const KEPT_CAPACITY: usize = 4_096;

pub(crate) enum Event<T, E> {
    Next(T),
    Terminal(Terminal<E>),
    /// Not for observers: a task waits for the receiver, and the sender is dropped once everything before it is delivered.
    /// The turn of the delivering thread ends with it, since no other thread may take over the task that this wakes.
    Mark(oneshot::Sender<()>),
}

/// With the error in an `Arc`: its `clone`, which is user code, is made where an observer is called, and under no lock.
#[derive(Clone)]
pub(crate) enum Terminal<E> {
    Error(Arc<E>),
    Complete,
}

pub(crate) struct State<T, E> {
    /// The observers that have subscribed since the last event began; they join before the next one.
    pub(crate) joining: VecDeque<Joining<T, E>>,
    /// How many observers have ever subscribed.
    pub(crate) subscribed: u64,
    /// Events that wait for the thread that emits.
    pub(crate) inbox: VecDeque<Event<T, E>>,
    /// The terminal event, once its delivery has begun.
    pub(crate) terminal: Option<Terminal<E>>,
    /// How many deliveries have been made, not counting items that found the subject idle.
    pub(crate) delivered: u64,
    pub(crate) waits: Waits,
    /// The items that later subscribers hear first.
    pub(crate) replay: Replay<T>,
}

pub(crate) struct Slot<T, E> {
    /// Increasing, so that one slot among thousands is found by binary search.
    pub(crate) number: u64,
    pub(crate) open: Arc<AtomicBool>,
    pub(crate) observer: BoxedObserverSend<'static, T, E>,
}

impl<T, E> State<T, E> {
    pub(crate) fn new(replay: Replay<T>) -> Self {
        Self {
            joining: VecDeque::new(),
            subscribed: 0,
            inbox: VecDeque::new(),
            terminal: None,
            delivered: 0,
            waits: Waits::new(),
            replay,
        }
    }

    /// The next event, once all observers have joined, if this thread may still deliver in this turn.
    pub(crate) fn pop(&mut self) -> Option<Event<T, E>> {
        let any = self.joining.is_empty() && !self.inbox.is_empty();
        let is_next = any && !callback::should_return() && callback::may_deliver();
        if is_next { self.inbox.pop_front() } else { None }
    }

    /// Counts a delivery. Returns the tasks to wake: at every whole share, all of them.
    pub(crate) fn count_delivery(&mut self) -> Vec<Waker> {
        self.delivered += 1;
        let is_share = self.delivered.is_multiple_of(callback::SHARE as u64);
        if is_share { self.waits.take_creditors() } else { Vec::new() }
    }

    /// If another thread delivers, tasks whose callbacks push should wait for it.
    pub(crate) fn is_far_behind(&self) -> bool {
        self.inbox.len() > debts::CREDIT && !self.waits.is_stuck_at(self.delivered)
    }

    /// The marks that no event precedes any more.
    pub(crate) fn take_passed(&mut self) -> Vec<oneshot::Sender<()>> {
        let mut passed = Vec::new();
        while self.joining.is_empty()
            && matches!(self.inbox.front(), Some(Event::Mark(_)))
            && let Some(Event::Mark(mark)) = self.inbox.pop_front()
        {
            passed.push(mark);
        }
        passed
    }

    /// Nothing waits to be delivered.
    pub(crate) fn is_idle(&self) -> bool {
        self.inbox.is_empty() && self.joining.is_empty()
    }

    /// The memory of an empty inbox that has grown in a burst.
    pub(crate) fn take_burst(&mut self) -> VecDeque<Event<T, E>> {
        if self.inbox.capacity() > KEPT_CAPACITY { take(&mut self.inbox) } else { VecDeque::new() }
    }
}

impl<T: Merge, E> State<T, E> {
    /// Merges an item into one that waits. Returns whether there is such a one.
    pub(crate) fn merge(&mut self, later: &T) -> bool {
        for waiting in self.inbox.iter_mut().rev() {
            let Event::Next(waiting) = waiting else { continue };
            match waiting.merge(later) {
                Merged::Done => return true,
                Merged::NotHere => {}
                Merged::Never => break,
            }
        }
        false
    }
}

impl<T: Clone, E: Clone> State<T, E> {
    /// Notes an event for later subscribers. Returns it if it is to be emitted now, and the items that are no longer kept.
    pub(crate) fn note(
        &mut self,
        event: Option<Event<T, E>>,
        is_nobody_there: impl FnOnce() -> bool,
    ) -> (Option<Event<T, E>>, Vec<T>) {
        match event {
            Some(Event::Next(item)) if !self.replay.is_nothing() => {
                let Noted { item, dropped } = self.replay.note(item, is_nobody_there());
                (item.map(Event::Next), dropped)
            }
            Some(Event::Terminal(terminal)) => {
                self.terminal = Some(terminal.clone());
                (Some(Event::Terminal(terminal)), Vec::new())
            }
            Some(Event::Next(_) | Event::Mark(_)) | None => (event, Vec::new()),
        }
    }
}

impl<T, E> Slot<T, E> {
    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    pub(crate) fn close(&self) {
        take_open(&self.open);
    }
}

/// Closes a subscription. Returns true if it was open: exactly one caller gets true.
pub(crate) fn take_open(open: &AtomicBool) -> bool {
    open.swap(false, Ordering::AcqRel)
}
