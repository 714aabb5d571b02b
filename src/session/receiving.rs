//! The inbound half of a session: how far this end has come in the other's messages, and when it says so.

use super::verb::{MAX_NUMBER, Malformed, Verb};

/// An ack is due at so many messages. With half of it, a server pays more for reading acks in a fan-out (1.33 times as much as
/// without the mode, for 1.29); with twice of it, what is retained is in no cache when it is let go.
const ACK_MESSAGES: u32 = 128;

/// An ack is due at so many bytes, for the same reason.
const ACK_LEN: u32 = 32 * 1024;

/// Counts what arrives. A message counts when it has been handed to the program.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Receiving {
    received: u64,
    /// How far that is beyond the position that the other end was told last, and the bytes received since then. As many as fit, since
    /// an ack is due long before.
    unacked: u32,
    unacked_len: u32,
}

impl Receiving {
    /// Begins at a position that the other end was told.
    pub(crate) fn told(position: u64) -> Self {
        Self { received: position, ..Self::default() }
    }

    /// Counts a payload of `len` bytes, unless its number is one that no control message can tell.
    #[inline]
    pub(crate) fn take(&mut self, len: usize) -> Result<(), Malformed> {
        if self.received >= MAX_NUMBER {
            return Err(Malformed("a session has no more than 2^53 - 1 messages"));
        }
        self.received += 1;
        self.unacked = self.unacked.saturating_add(1);
        self.unacked_len = self.unacked_len.saturating_add(at_most_u32(len as u64));
        Ok(())
    }

    /// The next payload is at `position`. Returns how many do not come.
    pub(crate) fn at(&mut self, position: u64) -> Result<u64, Malformed> {
        let gap = position.checked_sub(self.received).ok_or(Malformed("`at` or `resumed` goes back"))?;
        self.received = position;
        self.unacked = self.unacked.saturating_add(at_most_u32(gap));
        Ok(gap)
    }

    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Whether an ack is due already, without a deadline.
    #[inline]
    pub(crate) fn is_ack_due(&self) -> bool {
        self.unacked >= ACK_MESSAGES || self.unacked_len >= ACK_LEN
    }

    /// Whether anything is unacknowledged, so that an ack is due some time.
    #[inline]
    pub(crate) fn owes_ack(&self) -> bool {
        self.unacked > 0
    }

    pub(crate) fn ack(&mut self) -> Verb {
        *self = Self::told(self.received);
        Verb::Ack(self.received)
    }
}

fn at_most_u32(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(messages: u64, len: usize) -> Receiving {
        let mut receiving = Receiving::default();
        (0..messages).for_each(|_| receiving.take(len).unwrap());
        receiving
    }

    #[test]
    fn nothing_is_owed_before_the_first_message() {
        let receiving = Receiving::default();
        assert_eq!((receiving.received(), receiving.is_ack_due(), receiving.owes_ack()), (0, false, false));
    }

    #[test]
    fn ack_is_due_at_128_messages() {
        assert!(received(1, 0).owes_ack() && !received(1, 0).is_ack_due());
        assert!(!received(127, 10).is_ack_due());
        assert!(received(128, 10).is_ack_due());
    }

    #[test]
    fn ack_is_due_at_32_kib() {
        assert!(!received(1, 32 * 1024 - 1).is_ack_due());
        assert!(received(1, 32 * 1024).is_ack_due());
        assert!(received(2, 16 * 1024).is_ack_due());
        assert!(received(2, usize::MAX).is_ack_due());
    }

    #[test]
    fn nothing_is_owed_after_an_ack() {
        let mut receiving = received(64, 1024);
        assert_eq!(receiving.ack(), Verb::Ack(64));
        assert!(!receiving.owes_ack() && !receiving.is_ack_due());
        receiving.take(31 * 1024).unwrap();
        assert!(receiving.owes_ack() && !receiving.is_ack_due());
        assert_eq!(receiving.ack(), Verb::Ack(65));
    }

    #[test]
    fn position_told_in_a_resume_is_as_good_as_an_ack() {
        let receiving = Receiving::told(64);
        assert_eq!(receiving.received(), 64);
        assert!(!receiving.owes_ack() && !receiving.is_ack_due());
    }

    #[test]
    fn what_does_not_come_is_a_gap_and_counts() {
        let mut receiving = received(3, 1);
        assert_eq!(receiving.at(3), Ok(0));
        assert_eq!(receiving.at(10), Ok(7));
        assert_eq!(receiving.received(), 10);
        assert_eq!(receiving.ack(), Verb::Ack(10));
        assert_eq!(receiving.at(MAX_NUMBER), Ok(MAX_NUMBER - 10));
        assert!(receiving.is_ack_due());
    }

    #[test]
    fn message_whose_number_cannot_be_told_is_a_mistake() {
        let mut receiving = Receiving::default();
        assert_eq!((receiving.at(MAX_NUMBER - 1), receiving.take(1)), (Ok(MAX_NUMBER - 1), Ok(())));
        assert!(receiving.take(1).is_err());
        assert_eq!(receiving.received(), MAX_NUMBER);
    }

    #[test]
    fn position_never_falls() {
        let mut receiving = received(3, 1);
        assert!(receiving.at(2).is_err());
        assert_eq!(receiving.received(), 3);
    }
}
