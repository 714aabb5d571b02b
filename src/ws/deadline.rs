//! Deadlines from times of the user's, which may be as long as a `Duration` can be.

use std::time::Duration;

use tokio::time::Instant;

/// Longer than any program runs, and short enough for the clock of every platform; tokio's own timers end there too.
const FOREVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// The moment `time` after `start`; one that never comes if the clock does not reach as far.
pub(crate) fn after(start: Instant, time: Duration) -> Instant {
    start.checked_add(time).unwrap_or_else(|| start + FOREVER)
}
