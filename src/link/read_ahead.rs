//! [`ReadAhead`]: how many messages may wait for their subscribers before no more are read.

use std::task::Context;

use crate::{subject::Backlog, sync::Ordering};

/// How many messages may wait, on a runtime of several threads.
pub(crate) const READ_AHEAD: usize = 1024;

/// How many bytes may wait. Of messages at the default limit of a server, 16.
const READ_AHEAD_LEN: usize = 16 * 1024 * 1024;

/// How many may wait before also a connection is held that sends short messages: those that send long ones are held earlier.
const SPARED_LEN: usize = 4 * READ_AHEAD_LEN;

/// Shorter messages than this never reach that: [`READ_AHEAD`] of them are fewer bytes.
const COUNTED_LEN: usize = READ_AHEAD_LEN / READ_AHEAD;

/// Turns the bound in bytes into one in messages: none of those that wait is longer than the longest of the latest ones.
#[derive(Debug, Default)]
pub(crate) struct ReadAhead {
    /// The longest of the latest messages, if it counts.
    longest: usize,
    /// How many have come since.
    since: usize,
    /// A message has come, and the connection compresses.
    has_inflated: bool,
}

impl ReadAhead {
    /// Notes the length of a message that was read.
    pub(crate) fn note(&mut self, len: usize) {
        if self.longest > 0 || len > COUNTED_LEN {
            self.note_long(len);
        }
    }

    fn note_long(&mut self, len: usize) {
        self.since += 1;
        // By then, it does not wait any more.
        if len >= self.longest || self.since > READ_AHEAD {
            let counts = len > COUNTED_LEN;
            (self.longest, self.since) = (if counts { len } else { 0 }, 0);
        }
    }

    /// Notes the length of a message of a connection that compresses.
    ///
    /// Its peer may have paid a thousandth of it. So these are also counted for all connections of a subject together, or the first
    /// messages of many could wait at once.
    pub(crate) fn note_inflated(&mut self, len: usize, backlog: &dyn Backlog) {
        self.has_inflated = true;
        if len > COUNTED_LEN {
            backlog.inflated().fetch_add(len, Ordering::Relaxed);
        }
    }

    /// Whether too many bytes of such messages wait: of those that were read since last nothing waited.
    pub(crate) fn is_inflated(&self, backlog: &dyn Backlog, cx: &Context<'_>) -> bool {
        let sends_short = self.has_inflated && self.longest == 0;
        let most = if sends_short { SPARED_LEN } else { READ_AHEAD_LEN };
        if backlog.inflated().load(Ordering::Relaxed) <= most {
            return false;
        }
        if backlog.poll_at_most(0, cx).is_pending() {
            return true;
        }
        // What another thread notes right now is forgotten: a turn's share of each.
        backlog.inflated().store(0, Ordering::Relaxed);
        false
    }

    /// How many messages may wait now.
    pub(crate) fn most(&self) -> usize {
        // Nothing counts, mostly.
        READ_AHEAD_LEN.checked_div(self.longest).map_or(READ_AHEAD, |most| most.clamp(1, READ_AHEAD))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn short_messages_are_bounded_by_their_number() {
        let mut ahead = ReadAhead::default();
        (0..10_000).for_each(|_| ahead.note(COUNTED_LEN));
        assert_eq!(ahead.most(), 1024);
    }

    #[test]
    fn long_message_counts_until_it_cannot_wait_any_more() {
        let mut ahead = ReadAhead::default();
        ahead.note(1 << 20);
        for _ in 0..READ_AHEAD {
            assert_eq!(ahead.most(), 16);
            ahead.note(100);
        }
        ahead.note(100);
        assert_eq!(ahead.most(), 1024);
        ahead.note(1 << 30);
        assert_eq!(ahead.most(), 1);
    }

    proptest! {
        #[test]
        fn messages_that_wait_have_no_more_bytes_than_the_bound_and_one(
            steps in prop::collection::vec((prop_oneof![0..1000usize, 0..(4usize << 20)], 0..3usize), 0..3000),
        ) {
            let (mut ahead, mut waiting) = (ReadAhead::default(), VecDeque::new());
            for (len, heard) in steps {
                if waiting.len() < ahead.most() {
                    ahead.note(len);
                    waiting.push_back(len);
                }
                waiting.drain(..heard.min(waiting.len()));
                prop_assert!(waiting.iter().sum::<usize>() <= READ_AHEAD_LEN + (4 << 20));
            }
        }
    }
}
