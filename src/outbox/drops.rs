//! The drops of an outbox: which messages can go, their counts, and the reports of them.

use std::{mem::take, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::{
    Outbox, OutboxFrame,
    queue::{Head, State},
};
use crate::stats::{DropReason, Tally};

/// How long after a report the next one comes at the earliest. A report costs several times as much as the push that drops.
const BETWEEN_REPORTS: Duration = Duration::from_millis(50);

/// The endpoint of an outbox, as far as it reports what that has dropped.
pub(crate) trait Reporter: Send + Sync {
    /// Arranges a [report](Outbox::report_drops), for which drops have begun to wait. Called outside the lock.
    fn post_drops(self: Arc<Self>, outbox: &Outbox);
}

/// Messages are dropped.
impl State {
    /// The index of the first message that can be dropped.
    pub(crate) fn droppable(&self) -> usize {
        let written_end = self.window().map_or(0, |window| window.places.written_end());
        self.under_way().max(self.greetings()).max(written_end)
    }

    /// Whether the first message that can be dropped is the head.
    fn is_head_untaken(&self) -> bool {
        self.droppable() == self.greetings()
    }

    /// Drops the head if it still is `head` and was not taken. Returns whether it did.
    pub(crate) fn try_drop_head(&mut self, head: Head) -> bool {
        let is_there = self.head().is_some_and(|there| there.number == head.number);
        is_there && self.is_head_untaken() && self.try_drop_oldest(DropReason::Undeliverable)
    }

    /// Drops the oldest message that can be dropped. Returns whether there was one.
    pub(super) fn try_drop_oldest(&mut self, reason: DropReason) -> bool {
        self.drop_at(self.droppable(), reason)
    }

    /// Drops a message of which nothing was written, if there is one at this index.
    pub(super) fn drop_at(&mut self, at: usize, reason: DropReason) -> bool {
        if at == self.greetings() {
            self.skip(usize::from(at < self.queue.len()));
        }
        if let Some(window) = self.window_mut() {
            window.places.remove(at);
        }
        if at < self.queue.len() {
            self.note_removed(at, reason);
        }
        self.queue.remove(at).map(|frame| self.drop_later(frame, reason)).is_some()
    }

    /// Drops all messages that can be dropped.
    pub(crate) fn drop_untaken(&mut self, reason: DropReason) {
        let (len, kept) = (self.queue.len(), self.droppable());
        let untaken = self.queue.split_off(kept);
        self.note_truncated(kept, reason);
        if let Some(window) = self.window_mut() {
            window.places.truncate(len, kept);
        }
        if kept == self.greetings() {
            self.skip(untaken.len());
        }
        for frame in untaken {
            self.drop_later(frame, reason);
        }
    }

    /// Notes that `count` messages at the head are dropped.
    pub(super) fn skip(&mut self, count: usize) {
        if count > 0 {
            let rare = self.rare();
            rare.skipped += count as u64;
            rare.head_was_begun = false;
        }
    }

    /// Counts a message as dropped. It is dropped once the lock is released.
    pub(super) fn drop_later(&mut self, frame: OutboxFrame, reason: DropReason) {
        let tally = frame.tally();
        self.queue_less(tally);
        let rare = self.rare();
        rare.spent.push(frame);
        rare.dropped.add(reason, tally);
        if reason == DropReason::Replaced {
            // What the program asked for, up to once for each push: no event.
            return;
        }
        match rare.unreported.iter_mut().find(|(other, _)| *other == reason) {
            Some((_, count)) => *count += tally,
            None => rare.unreported.push((reason, tally)),
        }
    }

    /// Whether events have reported all drops.
    pub(super) fn is_reported(&self) -> bool {
        self.rare.as_ref().is_none_or(|rare| rare.unreported.is_empty())
    }

    /// Takes out the drops that no event has reported yet.
    fn take_unreported(&mut self) -> Vec<(DropReason, Tally)> {
        let unreported = self.rare.as_mut().map_or_else(Vec::new, |rare| take(&mut rare.unreported));
        if !unreported.is_empty() {
            self.rare().reported_at = Some(Instant::now());
        }
        unreported
    }
}

/// The reports.
impl Outbox {
    /// Signals that drops wait to be [reported](Self::report_drops).
    pub(super) fn report(&self) {
        if let Some(reporter) = self.core.reporter.upgrade() {
            reporter.post_drops(self);
        }
    }

    /// Waits until drops that no event has reported are to be: at once, or some time after the last report, so that a push that
    /// drops seldom pays for one.
    pub(crate) async fn until_report(&self) {
        let last = self.lock().rare.as_ref().and_then(|rare| rare.reported_at);
        if let Some(next) = last.map(|last| last + BETWEEN_REPORTS)
            && Instant::now() < next
        {
            sleep_until(next).await;
        }
    }

    /// Passes the drops that were not reported yet to `tell`, each reason once.
    ///
    /// `tell` must not call observers: it runs under the lock, so that no report comes after the report of the end.
    pub(crate) fn report_drops(&self, mut tell: impl FnMut(DropReason, Tally)) {
        let mut state = self.lock();
        state.take_unreported().into_iter().for_each(|(reason, dropped)| tell(reason, dropped));
    }
}
