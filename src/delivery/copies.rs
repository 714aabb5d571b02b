//! [`Deliveries`]: the fate of a message that goes to several connections.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    Io, IoScheduler, SerializedSubject,
    endpoint::Feed,
    fate::{DeliveryStatus, Fate},
    subject::replay::Replay,
};

/// How many copies of a message are how far. The sum does not change.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeliveryCounts {
    /// See [`DeliveryStatus::Queued`].
    pub queued: u64,
    /// See [`DeliveryStatus::Written`].
    pub written: u64,
    /// See [`DeliveryStatus::Acknowledged`].
    pub acknowledged: u64,
    /// See [`DeliveryStatus::Dropped`].
    pub dropped: u64,
}

/// The fate of a message that a server sends to every connection on a path, from
/// [`send_tracked`](crate::RxWsServer::send_tracked). Clones are handles of the same.
#[derive(Clone)]
pub struct Deliveries {
    copies: Arc<Copies>,
}

struct Copies {
    course: Mutex<Course>,
    home: IoScheduler,
}

#[derive(Default)]
struct Course {
    sums: Sums,
    changes: Option<SerializedSubject<DeliveryCounts>>,
}

/// Signed, since the steps of a copy may overtake each other.
#[derive(Default)]
struct Sums {
    queued: i64,
    written: i64,
    acknowledged: i64,
    dropped: i64,
}

impl Sums {
    fn of(&mut self, status: DeliveryStatus) -> &mut i64 {
        match status {
            DeliveryStatus::Queued => &mut self.queued,
            DeliveryStatus::Written => &mut self.written,
            DeliveryStatus::Acknowledged => &mut self.acknowledged,
            DeliveryStatus::Dropped(_) => &mut self.dropped,
        }
    }

    /// A copy of which the end was told first has been written, too.
    fn counts(&self) -> DeliveryCounts {
        let early = self.written.min(0);
        let count = |sum: i64| sum.unsigned_abs();
        DeliveryCounts {
            queued: count(self.queued + early),
            written: count(self.written - early),
            acknowledged: count(self.acknowledged),
            dropped: count(self.dropped),
        }
    }
}

impl Deliveries {
    pub(crate) fn new(home: IoScheduler) -> Self {
        Self { copies: Arc::new(Copies { course: Mutex::default(), home }) }
    }

    pub(crate) fn fate(&self) -> Arc<dyn Fate> {
        self.copies.clone()
    }

    /// How many copies are how far, at this moment.
    #[must_use]
    pub fn counts(&self) -> DeliveryCounts {
        self.copies.lock().sums.counts()
    }

    /// How many copies are how far: the present counts first, then each change. Completes with the handles and the copies.
    /// Emits on the server's I/O thread.
    #[must_use]
    pub fn changes(&self) -> Io<Feed<DeliveryCounts>> {
        let mut course = self.copies.lock();
        let counts = course.sums.counts();
        let new = || SerializedSubject::at_home(self.copies.home.clone(), Replay::latest(counts), None);
        let changes = course.changes.get_or_insert_with(new).clone();
        drop(course);
        Feed::of(&changes, &self.copies.home)
    }
}

impl Copies {
    fn lock(&self) -> MutexGuard<'_, Course> {
        self.course.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fate for Copies {
    fn queued(&self) {
        self.lock().sums.queued += 1;
    }

    fn moved(&self, from: DeliveryStatus, to: DeliveryStatus) {
        let mut course = self.lock();
        *course.sums.of(from) -= 1;
        *course.sums.of(to) += 1;
        let changes = course.changes.clone();
        // Inside the lock, so that they come in order; this calls nobody.
        if let Some(changes) = &changes {
            changes.enqueue(course.sums.counts());
        }
        drop(course);
        if let Some(changes) = changes {
            changes.wake_home();
        }
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        let changes = self.lock().changes.take();
        if let Some(changes) = changes {
            changes.enqueue_end();
            changes.wake_home();
        }
    }
}

impl fmt::Debug for Deliveries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deliveries").field("counts", &self.counts()).finish_non_exhaustive()
    }
}
