//! The drops of an outbox: which messages can go, their counts, and the reports of them.

use std::{
    mem::take,
    ops::ControlFlow,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

use super::{
    Core, Outbox, OutboxFrame,
    queue::{Head, State},
};
use crate::stats::{DropReason, Tally};

/// How long after a report the next one comes at the earliest. A report costs several times as much as the push that drops.
const BETWEEN_REPORTS: Duration = Duration::from_millis(50);

/// The endpoint of an outbox, as far as it reports what that has dropped.
pub(crate) trait Reporter: Send + Sync {
    /// Spawns a task that makes the [reports](Reports::make), for which drops have begun to wait. Called outside the lock.
    fn post_drops(self: Arc<Self>, reports: Reports);
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
        let Some(frame) = self.queue.remove(at) else { return false };
        if at == self.greetings() {
            self.skip(1);
        }
        if let Some(window) = self.window_mut() {
            window.places.remove(at);
        }
        self.note_removed(at, reason);
        self.drop_later(frame, reason);
        true
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
    /// Lets the endpoint arrange the [reports](Self::report_drops) of drops.
    pub(super) fn report(&self) {
        // Otherwise nobody will ever report them.
        if let Some(reporter) = self.core.reporter.upgrade() {
            reporter.post_drops(Reports::of(self));
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

/// The duty to report what an outbox drops, for as long as it goes on to drop: spawning a task costs as much as some pushes, so not
/// each report has its own. Only one has it at a time.
///
/// If it is dropped, as with a runtime that ends, the next drop gives it to another task.
pub(crate) struct Reports {
    /// Weak, as the task stays for a while when there is nothing to report.
    outbox: Weak<Core>,
}

impl Reports {
    pub(super) fn of(outbox: &Outbox) -> Self {
        Self { outbox: Arc::downgrade(&outbox.core) }
    }

    /// Calls `report` at once, and again some time after each report if messages were dropped meanwhile. Ends when none were, or
    /// when there is no endpoint any more.
    ///
    /// Between two reports it keeps only `report`.
    pub(crate) async fn make(mut self, mut report: impl FnMut(&Outbox) -> ControlFlow<()>) {
        loop {
            if let Some(next) = self.next()
                && Instant::now() < next
            {
                sleep_until(next).await;
            }
            let Some(outbox) = self.outbox() else { return };
            if self.try_end(&outbox) || report(&outbox).is_break() {
                return;
            }
        }
    }

    pub(super) fn outbox(&self) -> Option<Outbox> {
        self.outbox.upgrade().map(|core| Outbox { core })
    }

    /// When the next report may come at the earliest, if there was one.
    fn next(&self) -> Option<Instant> {
        let last = self.outbox()?.lock_unsettled().rare.as_ref()?.reported_at?;
        Some(last + BETWEEN_REPORTS)
    }

    /// Ends if everything is reported. Under one lock with the look, so that the next drop finds another in charge, or none.
    fn try_end(&mut self, outbox: &Outbox) -> bool {
        let mut state = outbox.lock_unsettled();
        let rare = state.rare();
        let is_over = rare.unreported.is_empty();
        if is_over {
            rare.has_reports = false;
            // Others may be in charge by the time this is dropped.
            self.outbox = Weak::new();
        }
        is_over
    }
}

impl Drop for Reports {
    fn drop(&mut self) {
        if let Some(outbox) = self.outbox() {
            outbox.lock_unsettled().rare().has_reports = false;
        }
    }
}
