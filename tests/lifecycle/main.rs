//! What becomes of messages, connections and components when links break, peers are slow and things end.

#[path = "../support/mod.rs"]
mod support;

mod closing;
mod deaths;
mod early;
mod groups;
mod outboxes;
mod random;
mod reconnecting;
mod refusals;
mod resets;
mod slow_readers;
mod states;
mod threads;
mod told_together;
mod undeliverable;

use std::{
    net::SocketAddr,
    sync::mpsc,
    time::{Duration, Instant},
};

use rxplus::prelude::*;
use support::{
    foreign::*,
    proxy::{Direction, End, Proxy},
    *,
};
fn assert_ascending(numbers: &[u64]) {
    assert!(numbers.is_sorted_by(|a, b| a < b), "out of order, or twice");
}
