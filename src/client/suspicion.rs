//! Which message makes one link after another end: policy as pure arithmetic, without a queue and without a socket.

use std::time::Duration;

use tokio::time::Instant;

use crate::outbox::Head;

/// The close codes by which a peer refuses a message: it cannot take this kind, the content is malformed, it breaks a
/// policy, it is too large (RFC 6455, section 7.4.1).
pub(crate) const UNWANTED: [u16; 4] = [1003, 1007, 1008, 1009];

/// How many of them in a row make the client give up a message: a single one may have been meant for another message.
const MOST_REFUSALS: u32 = 2;

/// How many links may begin to write a message, and end before its end, until it is given up.
pub(crate) const MOST_LINKS: u32 = 8;

/// For how long they have to do so: a client that comes back at once loses eight links on a bad network in the blink of an eye.
pub(crate) const LEAST_TIME: Duration = Duration::from_secs(10);

/// The evidence against the message at the head of a client's outbox.
#[derive(Debug, Default)]
pub(crate) struct Suspicion {
    number: u64,
    /// When the first link that had begun to write it ended.
    since: Option<Instant>,
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
    pub(crate) fn note_end_of_link(&mut self, head: Head, code: Option<u16>, now: Instant) -> Fate {
        if !head.was_begun {
            return Fate::Kept;
        }
        if self.number != head.number {
            *self = Self { number: head.number, ..Self::default() };
        }
        self.links += 1;
        self.refusals = if code.is_some_and(|code| UNWANTED.contains(&code)) { self.refusals + 1 } else { 0 };
        let since = *self.since.get_or_insert(now);
        let is_stuck = self.links >= MOST_LINKS && now - since >= LEAST_TIME;
        let is_guilty = self.refusals >= MOST_REFUSALS || is_stuck;
        if is_guilty { Fate::GivenUp } else { Fate::Kept }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Suspicion {
        fn gives_up(&mut self, head: Head, code: Option<u16>) -> bool {
            self.gives_up_at(head, code, Instant::now())
        }

        fn gives_up_at(&mut self, head: Head, code: Option<u16>, now: Instant) -> bool {
            self.note_end_of_link(head, code, now) == Fate::GivenUp
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
    fn message_that_does_not_move_is_given_up_after_eight_links_and_ten_seconds() {
        let start = Instant::now();
        for (interval, links) in [(10_000, 8), (2_000, 8), (1_000, 11), (100, 101)] {
            let mut suspicion = Suspicion::default();
            let ended = |link| start + Duration::from_millis(interval) * link;
            let given_up = (1..200).find(|link| suspicion.gives_up_at(head(3, true), None, ended(*link)));
            assert_eq!(given_up, Some(links), "{interval}");
        }
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
