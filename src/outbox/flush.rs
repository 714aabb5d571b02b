//! [`Flush`]: a wait until everything that is in the queue now has been written.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use super::{Outbox, OutboxFrame, queue::State};
use crate::{
    fate::{DeliveryStatus, Fate},
    runtime::callback,
    stats::DropReason,
};

/// The wait of one task. It hears of the end as a tracked message does.
#[derive(Debug, Default)]
pub(crate) struct Flush(Mutex<Progress>);

#[derive(Debug, Default)]
struct Progress {
    end: Option<DeliveryStatus>,
    waker: Option<Waker>,
}

impl Flush {
    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it ended: everything was written, or what was left was dropped.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<DeliveryStatus> {
        // Made here, and the one before dropped, outside the lock.
        let waker = cx.waker().clone();
        let mut progress = self.lock();
        if let Some(end) = progress.end {
            return Poll::Ready(end);
        }
        let before = progress.waker.replace(waker);
        drop(progress);
        drop(before);
        Poll::Pending
    }
}

impl Fate for Flush {
    fn queued(&self) {}

    fn moved(&self, _: DeliveryStatus, to: DeliveryStatus) {
        let mut progress = self.lock();
        progress.end = Some(to);
        let waker = progress.waker.take();
        drop(progress);
        waker.into_iter().for_each(callback::wake);
    }
}

impl State {
    /// Lets a task that has just queued a message wait for that too.
    pub(super) fn note_queued_by(&mut self, flush: &mut Option<Arc<Flush>>) {
        if !flush.as_ref().is_some_and(|flush| self.extend_flush(flush)) {
            // The one before is over, although it may not have been told yet.
            let new = flush.insert(Arc::default());
            self.add_flush(new.clone());
        }
    }
}

impl Outbox {
    /// Ends a wait that nobody is interested in any more.
    pub(crate) fn forget_flush(&self, flush: &Arc<Flush>) {
        self.change(|state| state.remove_flush(flush));
    }

    /// Counts a message as dropped that waited for room and was given up.
    pub(crate) fn give_up(&self, message: OutboxFrame) {
        self.change(|state| state.give_up(message));
    }
}

impl State {
    fn give_up(&mut self, message: OutboxFrame) {
        if self.is_closing() {
            self.rare().spent.push(message);
        } else {
            self.queue_more(message.tally());
            self.drop_later(message, DropReason::Overflow);
        }
    }
}
