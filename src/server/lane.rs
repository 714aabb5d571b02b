//! [`Lane`]: a thread that serves connections of its own.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use crate::{IoRuntime, IoScheduler, link::write_scheduler::WriteScheduler};

/// Where connections are served: one of the server's [threads](crate::ServerBuilder::threads), or the runtime that it was given.
pub(crate) struct Lane {
    /// Where the deliveries of its connections are made.
    pub(crate) home: IoScheduler,
    /// Writes what is pushed for its connections that sleep. On a runtime of several threads they write for themselves, side by
    /// side.
    pub(crate) scheduler: Option<Arc<WriteScheduler>>,
    /// How many peers and connections it serves.
    count: AtomicUsize,
}

impl Lane {
    /// Those of a runtime, in its order. At least one.
    pub(crate) fn all_of(runtime: &IoRuntime) -> Box<[Arc<Self>]> {
        let lane = |runtime: &IoRuntime| Self {
            home: IoScheduler::on(runtime),
            scheduler: runtime.has_one_thread().then(Arc::default),
            count: AtomicUsize::new(0),
        };
        runtime.lanes().iter().map(|runtime| lane(runtime).into()).collect()
    }
}

/// A place in a lane, for a peer and the connection that it may become.
pub(crate) struct Seat(pub(crate) Arc<Lane>);

impl Seat {
    pub(crate) fn take(lane: &Arc<Lane>) -> Self {
        lane.count.fetch_add(1, Relaxed);
        Self(lane.clone())
    }

    /// The number of the lane in which the fewest are taken.
    pub(crate) fn most_free(lanes: &[Arc<Lane>]) -> usize {
        (0..lanes.len()).min_by_key(|nth| lanes[*nth].count.load(Relaxed)).unwrap_or_default()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Relaxed);
    }
}
