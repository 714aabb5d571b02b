//! [`RxWsServer`]: a server as a subject.
//!
//! ```text
//! handles    RxWsServer, Connection -> core (routing table) -> the outbox of each connection on the tag
//! task       listener -> admission -> a task per peer; writes for connections that sleep
//! arrival    admission -> handshake
//! serving    Connection -> link -> Incoming -> the branch of the connection -> the server's subject
//! lane       the thread that serves a connection, if the server has several
//! ```
//!
//! The tasks run on the server's I/O threads, or on the threads of the runtime that it was given. A push runs on the caller's
//! thread, as far as the outboxes.

mod arrival;
mod broadcast;
mod builder;
#[cfg(feature = "nats")]
mod bus;
mod calling;
pub(crate) mod connection;
mod core;
mod lane;
#[cfg(feature = "mount")]
mod mount;
mod presence;
mod rooms;
mod serving;
mod session;
mod streams;
mod task;

pub use builder::ServerBuilder;
#[cfg(feature = "nats")]
pub use bus::BusLost;
pub use connection::{Connection, ConnectionSource};
#[cfg(feature = "mount")]
pub use mount::{RxWsService, Upgrade};
pub use streams::Adopted;

use std::sync::Arc;

use crate::{
    Addr, ConnConfig, Deliveries, Io, IoScheduler, SendError, SerializedSubject, Tag, TaggedData, WsDatatype, WsError,
    endpoint::{
        EndpointCore, Feed, Received, drop_guard::DropGuard, event::ServerEvent, give_back, subject::endpoint,
        subscribe::subscribe, tag_filter::tag_filter,
    },
    server::core::ServerCore,
    stats::{PathStats, ServerStats},
};

/// A WebSocket server as a subject of [`TaggedData`]: it emits the messages of its clients, tagged with their path, and
/// sends a pushed message to every client on that path, or in the [room](Connection::join) of that tag. *Hot*.
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
/// On the server's I/O thread, or on its [`threads`](ServerBuilder::threads), one at a time; the messages of each connection in the
/// order of their arrival. Until the first subscriber
/// comes, 1,024 messages or 1 MiB are kept for it. Callbacks may push, even into the server itself. Trouble with one client,
/// such as a bad frame or a reset, is an [event](Self::events) and never ends this subject.
///
/// # End
///
/// The subject completes after `complete`, or when its last handle and its last subscriber are gone, and errors after
/// `error`. A handle inside a subscriber or a pipeline counts, so a server that feeds itself ends by `complete` only.
pub struct RxWsServer<D: WsDatatype> {
    pub(crate) inner: ServerSource<D>,
    scheduler: IoScheduler,
}

/// The observable inside an [`RxWsServer`], as RxRust's operators see it.
pub struct ServerSource<D: WsDatatype> {
    core: Arc<ServerCore<D>>,
    /// At least one.
    local_addrs: Arc<[Addr]>,
    guard: Arc<DropGuard>,
    /// The tag that its subscribers hear, if they hear just one.
    only: Option<Tag>,
}

impl<D: WsDatatype> RxWsServer<D> {
    /// Makes a server with the default options, bound and listening when this returns.
    ///
    /// Port 0 picks a free one, which [`local_addr`](Self::local_addr) returns. The IPv6 wildcard `[::]` listens on both
    /// stacks, and a name on all of its addresses that this machine has, at one port: `localhost` on `127.0.0.1` and
    /// `[::1]`. The path of `address` means nothing: a server serves all paths, unless `paths` names some.
    ///
    /// # Errors
    ///
    /// When `address` is invalid or cannot be bound, or the I/O thread cannot be started.
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
        ServerBuilder::new(Some(address.try_into().map_err(Into::into)), datatype)
    }

    /// Starts making a server without an address of its own: one that is [mounted](Self::service) in another HTTP server, that
    /// [accepts](Self::accept) or [adopts](Self::adopt) the program's streams, or that
    /// [listens on](ServerBuilder::listen_on) a listener that is there already. All other options are as usual.
    ///
    /// ```
    /// use rxplus::prelude::*;
    ///
    /// let server = RxWsServer::unbound(WsStr).name("rooms").build()?;
    /// assert_eq!(server.local_addr(), rxplus::Addr::Mounted);
    /// # Ok::<(), WsError>(())
    /// ```
    pub fn unbound(datatype: D) -> ServerBuilder<D> {
        ServerBuilder::new(None, datatype)
    }

    /// Every connection: first the open ones, then each new one when it opens, before anything is read from it.
    ///
    /// A subscription made in the callback hears everything that the connection sends. A connection may be open already,
    /// even right after `bind`, if its client was waiting for the server. The messages that it has sent by then have been
    /// kept for the subscription as long as the server itself had no subscriber: up to 1,024 messages and 1 MiB, over all
    /// connections together.
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
        Feed::of(&self.inner.core.connections, &self.scheduler)
    }

    /// The open connection of this [id](Connection::id), as [events](ServerEvent) name it: from its `Connected` on, and no more at
    /// its `Disconnected`. In the resumable mode, one whose client is away is still open.
    ///
    /// ```
    /// use rxplus::prelude::*;
    ///
    /// let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr)?;
    /// let same = server.clone();
    /// server.events().subscribe(move |event| {
    ///     if let ServerEvent::Dropped { peer, .. } = event
    ///         && let Some(connection) = same.connection(peer.id)
    ///     {
    ///         connection.next("you are too slow for some of this");
    ///     }
    /// });
    /// # Ok::<(), WsError>(())
    /// ```
    #[must_use]
    pub fn connection(&self, id: u64) -> Option<Connection<D>> {
        self.inner.core.connection(id)
    }

    /// How many connections are open.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.inner.core.connection_count()
    }

    /// How many messages were sent and received so far, over all connections.
    #[must_use]
    pub fn stats(&self) -> ServerStats {
        self.inner.core.stats()
    }

    /// How many messages were sent and received over the connections that are open on `path`, or in the room of that name;
    /// by whatever tags they were. Closed ones are not counted.
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
        self.inner.core.path_stats(&path.into())
    }

    /// As [`send`](Self::send), and returns a handle by which the fate of all copies can be followed: see [`Deliveries`].
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn send_tracked<T: Into<D::Outgoing>>(
        &self,
        tagged: TaggedData<T>,
    ) -> Result<Deliveries, SendError<TaggedData<D::Outgoing>>> {
        let deliveries = Deliveries::new(self.scheduler.clone());
        let tagged = tagged.map(Into::into);
        EndpointCore::send(&self.inner.core, tagged, Some(&deliveries.fate()))?;
        Ok(deliveries)
    }

    /// As [`next`](Self::next), to every client on the tag but one: what a client says goes to all others. On a
    /// [bus](crate::guide::bus), the clients of other servers hear it as usual.
    ///
    /// ```
    /// use rxplus::prelude::*;
    ///
    /// let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr)?;
    /// let chat = server.clone();
    /// server.connections().subscribe(move |connection| {
    ///     let (chat, from) = (chat.clone(), connection.clone());
    ///     connection.subscribe(move |text| chat.next_except(TaggedData::new(from.path(), text), &from));
    /// });
    /// # Ok::<(), WsError>(())
    /// ```
    pub fn next_except<T: Into<D::Outgoing>>(&self, tagged: TaggedData<T>, connection: &Connection<D>) {
        let core = &self.inner.core;
        if let Err(SendError::Encode(tagged, error)) = self.send_except(tagged, connection) {
            core.component.events.post(core.unencodable(tagged, error));
        }
    }

    /// As [`next_except`](Self::next_except), and says why when the message is refused. Without another client on the tag it is
    /// `Ok`, and the message counts as unrouted.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), of the other clients.
    pub fn send_except<T: Into<D::Outgoing>>(
        &self,
        tagged: TaggedData<T>,
        connection: &Connection<D>,
    ) -> Result<(), SendError<TaggedData<D::Outgoing>>> {
        let tagged = tagged.map(Into::into);
        let sent = self.inner.core.offer_except(&tagged, None, Some(&connection.core().outbox));
        give_back(sent, tagged)
    }

    /// The address that it listens on; if the host has several, the first of them. [`Addr::Mounted`] without a listener.
    #[must_use]
    pub fn local_addr(&self) -> Addr {
        self.inner.local_addrs[0].clone()
    }

    /// All addresses that the server listens on: `localhost` may stand for an IPv4 and an IPv6 address.
    #[must_use]
    pub fn local_addrs(&self) -> Vec<Addr> {
        self.inner.local_addrs.to_vec()
    }

    /// Its name, as set by the builder.
    #[must_use]
    pub fn name(&self) -> &str {
        self.inner.core.component.name()
    }
}

endpoint! {
    RxWsServer, ServerSource { core, local_addrs, guard, only },
    emits TaggedData<D::Item>, takes T => TaggedData<T> => TaggedData<D::Outgoing>, |tagged: TaggedData<T>| tagged.map(Into::into);

    /// Queues a message for every client that is on the tag now: by its path, or by a [room](Connection::join). Never blocks; a
    /// refused message becomes an event.
    ///
    /// The tag is the path as it stands in the URL, with the `/` at its start. The message is encoded once. By default
    /// 16,384 messages or 16 MiB may wait for each client. When a client has that much waiting, this writes as much as its
    /// socket takes at that moment, on the caller's thread; a client is disconnected only if it has not read enough for
    /// that. Without a client on the tag, the message is counted as unrouted and gone.
    fn next(tagged);

    /// As [`next`](Self::next), and says why when the message is refused. Never blocks.
    ///
    /// `Ok` is a place in the outboxes, not delivery. Without a client on the tag it is `Ok` too, and the message counts as
    /// unrouted.
    ///
    /// # Errors
    ///
    /// - [`SendError::Full`] when every client on the tag refused it because its outbox is full. If only some did, that is
    ///   an event.
    /// - [`SendError::Closed`] from the moment that `complete` or `error` was called.
    /// - [`SendError::Encode`] when the datatype cannot encode the item.
    fn send(_) -> SendError;

    /// Stops listening, sends the queued messages, closes all connections with code 1001, and then completes the
    /// subscribers. Returns at once.
    ///
    /// This takes at most `Limits::close_timeout`, 5 s by default; [`closed`](Self::closed) reports the unsent messages.
    ///
    /// The end of `main` ends the threads that do this work: wait for them there, with [`wait_closed`](Self::wait_closed) on
    /// a clone, or the queued messages are lost with the process.
    fn complete();

    /// The events outside the data stream. The first 256 are kept for the first subscriber.
    fn events() -> ServerEvent;

    /// Resolves once the server has closed, with a report of the unsent messages.
    fn closed();

    /// Blocks until the server has closed, and returns a report of the unsent messages. `Duration::MAX` means no limit.
    ///
    /// Give it more than `Limits::close_timeout`, 5 s by default, or it gives up just before the report is there.
    ///
    /// # Errors
    ///
    /// - [`WsError::TimedOut`] after `timeout`.
    /// - [`WsError::WouldDeadlock`] on the server's own I/O thread, or the only one of its tokio runtime, at once.
    fn wait_closed();
}

subscribe!(RxWsServer emits TaggedData<D::Item>, errors at error);
tag_filter!(RxWsServer, ServerSource);

impl<D: WsDatatype> ServerSource<D> {
    fn arriving(&self) -> SerializedSubject<TaggedData<Received<D::Item>>, WsError> {
        self.core.component.inbound.clone()
    }

    fn held(&self) -> impl Send + 'static + use<D> {
        (self.guard.clone(), self.core.audience.count_in(self.only.as_deref()))
    }
}
