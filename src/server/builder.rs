//! [`ServerBuilder`]: the options of a server.

use std::{future::Future, io, sync::Arc};

use tokio::sync::{Semaphore, mpsc};

#[cfg(feature = "nats")]
use crate::{
    BusLost,
    server::bus::{BusOptions, bus_of},
};
use crate::{
    ConnConfig, IoScheduler, Limits, Refuse, Resume, RxWsServer, UpgradeRequest, WsDatatype, WsError,
    client::request::check_subprotocols,
    endpoint::{
        codec::{Codec, KeyOf},
        drop_guard::DropGuard,
        options::{Options, common_options},
    },
    handshake::{Authorize, Origin, Policy},
    outbox::OutboxBound,
    runtime::UserValue,
    server::{ServerSource, core::ServerCore, presence::Naming, task},
    transport::{
        listen::{Listener, listen},
        tls::ServerTls,
    },
};

/// Builds a server with options: see [`RxWsServer::builder`].
#[must_use]
#[derive(Debug)]
pub struct ServerBuilder<D: WsDatatype> {
    /// `None` for a server without an address of its own.
    endpoint: Option<Result<ConnConfig, WsError>>,
    datatype: D,
    options: Options,
    policy: Policy,
    tls: Option<ServerTls>,
    resume: Option<Resume>,
    naming: Naming<D>,
    #[cfg(feature = "nats")]
    on_bus: BusOptions<D>,
    /// The first option that cannot be used, as an error.
    mistake: Option<WsError>,
    /// There if the outboxes conflate.
    key_of: Option<KeyOf<D::Outgoing>>,
}

impl<D: WsDatatype> ServerBuilder<D> {
    pub(crate) fn new(endpoint: Option<Result<ConnConfig, WsError>>, datatype: D) -> Self {
        Self {
            endpoint,
            datatype,
            options: Options::server(),
            policy: Policy::default(),
            tls: None,
            resume: None,
            naming: Naming::default(),
            #[cfg(feature = "nats")]
            on_bus: BusOptions::default(),
            mistake: None,
            key_of: None,
        }
    }

    common_options!(
        outbox: "on each connection, and what happens when that is full. The default is 16,384 messages or 16 MiB; \
                 beyond that, a connection whose socket takes nothing is dropped.",
        name: "server",
        keys: key_of
    );

    /// As [`outbox`](Self::outbox), for the connections on `path` alone, wherever both stand in the chain; the last call for a path
    /// counts. So a path of live data may drop what a path of orders must not.
    ///
    /// ```
    /// use rxplus::prelude::*;
    ///
    /// let server = RxWsServer::builder("ws://127.0.0.1:0", WsBytes)
    ///     .outbox(1000, 16 * 1024 * 1024, Overflow::Disconnect) // all other paths
    ///     .outbox_for("/listen", 50, 1024 * 1024, Overflow::DropOldest)
    ///     .bind()?;
    /// # Ok::<(), WsError>(())
    /// ```
    ///
    /// It is the path that the client asked for, without its query, and exact: `/listen` is not `/listen/1`. A missing `/` at the
    /// start is added, and characters that a URL cannot hold are escaped, as [`ConnConfig::path`] does. A connection has one
    /// outbox for all that is sent to it, by its [rooms](crate::Connection::join) as well.
    ///
    /// # Panics
    ///
    /// If `max_messages` is zero.
    pub fn outbox_for(
        mut self,
        path: impl Into<String>,
        max_messages: usize,
        max_len: usize,
        overflow: crate::Overflow,
    ) -> Self {
        let bound = OutboxBound::new(max_messages, max_len, overflow);
        self.options.outboxes.insert(in_url(path), bound);
        self
    }

    /// Serves these paths alone; requests for others are answered with 404. The default is all. A missing `/` at the start
    /// is added, and characters that a URL cannot hold are escaped, as [`ConnConfig::path`] does.
    pub fn paths<S: Into<String>>(mut self, paths: impl IntoIterator<Item = S>) -> Self {
        self.policy.paths = Some(paths.into_iter().map(in_url).collect());
        self
    }

    /// Serves pages of these origins alone, such as `https://example.org` or `http://localhost:8080`; requests with another
    /// `Origin` header are answered with 403, and the event says which. Programs that are not browsers send none and are
    /// served. The default is all.
    ///
    /// Upper and lower case, a trailing `/` and the scheme's default port make no difference. `null` stands for pages
    /// without an origin, such as files. An entry that is no origin, because it has a path or a `*` for example, makes
    /// [`bind`](Self::bind) fail.
    pub fn origins<S: Into<String>>(mut self, origins: impl IntoIterator<Item = S>) -> Self {
        let parse = |origin: String| Origin::parse(&origin).ok_or(WsError::InvalidOrigin(origin));
        let origins = origins.into_iter().map(|origin| parse(origin.into())).collect::<Result<_, _>>();
        self.policy.origins = self.or_mistake(origins);
        self
    }

    /// Calls `decide` with each request (path, query, headers, address) before its connection opens. `decide` returns a
    /// future: write `|request| async move { .. }`. The default lets everybody in.
    ///
    /// The value that it returns is kept on the connection, where [`Connection::grant`](crate::Connection::grant) finds it;
    /// a [`Grant`](crate::Grant) carries headers for the answer as well. [`Refuse`] says which HTTP status the request is
    /// answered with instead.
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
    /// It is called on the server's I/O thread, on several [`threads`](Self::threads) side by side, only with requests that are otherwise accepted, and its time counts towards
    /// `Limits::handshake`. If it panics, the request is answered with 500, and no other connection is affected.
    pub fn authorize<F, R, G>(mut self, decide: F) -> Self
    where
        F: Fn(UpgradeRequest) -> R + Send + Sync + 'static,
        R: Future<Output = Result<G, Refuse>> + Send + 'static,
        G: Send + Sync + 'static,
    {
        self.policy.authorize = Some(Authorize::new(decide));
        self
    }

    /// Asks [`authorize`](Self::authorize) about plain HTTP requests as well: requests that [do not ask for a
    /// connection](UpgradeRequest::asks_to_upgrade), of whatever method and for whatever path. So a server answers health
    /// checks on its own port. The default is `false`: they are answered with 426, or 405 when their method is not GET. If
    /// it accepts a plain request, the server answers 426 or 405 too. The content of a request is ignored.
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
    /// The answer is an event, [`ServerEvent::Rejected`](crate::ServerEvent::Rejected), like every answer that opens no
    /// connection.
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
    /// A client that offers none of them is let in without one: a program that requires one closes the connection, with 1002
    /// for example. A name that no header can hold makes [`bind`](Self::bind) fail.
    pub fn subprotocols<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        let names: Arc<[String]> = names.into_iter().map(Into::into).collect();
        self.or_mistake(check_subprotocols(&names));
        self.policy.subprotocols = names;
        self
    }

    /// Offers sessions that outlive their link, to clients that ask for them: see [`Resume`]. The default is none.
    ///
    /// The [`Connection`](crate::Connection) of such a client stays the same, with its subscribers and its grant, however
    /// often the client connects again; `connections()` emits it once. Each link makes the whole opening handshake,
    /// `authorize` included, and counts among the connections of the limits.
    pub fn resumable(mut self, resume: Resume) -> Self {
        (self.policy.is_resumable, self.resume) = (true, Some(resume));
        self
    }

    /// Joins the server to all others on a [bus](crate::RxBus): what is pushed into any of them reaches the clients of all, once.
    /// The default is none.
    ///
    /// ```
    /// use rxplus::prelude::*;
    ///
    /// let broker = LocalBroker::new(); // in a program: "nats://10.0.0.5:4222"
    /// let server = || RxWsServer::builder("ws://127.0.0.1:0", WsStr).bus(&RxBus::connect(&broker, WsStr)?).bind();
    /// let [here, there] = [server()?, server()?];
    /// here.next(TaggedData::new("/prices", "EURUSD 1.09")); // to the clients on /prices of both
    /// # Ok::<(), WsError>(())
    /// ```
    ///
    /// What the clients send stays on their server, unless the program passes it on: `server.clone().merge_into(&bus)` is a chat
    /// over all servers. Do not feed the server by its bus a second time: with `bus.clone().merge_into(&server)` messages go round
    /// in circles, since what is pushed into the server is heard on the bus.
    ///
    /// The broker sends the messages of the paths on which this server has clients: from the first one on, until 10 s after the
    /// last has gone. [`next`](RxWsServer::next) reports by [events of the bus](crate::RxBus::events) what does not reach it;
    /// [`send`](RxWsServer::send) is `Ok` when a client's outbox or the bus has taken the message, and
    /// [`send_tracked`](RxWsServer::send_tracked) follows it to the server's own clients. While there is no broker, unless
    /// [`on_bus_lost`](Self::on_bus_lost) says otherwise, and after the bus has ended, the server serves its own clients as usual. The handle of the bus that the server holds keeps
    /// the bus open.
    #[cfg(feature = "nats")]
    #[cfg_attr(docsrs, doc(cfg(feature = "nats")))]
    pub fn bus<B>(mut self, bus: &crate::RxBus<B>) -> Self
    where
        B: WsDatatype<Item = D::Outgoing, Outgoing = D::Outgoing>,
    {
        self.on_bus.bus = Some(bus_of::<D, B>(bus));
        self
    }

    /// Sets what the server does while its [bus](Self::bus) has no link to the broker. The default is [`BusLost::KeepClients`].
    /// Without a bus it has no effect.
    ///
    /// ```
    /// use rxplus::prelude::*;
    ///
    /// let bus = RxBus::local(WsStr)?; // in a program: RxBus::connect("nats://10.0.0.5:4222", WsStr)?
    /// let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr)
    ///     .bus(&bus)
    ///     .on_bus_lost(BusLost::CloseClients { after: Duration::from_secs(10) })
    ///     .bind()?;
    /// # Ok::<(), WsError>(())
    /// ```
    #[cfg(feature = "nats")]
    #[cfg_attr(docsrs, doc(cfg(feature = "nats")))]
    pub fn on_bus_lost(mut self, reaction: BusLost) -> Self {
        self.on_bus.on_lost = reaction;
        self
    }

    /// Gives the connections names, under which [`presence()`](RxWsServer::presence) tells of them, on all servers of the
    /// [bus](crate::guide::bus) if there is one. `name` returns a `String`, or an `Option<String>` for connections that may have none;
    /// by default, none has, and connections are only counted.
    ///
    /// ```
    /// use rxplus::prelude::*;
    ///
    /// struct User(String);
    ///
    /// let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr)
    ///     .authorize(|request| async move { Ok(User(request.header("x-user").unwrap_or("nobody").into())) })
    ///     .member(|connection| connection.grant().map(|User(name)| name.clone()))
    ///     .bind()?;
    /// # Ok::<(), WsError>(())
    /// ```
    ///
    /// It is called on the connection's I/O thread, once for each connection, after [`Connected`](crate::ServerEvent::Connected). If
    /// it panics, the connection has no name, and that is an [event](crate::ServerEvent::SubscriberPanicked). On a bus, everybody who
    /// may subscribe at the broker can read the names.
    pub fn member<F, N>(mut self, name: F) -> Self
    where
        F: Fn(&crate::Connection<D>) -> N + Send + Sync + 'static,
        N: Into<Option<String>>,
    {
        self.naming = Naming::new(move |connection| name(connection).into());
        self
    }

    /// Serves on `count` threads of the server's own, named `rxplus-server`, `rxplus-server-2` and so on if that is its name. The
    /// default is 1. It takes the place of a [`runtime`](Self::runtime) that was given before; one that is given afterwards takes
    /// its place.
    ///
    /// For a server that needs more than one core: the handshakes, TLS, decoding, compression and writing for a connection are
    /// its thread's, and so are the callbacks of its own subject, in order. A new connection comes to the thread that has the
    /// fewest, and stays there. What the server itself emits, by its own subject, [`events`](RxWsServer::events) and
    /// [`connections`](RxWsServer::connections), comes from all of these threads, each item on the one that it arrived at or on one
    /// that emits already: never two at a time, and the messages of a connection in order. So a callback on the server's own
    /// subject must keep up with all threads; one on a connection only with its own. Operators with a clock that the program puts
    /// behind the server itself run on the first thread.
    ///
    /// ```
    /// use rxplus::prelude::*;
    ///
    /// let server = RxWsServer::builder("ws://127.0.0.1:0", WsBytes).threads(2).bind()?;
    /// server.connections().subscribe(|connection| {
    ///     connection.clone().subscribe_with(connection); // an echo, on the connection's thread
    /// });
    /// # Ok::<(), WsError>(())
    /// ```
    ///
    /// A callback that blocks holds up the connections of its thread, and on the first thread new ones as well. Where callbacks have
    /// to block now and then, [`IoRuntime::with_threads`](crate::IoRuntime::with_threads) serves the other connections meanwhile, at
    /// a higher price for each message.
    ///
    /// # Panics
    ///
    /// If `count` is zero.
    pub fn threads(mut self, count: usize) -> Self {
        assert!(count > 0, "a server needs at least one thread");
        (self.options.runtime, self.options.threads) = (None, count);
        self
    }

    /// Keeps the first mistake for [`bind`](Self::bind) to return.
    fn or_mistake<T>(&mut self, option: Result<T, WsError>) -> Option<T> {
        option.map_err(|mistake| self.mistake.get_or_insert(mistake).clone()).ok()
    }

    /// Sets how many connections there may be at once. A further one takes the place of a handshake that has been silent for
    /// 0.5 s, or is answered with 503. The same as `Limits::connections`.
    pub fn max_connections(mut self, count: usize) -> Self {
        self.options.limits = Limits::clone(&self.options.limits).connections(count).into();
        self
    }

    /// Makes the server, bound and listening when this returns.
    ///
    /// # Errors
    ///
    /// As [`RxWsServer::bind`], and when an option cannot be used.
    pub fn bind(self) -> Result<RxWsServer<D>, WsError> {
        let endpoint = self.endpoint.clone().unwrap_or_else(|| Err(no_address()))?;
        self.check()?;
        let sockets = listen(&endpoint)?;
        self.start(sockets, |error| WsError::Bind { endpoint: endpoint.clone(), source: Arc::new(error) })
    }

    /// Makes a server that listens on a socket of the program's: one that systemd has handed over, that shares its port by
    /// `SO_REUSEPORT`, or that was bound before the program gave up its privileges.
    ///
    /// ```
    /// use rxplus::prelude::*;
    ///
    /// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// let server = RxWsServer::unbound(WsStr).listen_on(listener)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When an option is invalid, the listener cannot be used, or the I/O thread cannot be started. An address given to
    /// [`builder`](RxWsServer::builder) is not listened on, but `wss` asks for a certificate all the same.
    pub fn listen_on(self, listener: std::net::TcpListener) -> Result<RxWsServer<D>, WsError> {
        let failed = |error| WsError::Transport { peer: "the listener".into(), source: Arc::new(error) };
        listener.set_nonblocking(true).map_err(failed)?;
        self.start(vec![listener], failed)
    }

    /// Makes a server that listens nowhere: others give it its connections.
    ///
    /// # Errors
    ///
    /// When an option is invalid, or the I/O thread cannot be started.
    pub fn build(self) -> Result<RxWsServer<D>, WsError> {
        self.start(Vec::new(), |error| WsError::Transport {
            peer: "a server without a listener".into(),
            source: Arc::new(error),
        })
    }

    /// Finds the first mistake in the options.
    fn check(&self) -> Result<(), WsError> {
        let endpoint = self.endpoint.clone().transpose()?;
        if let Some(mistake) = &self.mistake {
            return Err(mistake.clone());
        }
        if let Some(endpoint) = endpoint.filter(|endpoint| endpoint.is_tls() && self.tls.is_none()) {
            let reason = "a server needs a certificate; give it one with .tls(ServerTls::..), of the feature \"tls\"";
            return Err(WsError::TlsSetup { what: endpoint.to_string(), reason: reason.into() });
        }
        Ok(())
    }

    fn start(
        self,
        sockets: Vec<std::net::TcpListener>,
        failed: impl Fn(io::Error) -> WsError,
    ) -> Result<RxWsServer<D>, WsError> {
        self.check()?;
        let runtime = self.options.runtime()?;
        let listener = {
            let _inside = runtime.handle().enter();
            Listener::new(sockets).map_err(&failed)?
        };
        let local_addrs = listener.local_addrs().map_err(&failed)?;
        // While its task is busy, no more peers wait for it than may have their handshakes under way.
        let room = self.options.limits.handshakes.clamp(1, Semaphore::MAX_PERMITS);
        let (arrivals, arriving) = mpsc::channel(room);
        let codec = Codec::new(UserValue::new(Arc::new(self.datatype)), self.key_of);
        let (options, policy, resume) = (self.options, self.policy, self.resume);
        let core = ServerCore::new(codec, options, resume, policy, self.tls, &runtime, arrivals);
        #[cfg(feature = "nats")]
        let core = core.on_bus(self.on_bus);
        let core = core.shared(self.naming);
        #[cfg(feature = "nats")]
        core.join_bus();
        let dead = core.clone();
        let serving = task::run(core.clone(), runtime.clone(), listener, arriving);
        runtime.serve(serving, move |death| dead.died(&death));
        let (guard, home) = (DropGuard::of(&core), IoScheduler::on(&runtime));
        Ok(RxWsServer { inner: ServerSource { core, local_addrs, guard, only: None }, scheduler: home })
    }
}

/// A path as it stands in a URL.
fn in_url(path: impl Into<String>) -> String {
    ConnConfig::new("localhost", 80).path(path).as_path().to_owned()
}

fn no_address() -> WsError {
    let reason =
        "this server has no address; end its builder with build() or listen_on(), or begin with builder(address, ..)";
    WsError::InvalidUrl { url: String::new(), reason: reason.into() }
}
