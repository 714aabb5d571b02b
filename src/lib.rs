//! WebSocket servers, clients, groups of clients and single connections as RxRust *subjects*: observers, which send the
//! items pushed into them, and observables, which emit the items that arrive; every RxRust operator works on them. From a
//! plain `fn main()`, or inside a tokio program.
//!
//! # Quick start
//!
//! ```
//! use rxplus::prelude::*;
//!
//! let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr)?; // bound and listening when it returns
//! server
//!     .clone()
//!     .map(|td| TaggedData::new(td.tag, td.data.to_uppercase()))
//!     .subscribe_with(server.clone()); // a shouting server is one pipeline
//!
//! let client = RxWsClient::connect(format!("ws://{}/chat", server.local_addr()), WsStr)?;
//! let (sender, received) = std::sync::mpsc::channel();
//! client.clone().subscribe(move |text| _ = sender.send(text));
//! client.next("hello"); // queued until connected
//! assert_eq!(received.recv().unwrap(), "HELLO");
//!
//! client.next("goodbye");
//! client.clone().complete(); // returns at once; sends the queued messages, closes, then completes its subscribers
//! client.wait_closed(Duration::from_secs(10))?; // the end of `main` would cut that short
//! server.clone().complete();
//! server.wait_closed(Duration::from_secs(10))?;
//! # Ok::<(), WsError>(())
//! ```
//!
//! # Concepts
//!
//! - **Endpoints**: [`RxWsServer`], [`RxWsClient`], [`RxWsClientGroup`] and [`Connection`] are handles, cheap to clone. Each
//!   is an RxRust context, so operators are called on it directly, and an RxRust observer, so it ends a pipeline by
//!   `subscribe_with`, which closes it when the source ends, or [`merge_into`](ObservableExt::merge_into), which does not.
//! - **Datatypes** define the items and how they travel: see [`WsDatatype`].
//! - **Paths** are tags: a server and a group speak [`TaggedData`]. Routing is written with operators, such as
//!   [`route_by_tag`](ObservableExt::route_by_tag).
//! - **Errors**: endpoints end with [`WsError`], and RxRust's `subscribe(closure)` wants observables that cannot fail:
//!   [`log_errors`](ObservableExt::log_errors) and RxRust's `on_error` make them so, and
//!   [`with_err`](ObservableExt::with_err) goes the other way. Anything that does not end an endpoint is an event: see
//!   [`RxWsClient::events`] and [`RxWsServer::events`].
//! - **Threads**: each server, client and group has one background I/O thread on which its callbacks run, in order, unless
//!   they are given an [`IoRuntime`] to share. A push from a callback is never delivered on its own thread before the
//!   outermost callback of that thread has returned, so never wait inside one for the effect of such a push. Between two
//!   looks at its sockets a thread makes a few hundred deliveries, whoever pushed.
//!
//! With `panic = "abort"` there is no isolation: a subscriber that panics ends the process.
//!
//! # Features
//!
//! None is on by default.
//!
//! - `config`: serde for [`ConnConfig`], [`RetryPolicy`], [`OnRejected`], [`Overflow`] and [`WsKind`], so that they can stand in
//!   a configuration file.
//! - `json`: `WsJson`, any serde type as JSON in text frames.
//! - `tls`: `wss://` for servers and clients, through rustls.
//! - `mount`: a server as a service of axum, or of any other server that is built on hyper or tower.
//! - `test`: `testing`, a network in memory on a paused clock.
//! - `http2`: with `mount`, WebSocket over HTTP/2 (RFC 8441).
//! - `deflate`: compressed messages (permessage-deflate, RFC 7692).
//! - `nats`: `RxBus`, which joins servers and other programs over a NATS broker.
//!
//! # Layout
//!
//! The [`guide`] shows how programs are written; [`compiler_errors`] lists compiler errors in pipelines and their remedies.
//! Endpoints and their builders, datatypes, events and options are in this root, and the operators are methods of
//! [`ObservableExt`]. The types that operators and endpoints make, which programs seldom name, are in [`ops`]. [`prelude`]
//! has all of it and RxRust's own prelude: rxplus needs exactly the version of RxRust that it re-exports.
#![cfg_attr(
    not(feature = "deflate"),
    allow(clippy::useless_conversion, reason = "a message in an outbox is a `Frame` itself there")
)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod addr;
mod address;
#[cfg(feature = "config")]
mod address_fields;
mod advice;
#[cfg(feature = "nats")]
mod bus;
mod by_tag;
mod calls;
mod client;
mod context;
mod datatype;
mod delivery;
mod endpoint;
mod error;
mod fate;
mod figures;
mod group;
mod handshake;
mod limits;
mod link;
#[cfg(doctest)]
mod misuse;
mod numbered;
mod one_line;
mod operators;
mod outbox;
mod path_pattern;
mod presence;
mod protocol;
mod random;
mod runtime;
mod sending;
mod server;
mod session;
mod sparse;
mod stats;
mod subject;
#[cfg(test)]
#[path = "subject/tests.rs"]
mod subject_tests;
mod sync;
mod tagged;
#[cfg(feature = "test")]
#[cfg_attr(docsrs, doc(cfg(feature = "test")))]
pub mod testing;
mod time;
mod transport;

pub use addr::Addr;
pub use address::ConnConfig;
#[cfg(feature = "nats")]
#[cfg_attr(docsrs, doc(cfg(feature = "nats")))]
pub use bus::{BusAddress, BusBuilder, BusEvent, LocalBroker, RxBus};
pub use bytes::Bytes;
pub use calls::{Call, Calls};
pub use client::{ClientBuilder, ConnRequest, OnClose, OnRejected, RetryPolicy, RxWsClient};
pub use context::{Io, IoBoxedObservable};
pub use datatype::{Frame, PackedObject, Payload, WsByPath, WsBytes, WsDatatype, WsFrame, WsKind, WsObject, WsStr};
#[cfg(feature = "json")]
#[cfg_attr(docsrs, doc(cfg(feature = "json")))]
pub use datatype::{PackedJson, WsJson};
pub use delivery::{Deliveries, Delivery, DeliveryCounts};
pub use endpoint::{ClientEvent, CloseReport, ConnectionState, Peer, ServerEvent};
pub use error::{DatatypeError, SendError, WsError};
pub use fate::{Delivered, DeliveryStatus};
pub use figures::{Figure, FigureKind};
pub use group::{GroupBuilder, RxWsClientGroup};
pub use handshake::{Grant, HttpResponse, Refuse, UpgradeRequest};
pub use http::HeaderMap;
pub use limits::Limits;
pub use operators::{Lossy, ObservableExt, Router};
pub use outbox::{Overflow, Pressure};
pub use path_pattern::{PathMatch, PathPattern};
pub use presence::{Member, Presence};
#[cfg(feature = "deflate")]
#[cfg_attr(docsrs, doc(cfg(feature = "deflate")))]
pub use protocol::deflate::Deflate;
pub use runtime::{EventLoopScheduler, IoRuntime, IoScheduler, RunLoop};
#[cfg(feature = "nats")]
#[cfg_attr(docsrs, doc(cfg(feature = "nats")))]
pub use server::BusLost;
pub use server::{Adopted, Connection, RxWsServer, ServerBuilder};
#[cfg(feature = "mount")]
#[cfg_attr(docsrs, doc(cfg(feature = "mount")))]
pub use server::{RxWsService, Upgrade};
pub use session::{Resume, SessionEvent, SessionLoss};
pub use stats::{DropReason, Dropped, GroupStats, PathStats, Rejections, SendStats, ServerStats, Stats, Tally};
pub use subject::{SerializedSubject, SerializedSubscription};
pub use tagged::{Tag, TaggedData, WsText};
#[cfg(feature = "tls")]
#[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
pub use tokio_rustls::rustls;
#[cfg(feature = "tls")]
#[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
pub use transport::{ClientTls, ServerTls};

/// The types that operators and endpoints make: programs hold their values, and seldom name them.
pub mod ops {
    #[cfg(feature = "nats")]
    #[cfg_attr(docsrs, doc(cfg(feature = "nats")))]
    pub use crate::bus::{BusSource, PresenceFeed};
    pub use crate::{
        calls::{CallFuture, CallSource, CallSubscription},
        client::{ClientSource, TopicSource, TopicSubscription},
        endpoint::Feed,
        group::GroupSource,
        operators::{
            BoundedStream, ConflateBy, DeliverLocal, DeliverObserver, DeliverOn, DeliverSubscription, DeliverTask,
            LogErrors, MergeIntoObserver, PatternObserver, PatternRoutes, RouteObserver, RouteSubscription, Routed,
            Share, ShareSubscription, TagFilter, TagWith, Timeout, TimeoutObserver, TimeoutSubscription, Timer, Untag,
            WithErr,
        },
        presence::ServerPresenceFeed,
        runtime::RunLoopScheduler,
        sending::OutboxSink,
        server::{ConnectionSource, ServerSource},
    };
}

/// Everything a program usually needs: RxRust's prelude and rxplus's own names.
pub mod prelude {
    pub use rxrust::prelude::*;

    pub use crate::*;
}

pub mod guide {
    #![doc = include_str!("../docs/guide/index.md")]

    #[doc = include_str!("../docs/guide/first_program.md")]
    pub mod first_program {}

    #[doc = include_str!("../docs/guide/recipes.md")]
    pub mod recipes {}

    #[doc = include_str!("../docs/guide/errors_and_ends.md")]
    pub mod errors_and_ends {}

    #[doc = include_str!("../docs/guide/threads.md")]
    pub mod threads {}

    #[doc = include_str!("../docs/guide/backpressure.md")]
    pub mod backpressure {}

    #[doc = include_str!("../docs/guide/deploying.md")]
    pub mod deploying {}

    #[doc = include_str!("../docs/guide/coming_from.md")]
    pub mod coming_from {}

    #[doc = include_str!("../docs/guide/comparison.md")]
    pub mod comparison {}

    pub mod cookbook {
        #![doc = include_str!("../docs/guide/cookbook.md")]

        /// A page with a program of `examples/cookbook`, where the feature that it needs is on.
        macro_rules! program {
            ($name:ident, $feature:meta, $path:literal, $about:literal) => {
                #[doc = $about]
                #[cfg_attr($feature, doc = concat!("\n```no_run\n", include_str!($path), "```"))]
                pub mod $name {}
            };
        }

        program!(audio, all(), "../examples/cookbook/audio.rs", "A bound for each path, and who has missed how much.");
        program!(chat, all(), "../examples/cookbook/chat.rs", "Who is there, to all others, and to one alone.");
        program!(
            dashboard,
            feature = "json",
            "../examples/cookbook/dashboard.rs",
            "Sensors and pages. Needs the feature `json`."
        );
        program!(gui, all(), "../examples/cookbook/gui.rs", "The window of a chat.");
        program!(
            in_axum,
            feature = "mount",
            "../examples/cookbook/in_axum.rs",
            "One port for all. Needs the feature `mount`."
        );
        program!(
            in_tokio,
            all(),
            "../examples/cookbook/in_tokio.rs",
            "Sends that wait for room, and a stream that is forwarded."
        );
        program!(market, all(), "../examples/cookbook/market.rs", "Topics on one link, and the newest of each.");
        program!(robot, all(), "../examples/cookbook/robot.rs", "Commands with replies, and telemetry in between.");
    }

    #[cfg_attr(feature = "mount", doc = include_str!("../docs/guide/mounting.md"))]
    #[cfg_attr(not(feature = "mount"), doc = "A server inside another HTTP server: needs the feature `mount`.")]
    pub mod mounting {}

    #[cfg_attr(feature = "test", doc = include_str!("../docs/guide/testing.md"))]
    #[cfg_attr(not(feature = "test"), doc = "Tests without sockets and without waiting: needs the feature `test`.")]
    pub mod testing {}

    #[doc = include_str!("../docs/guide/streams.md")]
    pub mod streams {}

    #[doc = include_str!("../docs/guide/resuming.md")]
    pub mod resuming {}

    #[cfg_attr(feature = "deflate", doc = include_str!("../docs/guide/compression.md"))]
    #[cfg_attr(not(feature = "deflate"), doc = "Compressed messages: needs the feature `deflate`.")]
    pub mod compression {}

    #[cfg_attr(feature = "nats", doc = include_str!("../docs/guide/bus.md"))]
    #[cfg_attr(not(feature = "nats"), doc = "More than one server: needs the feature `nats`.")]
    pub mod bus {}

    #[doc = include_str!("../docs/guide/observability.md")]
    pub mod observability {}
}

#[doc = include_str!("../docs/guide/compiler_errors.md")]
pub mod compiler_errors {}

/// The programs in the README, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
