//! [`Spent`]: the messages that have left a queue, until they can be dropped.

use std::{
    cell::Cell,
    mem::{swap, take},
};

use crate::{Frame, runtime::callback};

/// The largest list of messages whose memory a thread keeps.
const KEPT_CAPACITY: usize = 1024;

thread_local! {
    /// The memory of one list, which would otherwise be allocated anew for each write.
    static SPARE: Cell<Vec<Frame>> = const { Cell::new(Vec::new()) };
}

/// Messages that nobody needs any more. The caller drops them outside all locks: a payload can be a `Bytes::from_owner`,
/// whose destructor is user code and may push, or panic.
#[derive(Debug, Default)]
#[must_use]
pub(crate) struct Spent(Vec<Frame>);

impl Spent {
    pub(crate) fn push(&mut self, frame: Frame) {
        self.extend([frame]);
    }

    pub(crate) fn extend(&mut self, frames: impl IntoIterator<Item = Frame>) {
        if self.0.capacity() == 0 {
            // A thread that is ending has no spare memory any more.
            self.0 = SPARE.try_with(Cell::take).unwrap_or_default();
        }
        self.0.extend(frames);
    }

    /// The bytes of all payloads.
    pub(crate) fn len(&self) -> u64 {
        self.0.iter().map(|frame| frame.len() as u64).sum()
    }

    pub(crate) fn append(&mut self, mut more: Self) {
        if self.0.is_empty() {
            swap(self, &mut more);
        } else {
            self.0.append(&mut more.0);
        }
    }
}

impl Drop for Spent {
    fn drop(&mut self) {
        self.0.drain(..).for_each(discard);
        if (1..=KEPT_CAPACITY).contains(&self.0.capacity()) {
            let _ = SPARE.try_with(|spare| spare.set(take(&mut self.0)));
        }
    }
}

/// Drops a message that may hold the last reference to its payload.
pub(crate) fn discard(frame: Frame) {
    callback::isolate("the destructor of a payload", || drop(frame));
}
