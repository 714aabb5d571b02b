//! [`Effects`]: the work that a change of the queue leaves for after the lock, and [`Spent`]: the messages that have left a
//! queue, until they can be dropped.

use std::{cell::Cell, collections::VecDeque, mem::take, sync::Arc, task::Waker};

use tokio::sync::Notify;

use super::{Outbox, OutboxFrame, Outflow, pressure::Gauge};
use crate::{fate::Step, runtime::callback};

/// The largest list of messages whose memory a thread keeps.
const KEPT_CAPACITY: usize = 1024;

/// What may panic, for the log.
const DESTRUCTOR: &str = "the destructor of a payload";

thread_local! {
    /// The memory of one list, which would otherwise be allocated anew for each write.
    static SPARE: Cell<Option<VecDeque<OutboxFrame>>> = const { Cell::new(None) };
}

/// The work that is left once the lock of the queue, and the lock of the link, are released.
#[derive(Default)]
#[must_use]
pub(crate) struct Effects<'a> {
    /// The link that is to be woken.
    pub(crate) wake: Option<Arc<dyn Outflow>>,
    /// Waits for the closing, which was asked for.
    pub(crate) waiter: Option<Arc<Notify>>,
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
        if let Some(waiter) = self.waiter {
            waiter.notify_one();
        }
        if let Some(outbox) = self.report {
            outbox.report();
        }
        self.spent
    }
}

/// Messages that nobody needs any more. The caller drops them outside all locks: a payload can be a `Bytes::from_owner`,
/// whose destructor is user code and may push, or panic.
#[derive(Default)]
#[must_use]
pub(crate) struct Spent {
    /// There once it has had any.
    frames: Option<VecDeque<OutboxFrame>>,
    /// What is told when this is dropped.
    news: Vec<News>,
}

/// What others have to hear of a change, outside all locks.
pub(super) enum News {
    /// A tracked message has made a step.
    Step(Step),
    /// There may be room for one who waits.
    Room(Waker),
    /// The outbox has filled to its high mark, drained to its low one, or ended.
    Pressure(Arc<Gauge>),
}

impl News {
    fn tell(self) {
        match self {
            Self::Step(step) => step.tell(),
            Self::Room(waker) => callback::wake(waker),
            Self::Pressure(gauge) => gauge.tell(),
        }
    }
}

impl Spent {
    pub(crate) fn push(&mut self, frame: OutboxFrame) {
        self.frames().push_back(frame);
    }

    /// Takes the first `count` messages of a queue.
    #[inline]
    pub(super) fn take(&mut self, queue: &mut VecDeque<OutboxFrame>, count: usize) {
        if count == 0 {
            return;
        }
        // All of them, as mostly, are moved as they lie: one by one, each would cost 40 instructions more.
        if count == queue.len() {
            self.frames().append(queue);
        } else {
            self.frames().extend(queue.drain(..count));
        }
    }

    fn frames(&mut self) -> &mut VecDeque<OutboxFrame> {
        // A thread that is ending has no spare memory any more.
        self.frames.get_or_insert_with(|| SPARE.try_with(Cell::take).ok().flatten().unwrap_or_default())
    }

    /// Tells this when all locks are released.
    pub(super) fn tell(&mut self, news: News) {
        self.news.push(news);
    }

    pub(super) fn tell_all(&mut self, news: impl IntoIterator<Item = News>) {
        self.news.extend(news);
    }

    pub(crate) fn append(&mut self, mut more: Self) {
        if self.is_nothing() {
            *self = more;
            return;
        }
        self.news.append(&mut more.news);
        if let Some(mut frames) = more.frames.take() {
            self.frames().append(&mut frames);
        }
    }
}

impl Drop for Spent {
    fn drop(&mut self) {
        if !self.is_nothing() {
            self.clear();
        }
    }
}

impl Spent {
    /// Whether it has never had anything, as mostly.
    fn is_nothing(&self) -> bool {
        self.frames.is_none() && self.news.is_empty()
    }

    fn clear(&mut self) {
        take(&mut self.news).into_iter().for_each(News::tell);
        let Some(mut frames) = self.frames.take() else { return };
        callback::drop_each(DESTRUCTOR, frames.drain(..));
        if (1..=KEPT_CAPACITY).contains(&frames.capacity()) {
            let _ = SPARE.try_with(|spare| spare.set(Some(frames)));
        }
    }
}

/// Drops a message that may hold the last reference to its payload.
pub(crate) fn discard(frame: OutboxFrame) {
    callback::isolate(DESTRUCTOR, || drop(frame));
}
