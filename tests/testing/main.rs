//! The network in memory: its faults, and what real servers and clients make of them, in no time. What the crate does after a time is
//! tested here at that very time.
#![cfg(feature = "test")]

mod attempts;
#[cfg(feature = "nats")]
mod brokers;
#[cfg(feature = "nats")]
mod bus_lost;
mod calls;
#[cfg(feature = "deflate")]
mod compression;
mod faults;
mod heartbeats;
mod limits;
mod outages;
#[cfg(feature = "nats")]
mod presence;
mod recordings;
#[cfg(feature = "tls")]
mod refusals;
mod repetition;
mod sessions;
mod topics;

use std::time::Duration;

use rxplus::{prelude::*, testing::TestNetwork};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

const ROBOT: &str = "ws://robot";

/// A server that sends each message back.
fn echo_on(network: &TestNetwork) -> RxWsServer<WsStr> {
    let server = network.server(ROBOT, RxWsServer::unbound(WsStr)).unwrap();
    server.clone().log_errors().subscribe_with(server.clone());
    server
}

/// The names of events, with their times.
fn names<E: std::fmt::Debug>(events: Vec<(Duration, rxplus::testing::Noted<E>)>) -> Vec<String> {
    let name = |(time, noted): (Duration, _)| match noted {
        rxplus::testing::Noted::Next(event) => {
            let event = format!("{event:?}");
            format!("{time:?} {}", event.split([' ', '(']).next().unwrap_or_default())
        }
        other => format!("{time:?} {other:?}"),
    };
    events.into_iter().map(name).collect()
}
