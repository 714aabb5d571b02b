//! Whether a turn may be a long one. Long messages are read faster in long turns, but all other connections of the thread wait for their
//! ends. So there are none while short messages come as well: with 16 peers that send messages of 1 MiB without a pause, an echo of 128 bytes
//! took 2.4 times as long beside long turns.

use std::cell::Cell;

/// How many reads of long messages follow the last short message before turns are long again. At most 512 MiB: some tenths of a second, so
/// a peer that sends ten short messages a second never waits for a long turn.
const READS: u16 = 4096;

thread_local! {
    /// How many of them are still to come on this thread.
    static LEFT: Cell<u16> = const { Cell::new(0) };
}

pub(crate) fn are_allowed() -> bool {
    LEFT.get() == 0
}

/// Notes a read, which brought a part of a long message or something else.
pub(crate) fn note_read(is_of_long: bool) {
    LEFT.set(if is_of_long { LEFT.get().saturating_sub(1) } else { READS });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_long_again_once_no_short_message_came_for_a_while() {
        assert!(are_allowed());
        note_read(false);
        for _ in 0..READS {
            assert!(!are_allowed());
            note_read(true);
        }
        assert!(are_allowed());
    }
}
