//! What endpoints do while they are connected, on real sockets: messages, paths, datatypes, addresses, outboxes, early items,
//! events, and the threads on which all that happens; and what a subscriber, a reader or a peer costs the others.
//!
//! How endpoints begin, connect again, close and end is in `lifecycle`; what hostile peers do is in `edge`.

mod addresses;
mod calls;
mod client;
mod datatypes;
mod early;
mod foreign;
mod group;
mod isolation;
mod outboxes;
mod relay;
mod server;
mod slow_readers;
#[path = "../support/mod.rs"]
mod support;
mod threads;
mod told_together;
mod topics;

use std::{
    sync::{
        Arc, Mutex,
        mpsc::{self, Receiver},
    },
    thread,
    time::{Duration, Instant},
};

use rxplus::prelude::*;
use support::{foreign::*, *};
