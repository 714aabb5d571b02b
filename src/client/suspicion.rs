//! Which message makes one link after another end: policy as pure arithmetic, without a queue and without a socket.

use crate::outbox::Head;

/// The close codes by which a peer refuses a message: it cannot take this kind, the content is malformed, it breaks a
/// policy, it is too large (RFC 6455, section 7.4.1).
pub(crate) const UNWANTED: [u16; 4] = [1003, 1007, 1008, 1009];

/// How many of them in a row make the client give up a message: a single one may have been meant for another message.
const MOST_REFUSALS: u32 = 2;

/// How many links may begin to write a message, and end before its end, until it is given up.
pub(crate) const MOST_LINKS: u32 = 8;

/// The evidence against the message at the head of a client's outbox.
#[derive(Debug, Default)]
pub(crate) struct Suspicion {
    number: u64,
    /// How many links in a row the peer closed with a code that says no.
    refusals: u32,
    /// How many links have begun to write it and ended.
    pub(crate) links: u32,
}

/// The fate of the message at the head.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Kept,
    /// It is to be dropped.
    GivenUp,
}

impl Suspicion {
    /// Notes that a link has ended, with the peer's close code if it sent one, and with `head` unwritten.
    pub(crate) fn note_end_of_link(&mut self, head: Head, code: Option<u16>) -> Fate {
        if !head.was_begun {
            return Fate::Kept;
        }
        if self.number != head.number {
            *self = Self { number: head.number, ..Self::default() };
        }
        self.links += 1;
        self.refusals = if code.is_some_and(|code| UNWANTED.contains(&code)) { self.refusals + 1 } else { 0 };
        let is_guilty = self.refusals >= MOST_REFUSALS || self.links >= MOST_LINKS;
        if is_guilty { Fate::GivenUp } else { Fate::Kept }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Suspicion {
        fn gives_up(&mut self, head: Head, code: Option<u16>) -> bool {
            self.note_end_of_link(head, code) == Fate::GivenUp
        }
    }

    fn head(number: u64, was_begun: bool) -> Head {
        Head { number, len: 10, was_begun }
    }

    #[test]
    fn message_is_given_up_when_two_links_in_a_row_are_closed_for_it() {
        for code in UNWANTED {
            let mut suspicion = Suspicion::default();
            assert!(!suspicion.gives_up(head(0, true), Some(code)));
            assert!(suspicion.gives_up(head(0, true), Some(1009)), "{code}");
        }
        let mut suspicion = Suspicion::default();
        let codes = [Some(1009), None, Some(1009), Some(1001), Some(1009)];
        assert!(!codes.into_iter().any(|code| suspicion.gives_up(head(0, true), code)));
    }

    #[test]
    fn message_that_does_not_move_is_given_up_after_eight_links() {
        let mut suspicion = Suspicion::default();
        assert_eq!((1..=20).find(|_| suspicion.gives_up(head(3, true), None)), Some(8));
    }

    #[test]
    fn nothing_is_held_against_a_message_that_no_link_has_begun_nor_against_the_one_behind() {
        let mut suspicion = Suspicion::default();
        assert!(!(0..20).any(|_| suspicion.gives_up(head(0, false), Some(1009))));
        assert!(!suspicion.gives_up(head(0, true), Some(1009)));
        assert!(!suspicion.gives_up(head(1, true), Some(1009)));
        assert!(suspicion.gives_up(head(1, true), Some(1009)));
    }
}
