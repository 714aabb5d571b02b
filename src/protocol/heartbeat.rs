//! When to ping, and when a silent peer counts as gone. Pure arithmetic: no timer, no socket.

use std::time::Duration;

use tokio::time::Instant;

use crate::time::after;

/// How often a peer is pinged, and how long after a ping was due it may stay silent. `None` switches either off.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heartbeat {
    pub(crate) interval: Option<Duration>,
    pub(crate) timeout: Option<Duration>,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self { interval: Some(Duration::from_secs(30)), timeout: Some(Duration::from_secs(30)) }
    }
}

/// The latest that this side may be and still judge a peer. A side that is later was suspended or busy, and cannot know how
/// much of the time the peer had.
const LATENESS: Duration = Duration::from_secs(1);

/// What a ping carries, and the pong that answers it brings back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// How many messages were sent before the ping.
    pub(crate) messages: u64,
    /// The number of the ping, which tells its pong from those of other pings.
    pub(crate) number: u32,
}

impl Mark {
    pub(crate) fn bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&self.messages.to_be_bytes());
        bytes[8..].copy_from_slice(&self.number.to_be_bytes());
        bytes
    }

    /// `None` for what no ping of this side carried: a pong that nobody asked for may carry anything.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let (messages, number) = bytes.split_first_chunk()?;
        let number = u32::from_be_bytes(number.try_into().ok()?);
        Some(Self { messages: u64::from_be_bytes(*messages), number })
    }
}

/// The heartbeat of one connection.
#[derive(Debug)]
pub(crate) struct Pulse {
    heartbeat: Heartbeat,
    /// When the last byte came from the peer, or reading was paused.
    heard: Instant,
    next_ping: Option<Instant>,
    /// When the operating system took the first ping after that.
    asked: Option<Instant>,
    /// How many pings there have been.
    pings: u32,
    /// The number of the first ping that no pong has answered, and when the operating system took it.
    flying: Option<(u32, Instant)>,
    /// The peer was pinged once more instead of being judged, since this side was too late.
    was_spared: bool,
}

impl Pulse {
    /// `random`, uniform in 0 to 1, places the first ping, so that thousands of connections do not ping at once.
    pub(crate) fn new(heartbeat: Heartbeat, now: Instant, random: f64) -> Self {
        let next_ping = heartbeat.interval.map(|interval| after(now, interval.mul_f64(random)));
        Self { heartbeat, heard: now, next_ping, asked: None, pings: 0, flying: None, was_spared: false }
    }

    /// Whether there is a heartbeat.
    pub(crate) fn is_on(&self) -> bool {
        self.heartbeat.interval.is_some()
    }

    /// Any inbound byte is a sign of life. Also called while reading is paused, so that the clock stands still.
    pub(crate) fn hear(&mut self, now: Instant) {
        self.heard = now;
        self.asked = None;
        self.was_spared = false;
    }

    /// Whether a ping is due. If so, the next one is due a whole interval later.
    pub(crate) fn ping_due(&mut self, now: Instant) -> bool {
        let due = self.next_ping.is_some_and(|at| at <= now);
        if due {
            self.next_ping = self.heartbeat.interval.map(|interval| after(now, interval));
        }
        due
    }

    /// Counts a ping that goes out behind so many messages, and returns what it carries.
    pub(crate) fn ping(&mut self, messages: u64) -> Mark {
        self.pings = self.pings.wrapping_add(1);
        Mark { messages, number: self.pings }
    }

    /// Notes that the operating system has taken the latest ping.
    pub(crate) fn pinged(&mut self, now: Instant) {
        self.asked.get_or_insert(now);
        self.flying.get_or_insert((self.pings, now));
    }

    /// Notes the pong to a ping, and returns the time that it took. A peer may answer the latest of several pings only (RFC
    /// 6455, section 5.5.3); the time then counts from the first of them. Those in flight when it was answered measure nothing.
    pub(crate) fn ponged(&mut self, number: u32, now: Instant) -> Option<Duration> {
        let (first, taken) = self.flying?;
        // The numbers may have wrapped around.
        if number.wrapping_sub(first) > self.pings.wrapping_sub(first) {
            return None;
        }
        self.flying = None;
        Some(now.saturating_duration_since(taken))
    }

    /// Whether the peer's time is over.
    pub(crate) fn is_overdue(&self, now: Instant) -> bool {
        self.gone_at().is_some_and(|at| at <= now)
    }

    /// How long the peer has been silent, if that is too long. The caller has made sure that no byte waits to be read.
    pub(crate) fn silence(&mut self, now: Instant) -> Option<Duration> {
        let gone_at = self.gone_at().filter(|at| *at <= now)?;
        let timeout = self.heartbeat.timeout?;
        if now - gone_at <= LATENESS.min(timeout / 2) || self.was_spared {
            return Some(now - self.heard);
        }
        // Only once: a side that is always late would never find out.
        (self.asked, self.next_ping, self.was_spared) = (None, Some(now), true);
        None
    }

    /// When the next ping is due.
    pub(crate) fn next_ping(&self) -> Option<Instant> {
        self.next_ping
    }

    /// Whether the peer has been pinged, and nothing has come from it since.
    pub(crate) fn is_asking(&self) -> bool {
        self.asked.is_some()
    }

    /// The time of the next ping or judgement.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        [self.next_ping, self.gone_at()].into_iter().flatten().min()
    }

    /// When the time of a silent peer is over: the interval and the timeout after its last byte, and the timeout after a
    /// ping.
    fn gone_at(&self) -> Option<Instant> {
        let Heartbeat { interval, timeout } = self.heartbeat;
        let (timeout, asked) = (timeout?, self.asked?);
        Some(after(self.heard, interval?.saturating_add(timeout)).max(after(asked, timeout)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn pulse(interval: Option<Duration>, timeout: Option<Duration>) -> (Pulse, Instant) {
        let now = Instant::now();
        (Pulse::new(Heartbeat { interval, timeout }, now, 0.5), now)
    }

    fn ping(pulse: &mut Pulse, now: Instant) {
        pulse.ping(0);
        pulse.pinged(now);
    }

    #[test]
    fn first_ping_comes_after_a_part_of_the_interval_and_the_others_after_the_whole() {
        let (mut pulse, start) = pulse(Some(10 * SECOND), None);
        assert!(!pulse.ping_due(start + 4 * SECOND));
        assert!(pulse.ping_due(start + 5 * SECOND));
        assert!(!pulse.ping_due(start + 14 * SECOND));
        assert!(pulse.ping_due(start + 15 * SECOND));
    }

    #[test]
    fn peer_is_gone_after_interval_and_timeout_without_a_sound() {
        let (mut pulse, start) = pulse(Some(10 * SECOND), Some(5 * SECOND));
        pulse.hear(start + SECOND);
        pulse.pinged(start + 5 * SECOND);
        assert_eq!(pulse.silence(start + 15 * SECOND), None);
        assert_eq!(pulse.silence(start + 16 * SECOND), Some(15 * SECOND));
    }

    #[test]
    fn peer_that_was_asked_late_has_its_whole_timeout() {
        let (mut pulse, start) = pulse(Some(10 * SECOND), Some(5 * SECOND));
        pulse.pinged(start + 14 * SECOND);
        // Another one gives it no more time.
        pulse.pinged(start + 18 * SECOND);
        assert_eq!(pulse.silence(start + 18 * SECOND), None);
        assert_eq!(pulse.deadline(), Some(start + 5 * SECOND));
        assert!(pulse.ping_due(start + 18 * SECOND));
        assert_eq!(pulse.deadline(), Some(start + 19 * SECOND));
        assert_eq!(pulse.silence(start + 19 * SECOND), Some(19 * SECOND));
    }

    #[test]
    fn round_trip_is_from_the_first_unanswered_ping_to_the_pong_whatever_else_is_heard() {
        let (mut pulse, start) = pulse(Some(10 * SECOND), Some(5 * SECOND));
        assert_eq!(pulse.ponged(0, start), None, "it was not asked");
        ping(&mut pulse, start + SECOND);
        pulse.hear(start + 2 * SECOND);
        ping(&mut pulse, start + 3 * SECOND);
        assert_eq!(pulse.ponged(3, start + 4 * SECOND), None, "there is no such ping");
        assert_eq!(pulse.ponged(2, start + 4 * SECOND), Some(3 * SECOND));
        assert_eq!(pulse.ponged(2, start + 5 * SECOND), None, "it has been answered");
    }

    #[test]
    fn round_trip_may_be_longer_than_the_interval() {
        let (mut pulse, start) = pulse(Some(SECOND), None);
        // The numbers wrap around on the way.
        pulse.pings = u32::MAX - 5;
        let first = pulse.pings;
        let mut round_trips = Vec::new();
        for second in 1..=30 {
            ping(&mut pulse, start + second * SECOND);
            if second > 3 {
                round_trips.extend(pulse.ponged(first.wrapping_add(second - 3), start + second * SECOND));
            }
        }
        assert_eq!(round_trips, [3 * SECOND; 7]);
    }

    #[test]
    fn ping_carries_what_its_pong_brings_back() {
        let mark = Mark { messages: u64::MAX - 1, number: 7 };
        assert_eq!(Mark::read(&mark.bytes()), Some(mark));
        for len in [0, 8, 11, 13, 125] {
            assert_eq!(Mark::read(&vec![0; len]), None, "{len}");
        }
    }

    #[test]
    fn peer_that_was_not_asked_since_it_spoke_is_not_gone() {
        let (mut pulse, start) = pulse(Some(10 * SECOND), Some(5 * SECOND));
        assert_eq!(pulse.silence(start + 1000 * SECOND), None);
        pulse.pinged(start + SECOND);
        pulse.hear(start + 2 * SECOND);
        assert_eq!(pulse.silence(start + 1000 * SECOND), None);
    }

    #[test]
    fn side_that_comes_too_late_to_judge_asks_once_more_and_only_once() {
        let (mut pulse, start) = pulse(Some(10 * SECOND), Some(5 * SECOND));
        assert!(pulse.ping_due(start + 5 * SECOND));
        pulse.pinged(start + 5 * SECOND);
        // Due at 15.
        let back = start + 17 * SECOND;
        assert!(pulse.is_overdue(back));
        assert_eq!(pulse.silence(back), None);
        assert!(pulse.ping_due(back) && !pulse.is_overdue(back));
        pulse.pinged(back);
        assert_eq!(pulse.silence(back + 4 * SECOND), None);
        assert_eq!(pulse.silence(back + 9 * SECOND), Some(26 * SECOND));
    }

    #[test]
    fn without_an_interval_nothing_is_ever_due() {
        let (mut pulse, start) = pulse(None, Some(SECOND));
        assert!(!pulse.ping_due(start + 1000 * SECOND));
        assert_eq!(pulse.silence(start + 1000 * SECOND), None);
        assert_eq!(pulse.deadline(), None);
    }

    #[test]
    fn longest_times_there_are_never_come() {
        let now = Instant::now();
        let heartbeat = Heartbeat { interval: Some(Duration::MAX), timeout: Some(Duration::MAX) };
        let mut pulse = Pulse::new(heartbeat, now, 1.0 - f64::EPSILON / 2.0);
        pulse.hear(now + SECOND);
        assert!(!pulse.ping_due(now + 1000 * SECOND));
        assert_eq!(pulse.silence(now + 1000 * SECOND), None);
    }

    #[test]
    fn without_a_timeout_it_pings_and_never_gives_up() {
        let (mut pulse, start) = pulse(Some(SECOND), None);
        assert!(pulse.ping_due(start + SECOND));
        assert_eq!(pulse.silence(start + 1000 * SECOND), None);
    }
}
