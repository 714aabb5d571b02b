//! Waiting with a limit, and deadlines from durations that a program gives, which may be as long as a `Duration` can be.

use std::{
    future::{Future, ready},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Wake},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use tokio::runtime::{Handle, RuntimeFlavor};

/// Longer than any program runs, and short enough for the clock of every platform; tokio's own timers end there too.
const FOREVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// The moment `time` after `start`; one that never comes if the clock does not reach as far.
pub(crate) fn after(start: tokio::time::Instant, time: Duration) -> tokio::time::Instant {
    start.checked_add(time).unwrap_or_else(|| start + FOREVER)
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// A task that only takes a turn: of the type of all tasks, since a program compiles what tokio needs for each type.
pub(crate) fn nothing() -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(ready(()))
}

/// A worker of tokio keeps the task that it has woken last for itself, and no other worker finds it there. Before a worker blocks,
/// another task takes that place: the one that it waits for may be the one that was there.
fn free_the_next_task() {
    if let Ok(handle) = Handle::try_current()
        && handle.runtime_flavor() == RuntimeFlavor::MultiThread
    {
        handle.spawn(nothing());
    }
}

/// Blocks until `future` is done, or for `limit`: then `None`.
pub(crate) fn block_on<T>(future: impl Future<Output = T>, limit: Duration) -> Option<T> {
    let mut future = pin!(future);
    let waker = Arc::new(Unpark(thread::current())).into();
    let mut cx = Context::from_waker(&waker);
    // A limit that the clock cannot express is none.
    let deadline = Instant::now().checked_add(limit);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut cx) {
            return Some(value);
        }
        free_the_next_task();
        match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
            None => thread::park(),
            Some(Duration::ZERO) => return None,
            Some(left) => thread::park_timeout(left),
        }
    }
}
