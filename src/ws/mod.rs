//! The endpoints and what they are made of.

mod acceptor;
mod client;
mod component;
mod config;
mod connection;
mod deadline;
mod dialer;
mod driver;
mod event;
mod fleet;
mod group;
mod handshake;
mod heartbeat;
mod inlet;
mod keeper;
mod listen;
mod options;
mod outbox;
mod request;
mod retry;
mod server;
mod stats;
pub(crate) mod wait;
mod wire;

pub use client::{ClientBuilder, ClientSource, RxWsClient};
pub use component::Feed;
pub use config::{ConnConfig, Limits};
pub use connection::{Connection, ConnectionSource};
pub use event::{ClientEvent, CloseReport, ConnectionState, Peer, ServerEvent};
pub use group::{GroupBuilder, GroupSource, RxWsClientGroup};
pub use outbox::Overflow;
pub use request::ConnRequest;
pub use retry::{Rejected, RetryPolicy};
pub use server::{RxWsServer, ServerBuilder, ServerSource};
pub use stats::{DropReason, Dropped, GroupStats, SendStats, ServerStats, Stats, Tally};
