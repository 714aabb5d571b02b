//! Endpoints on real sockets: what a server, a client, a group and a connection do for those who use them.

mod addresses;
mod client;
mod closing;
mod datatypes;
mod foreign;
mod group;
mod heartbeat;
mod isolation;
#[cfg(target_os = "linux")] // counts threads by /proc
mod lifetime;
mod reconnect;
mod relay;
mod server;
#[path = "../support/mod.rs"]
mod support;
mod threads;

use std::{
    error::Error,
    iter,
    sync::{
        Arc, Mutex,
        mpsc::{self, Receiver},
    },
    thread,
    time::Duration,
};

use rxplus::prelude::*;
use support::{foreign::*, *};

/// The numbers of a range as texts.
fn texts(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

/// An error and its causes on one line.
fn chain(error: &dyn Error) -> String {
    let causes = iter::successors(error.source(), |&error| error.source());
    causes.fold(error.to_string(), |line, cause| format!("{line}: {cause}"))
}

/// Calls back with each item, and leaves the answers to the test.
fn answers<T, R: Send + 'static>(answer: impl Fn(T) -> R) -> (impl Fn(T), Receiver<R>) {
    let (send, answers) = mpsc::channel();
    // The test may be over.
    (move |item| drop(send.send(answer(item))), answers)
}
