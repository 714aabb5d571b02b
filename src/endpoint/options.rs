//! What servers, clients and groups can all be told when they are built.

use std::sync::Arc;

use crate::{
    IoRuntime, WsError,
    limits::Limits,
    outbox::{OutboxBound, Overflow},
    protocol::heartbeat::Heartbeat,
};

/// The options that all components share.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) name: Arc<str>,
    pub(crate) heartbeat: Heartbeat,
    pub(crate) outbox: OutboxBound,
    pub(crate) limits: Limits,
    pub(crate) runtime: Option<IoRuntime>,
    pub(crate) discards_inbound: bool,
}

impl Options {
    pub(crate) fn server() -> Self {
        let outbox = OutboxBound { messages: 16_384, len: 16 * 1024 * 1024, overflow: Overflow::Disconnect };
        Self::new("server", outbox, Limits::server())
    }

    pub(crate) fn client(name: &str) -> Self {
        let outbox = OutboxBound { messages: 65_536, len: 64 * 1024 * 1024, overflow: Overflow::DropLatest };
        Self::new(name, outbox, Limits::client())
    }

    fn new(name: &str, outbox: OutboxBound, limits: Limits) -> Self {
        let heartbeat = Heartbeat::default();
        Self { name: name.into(), heartbeat, outbox, limits, runtime: None, discards_inbound: false }
    }

    /// The runtime that was given, or a thread of the component's own.
    pub(crate) fn runtime(&self) -> Result<IoRuntime, WsError> {
        match &self.runtime {
            Some(runtime) => {
                runtime.check(&self.name)?;
                Ok(runtime.clone())
            }
            None => IoRuntime::new(&format!("rxplus-{}", self.name)),
        }
    }
}

/// The setters of a builder that has `options: Options`; the arguments are what differs in their docs.
macro_rules! common_options {
    (outbox: $outbox:literal, name: $name:literal) => {
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
        /// Time in which this side does not listen is not held against the peer: it has its whole `ping_timeout` after a ping,
        /// and what it sent meanwhile is looked for, also when a callback has blocked or the process was stopped.
        pub fn ping_timeout(mut self, timeout: impl Into<Option<std::time::Duration>>) -> Self {
            self.options.heartbeat.timeout = timeout.into();
            self
        }

        #[doc = concat!("Sets how much waits to be sent ", $outbox)]
        ///
        /// `max_len` counts the bytes of payload. An empty outbox takes one message of any length.
        ///
        /// # Panics
        ///
        /// If `max_messages` is zero.
        pub fn outbox(mut self, max_messages: usize, max_len: usize, overflow: $crate::Overflow) -> Self {
            assert!(max_messages > 0, "an outbox must hold at least one message");
            self.options.outbox = $crate::outbox::OutboxBound { messages: max_messages, len: max_len, overflow };
            self
        }

        /// Sets what a peer may take of time and memory. See [`Limits`](crate::Limits) for what and the defaults.
        pub fn limits(mut self, limits: $crate::Limits) -> Self {
            self.options.limits = limits;
            self
        }

        /// Runs on the threads of `runtime` instead of a thread of its own.
        pub fn runtime(mut self, runtime: &$crate::IoRuntime) -> Self {
            self.options.runtime = Some(runtime.clone());
            self
        }

        /// Drops what arrives, undecoded: for a component that only sends.
        pub fn discard_inbound(mut self) -> Self {
            self.options.discards_inbound = true;
            self
        }
    };
}
pub(crate) use common_options;

/// The setters of a builder that has `dialing: Dialing<D>`, a client's or a group's.
macro_rules! client_options {
    () => {
        /// Reconnects after a fixed delay, 0.5 s say, instead of one that grows.
        ///
        /// # Panics
        ///
        /// If `delay` is zero, which would make the client spin.
        pub fn conn_retry_timeout(self, delay: std::time::Duration) -> Self {
            self.retry($crate::RetryPolicy::fixed(delay))
        }

        /// Sets when and how often to try again. The default is [`RetryPolicy::exponential`](crate::RetryPolicy).
        pub fn retry(mut self, policy: $crate::RetryPolicy) -> Self {
            self.dialing.retry = policy;
            self
        }

        /// Sets how long a connection must last to start the count of attempts afresh. The default is 5 s; for a connection
        /// that received a message 1 s is enough.
        ///
        /// A connection that ends before counts as an attempt that failed, so a server that accepts, or says a word, and hangs
        /// up is asked ever more rarely.
        pub fn min_uptime(mut self, uptime: std::time::Duration) -> Self {
            self.dialing.min_uptime = uptime;
            self
        }

        /// Has `decide` say what follows when the server closes the connection, by its close code and reason: 1005 stands for
        /// a close frame without a code (RFC 6455, section 7.1.5).
        ///
        /// It returns an [`OnClose`](crate::OnClose), or an `Option` of one, where `None` leaves it to the
        /// [`RetryPolicy`](crate::RetryPolicy): that is the default, and means that 1008 is taken as a refusal and every other
        /// code as a loss. It is called on the I/O thread, and if it panics, the policy decides.
        ///
        /// ```no_run
        /// use rxplus::prelude::*;
        ///
        /// let client = RxWsClient::builder("ws://127.0.0.1:8765/chat", WsStr)
        ///     .on_close(|code, _reason| (code == 4001).then_some(OnClose::GiveUp))
        ///     .connect()?;
        /// # Ok::<(), WsError>(())
        /// ```
        pub fn on_close<R>(mut self, decide: impl Fn(u16, &str) -> R + Send + Sync + 'static) -> Self
        where
            R: Into<Option<$crate::OnClose>>,
        {
            self.dialing.on_close = Some(std::sync::Arc::new(move |code, reason| decide(code, reason).into()));
            self
        }

        /// Adds a header to the opening handshake, such as `Authorization`. `Sec-WebSocket-Protocol` adds
        /// [`subprotocols`](Self::subprotocols).
        ///
        /// One that is not valid HTTP makes building fail with [`WsError::InvalidHeader`](crate::WsError), and one that the
        /// handshake sets itself (`Connection`, `Sec-WebSocket-Key` and the like) with `WsError::ReservedHeader`.
        pub fn header(mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
            self.dialing.add_header(name.as_ref(), value.as_ref());
            self
        }

        /// Has `request` change what each attempt to connect asks for: a fresh token, another URL.
        ///
        /// It is called before every attempt, on the I/O thread, so it should not take long. If it panics, the attempt
        /// fails and the next one is made as the [`RetryPolicy`](crate::RetryPolicy) says.
        pub fn request(
            mut self,
            request: impl Fn($crate::ConnRequest) -> $crate::ConnRequest + Send + Sync + 'static,
        ) -> Self {
            self.dialing.request = Some(std::sync::Arc::new(request));
            self
        }

        /// Offers these subprotocols (RFC 6455, section 1.9), the preferred one first, and no others.
        ///
        /// One that cannot be sent makes building fail with [`WsError::InvalidSubprotocol`](crate::WsError).
        pub fn subprotocols<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
            self.dialing.subprotocols = names.into_iter().map(Into::into).collect();
            self
        }

        /// Sets the limit for reaching the server and the opening handshake together. The default is 10 s.
        ///
        /// The addresses of a host that has several are tried side by side, each 250 ms after the one before or as soon as that
        /// one has failed (RFC 8305), so one that does not answer costs little of it.
        pub fn connect_timeout(mut self, limit: std::time::Duration) -> Self {
            self.dialing.connect_timeout = limit;
            self
        }

        /// Follows redirects, at most 5 in a row. The default is not to: a redirect is an error then.
        ///
        /// None is followed from `wss` to `ws`, and headers given with `header` go to the host and port they were given for
        /// and nowhere else, but for the usual redirect that only adds TLS: from port 80 to port 443 of the same host.
        pub fn follow_redirects(mut self) -> Self {
            self.dialing.follows_redirects = true;
            self
        }

        /// Sets whom to trust, and what to show, on `wss://` addresses. The default is to trust whom the system trusts.
        #[cfg(feature = "tls")]
        pub fn tls(mut self, tls: impl Into<$crate::ClientTls>) -> Self {
            self.dialing.tls = Some(tls.into());
            self
        }

        /// Sets what is sent first on every connection, before what was queued: to authenticate, or to subscribe anew.
        ///
        /// `greeting` is called with the path, on the I/O thread, each time a connection has opened. A connection has at most
        /// 65,536 greetings, or 64 MiB of them: what is beyond that is dropped as [`DropReason::Overflow`], with an event.
        ///
        /// One that panics or cannot be encoded is left out, with [`ClientEvent::Unencodable`].
        ///
        /// [`DropReason::Overflow`]: crate::DropReason::Overflow
        /// [`ClientEvent::Unencodable`]: crate::ClientEvent::Unencodable
        pub fn greeting<I>(mut self, greeting: impl Fn(&str) -> I + Send + Sync + 'static) -> Self
        where
            I: IntoIterator<Item: Into<D::Item>>,
        {
            let greeting = move |path: &str, add: &mut dyn FnMut(Box<dyn FnOnce() -> D::Item + '_>)| {
                greeting(path).into_iter().for_each(|item| add(Box::new(|| item.into())));
            };
            self.dialing.greeting = Some(std::sync::Arc::new(greeting));
            self
        }
    };
}
pub(crate) use client_options;
