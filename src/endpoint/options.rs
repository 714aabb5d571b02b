//! The options that servers, clients and groups have in common.

use std::{collections::HashMap, sync::Arc};

use crate::{
    IoRuntime, WsError,
    limits::Limits,
    outbox::{OutboxBound, Overflow},
    protocol::{
        deflate::{Deflate, Offer},
        heartbeat::Heartbeat,
    },
};

/// The options that all components share.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) name: Arc<str>,
    pub(crate) heartbeat: Heartbeat,
    pub(crate) outbox: OutboxBound,
    /// The bounds of the connections on single paths. Of a server alone.
    pub(crate) outboxes: HashMap<String, OutboxBound>,
    /// Shared by all links.
    pub(crate) limits: Arc<Limits>,
    pub(crate) runtime: Option<IoRuntime>,
    /// How many threads of its own it has, unless it was given a runtime. More than one only on a server.
    pub(crate) threads: usize,
    pub(crate) discards_inbound: bool,
    pub(crate) deflate: Option<Deflate>,
}

impl Options {
    pub(crate) fn server() -> Self {
        let outbox = OutboxBound::new(16_384, 16 * 1024 * 1024, Overflow::Disconnect);
        Self::new("server", outbox, Limits::server())
    }

    pub(crate) fn client(name: &str) -> Self {
        let outbox = OutboxBound::new(65_536, 64 * 1024 * 1024, Overflow::DropLatest);
        Self::new(name, outbox, Limits::client())
    }

    fn new(name: &str, outbox: OutboxBound, limits: Limits) -> Self {
        Self {
            name: name.into(),
            heartbeat: Heartbeat::default(),
            outbox,
            outboxes: HashMap::new(),
            limits: limits.into(),
            runtime: None,
            threads: 1,
            discards_inbound: false,
            deflate: None,
        }
    }

    /// The bound of a connection on this path.
    pub(crate) fn outbox_on(&self, path: &str) -> OutboxBound {
        let bound = self.outboxes.get(path).copied().unwrap_or(self.outbox);
        OutboxBound { conflates: self.outbox.conflates, ..bound }
    }

    /// What a client offers its server.
    pub(crate) fn compression_offer(&self) -> Option<Offer> {
        self.deflate.clone().map(Deflate::offer)
    }

    /// The runtime that was given, or threads of the component's own.
    pub(crate) fn runtime(&self) -> Result<IoRuntime, WsError> {
        match &self.runtime {
            Some(runtime) => {
                runtime.check(&self.name)?;
                Ok(runtime.clone())
            }
            None => IoRuntime::with_lanes(&format!("rxplus-{}", self.name), self.threads),
        }
    }
}

/// The setters of a builder that has `options: Options`; the arguments are the parts of their docs that differ.
macro_rules! common_options {
    (outbox: $outbox:literal, name: $name:literal, keys: $($keys:ident).+) => {
        #[doc = concat!("Names the component, in logs, errors and as its thread. The default is `", $name, "`.")]
        pub fn name(mut self, name: impl Into<String>) -> Self {
            self.options.name = name.into().into();
            self
        }

        /// Sets how often a peer is pinged; `None` switches the heartbeat off. The default is 30 s.
        ///
        /// The first ping comes after a random part of it, so that many connections do not ping at once.
        ///
        /// # Panics
        ///
        /// If the interval is zero.
        pub fn ping_interval(mut self, interval: impl Into<Option<std::time::Duration>>) -> Self {
            let interval = interval.into();
            assert!(interval.is_none_or(|time| !time.is_zero()), "ping_interval must be longer than zero");
            self.options.heartbeat.interval = interval;
            self
        }

        /// Sets how long after `ping_interval` a peer may stay silent; then its connection is dropped. `None` never drops
        /// it. The default is 30 s. Anything that comes from the peer counts, not only pongs.
        ///
        /// Time in which this side does not listen does not count against the peer: it has its whole `ping_timeout` after a
        /// ping, and anything that it sent meanwhile is looked for first, even when a callback has blocked or the process
        /// was stopped.
        pub fn ping_timeout(mut self, timeout: impl Into<Option<std::time::Duration>>) -> Self {
            self.options.heartbeat.timeout = timeout.into();
            self
        }

        #[doc = concat!("Sets how much may wait to be sent ", $outbox)]
        ///
        /// `max_len` counts the bytes of payload. An empty outbox takes one message of any length.
        ///
        /// # Panics
        ///
        /// If `max_messages` is zero.
        pub fn outbox(mut self, max_messages: usize, max_len: usize, overflow: $crate::Overflow) -> Self {
            let conflates = self.options.outbox.conflates;
            let bound = $crate::outbox::OutboxBound::new(max_messages, max_len, overflow);
            self.options.outbox = $crate::outbox::OutboxBound { conflates, ..bound };
            self
        }

        /// Sends the newest value of each key to a reader that is slower than the program: while a message waits in an outbox, a
        /// newer one with the same key takes its place. The default is to send everything.
        ///
        /// `key_of` is called for each pushed item, with its path, on the thread that pushes and outside all locks; `None` is for
        /// an item that nothing replaces, and that replaces nothing. If it panics, the item has no key. Two keys are the same if
        /// they hash alike, as derived `Hash` has it. A message is not replaced once a part of it was written, nor, in the
        /// [resumable mode](crate::Resume), once it was written on an earlier link: there, the peer is told of all that were
        /// replaced as one [`Gap`](crate::SessionEvent::Gap) before the next message. What is replaced is counted as
        /// [`DropReason::Replaced`](crate::DropReason::Replaced), and no event tells it.
        ///
        /// A message waits until the I/O thread writes: most of a burst is replaced, for readers that keep up as well. For longer it
        /// waits only when the sockets of both sides are full, which takes 100 KiB to a few MiB on Linux; what the reader sees then
        /// is as old as the time that it takes to read what is in the sockets. A reader that is a program with rxplus puts its slow part
        /// behind [`conflate_by`](crate::ObservableExt::conflate_by), which has no such delay.
        ///
        /// The tag is no part of the key, and a connection has one outbox for its path and its rooms: where the same key on two
        /// tags is two things, return both, as in `Some((path.to_owned(), quote.symbol.clone()))`.
        ///
        /// So at most one message of each key waits, beside up to 128 KiB that are on their way to the socket: with room for
        /// that, an outbox never overflows by keyed messages. What comes over a bus is conflated by the server that sends it to
        /// its clients; the bus itself conflates nothing.
        ///
        /// ```no_run
        /// use rxplus::prelude::*;
        ///
        /// #[derive(Clone, serde::Serialize, serde::Deserialize)]
        /// struct Quote { symbol: String, price: f64 }
        ///
        /// let server = RxWsServer::builder("ws://[::]:8765", WsObject::<Quote>::new())
        ///     .conflate(|_path, quote| Some(quote.symbol.clone()))
        ///     .bind()?;
        /// # Ok::<(), WsError>(())
        /// ```
        pub fn conflate<K: std::hash::Hash>(
            mut self,
            key_of: impl Fn(&str, &D::Outgoing) -> Option<K> + Send + Sync + 'static,
        ) -> Self {
            self.options.outbox.conflates = true;
            self.$($keys).+ = Some($crate::endpoint::codec::KeyOf::new(key_of));
            self
        }

        /// Sets how much time and memory a peer may take. See [`Limits`](crate::Limits) for the list and the defaults.
        pub fn limits(mut self, limits: $crate::Limits) -> Self {
            self.options.limits = limits.into();
            self
        }

        /// Compresses messages in both directions, with peers that know how to (permessage-deflate, RFC 7692). The default is
        /// not to. See [`Deflate`](crate::Deflate) for what it costs and when to leave it off.
        ///
        /// ```no_run
        /// use rxplus::prelude::*;
        ///
        /// let server = RxWsServer::builder("ws://[::]:8765", WsStr).compression(Deflate::new()).bind()?;
        /// let client = RxWsClient::builder("ws://feed.example/prices", WsStr)
        ///     .compression(Deflate::new().level(1).min_len(1024))
        ///     .connect()?;
        /// # Ok::<(), WsError>(())
        /// ```
        #[cfg(feature = "deflate")]
        #[cfg_attr(docsrs, doc(cfg(feature = "deflate")))]
        pub fn compression(mut self, deflate: $crate::Deflate) -> Self {
            self.options.deflate = Some(deflate);
            self
        }

        /// Runs on the threads of `runtime` instead of its own thread.
        pub fn runtime(mut self, runtime: &$crate::IoRuntime) -> Self {
            self.options.runtime = Some(runtime.clone());
            self
        }

        /// Drops arriving messages, undecoded: for a component that only sends.
        pub fn discard_inbound(mut self) -> Self {
            self.options.discards_inbound = true;
            self
        }
    };
}
pub(crate) use common_options;
