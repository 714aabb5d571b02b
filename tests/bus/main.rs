//! Many servers, one subject: over a broker in this process, and over a real nats-server.
//!
//! The tests with a nats-server are ignored by default. They start the program that the environment variable `NATS_SERVER` names,
//! or `nats-server`, one for each test, on a free port:
//!
//! ```sh
//! NATS_SERVER=/usr/local/bin/nats-server cargo test --all-features --test bus -- --include-ignored
//! ```
#![cfg(feature = "nats")]

mod broken;
mod cut;
mod foreign;
mod joint;
mod lost;
mod many;
mod nats_server;
mod presence;
mod refused;
mod servers;
mod subject;
mod sums;
#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use joint::{Joint, over_both};
use nats_server::NatsServer;
use rxplus::prelude::*;
use support::*;

/// The first event that `wanted` finds something in.
fn bus_event<D, R, F>(bus: &RxBus<D>, mut wanted: F) -> impl FnOnce() -> R + use<D, R, F>
where
    D: WsDatatype,
    R: Send + 'static,
    F: FnMut(BusEvent) -> Option<R> + Send + 'static,
{
    let (sender, found) = std::sync::mpsc::channel();
    bus.events().subscribe(move |event| {
        if let Some(found) = wanted(event) {
            let _ = sender.send(found);
        }
    });
    move || found.recv_timeout(PATIENCE).expect("the event comes in time")
}
