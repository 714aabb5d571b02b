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
use rxrust::scheduler::Scheduler;
use support::{
    Heard, PATIENCE, Recorder, echo_server,
    foreign::{close, foreign_client, foreign_server, raw_server, read, read_to_the_end},
    proxy::{Direction, End, Proxy},
    until, until_settled, url,
};

/// Keeps the one thread of `runtime` from doing anything until what this returns is dropped.
fn hold(runtime: &IoRuntime) -> mpsc::Sender<()> {
    let (release, held) = mpsc::channel();
    let (holds, holding) = mpsc::channel();
    let hold = async move {
        holds.send(()).unwrap();
        held.recv().unwrap_or(());
    };
    IoScheduler::on(runtime).schedule(hold, None);
    holding.recv_timeout(PATIENCE).unwrap();
    release
}

const fn tally(messages: u64, len: u64) -> Tally {
    Tally { messages, len }
}

/// Rule 13: every accepted message was written, waits, or was dropped.
fn assert_accounted(sent: SendStats) {
    let mut sum = sent.written;
    for part in [sent.queued, sent.dropped.total()] {
        sum.messages += part.messages;
        sum.len += part.len;
    }
    assert_eq!(sent.accepted, sum, "{sent:?}");
}

/// The sum of what the events say was lost: dropped, and written but not confirmed.
fn announced_by_client<'a>(events: impl IntoIterator<Item = &'a ClientEvent>) -> (Tally, u64) {
    let (mut all, mut unconfirmed_sum) = (Tally::default(), 0);
    for event in events {
        match event {
            ClientEvent::Dropped { dropped, .. } => add(&mut all, *dropped),
            ClientEvent::Disconnected { unconfirmed, .. } => unconfirmed_sum += unconfirmed,
            _ => {}
        }
    }
    (all, unconfirmed_sum)
}

/// As [`announced_by_client`].
fn announced_by_server<'a>(events: impl IntoIterator<Item = &'a ServerEvent>) -> (Tally, u64) {
    let (mut all, mut unconfirmed_sum) = (Tally::default(), 0);
    for event in events {
        match event {
            ServerEvent::Dropped { dropped, .. } => add(&mut all, *dropped),
            ServerEvent::Disconnected { unconfirmed, .. } => unconfirmed_sum += unconfirmed,
            _ => {}
        }
    }
    (all, unconfirmed_sum)
}

fn add(sum: &mut Tally, tally: Tally) {
    sum.messages += tally.messages;
    sum.len += tally.len;
}

fn assert_ascending(numbers: &[u64]) {
    assert!(numbers.is_sorted_by(|a, b| a < b), "out of order, or twice");
}
