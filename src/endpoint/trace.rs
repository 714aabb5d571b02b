//! Events and spans for `tracing`. The level of an event is fixed: debug for what a peer can cause, so that no peer floods a
//! log; warn for messages that are lost; error for faults of the program and for ends that nobody asked for.

use std::error::Error;

use tracing::Span;

use crate::{ClientEvent, ConnConfig, Peer, ServerEvent, WsError, one_line::OneLine};

/// The target of a server's events and spans. A constant of its own name: `tracing` wants it at compile time.
const SERVER: &str = "rxplus::server";

/// The target of the events and spans of clients and groups.
const CLIENT: &str = "rxplus::client";

/// The span of a connection.
pub(crate) fn connection_span(server: &str, peer: &Peer) -> Span {
    let Peer { id, path, addr } = peer;
    tracing::info_span!(
        target: SERVER,
        parent: None,
        "rxplus.connection",
        server = %OneLine(server),
        id,
        path = %OneLine(path),
        peer = %addr
    )
}

/// The span of a client.
pub(crate) fn client_span(name: &str, endpoint: &ConnConfig) -> Span {
    tracing::info_span!(
        target: CLIENT,
        parent: None,
        "rxplus.client",
        name = %OneLine(name),
        endpoint = %endpoint
    )
}

/// An event of a server, with its name.
macro_rules! server {
    ($level:ident, $name:expr, $($rest:tt)+) => { tracing::$level!(target: SERVER, server = %OneLine($name), $($rest)+) };
}

/// As `server!`, with the connection that it is about.
macro_rules! connection {
    ($level:ident, $name:expr, $peer:expr, $($rest:tt)+) => {
        server!($level, $name, id = $peer.id, path = %OneLine(&$peer.path), peer = %$peer.addr, $($rest)+)
    };
}

/// An event of a client, or of a group with a path.
macro_rules! client {
    ($level:ident, $name:expr, $path:expr, $($rest:tt)+) => {
        tracing::$level!(target: CLIENT, client = %OneLine($name), path = $path.map(tracing::field::display), $($rest)+)
    };
}

/// An error as a field: a subscriber can follow its causes.
fn cause<E: Error + 'static>(error: &E) -> &(dyn Error + 'static) {
    error
}

fn causes(error: Option<&WsError>) -> Option<&(dyn Error + 'static)> {
    error.map(cause)
}

pub(crate) fn server_event(name: &str, event: &ServerEvent) {
    match event {
        ServerEvent::Connected { peer, .. } => connection!(debug, name, peer, "connected"),
        ServerEvent::Disconnected { peer, code, reason, error, unconfirmed, lasted } => {
            let (reason, error) = (OneLine(reason), causes(error.as_ref()));
            connection!(debug, name, peer, code, %reason, error, unconfirmed, ?lasted, "disconnected");
        }
        ServerEvent::Rejected { addr, status, reason, count } => {
            server!(debug, name, peer = %addr, status, reason = %OneLine(reason), count, "rejected");
        }
        ServerEvent::AcceptFailed { error, count } => {
            server!(debug, name, error = cause(error), count, "accept failed");
        }
        ServerEvent::Undecodable { peer, error, len, count } => {
            connection!(debug, name, peer, error = cause(error), len, count, "undecodable");
        }
        ServerEvent::Unencodable { path, error, count } => {
            server!(warn, name, path = %OneLine(path), error = cause(error), count, "unencodable");
        }
        ServerEvent::Dropped { peer, reason, dropped } => {
            connection!(warn, name, peer, ?reason, messages = dropped.messages, len = dropped.len, "dropped");
        }
        ServerEvent::Session { peer, event } => connection!(debug, name, peer, ?event, "session"),
        ServerEvent::EarlyLost => server!(warn, name, "early messages lost"),
        ServerEvent::SubscriberPanicked => server!(error, name, "subscriber panicked"),
        ServerEvent::Failed { error } => server!(error, name, error = cause(error), "failed"),
        ServerEvent::Closed(report) => server!(debug, name, unsent = report.unsent, len = report.unsent_len, "closed"),
    }
}

/// `path` is that of a group's client; `None` for a client alone, and for what concerns the whole group.
pub(crate) fn client_event(name: &str, path: Option<&str>, event: &ClientEvent) {
    let path = path.map(OneLine);
    match event {
        ClientEvent::Unencodable { error, count } => {
            client!(warn, name, path, error = cause(error), count, "unencodable");
        }
        ClientEvent::Undeliverable { len, links, error } => {
            client!(warn, name, path, len, links, error = cause(error), "undeliverable");
        }
        ClientEvent::Dropped { reason, dropped } => {
            client!(warn, name, path, ?reason, messages = dropped.messages, len = dropped.len, "dropped");
        }
        ClientEvent::PathRefused { refused } => {
            client!(warn, name, path, messages = refused.messages, len = refused.len, "path refused");
        }
        ClientEvent::EarlyLost => client!(warn, name, path, "early messages lost"),
        ClientEvent::SubscriberPanicked => client!(error, name, path, "subscriber panicked"),
        ClientEvent::Failed { error } => client!(error, name, path, error = cause(error), "failed"),
        other => course_of_client(name, path, other),
    }
}

/// The events that are nobody's fault, or that of the peer.
fn course_of_client(name: &str, path: Option<OneLine<&str>>, event: &ClientEvent) {
    match event {
        ClientEvent::Connected { attempt, subprotocol, .. } => {
            let subprotocol = subprotocol.as_ref().map(|chosen| tracing::field::display(OneLine(chosen)));
            client!(debug, name, path, attempt, subprotocol, "connected");
        }
        ClientEvent::ConnectFailed { attempt, error } => {
            client!(debug, name, path, attempt, error = cause(error), "connect failed");
        }
        ClientEvent::Disconnected { code, reason, error, unconfirmed, lasted } => {
            let (reason, error) = (OneLine(reason), causes(error.as_ref()));
            client!(debug, name, path, code, %reason, error, unconfirmed, ?lasted, "disconnected");
        }
        ClientEvent::Reconnecting { attempt, delay } => client!(debug, name, path, attempt, ?delay, "reconnecting"),
        ClientEvent::Undecodable { error, len, count } => {
            client!(debug, name, path, error = cause(error), len, count, "undecodable");
        }
        ClientEvent::Session(event) => client!(debug, name, path, ?event, "session"),
        ClientEvent::Idle => client!(debug, name, path, "idle"),
        ClientEvent::Closed(report) => {
            client!(debug, name, path, unsent = report.unsent, len = report.unsent_len, "closed");
        }
        // Those of `client_event`.
        _ => {}
    }
}
