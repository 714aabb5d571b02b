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

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

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

/// Whether a header that is a list of tokens has this one, in any case.
fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|item| item.eq_ignore_ascii_case(token))
}

fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// The value of a header that is there exactly once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).into_iter();
    values.next().filter(|_| values.next().is_none())
}
