//! The endpoints and what they are made of.

mod acceptor;
mod children;
mod client;
mod codec;
mod component;
mod config;
mod connection;
mod deadline;
mod dialer;
mod driver;
mod endpoint;
mod event;
mod feeder;
mod fleet;
mod flusher;
mod group;
mod handshake;
mod heartbeat;
mod inbound;
mod inlet;
mod keeper;
mod limits;
mod listen;
mod lobby;
mod options;
mod outbox;
mod outlet;
mod reader;
mod request;
mod retry;
#[cfg(feature = "tls")]
mod sealed;
mod server;
mod sparse;
mod stats;
mod suspicion;
mod switchboard;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
#[path = "no_tls.rs"]
mod tls;
mod transport;
pub(crate) mod wait;
mod wire;

pub use client::{ClientBuilder, ClientSource, RxWsClient};
pub use component::Feed;
pub use config::ConnConfig;
pub use connection::{Connection, ConnectionSource};
pub use event::{ClientEvent, CloseReport, ConnectionState, Peer, ServerEvent};
pub use group::{GroupBuilder, GroupSource, RxWsClientGroup};
pub use handshake::{Grant, HttpResponse, Refuse, UpgradeRequest};
pub use http::HeaderMap;
pub use limits::Limits;
pub use outbox::Overflow;
pub use request::ConnRequest;
pub use retry::{OnClose, Rejected, RetryPolicy};
pub use server::{RxWsServer, ServerBuilder, ServerSource};
pub use stats::{DropReason, Dropped, GroupStats, PathStats, SendStats, ServerStats, Stats, Tally};
#[cfg(feature = "tls")]
pub use tls::{ClientTls, ServerTls};
#[cfg(feature = "tls")]
pub use tokio_rustls::rustls;
