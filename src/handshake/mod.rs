//! The opening handshake (RFC 6455, section 4) of both sides: the only place that knows HTTP.
//!
//! ```text
//! server   peer -> Admission -> Permit -> head -> Policy, authorize -> Entrant, or an Answer and Refused
//! client   ConnectAsk -> reach -> request -> redirect, back to reach -> Connected, or a WsError
//! ```
//!
//! All of it runs on the I/O threads: a server's side in the task of the one connection, a client's side in the client's
//! task.

pub(crate) mod admission;
mod answer;
mod authorize;
mod client;
mod connector;
mod head;
#[cfg(feature = "mount")]
pub(crate) mod mounted;
mod origin;
mod policy;
mod reach;
mod redirect;
mod response;
mod server;
mod spelling;
pub(crate) mod subprotocol;

use std::str;

use bytes::Bytes;

use crate::{protocol::deflate::Agreed, transport::Transport};

pub(crate) use answer::{see_off, turn_away};
pub(crate) use authorize::{Authorize, Granted};
pub use authorize::{Grant, Refuse, UpgradeRequest};
pub(crate) use client::{ConnectAsk, Connected, connect};
pub(crate) use connector::Connector;
#[cfg(feature = "mount")]
pub(crate) use mounted::{Mounted, Upgrading};
pub(crate) use origin::Origin;
pub(crate) use policy::Policy;
pub use response::HttpResponse;
pub(crate) use server::{Asked, Entrant, Refused, accept};

/// A client's stream after its opening handshake.
pub(crate) struct Opened {
    pub(crate) stream: Transport,
    /// The bytes that came together with the handshake.
    pub(crate) early_bytes: Bytes,
    pub(crate) subprotocol: Option<String>,
    /// What both sides have agreed on, if messages may be compressed.
    pub(crate) deflate: Option<Agreed>,
}

/// Whether a header whose values are lists of tokens has this one, in any case.
fn has_token<'a>(values: impl Iterator<Item = &'a [u8]>, token: &str) -> bool {
    // By bytes, which is faster: each request has two such headers.
    let lists = values.filter(|value| value.is_ascii());
    let mut items = lists.flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    items.any(|item| item.eq_ignore_ascii_case(token.as_bytes()))
}

/// The tokens of a header whose values are lists of them.
fn tokens<'a>(values: impl Iterator<Item = &'a [u8]>) -> impl Iterator<Item = &'a str> {
    values.filter_map(text).flat_map(|value| value.split(',')).map(str::trim)
}

/// The value of a header, if it is ASCII.
fn text(value: &[u8]) -> Option<&str> {
    str::from_utf8(value).ok().filter(|text| text.is_ascii())
}

/// The value of a header that is there exactly once.
fn only<T>(mut values: impl Iterator<Item = T>) -> Option<T> {
    values.next().filter(|_| values.next().is_none())
}
