//! [`RxWsServer`]: a server as a subject.

pub(crate) mod connection;
pub(crate) mod core;

pub use connection::{Connection, ConnectionSource};

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use rxrust::{
    context::Context,
    observable::{CoreObservable, ObservableType},
    observer::Observer,
    ops::map::Map,
};

use crate::{
    ConnConfig, Io, IoScheduler, SendError, SerializedSubscription, Tag, TaggedData, WsDatatype, WsError,
    client::request::check_subprotocols,
    endpoint::{
        Feed, Received,
        drop_guard::Keeper,
        event::{CloseReport, ServerEvent},
        options::{Options, common_options},
        subject::endpoint,
        subscribe::subscribe,
    },
    handshake::{Authorize, Origin, Policy, Refuse, UpgradeRequest},
    server::core::Acceptor,
    stats::{PathStats, ServerStats},
    subject::holding::Holding,
    transport::{
        listen::{Listener, listen},
        tls::ServerTls,
    },
};

/// A WebSocket server as a subject of [`TaggedData`]: it emits what its clients send, tagged with their path, and what is
/// pushed goes to every client on the tag's path. *Hot*.
///
/// ```no_run
/// use rxplus::prelude::*;
///
/// let server = RxWsServer::bind("ws://127.0.0.1:8765", WsStr)?; // bound and listening when it returns
/// server
///     .clone()
///     .map(|td| TaggedData::new(td.tag, td.data.to_uppercase()))
///     .subscribe_with(server.clone()); // a shouting server
/// server.wait_closed(Duration::MAX)?; // for as long as it serves
/// # Ok::<(), WsError>(())
/// ```
///
/// [`connections`](Self::connections) gives each client on its own.
///
/// # Emission
///
/// On the server's I/O thread; the messages of each connection in the order of their arrival. Until the first subscriber
/// comes, 1,024 messages or 1 MiB are kept for it. Any callback may push, also into the server itself. A client's trouble,
/// a bad frame or a reset, is an [event](Self::events) and never ends this subject.
///
/// # End
///
/// The subject completes after `complete`, or when its last handle and its last subscriber are gone, and errors after
/// `error`. A handle inside a subscriber or a pipeline counts, so a server that feeds itself ends by `complete` only.
pub struct RxWsServer<D: WsDatatype> {
    inner: ServerSource<D>,
    scheduler: IoScheduler,
}

/// The observable inside of an [`RxWsServer`], as RxRust's operators see it.
pub struct ServerSource<D: WsDatatype> {
    acceptor: Arc<Acceptor<D>>,
    local_addr: SocketAddr,
    keeper: Arc<Keeper>,
}

/// What [`RxWsServer::builder`] returns.
#[must_use]
#[derive(Debug)]
pub struct ServerBuilder<D: WsDatatype> {
    endpoint: Result<ConnConfig, WsError>,
    datatype: D,
    options: Options,
    policy: Policy,
    tls: Option<ServerTls>,
    /// The first of the options that cannot be used.
    mistake: Option<WsError>,
}

impl<D: WsDatatype> RxWsServer<D> {
    /// Makes a server with the default options, bound and listening when this returns.
    ///
    /// Port 0 picks a free one, which [`local_addr`](Self::local_addr) tells. The IPv6 wildcard `[::]` listens on both
    /// stacks, and a name on all of its addresses that this machine has, at one port: `localhost` on `127.0.0.1` and `[::1]`. The path of `address` means nothing: a server serves all paths, unless `paths` names some.
    ///
    /// # Errors
    ///
    /// When `address` is not one, cannot be bound, or the I/O thread cannot be started.
    pub fn bind<A>(address: A, datatype: D) -> Result<Self, WsError>
    where
        A: TryInto<ConnConfig>,
        A::Error: Into<WsError>,
    {
        Self::builder(address, datatype).bind()
    }

    /// Starts making a server with options.
    ///
    /// ```
    /// use rxplus::prelude::*;
    ///
    /// let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr)
    ///     .name("prices")
    ///     .paths(["/stocks", "/bonds"])
    ///     .outbox(1000, 1024 * 1024, Overflow::DropOldest)
    ///     .bind()?;
    /// # Ok::<(), WsError>(())
    /// ```
    pub fn builder<A>(address: A, datatype: D) -> ServerBuilder<D>
    where
        A: TryInto<ConnConfig>,
        A::Error: Into<WsError>,
    {
        ServerBuilder {
            endpoint: address.try_into().map_err(Into::into),
            datatype,
            options: Options::server(),
            policy: Policy::default(),
            tls: None,
            mistake: None,
        }
    }

    /// Queues a message for every client that is on the tag's path now. Never blocks; what is refused becomes an event.
    ///
    /// The tag is the path as it stands in the URL, with the `/` at its start. The message is encoded once. By default 16,384
    /// messages or 16 MiB may wait for each client. For one with as much waiting, this writes what its socket takes at that
    /// moment, on the caller's thread; only a client that has not read enough for that is disconnected. Without a client on the
    /// path, the message is counted as unrouted and gone.
    pub fn next<T: Into<D::Item>>(&self, tagged: TaggedData<T>) {
        self.inner.acceptor.next(tagged.map(Into::into));
    }

    /// As [`next`](Self::next), and says why when the message is refused. Never blocks.
    ///
    /// `Ok` is a place in the outboxes, not delivery.
    ///
    /// # Errors
    ///
    /// - [`SendError::Full`] when every client on the path refused it, its outbox being full. That some did is an event.
    /// - [`SendError::Closed`] from the moment that `complete` or `error` was called.
    /// - [`SendError::Encode`] when the datatype cannot encode the item.
    pub fn send<T: Into<D::Item>>(&self, tagged: TaggedData<T>) -> Result<(), SendError<TaggedData<D::Item>>> {
        self.inner.acceptor.send(tagged.map(Into::into))
    }

    /// Stops listening, sends what is queued, closes all connections with code 1001, and then completes the subscribers.
    /// Returns at once.
    ///
    /// All of it takes at most `Limits::close_timeout`, 5 s by default; [`closed`](Self::closed) tells what was not sent.
    ///
    /// The end of `main` ends the threads that do it: wait for them there, with [`wait_closed`](Self::wait_closed) on a clone, or
    /// what is queued is lost with the process.
    pub fn complete(self) {
        self.inner.acceptor.finish(Ok(()));
    }

    /// As [`complete`](Self::complete), with close code 1011, and the subscribers get `error`.
    pub fn error(self, error: impl Into<WsError>) {
        self.inner.acceptor.finish(Err(error.into()));
    }

    /// Every connection: those that are open first, then each when it opens, before anything is read from it.
    ///
    /// A subscription made in the callback hears everything that the connection sends. What one sent that was open already,
    /// as clients that were waiting for the server may be even right after `bind`, has been kept for it as long as the
    /// server itself had no subscriber: up to 1,024 messages and 1 MiB, of all connections together.
    ///
    /// A pipeline that feeds a connection ends with it:
    ///
    /// ```no_run
    /// use rxplus::prelude::*;
    ///
    /// let server = RxWsServer::bind("ws://127.0.0.1:8765", WsStr)?;
    /// server.connections().subscribe(|connection| {
    ///     let ticks = Io::interval(Duration::from_secs(1));
    ///     ticks.map(|n| format!("tick {n}")).subscribe_with(connection);
    /// });
    /// # Ok::<(), WsError>(())
    /// ```
    #[must_use]
    pub fn connections(&self) -> Io<Feed<Connection<D>>> {
        Feed::of(&self.inner.acceptor.connections, &self.scheduler)
    }

    /// How many connections are open.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.inner.acceptor.connection_count()
    }

    /// What happens outside of the data stream. The first 256 events are kept for the first subscriber.
    #[must_use]
    pub fn events(&self) -> Io<Feed<ServerEvent>> {
        self.inner.acceptor.component.events()
    }

    /// What was sent and received so far, over all connections.
    #[must_use]
    pub fn stats(&self) -> ServerStats {
        self.inner.acceptor.stats()
    }

    /// What was sent and received over the connections that are open on `path`; nothing is kept for others.
    ///
    /// ```
    /// use rxplus::prelude::*;
    ///
    /// let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr)?;
    /// let feed = server.path_stats("/feed");
    /// println!("{} viewers, {} messages wait for them", feed.connections, feed.all.sent.queued.messages);
    /// # Ok::<(), WsError>(())
    /// ```
    #[must_use]
    pub fn path_stats(&self, path: impl Into<Tag>) -> PathStats {
        self.inner.acceptor.path_stats(&path.into())
    }

    /// Where it listens; if the host has several addresses, the first of them.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.inner.local_addr
    }

    /// Its name, as set by the builder.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.acceptor.component.name
    }

    /// Resolves once the server has closed, with what it could not send.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping the future closes nothing, and a later call resolves all the same.
    pub fn closed(&self) -> impl Future<Output = CloseReport> + Send + use<D> {
        self.inner.acceptor.component.closed()
    }

    /// Blocks until the server has closed, and returns what it could not send. `Duration::MAX` is no limit.
    ///
    /// Give it more than `Limits::close_timeout`, 5 s by default, or it gives up just before the report is there.
    ///
    /// # Errors
    ///
    /// - [`WsError::TimedOut`] after `timeout`.
    /// - [`WsError::WouldDeadlock`] on the server's own I/O thread, or the only one of its tokio runtime, at once.
    pub fn wait_closed(&self, timeout: Duration) -> Result<CloseReport, WsError> {
        self.inner.acceptor.component.wait_closed(timeout)
    }

    fn is_closing(&self) -> bool {
        self.inner.acceptor.is_closing()
    }
}

impl<D: WsDatatype> ServerBuilder<D> {
    common_options!(
        outbox: "on each connection, and what happens when that is full. The default is 16,384 messages or 16 MiB, then, if its socket takes nothing, the connection is dropped.",
        name: "server"
    );

    /// Serves these paths alone; requests for others are answered with 404. The default is all. A missing `/` at the start
    /// is added, and what a URL cannot hold is escaped, as [`ConnConfig::path`] does.
    pub fn paths<S: Into<String>>(mut self, paths: impl IntoIterator<Item = S>) -> Self {
        let in_url = |path: S| ConnConfig::new("localhost", 80).path(path).as_path().to_owned();
        self.policy.paths = Some(paths.into_iter().map(in_url).collect());
        self
    }

    /// Serves pages of these origins alone, such as `https://example.org` or `http://localhost:8080`; requests with another
    /// `Origin` header are answered with 403, and the event says which. Programs that are not browsers send none and are
    /// served. The default is all.
    ///
    /// Upper and lower case, a `/` at the end and the port that the scheme has anyway make no difference. `null` stands for
    /// pages without an origin, files say. What is no origin, with a path or a `*` say, makes [`bind`](Self::bind) fail.
    pub fn origins<S: Into<String>>(mut self, origins: impl IntoIterator<Item = S>) -> Self {
        let parse = |origin: String| Origin::parse(&origin).ok_or(WsError::InvalidOrigin(origin));
        let origins = origins.into_iter().map(|origin| parse(origin.into())).collect::<Result<_, _>>();
        self.policy.origins = self.or_mistake(origins);
        self
    }

    /// Has the program decide on each request, which it sees with its path, query, headers and address, before it becomes a
    /// connection. It returns a future: write `|request| async move { .. }`. The default lets in everybody.
    ///
    /// What it returns is kept on the connection, where [`Connection::grant`] finds it; in a [`Grant`](crate::Grant), together with headers
    /// for the answer. [`Refuse`] says which HTTP status the request is answered with instead.
    ///
    /// ```
    /// use rxplus::prelude::*;
    ///
    /// struct User(String);
    ///
    /// let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr)
    ///     .authorize(|request| async move {
    ///         match request.header("authorization") {
    ///             Some("Bearer open sesame") => Ok(User("Ali".into())),
    ///             _ => Err(Refuse::status(401).because("say the word")),
    ///         }
    ///     })
    ///     .bind()?;
    /// server.connections().subscribe(|connection| {
    ///     let user: &User = connection.grant().unwrap();
    ///     connection.next(format!("hello {}", user.0));
    /// });
    /// # Ok::<(), WsError>(())
    /// ```
    ///
    /// It is called on the server's I/O thread, only with requests that are otherwise accepted, and its time counts towards
    /// `Limits::handshake`. If it panics, the request is answered with 500, and nobody else notices.
    pub fn authorize<F, R, G>(mut self, decide: F) -> Self
    where
        F: Fn(UpgradeRequest) -> R + Send + Sync + 'static,
        R: Future<Output = Result<G, Refuse>> + Send + 'static,
        G: Send + Sync + 'static,
    {
        self.policy.authorize = Some(Authorize::new(decide));
        self
    }

    /// Has [`authorize`](Self::authorize) decide on plain HTTP requests as well: those that
    /// [ask for no connection](UpgradeRequest::asks_to_upgrade), of whatever method and for whatever path. So a server answers
    /// health checks on its own port. The default is `false`: they are answered with 426, or 405 when their method is not GET.
    /// One that `authorize` lets in is answered like that, too. What a request has as its content is not looked at.
    ///
    /// ```
    /// use rxplus::prelude::*;
    ///
    /// let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr)
    ///     .answer_plain_requests(true)
    ///     .authorize(|request| async move {
    ///         match request.path() {
    ///             "/healthz" => Err(Refuse::status(200).because("fine")),
    ///             _ => Ok(()),
    ///         }
    ///     })
    ///     .bind()?;
    /// # Ok::<(), WsError>(())
    /// ```
    ///
    /// The answer is an event, [`ServerEvent::Rejected`], as every answer that opens no connection.
    pub fn answer_plain_requests(mut self, answers: bool) -> Self {
        self.policy.answers_plain = answers;
        self
    }

    /// Serves over TLS, with this certificate, whether the address says `wss` or not.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: impl Into<ServerTls>) -> Self {
        self.tls = Some(tls.into());
        self
    }

    /// Speaks these subprotocols (RFC 6455, section 1.9), the preferred one first. The default is none.
    ///
    /// A client that offers none of them is let in without one: whoever minds closes the connection, with 1002 say. A name
    /// that no header can hold makes [`bind`](Self::bind) fail.
    pub fn subprotocols<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        let names: Arc<[String]> = names.into_iter().map(Into::into).collect();
        self.or_mistake(check_subprotocols(&names));
        self.policy.subprotocols = names;
        self
    }

    /// Leaves a mistake to [`bind`](Self::bind).
    fn or_mistake<T>(&mut self, option: Result<T, WsError>) -> Option<T> {
        option.map_err(|mistake| self.mistake.get_or_insert(mistake).clone()).ok()
    }

    /// Sets how many connections there may be at once. A further one takes the place of a handshake that has been silent for
    /// 0.5 s, or is answered with 503. The same as `Limits::connections`.
    pub fn max_connections(mut self, count: usize) -> Self {
        self.options.limits = self.options.limits.connections(count);
        self
    }

    /// Makes the server, bound and listening when this returns.
    ///
    /// # Errors
    ///
    /// As [`RxWsServer::bind`], and when an option cannot be used.
    pub fn bind(self) -> Result<RxWsServer<D>, WsError> {
        let endpoint = self.endpoint?;
        if let Some(mistake) = self.mistake {
            return Err(mistake);
        }
        if endpoint.is_tls() && self.tls.is_none() {
            let reason = "a server needs a certificate; give it one with .tls(ServerTls::..), of the feature \"tls\"";
            return Err(WsError::TlsSetup { what: endpoint.to_string(), reason: reason.into() });
        }
        let failed = |error| WsError::Bind { endpoint: endpoint.clone(), source: Arc::new(error) };
        let sockets = listen(&endpoint)?;
        let runtime = self.options.runtime()?;
        let listener = {
            let _inside = runtime.handle().enter();
            Listener::new(sockets).map_err(failed)?
        };
        let local_addr = listener.local_addr().map_err(failed)?;
        let home = IoScheduler::on(&runtime);
        let acceptor = Arc::new(Acceptor::new(self.datatype, self.options, self.policy, self.tls, home.clone()));
        let dead = acceptor.clone();
        runtime.serve(acceptor.clone().run(listener), move |death| dead.died(&death));
        let kept = Arc::downgrade(&acceptor);
        let keeper = Keeper::new(move || {
            if let Some(acceptor) = kept.upgrade() {
                acceptor.finish(Ok(()));
            }
        });
        Ok(RxWsServer { inner: ServerSource { acceptor, local_addr, keeper }, scheduler: home })
    }
}

endpoint!(RxWsServer, ServerSource { acceptor, local_addr, keeper }, T => TaggedData<T>);
subscribe!(RxWsServer emits TaggedData<D::Item>, errors at error);

impl<D: WsDatatype> ObservableType for ServerSource<D> {
    type Item<'a>
        = TaggedData<D::Item>
    where
        Self: 'a;
    type Err = WsError;
}

impl<D, C> CoreObservable<C> for ServerSource<D>
where
    D: WsDatatype,
    C: Context,
    C::Inner: Observer<TaggedData<D::Item>, WsError> + Send + 'static,
{
    type Unsub = SerializedSubscription;

    fn subscribe(self, context: C) -> SerializedSubscription {
        let Self { acceptor, keeper, .. } = self;
        let items = Map {
            source: acceptor.component.inbound.clone(),
            func: |tagged: TaggedData<Received<_>>| tagged.map(|received| received.item),
        };
        // Before it joins: connections feed those who are counted.
        let listener = acceptor.listeners.count_in();
        items.subscribe(context.transform(|observer| Holding::new(observer, (keeper, listener))))
    }
}
