//! Whether a turn may be a long one. Long messages are read faster in long turns, but all other connections of the thread wait for their
//! ends. So there are none while short messages come as well: with 16 peers that send messages of 1 MiB without a pause, an echo of 128 bytes
//! took 2.4 times as long beside long turns.

use std::cell::Cell;

/// How much of long messages is read after the last short message before turns are long again. That takes some tenths of a second, so a
/// peer that sends ten short messages a second never waits for a long turn.
const LEN: usize = 512 * 1024 * 1024;

thread_local! {
    /// How much of that is still to come on this thread.
    static LEFT: Cell<usize> = const { Cell::new(0) };
}

pub(crate) fn are_allowed() -> bool {
    LEFT.get() == 0
}

/// Notes a short message. The pongs of idle peers are none: they may wait.
#[inline]
pub(crate) fn note_short() {
    LEFT.set(LEN);
}

/// Notes a read of so many bytes, which brought a part of a long message or did not.
pub(crate) fn note_read(len: usize, is_of_long: bool) {
    if is_of_long {
        LEFT.set(LEFT.get().saturating_sub(len));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_long_again_once_no_short_message_came_for_a_while() {
        assert!(are_allowed());
        note_short();
        // Also if they come byte by byte.
        for len in [1, LEN / 2, 1, LEN / 2 - 2] {
            assert!(!are_allowed());
            note_read(len, true);
        }
        assert!(are_allowed());
    }
}
