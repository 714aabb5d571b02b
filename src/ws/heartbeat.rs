//! When to ping, and when a peer from which nothing comes is gone. Pure arithmetic: no timer, no socket.

use std::time::Duration;

use tokio::time::Instant;

use crate::ws::deadline::after;

/// How often a peer is pinged, and how long after a ping was due it may stay silent. `None` switches off.
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

/// The heartbeat of one connection.
#[derive(Debug)]
pub(crate) struct Pulse {
    heartbeat: Heartbeat,
    /// When something last came from the peer, or reading was paused.
    heard: Instant,
    next_ping: Option<Instant>,
}

impl Pulse {
    /// `random`, uniform in 0 to 1, places the first ping, so that thousands of connections do not ping at once.
    pub(crate) fn new(heartbeat: Heartbeat, now: Instant, random: f64) -> Self {
        let next_ping = heartbeat.interval.map(|interval| after(now, interval.mul_f64(random)));
        Self { heartbeat, heard: now, next_ping }
    }

    /// Any inbound byte is life; and while reading is paused, the clock stands still.
    pub(crate) fn hear(&mut self, now: Instant) {
        self.heard = now;
    }

    /// Whether a ping is due, which it then counts as sent.
    pub(crate) fn ping_due(&mut self, now: Instant) -> bool {
        let due = self.next_ping.is_some_and(|at| at <= now);
        if due {
            self.next_ping = self.heartbeat.interval.map(|interval| after(now, interval));
        }
        due
    }

    /// How long the peer has been silent, if that is too long.
    pub(crate) fn silence(&self, now: Instant) -> Option<Duration> {
        self.gone_at().filter(|at| *at <= now).map(|_| now - self.heard)
    }

    /// When there is something to do at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        [self.next_ping, self.gone_at()].into_iter().flatten().min()
    }

    fn gone_at(&self) -> Option<Instant> {
        let Heartbeat { interval, timeout } = self.heartbeat;
        Some(after(self.heard, interval?.saturating_add(timeout?)))
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
        assert_eq!(pulse.silence(start + 15 * SECOND), None);
        assert_eq!(pulse.silence(start + 16 * SECOND), Some(15 * SECOND));
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
