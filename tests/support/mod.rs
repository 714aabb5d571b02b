//! What the tests share: peers, runtimes, and those who write down what happens.
#![allow(dead_code, unused_imports, reason = "each test crate uses its part")]

mod captured;
mod echo;
pub(crate) mod foreign;
mod heard;
pub(crate) mod proxy;
mod sums;
mod threads;

use std::{
    error::Error,
    iter,
    sync::mpsc,
    time::{Duration, Instant},
};

pub(crate) use captured::{Bomb, Sentinel, hold, sentinel};
pub(crate) use echo::{connected, echo_server, echo_server_at, echo_server_with, echoing, url};
pub(crate) use heard::{Heard, Pen, Recorder, answers, event_on};
use rxplus::prelude::*;
pub(crate) use sums::{add, announced_by_client, announced_by_server, assert_accounted, tally};
pub(crate) use threads::{each_runtime, poll_with_waker_that_panics, stall, thread_name, within_patience};

/// Only fails a test that hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Checks `condition` until it holds. For what has no event to wait for, such as the threads of the process.
pub(crate) fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not happen within {PATIENCE:?}");
        std::thread::yield_now();
    }
}

/// As [`until`], and then waits until the thread of `component` is done with what it was doing: counts change in the middle
/// of that.
pub(crate) fn until_settled<C>(what: &str, component: &C, condition: impl Fn(&C) -> bool)
where
    C: Context<Scheduler = IoScheduler>,
{
    until(what, || condition(component));
    let (done, settled) = mpsc::channel();
    component.scheduler().schedule(async move { done.send(()).expect("the test waits") }, None);
    settled.recv_timeout(PATIENCE).expect("the thread comes to rest");
}

/// The numbers of a range as texts.
pub(crate) fn texts(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

/// An error and its causes on one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let causes = iter::successors(error.source(), |&error| error.source());
    causes.fold(error.to_string(), |line, cause| format!("{line}: {cause}"))
}
