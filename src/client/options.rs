//! The options that clients and groups have in common.

/// The setters of a builder that has `dialing: Dialing<D>`: a client's or a group's.
macro_rules! client_options {
    () => {
        /// Reconnects after a fixed delay, such as 0.5 s, instead of a growing one.
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
        /// A connection that ends earlier counts as a failed attempt. So a server that accepts, perhaps says a word, and
        /// hangs up is asked ever more rarely.
        pub fn min_uptime(mut self, uptime: std::time::Duration) -> Self {
            self.dialing.min_uptime = uptime;
            self
        }

        /// Asks `decide` for the reaction when the server closes the connection, by its close code and reason: 1005 stands
        /// for a close frame without a code (RFC 6455, section 7.1.5).
        ///
        /// It returns an [`OnClose`](crate::OnClose), or an `Option` of one, where `None` leaves the decision to the
        /// [`RetryPolicy`](crate::RetryPolicy). That is the default, and means that 1008 counts as a refusal and every other
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
            let decide = $crate::runtime::UserValue::new(decide);
            self.dialing.on_close = Some(std::sync::Arc::new(move |code, reason| decide(code, reason).into()));
            self
        }

        /// Goes on after a break where it was, with a server that does the same: see [`Resume`](crate::Resume). The default is
        /// a plain link, which loses what is under way when it breaks.
        ///
        /// The client is [`Connected`](crate::ConnectionState::Connected) once the session is settled, which takes one round
        /// trip more. Greetings are sent once in a session.
        pub fn resumable(mut self, resume: $crate::Resume) -> Self {
            self.dialing.resume = Some(resume);
            self
        }

        /// Adds a header to the opening handshake, such as `Authorization`. `Sec-WebSocket-Protocol` adds
        /// [`subprotocols`](Self::subprotocols).
        ///
        /// A header that is not valid HTTP makes building fail with [`WsError::InvalidHeader`](crate::WsError), and one that
        /// the handshake sets itself (`Connection`, `Sec-WebSocket-Key` and the like) with `WsError::ReservedHeader`.
        pub fn header(mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
            self.dialing.add_header(name.as_ref(), value.as_ref());
            self
        }

        /// Lets `request` change each attempt to connect: a fresh token, another URL.
        ///
        /// It is called before every attempt, on the I/O thread, so it should not take long. If it panics, the attempt fails
        /// and the next one is made as the [`RetryPolicy`](crate::RetryPolicy) says.
        pub fn request(
            mut self,
            request: impl Fn($crate::ConnRequest) -> $crate::ConnRequest + Send + Sync + 'static,
        ) -> Self {
            let request = $crate::runtime::UserValue::new(request);
            self.dialing.request = Some(std::sync::Arc::new(move |asked| request(asked)));
            self
        }

        /// Offers these subprotocols (RFC 6455, section 1.9), the preferred one first, and no others.
        ///
        /// A name that cannot be sent makes building fail with [`WsError::InvalidSubprotocol`](crate::WsError).
        pub fn subprotocols<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
            self.dialing.subprotocols = names.into_iter().map(Into::into).collect();
            self
        }

        /// Sets the time limit for reaching the server and for the opening handshake together. The default is 10 s.
        ///
        /// If a host has several addresses, they are tried side by side: each 250 ms after the one before, or as soon as
        /// that one has failed (RFC 8305). So an address that does not answer costs little of the limit.
        pub fn connect_timeout(mut self, limit: std::time::Duration) -> Self {
            self.dialing.connect_timeout = limit;
            self
        }

        /// Follows redirects, at most 5 in a row. By default a redirect is an error.
        ///
        /// A redirect from `wss` to `ws` is never followed. Headers given with `header` go only to the host and port they
        /// were given for, but for the usual redirect that only adds TLS: from port 80 to port 443 of the same host.
        pub fn follow_redirects(mut self) -> Self {
            self.dialing.follows_redirects = true;
            self
        }

        /// Reaches the server by a stream of the program's instead of TCP: through a proxy, over a Unix socket, in memory.
        ///
        /// `connect` is called on the I/O thread before each attempt, with the address of that attempt. On a `wss://` address
        /// TLS goes on top of the stream. An error of `connect`, or a panic, is a
        /// [`WsError::Connect`]($crate::WsError::Connect), after which the retry policy decides; the time to connect includes
        /// it. A tokio `TcpStream` or `UnixStream` moves to the client's runtime if it is of another. Other streams are polled
        /// under a lock of the connection, so their code must not push into this endpoint.
        ///
        /// ```no_run
        /// use rxplus::prelude::*;
        ///
        /// # #[cfg(unix)] {
        /// let client = RxWsClient::builder("ws://robot/control", WsStr)
        ///     .connector(|_| tokio::net::UnixStream::connect("/run/robot.sock"))
        ///     .connect()?;
        /// # }
        /// # Ok::<(), WsError>(())
        /// ```
        pub fn connector<F, R, S>(mut self, connect: F) -> Self
        where
            F: Fn($crate::ConnConfig) -> R + Send + Sync + 'static,
            R: Future<Output = std::io::Result<S>> + Send + 'static,
            S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
        {
            self.dialing.connector = Some($crate::handshake::Connector::new(connect));
            self
        }

        /// Sets whom to trust on `wss://` addresses, and which certificate to show. The default is to trust whom the system
        /// trusts.
        #[cfg(feature = "tls")]
        pub fn tls(mut self, tls: impl Into<$crate::ClientTls>) -> Self {
            self.dialing.tls = Some(tls.into());
            self
        }

        /// Sets the messages that are sent first on every connection, before the queued ones: to authenticate, or to
        /// subscribe anew.
        ///
        /// `greeting` is called with the path, on the I/O thread, each time a connection has opened. A connection has at
        /// most 65,536 greetings, or 64 MiB of them: the greetings beyond that are dropped as [`DropReason::Overflow`], with
        /// an event.
        ///
        /// A greeting that panics or cannot be encoded is left out, with [`ClientEvent::Unencodable`].
        ///
        /// [`DropReason::Overflow`]: crate::DropReason::Overflow
        /// [`ClientEvent::Unencodable`]: crate::ClientEvent::Unencodable
        pub fn greeting<I>(mut self, greeting: impl Fn(&str) -> I + Send + Sync + 'static) -> Self
        where
            I: IntoIterator<Item: Into<D::Outgoing>>,
        {
            let greeting = $crate::runtime::UserValue::new(greeting);
            let greeting = move |path: &str, add: &mut dyn FnMut(Box<dyn FnOnce() -> D::Outgoing + '_>)| {
                greeting(path).into_iter().for_each(|item| add(Box::new(|| item.into())));
            };
            self.dialing.greeting = Some(std::sync::Arc::new(greeting));
            self
        }
    };
}
pub(crate) use client_options;
