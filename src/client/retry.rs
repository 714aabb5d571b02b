//! When a client tries again: policy as pure arithmetic, without a clock and without a socket.
//!
//! The client counts the attempts and measures the time since the loss; [`RetryPolicy::delay`] turns both, and the server's
//! answer, into the wait before the next attempt, or into none when no further attempt is to be made.

use std::time::Duration;

#[cfg(feature = "config")]
use super::retry_fields::RetryFields;

/// How long a client waits before it connects again, and when it gives up.
///
/// The default, [`exponential`](Self::exponential), spreads a whole fleet over the first second and doubles from there, so
/// that a server that returns does not meet all of its clients at once. No wait is above [`max_delay`](Self::max_delay),
/// unless a server asks for a longer one: see [`max_retry_after`](Self::max_retry_after).
///
/// "The first delay" is the wait after a connection was lost, or after the very first attempt failed. The count starts
/// afresh once a connection has proved itself: see [`min_uptime`](crate::ClientBuilder::min_uptime).
///
/// ```
/// use std::time::Duration;
/// use rxplus::{OnRejected, RetryPolicy};
///
/// let policy = RetryPolicy::exponential()
///     .max_delay(Duration::from_secs(10))
///     .max_elapsed(Duration::from_secs(300))
///     .on_rejected(OnRejected::GiveUp);
/// assert_ne!(policy, RetryPolicy::default());
/// ```
///
/// In a configuration file (feature `config`) its options have the names of the methods, with durations in seconds:
/// `{"max_delay": 10, "max_retries": 5, "on_rejected": "give_up"}`. A missing one has its default; an unknown name or a bad
/// value is an error that says so.
#[must_use]
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "config", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "config", serde(try_from = "RetryFields", into = "RetryFields"))]
pub struct RetryPolicy {
    pub(super) first_delay: Option<Duration>,
    pub(super) base_delay: Duration,
    pub(super) max_delay: Duration,
    pub(super) factor: f64,
    pub(super) jitter: bool,
    pub(super) max_retries: Option<u32>,
    pub(super) max_elapsed: Option<Duration>,
    pub(super) max_retry_after: Duration,
    pub(super) on_rejected: OnRejected,
}

/// The reaction to an answer that waiting will not change.
///
/// Such answers are an HTTP status of 400 to 499 other than 408, 425 and 429, which say "later"; a connection that the
/// server closes with code 1008, "policy violation" (RFC 6455, section 7.4.1); and a TLS certificate for another name. In
/// all these cases the answer is reported at once.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "config", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum OnRejected {
    /// Try again after a random time between half of [`RetryPolicy::max_delay`] and all of it, since an operator may mend
    /// it; after exactly that delay without [`jitter`](RetryPolicy::jitter). The default.
    #[default]
    RetryAtMaxDelay,
    /// End the client with [`WsError::RetriesExhausted`](crate::WsError::RetriesExhausted).
    GiveUp,
}

/// The reaction of a client after its server has closed the connection, returned by the function given to
/// [`on_close`](crate::ClientBuilder::on_close).
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OnClose {
    /// Try again after the delay that the [`RetryPolicy`] has for this attempt.
    Retry,
    /// Try again as after [`OnRejected::RetryAtMaxDelay`].
    RetryAtMaxDelay,
    /// End the client with [`WsError::RetriesExhausted`](crate::WsError::RetriesExhausted).
    GiveUp,
}

impl From<OnRejected> for OnClose {
    fn from(reaction: OnRejected) -> Self {
        match reaction {
            OnRejected::RetryAtMaxDelay => Self::RetryAtMaxDelay,
            OnRejected::GiveUp => Self::GiveUp,
        }
    }
}

/// The meaning of a failed attempt or a lost connection for the next attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Verdict {
    pub(crate) then: OnClose,
    /// How long the server asked the client to wait.
    pub(crate) retry_after: Option<Duration>,
}

impl RetryPolicy {
    /// Waits longer after each failure, each time a random part of a range; the default policy.
    ///
    /// With a base of 0.5 s and a factor of 2 the first delay is uniform in 0 to 1 s, the second in 1 to 2 s, then in 2
    /// to 4 s and so on up to 15 to 30 s, forever. In general the first is uniform in zero to twice the base, and the
    /// `k`-th after it in `base_delay * factor^k` to twice that. [`max_delay`](Self::max_delay) is the highest upper end of
    /// such a range, whose lower end is half of it.
    pub fn exponential() -> Self {
        Self {
            first_delay: None,
            base_delay: Duration::from_millis(500),
            max_delay: Duration::from_secs(30),
            factor: 2.0,
            jitter: true,
            max_retries: None,
            max_elapsed: None,
            max_retry_after: Duration::from_secs(3600),
            on_rejected: OnRejected::RetryAtMaxDelay,
        }
    }

    /// Waits exactly `delay` before every attempt, forever.
    ///
    /// For a few clients or a test: many clients with the same delay come back at the same moment. It is the
    /// exponential policy with `delay` as base and longest delay, a factor of 1 and no jitter; the builders apply to it
    /// all the same.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use rxplus::RetryPolicy;
    /// let policy = RetryPolicy::fixed(Duration::from_secs(2)).max_retries(5);
    /// ```
    ///
    /// # Panics
    ///
    /// If `delay` is zero, which would make the client spin.
    pub fn fixed(delay: Duration) -> Self {
        assert!(!delay.is_zero(), "the delay of RetryPolicy::fixed must be longer than zero");
        Self { base_delay: delay, max_delay: delay, factor: 1.0, jitter: false, ..Self::exponential() }
    }

    /// Sets the first delay to exactly this, without jitter. The default is `None`: as the base delay and jitter say.
    ///
    /// Zero is allowed: the client then connects again at once, and waits from the second attempt on. When many clients lose
    /// the same server, they all come back at that same moment, so leave it at `None` for a fleet. The delays after it do
    /// not change; [`max_delay`](Self::max_delay) holds for it too.
    pub fn first_delay(mut self, delay: impl Into<Option<Duration>>) -> Self {
        self.first_delay = delay.into();
        self
    }

    /// Sets the delay from which the others grow. The default is 0.5 s.
    ///
    /// # Panics
    ///
    /// If `delay` is zero, which would make the client spin.
    pub fn base_delay(mut self, delay: Duration) -> Self {
        assert!(!delay.is_zero(), "base_delay must be longer than zero");
        self.base_delay = delay;
        self
    }

    /// Sets the longest wait between two attempts to reconnect. The default is 30 s.
    ///
    /// It wins over every other delay, [`base_delay`](Self::base_delay) and [`first_delay`](Self::first_delay) included,
    /// except the one that a server asks for ([`max_retry_after`](Self::max_retry_after)).
    ///
    /// # Panics
    ///
    /// If `delay` is zero, which would make the client spin.
    pub fn max_delay(mut self, delay: Duration) -> Self {
        assert!(!delay.is_zero(), "max_delay must be longer than zero");
        self.max_delay = delay;
        self
    }

    /// Sets the factor by which each delay is multiplied to give the next. The default is 2.
    ///
    /// # Panics
    ///
    /// If `factor` is below 1 or not finite: delays that shrink would make the client spin.
    pub fn factor(mut self, factor: f64) -> Self {
        assert!(factor.is_finite() && factor >= 1.0, "factor must be a finite number from 1 on, not {factor}");
        self.factor = factor;
        self
    }

    /// Chooses between random and exact delays. The default is `true`, and `false` for [`fixed`](Self::fixed).
    ///
    /// Without jitter each delay is exactly `base_delay * factor^k`, with `k = 0` for the first, at most
    /// [`max_delay`](Self::max_delay): clients that were cut off together also return together.
    pub fn jitter(mut self, jitter: bool) -> Self {
        self.jitter = jitter;
        self
    }

    /// Sets how many attempts may fail in a row before the client ends. The default, `None`, is no limit.
    ///
    /// The attempt that made the lost connection does not count, so `0` means: never reconnect. Past the limit the
    /// client's subject errors with [`WsError::RetriesExhausted`](crate::WsError::RetriesExhausted).
    pub fn max_retries(mut self, retries: impl Into<Option<u32>>) -> Self {
        self.max_retries = retries.into();
        self
    }

    /// Sets how long the client keeps trying after a loss. The default, `None`, is no limit.
    ///
    /// A failure that comes this long after the loss, or later, is the last: the client's subject errors with
    /// [`WsError::RetriesExhausted`](crate::WsError::RetriesExhausted). A wait that began before runs to its end.
    pub fn max_elapsed(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.max_elapsed = time.into();
        self
    }

    /// Sets the longest wait that a server may ask for, by a `Retry-After` in an answer that refuses the connection (RFC
    /// 9110, section 10.2.3). The default is 1 h; zero ignores such headers.
    ///
    /// The client waits at least as long as the server asks, but this limit caps the request. A random part of a quarter of
    /// it, or of the range of the first delay if that is longer, comes on top, since the server may have told many clients
    /// the same; without [`jitter`](Self::jitter) nothing is added.
    pub fn max_retry_after(mut self, most: Duration) -> Self {
        self.max_retry_after = most;
        self
    }

    /// Sets the reaction to an answer that waiting will not change. The default is [`OnRejected::RetryAtMaxDelay`].
    pub fn on_rejected(mut self, reaction: OnRejected) -> Self {
        self.on_rejected = reaction;
        self
    }

    /// The wait before the next attempt, or `None` when no further attempt is to be made.
    ///
    /// `attempt` is 0 before the first retry; `elapsed` is the time since the loss; `random` is uniform in `[0, 1)`, drawn
    /// anew for each call.
    pub(crate) fn delay(&self, attempt: u32, elapsed: Duration, verdict: Verdict, random: f64) -> Option<Duration> {
        if self.is_used_up(attempt, elapsed) {
            return None;
        }
        let own = match verdict.then {
            OnClose::Retry => self.backoff(attempt, random),
            OnClose::RetryAtMaxDelay => self.longest(random),
            OnClose::GiveUp => return None,
        };
        Some(own.max(self.asked_for(verdict.retry_after, random)))
    }

    /// The longest delay that [`delay`](Self::delay) returns for a loss at this attempt, if it is not the first.
    #[cfg(feature = "nats")]
    pub(crate) fn longest_delay(&self, attempt: u32) -> Duration {
        if self.jitter { self.highest(attempt) } else { self.grown(attempt) }
    }

    /// The reaction to an answer that waiting will not change.
    pub(crate) fn rejected(&self) -> OnClose {
        self.on_rejected.into()
    }

    fn is_used_up(&self, attempt: u32, elapsed: Duration) -> bool {
        self.max_retries.is_some_and(|most| attempt >= most) || self.max_elapsed.is_some_and(|most| elapsed >= most)
    }

    fn backoff(&self, attempt: u32, random: f64) -> Duration {
        match self.first_delay {
            Some(first) if attempt == 0 => first.min(self.max_delay),
            _ if self.jitter => self.jittered(attempt, random),
            _ => self.grown(attempt),
        }
    }

    fn jittered(&self, attempt: u32, random: f64) -> Duration {
        let high = self.highest(attempt);
        // From zero, not from the base: a fleet that lost its server at one moment is to fill the first second evenly.
        let low = if attempt == 0 { Duration::ZERO } else { high / 2 };
        uniform(low, high, random)
    }

    /// The upper end of the range of an attempt's delay.
    fn highest(&self, attempt: u32) -> Duration {
        self.grown(attempt).saturating_mul(2).min(self.max_delay)
    }

    fn longest(&self, random: f64) -> Duration {
        if self.jitter { uniform(self.max_delay / 2, self.max_delay, random) } else { self.max_delay }
    }

    fn asked_for(&self, retry_after: Option<Duration>, random: f64) -> Duration {
        let Some(least) = retry_after.map(|asked| asked.min(self.max_retry_after)) else { return Duration::ZERO };
        let spread = if self.jitter { self.highest(0).max(least / 4) } else { Duration::ZERO };
        uniform(least, least.saturating_add(spread), random)
    }

    /// `base_delay * factor^attempt`, at most `max_delay`.
    fn grown(&self, attempt: u32) -> Duration {
        let growth = self.factor.powf(f64::from(attempt));
        if growth > 1.0 {
            scaled(self.base_delay, growth, self.max_delay)
        } else {
            // Not by way of `f64`, whose rounding would make a long fixed delay inexact.
            self.base_delay.min(self.max_delay)
        }
    }
}

/// [`RetryPolicy::exponential`].
impl Default for RetryPolicy {
    fn default() -> Self {
        Self::exponential()
    }
}

/// Between `low` and `high`, as `random` says, which is between 0 and 1.
fn uniform(low: Duration, high: Duration, random: f64) -> Duration {
    let span = high.saturating_sub(low);
    low + scaled(span, random, span)
}

/// `duration * by`, at most `most`; a product that overflows or is no number gives `most`.
fn scaled(duration: Duration, by: f64, most: Duration) -> Duration {
    Duration::try_from_secs_f64(duration.as_secs_f64() * by).map_or(most, |scaled| scaled.min(most))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BELOW_ONE: f64 = 1.0 - f64::EPSILON;

    /// Nothing but a loss.
    const LOST: Verdict = Verdict { then: OnClose::Retry, retry_after: None };

    fn rejected_by(policy: &RetryPolicy) -> Verdict {
        Verdict { then: policy.rejected(), retry_after: None }
    }

    /// The delay before retry `attempt`, without limits in the way.
    fn wait(policy: &RetryPolicy, attempt: u32, random: f64) -> Duration {
        policy.delay(attempt, Duration::ZERO, LOST, random).expect("the policy has no limit")
    }

    /// The same, of a server that asked for `secs` of patience.
    fn wait_asked_for(policy: &RetryPolicy, secs: u64, random: f64) -> Duration {
        let verdict = Verdict { retry_after: Some(Duration::from_secs(secs)), ..LOST };
        policy.delay(0, Duration::ZERO, verdict, random).expect("the policy has no limit")
    }

    fn secs(secs: f64) -> Duration {
        Duration::from_secs_f64(secs)
    }

    fn any_duration() -> impl Strategy<Value = Duration> {
        prop_oneof![
            (0..100_000_u64).prop_map(Duration::from_millis),
            (any::<u64>(), 0..1_000_000_000_u32).prop_map(|(secs, nanos)| Duration::new(secs, nanos)),
        ]
    }

    fn delay_above_zero() -> impl Strategy<Value = Duration> {
        any_duration().prop_filter("zero panics", |delay| !delay.is_zero())
    }

    prop_compose! {
        fn any_policy()(
            first in proptest::option::of(any_duration()),
            base in delay_above_zero(),
            max in delay_above_zero(),
            factor in prop_oneof![Just(1.0), 1.0..4.0, Just(f64::MAX)],
            jitter: bool,
        ) -> RetryPolicy {
            RetryPolicy::exponential().first_delay(first).base_delay(base).max_delay(max).factor(factor).jitter(jitter)
        }
    }

    fn any_attempt() -> impl Strategy<Value = u32> {
        prop_oneof![0..40_u32, any::<u32>()]
    }

    proptest! {
        #[test]
        fn no_input_panics_or_exceeds_the_longest_delay(
            policy in any_policy(),
            attempt in any_attempt(),
            elapsed in any_duration(),
            rejected: bool,
            random in prop_oneof![0.0..1.0, any::<f64>()],
        ) {
            let verdict = if rejected { rejected_by(&policy) } else { LOST };
            let delay = policy.delay(attempt, elapsed, verdict, random);
            prop_assert!(delay.is_some_and(|delay| delay <= policy.max_delay));
        }

        #[test]
        fn wait_that_a_server_asks_for_is_the_least_up_to_what_is_believed(
            policy in any_policy(),
            attempt in any_attempt(),
            asked in any_duration(),
            believed in any_duration(),
            random in prop_oneof![0.0..1.0, any::<f64>()],
        ) {
            let policy = policy.max_retry_after(believed);
            let verdict = Verdict { retry_after: Some(asked), ..LOST };
            let delay = policy.delay(attempt, Duration::ZERO, verdict, random);
            prop_assert!(delay.is_some_and(|delay| delay >= asked.min(believed)));
        }

        #[test]
        fn default_delay_lies_in_the_range_of_its_attempt(attempt in 1..40_u32, random in 0.0..1.0) {
            let high = 2_f64.powi(attempt as i32).min(30.0);
            let delay = wait(&RetryPolicy::default(), attempt, random);
            prop_assert!(secs(high / 2.0) <= delay && delay <= secs(high), "{delay:?} for {high}");
        }

        #[test]
        fn default_first_delay_is_uniform_over_twice_the_base(random in 0.0..1.0) {
            let delay = wait(&RetryPolicy::default(), 0, random);
            prop_assert!(delay.abs_diff(secs(random)) <= Duration::from_nanos(1));
        }

        #[test]
        fn shortest_delay_never_falls_from_one_attempt_to_the_next(policy in any_policy(), attempt in 0..u32::MAX) {
            let policy = policy.first_delay(None);
            prop_assert!(wait(&policy, attempt, 0.0) <= wait(&policy, attempt + 1, 0.0));
        }

        #[test]
        fn fixed_delay_is_exact(
            delay in delay_above_zero(),
            attempt in any_attempt(),
            rejected: bool,
            random in 0.0..1.0,
        ) {
            let policy = RetryPolicy::fixed(delay);
            let verdict = if rejected { rejected_by(&policy) } else { LOST };
            prop_assert_eq!(policy.delay(attempt, Duration::MAX, verdict, random), Some(delay));
        }

        #[test]
        fn without_jitter_chance_changes_nothing(policy in any_policy(), attempt in any_attempt(), random in 0.0..1.0) {
            let policy = policy.jitter(false);
            prop_assert_eq!(wait(&policy, attempt, random), wait(&policy, attempt, 0.0));
        }
    }

    #[test]
    fn ranges_of_the_default_are_those_documented() {
        let policy = RetryPolicy::default();
        let range = |attempt| [0.0, BELOW_ONE].map(|random| wait(&policy, attempt, random).as_secs_f64().round());
        assert_eq!(
            [0, 1, 2, 3, 4, 5, 6].map(range),
            [[0.0, 1.0], [1.0, 2.0], [2.0, 4.0], [4.0, 8.0], [8.0, 16.0], [15.0, 30.0], [15.0, 30.0]]
        );
    }

    #[test]
    fn without_jitter_the_delay_grows_by_the_factor() {
        let policy = RetryPolicy::exponential().jitter(false).base_delay(secs(1.0)).factor(3.0);
        assert_eq!([0, 1, 2, 3, 4].map(|attempt| wait(&policy, attempt, 0.7)), [1.0, 3.0, 9.0, 27.0, 30.0].map(secs));
    }

    #[test]
    fn first_delay_replaces_the_first_delay_only() {
        let policy = RetryPolicy::exponential().first_delay(Duration::ZERO);
        assert_eq!(wait(&policy, 0, 0.5), Duration::ZERO);
        assert_eq!(wait(&policy, 1, 0.0), secs(1.0));
    }

    #[test]
    fn rejected_client_waits_about_the_longest_delay_or_gives_up() {
        let delay = |policy: &RetryPolicy, random| policy.delay(0, Duration::ZERO, rejected_by(policy), random);
        let policy = RetryPolicy::default();
        assert_eq!(
            [0.0, 0.5, 1.0].map(|random| delay(&policy, random)),
            [15.0, 22.5, 30.0].map(|time| Some(secs(time)))
        );
        assert_eq!(delay(&policy.clone().jitter(false), 0.5), Some(secs(30.0)));
        let policy = policy.on_rejected(OnRejected::GiveUp);
        assert_eq!(delay(&policy, 0.5), None);
        assert!(policy.delay(0, Duration::ZERO, LOST, 0.5).is_some());
    }

    #[test]
    fn wait_that_a_server_asks_for_has_jitter_on_top() {
        let policy = RetryPolicy::default();
        assert_eq!([0.0, 1.0].map(|random| wait_asked_for(&policy, 2, random)), [2.0, 3.0].map(secs));
        assert_eq!([0.0, 1.0].map(|random| wait_asked_for(&policy, 120, random)), [120.0, 150.0].map(secs));
        assert_eq!([0.0, 1.0].map(|random| wait_asked_for(&policy, u64::MAX, random)), [3600.0, 4500.0].map(secs));
        assert_eq!(wait_asked_for(&policy, 0, 0.5), secs(0.5));
        let fixed = RetryPolicy::fixed(secs(5.0));
        assert_eq!([2, 8].map(|asked| wait_asked_for(&fixed, asked, 0.5)), [5.0, 8.0].map(secs));
        assert_eq!(wait_asked_for(&fixed.max_retry_after(Duration::ZERO), 8, 0.5), secs(5.0));
    }

    #[test]
    fn limits_are_used_up_at_their_value() {
        let policy = RetryPolicy::default().max_retries(2).max_elapsed(secs(60.0));
        let rejected = rejected_by(&policy);
        let allows = |attempt, elapsed, verdict| policy.delay(attempt, secs(elapsed), verdict, 0.5).is_some();
        assert!(allows(1, 59.9, LOST) && allows(1, 59.9, rejected));
        assert!(!allows(2, 0.0, LOST) && !allows(2, 0.0, rejected));
        assert!(!allows(0, 60.0, LOST));
        assert_eq!(RetryPolicy::default().max_retries(0).delay(0, Duration::ZERO, LOST, 0.5), None);
    }

    #[test]
    #[should_panic(expected = "base_delay must be longer than zero")]
    fn zero_base_delay_panics() {
        let _ = RetryPolicy::default().base_delay(Duration::ZERO);
    }

    #[test]
    #[should_panic(expected = "factor must be a finite number from 1 on, not NaN")]
    fn factor_that_is_no_number_panics() {
        let _ = RetryPolicy::default().factor(f64::NAN);
    }

    /// A generator of its own (splitmix64), so that the figures do not change with a dependency.
    struct Random(u64);

    impl Random {
        fn unit(&mut self) -> f64 {
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
        }
    }

    /// The times at which a client tries that loses its server at zero; the last attempt finds it back.
    fn attempts(policy: &RetryPolicy, server_away: Duration, random: &mut Random) -> Vec<Duration> {
        let mut at = Duration::ZERO;
        let mut attempts = Vec::new();
        for attempt in 0.. {
            at += policy.delay(attempt, at, LOST, random.unit()).expect("the policy has no limit");
            attempts.push(at);
            if at >= server_away {
                break;
            }
        }
        attempts
    }

    /// The most of `times`, which are sorted, that lie within one `window`, wherever it begins.
    fn most_within(times: &[Duration], window: Duration) -> usize {
        let within = |first: usize| times[first..].partition_point(|&time| time < times[first] + window);
        (0..times.len()).map(within).max().unwrap_or(0)
    }

    #[test]
    fn thousand_clients_return_soon_and_spread_out_after_an_outage_of_five_seconds() {
        let policy = RetryPolicy::default();
        for seed in 0..20 {
            let random = &mut Random(seed);
            let mut all: Vec<_> = (0..1_000).flat_map(|_| attempts(&policy, secs(5.0), random)).collect();
            all.sort_unstable();
            assert!(all.last().is_some_and(|&last| last < secs(15.0)), "seed {seed}: {:?}", all.last());
            let most = most_within(&all, Duration::from_millis(100));
            assert!(most * 20 <= all.len(), "seed {seed}: {most} of {} attempts in 100 ms", all.len());
        }
    }
}
