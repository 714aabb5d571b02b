//! Many servers, one subject: over a broker in this process, and over a real nats-server.
//!
//! The tests with a nats-server are ignored by default. They start the program that the environment variable `NATS_SERVER` names,
//! or `nats-server`, one for each test, on a free port:
//!
//! ```sh
//! NATS_SERVER=/usr/local/bin/nats-server cargo test --all-features --test bus -- --include-ignored
//! ```
//!
//! What happens to real buses, and where it is tried:
//!
//! | fault | test |
//! |---|---|
//! | broker away at start | `broken::server_serves_its_clients_before_*` |
//! | broker killed under load | `broken::heard_and_announced_*`, `what_was_pushed_while_*`, `nothing_is_left_*` |
//! | broker stands still | `broken::broker_that_stands_still_*`, for a moment and for half a minute |
//! | link cut at any byte, either way | `cut::publisher_whose_link_*`, `receiver_whose_link_*` |
//! | one server parted from the others | `cut::server_that_cannot_reach_*`, `server_in_a_silent_network_*` |
//! | silent network | `cut::silent_network_*`, `bus_that_only_listens_*` |
//! | slow server | `broken::subscriber_that_blocks_*`, `process_that_is_cut_off_*`; `servers::blocked_subscriber_*` |
//! | own messages come back | `foreign::bus_does_not_hear_*` |
//! | permission missing for one subject | `refused::refused_subject_*`, `broker_that_does_not_let_itself_be_asked_*` |
//! | wrong credentials, wrong TLS | `refused`: `*credentials*`, `*tls*` |
//! | `max_payload` lowered | `refused::message_that_is_longer_*` |
//! | one prefix, different datatypes | `subject::buses_of_different_datatypes_*`; `servers::datatypes_of_server_and_bus_*` |
//! | foreign publisher | `foreign::program_without_rxplus_*`, `hostile_messages_*` |
//! | path of 4 KiB, of wildcards, of blanks | `subject::path_without_a_subject_*`, `nothing_in_a_path_*`; the unit tests of `subject_name` |
//! | bus ended before its servers | `servers::server_goes_on_*` |
//! | 16 paths, 4 publishers, 100,000 messages | `many` |
//! | server that is not to serve without its bus | `lost`; `tests/testing`: `bus_lost` |
//! | who is where, nodes that die, zombies | `presence`, `rooms` |
//! | some clients compress | `compressed` |
//! | interest | `broken::interest_follows_the_clients` |
//!
//! A server that hears its bus twice, and buses that are merged into each other, go round in circles as any subjects do: the guide says
//! so, and no test runs in one.
#![cfg(feature = "nats")]

mod broken;
#[cfg(feature = "deflate")]
mod compressed;
mod cut;
mod foreign;
mod joint;
mod lost;
mod many;
mod nats_server;
mod presence;
mod refused;
mod rooms;
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
