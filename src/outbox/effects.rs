//! [`Effects`]: the work that a change of the queue leaves for after the lock.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::outbox::{Outbox, Outflow, Spent};

/// The work that is left once the lock of the queue, and the lock of the link, are released.
#[derive(Default)]
#[must_use]
pub(crate) struct Effects<'a> {
    /// The link that is to be woken.
    pub(crate) wake: Option<Arc<dyn Outflow>>,
    /// Notified when closing was asked for.
    pub(crate) alarm: Option<&'a Notify>,
    /// The outbox whose drops are now waiting to be reported.
    pub(crate) report: Option<&'a Outbox>,
    pub(crate) spent: Spent,
}

impl Effects<'_> {
    /// Adds messages that are to be dropped with the others.
    pub(crate) fn add_spent(&mut self, spent: Spent) {
        self.spent.append(spent);
    }

    /// Wakes the link and reports drops. Returns the messages that left the queue.
    pub(crate) fn run(self) -> Spent {
        if let Some(link) = self.wake {
            link.wake();
        }
        if let Some(alarm) = self.alarm {
            alarm.notify_one();
        }
        if let Some(outbox) = self.report {
            outbox.report();
        }
        self.spent
    }
}
