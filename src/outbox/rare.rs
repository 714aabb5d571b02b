//! [`Rare`]: the part of an outbox's state that most outboxes never use.

use std::{mem::replace, sync::Arc};

use tokio::{sync::Notify, time::Instant};

use super::{Spent, line::Line, overflow::Stall, pressure::Gauge, queue::Closing, tracking::Tracked};
use crate::stats::{DropReason, Dropped, Tally};

/// Rarely needed state: most outboxes never use it, the others once, at the end. Boxed to keep the rest small.
#[derive(Default)]
pub(crate) struct Rare {
    /// The messages at the head of the queue that belong to this link alone.
    pub(crate) greetings: Tally,
    /// How many greetings were written, over all links.
    pub(super) greeted: u64,
    /// How many messages were dropped at the head of the queue.
    pub(super) skipped: u64,
    /// The last link to end has written a part of the message at the head.
    pub(super) head_was_begun: bool,
    pub(crate) closing: Option<Closing>,
    /// There while the socket takes nothing, if a full outbox does not end the connection.
    pub(super) stall: Option<Stall>,
    /// The driver has to know at once, whatever it is doing.
    pub(crate) alarm: bool,
    /// Notified of the closing, for a client that has no driver at the time.
    pub(super) waiter: Option<Arc<Notify>>,
    pub(crate) overflown: bool,
    pub(super) dropped: Dropped,
    /// Drops that no event has reported yet, each reason once.
    pub(super) unreported: Vec<(DropReason, Tally)>,
    /// When the last drops were reported.
    pub(super) reported_at: Option<Instant>,
    /// [`Reports`](super::Reports) are under way, which will report the drops that come meanwhile.
    pub(super) has_reports: bool,
    /// Messages that have left the queue since the lock was taken.
    pub(crate) spent: Spent,
    /// How often a message was written once more.
    pub(super) resent: u64,
    /// What was written in compressed form, and the bytes of that form.
    pub(super) compressed: Tally,
    pub(super) compressed_to: u64,
    pub(super) tracked: Option<Box<Tracked>>,
    /// There while somebody waits for room.
    pub(super) line: Option<Box<Line>>,
    /// There once somebody has asked for the pressure.
    pub(super) gauge: Option<Arc<Gauge>>,
    /// Nothing will be written any more.
    pub(super) is_over: bool,
}

impl Rare {
    /// Whether drops wait that nobody is about to report. The caller has to arrange their reports, once.
    pub(super) fn take_need_of_reports(&mut self) -> bool {
        !self.unreported.is_empty() && !replace(&mut self.has_reports, true)
    }

    /// Counts a message that has left the head of the queue as written.
    pub(super) fn count_written(&mut self, message: Tally) {
        self.head_was_begun = false;
        if self.greetings.messages > 0 {
            self.greetings -= message;
            self.greeted += 1;
        }
    }
}
