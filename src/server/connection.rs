//! [`Connection`]: one accepted connection as a subject.

use std::{
    any::Any,
    borrow::Cow,
    fmt,
    mem::replace,
    ops::ControlFlow,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak, atomic::AtomicU64},
    time::Duration,
};

use http::HeaderMap;
use tokio::time::Instant;

use crate::{
    Addr, Calls, DatatypeError, Delivery, Io, IoScheduler, SendError, SerializedSubject, Tag, TaggedData, WsDatatype,
    WsError,
    datatype::Moved,
    endpoint::{
        self, Component, EndpointCore, Feed, Received,
        event::{Peer, ServerEvent},
        incoming::Incoming,
        subject::endpoint,
        subscribe::subscribe,
    },
    fate::Fate,
    handshake::{Granted, UpgradeRequest},
    outbox::{Outbox, Reporter, Reports},
    protocol::close::{INTERNAL_ERROR, NORMAL},
    sending::{self, Outgoing, Outlet, backpressure},
    server::{core::ServerCore, lane::Lane, rooms::Tags},
    stats::Stats,
    subject::{Backlog, branch::Branch, replay::Replay},
};

/// One accepted connection as a subject of `D::Item`: it sends the pushed items to this client, and emits the items that the
/// client sends. *Hot*.
///
/// Comes from [`RxWsServer::connections`](crate::RxWsServer::connections). An echo is one line:
///
/// ```no_run
/// use rxplus::prelude::*;
///
/// let server = RxWsServer::bind("ws://127.0.0.1:8765", WsStr)?;
/// server.connections().subscribe(|connection| {
///     connection.clone().subscribe_with(connection);
/// });
/// # Ok::<(), WsError>(())
/// ```
///
/// # Emission
///
/// On the server's I/O thread, or on the one of its [`threads`](crate::ServerBuilder::threads) that serves this connection, in the
/// order of arrival. A subscription that is made while `connections()` emits the
/// connection hears everything. A later one first receives the messages that no subscriber has received, neither of this
/// connection nor of the server (up to 1,024 messages and 1 MiB are kept for the whole server), then all new ones. Nothing
/// is lost in between, and messages that a subscriber leaves are kept for the next.
///
/// # End
///
/// A connection lives as long as its client and its server, whether there are handles of it or not. It completes after a
/// closing handshake and errors when it ends otherwise, in either case after everything that had arrived: when nothing can
/// be written any more, the data that the peer has sent is still read to its end, close code included. (Linux keeps that
/// data when the peer resets the connection; other systems may discard it.)
pub struct Connection<D: WsDatatype> {
    inner: ConnectionSource<D>,
    scheduler: IoScheduler,
}

/// The observable inside a [`Connection`], as RxRust's operators see it.
pub struct ConnectionSource<D: WsDatatype> {
    core: Arc<ConnectionCore<D>>,
}

/// A connection, as its handles, its task and its server share it.
pub(crate) struct ConnectionCore<D: WsDatatype> {
    /// Its name is the server's.
    pub(crate) component: Component<Received<D::Item>, ServerEvent>,
    pub(crate) incoming: Incoming<D>,
    pub(crate) outbox: Outbox,
    /// Its number, unique within its server.
    pub(crate) id: u64,
    /// The path that it asked for.
    pub(crate) path: Tag,
    pub(crate) began: Instant,
    /// Made when it is first asked for, since it contains a path.
    pub(crate) name: OnceLock<Box<str>>,
    pub(crate) request: UpgradeRequest,
    pub(crate) grant: Option<Granted>,
    pub(crate) subprotocol: Option<Box<str>>,
    pub(crate) close_timeout: Duration,
    pub(crate) branch: Inbound<D::Item>,
    pub(crate) linked: Linked,
    /// How many calls were made to its client.
    pub(crate) calls: AtomicU64,
    pub(crate) tags: Tags,
    pub(crate) lane: Arc<Lane>,
    pub(crate) server: Weak<ServerCore<D>>,
}

/// As errors name it.
impl<D: WsDatatype> fmt::Display for ConnectionCore<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.peer().fmt(f)
    }
}

impl<D: WsDatatype> Reporter for ConnectionCore<D> {
    /// On its I/O thread; drops that have come together until then share one event.
    fn post_drops(self: Arc<Self>, reports: Reports) {
        let (home, connection) = (self.lane.home.clone(), Arc::downgrade(&self));
        home.spawn_aside(reports.make(move |_| {
            // A connection or a server that is gone has reported what was dropped.
            let Some(connection) = connection.upgrade() else { return ControlFlow::Break(()) };
            let Some(server) = connection.server.upgrade() else { return ControlFlow::Break(()) };
            connection.report_drops(&server);
            ControlFlow::Continue(())
        }));
    }
}

/// The subject of a connection, as a branch of the server's subject.
type Inbound<T> = Branch<Received<T>, TaggedData<Received<T>>, WsError>;

impl<D: WsDatatype> Connection<D> {
    /// `core` may keep the handle of itself, which is good once this has returned.
    pub(crate) fn new(core: impl FnOnce(&Weak<ConnectionCore<D>>) -> ConnectionCore<D>) -> Self {
        let core = Arc::new_cyclic(core);
        let scheduler = core.component.home.clone();
        Self { inner: ConnectionSource { core }, scheduler }
    }

    /// As [`complete`](Self::complete), with a close code and a reason that the program chooses.
    ///
    /// The first one counts: once closing is under way, also by the end of the server, this changes nothing. So a server that says
    /// a reason to all closes each connection, waits until [`connection_count`](crate::RxWsServer::connection_count) is 0, and then
    /// completes.
    ///
    /// # Errors
    ///
    /// [`WsError::InvalidClose`] when `code` is not one that an endpoint may send (RFC 6455, section 7.4, and IANA's
    /// registry for it: 1000 to 1003, 1007 to 1014 and 3000 to 4999), or `reason` is longer than 123 bytes.
    pub fn close(&self, code: u16, reason: &str) -> Result<(), WsError> {
        if !may_be_sent(code) || reason.len() > 123 {
            return Err(WsError::InvalidClose { code, reason: reason.into() });
        }
        self.core().outbox.close(code, reason, self.core().close_timeout);
        Ok(())
    }

    /// Its number, unique within its server and counted up.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.core().id
    }

    /// The path that the client asked for, without the query.
    #[must_use]
    pub fn path(&self) -> &Tag {
        &self.core().path
    }

    /// The query string that the client asked for: the part after the `?`.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.core().request.query()
    }

    /// The parts of the query string, decoded: as [`UpgradeRequest::query_pairs`](crate::UpgradeRequest::query_pairs).
    ///
    /// ```
    /// # use rxplus::prelude::*;
    /// # let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr)?;
    /// server.connections().subscribe(|connection| {
    ///     for (name, value) in connection.query_pairs() {
    ///         println!("{name} is {value}");
    ///     }
    /// });
    /// # Ok::<(), WsError>(())
    /// ```
    pub fn query_pairs(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        self.core().request.query_pairs()
    }

    /// The headers of its opening handshake.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        self.core().request.headers()
    }

    /// The address of the client.
    #[must_use]
    pub fn peer_addr(&self) -> Addr {
        self.core().request.peer_addr()
    }

    /// The subprotocol chosen in the opening handshake.
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.core().subprotocol.as_deref()
    }

    /// Whether messages may be compressed: its client knows permessage-deflate (RFC 7692), and the server was built with
    /// `compression`. In the [resumable mode](crate::Resume) it is so for the present link, or the last one.
    #[must_use]
    pub fn is_compressed(&self) -> bool {
        self.core().outbox.is_compressed()
    }

    /// The value that the server's [`authorize`](crate::ServerBuilder::authorize) returned for it, or gave to
    /// [`Grant::new`](crate::Grant); `None` if there is none, or if it is no `T`.
    #[must_use]
    pub fn grant<T: Any>(&self) -> Option<&T> {
        self.core().grant.as_deref()?.downcast_ref()
    }

    /// The server's name, the path and the number: `server:/chat#7`.
    #[must_use]
    pub fn name(&self) -> &str {
        let ConnectionCore { component, id, path, name, .. } = &**self.core();
        name.get_or_init(|| format!("{}:{path}#{id}", component.name()).into())
    }

    /// How many messages were sent and received so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let core = self.core();
        Stats {
            sent: core.outbox.stats(),
            unencodable: core.incoming.codec.unencodable(),
            received: core.incoming.counts.received(),
            undecodable: core.incoming.counts.undecodable(),
            ..Stats::default()
        }
    }

    /// As [`send`](Self::send), and returns a handle by which the fate of the item can be followed: see [`Delivery`]. An item
    /// that is not tracked costs nothing for that; a tracked one about 200 bytes until its end, and on a plain link a ping
    /// behind it.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn send_tracked<T: Into<D::Outgoing>>(&self, item: T) -> Result<Delivery, SendError<D::Outgoing>> {
        let delivery = Delivery::new(self.scheduler.clone());
        EndpointCore::send(self.core(), item.into(), Some(&delivery.fate()))?;
        Ok(delivery)
    }

    /// Requests to the client that are answered. `number_of` reads in a reply the number of its request, or returns `None` for what is no
    /// reply: see [`Calls`].
    ///
    /// ```
    /// # use rxplus::prelude::*;
    /// # let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr)?;
    /// server.connections().subscribe(|connection| {
    ///     let calls = connection.calls(|reply| reply.split_once(' ').and_then(|(id, _)| id.parse().ok()));
    ///     let battery = calls.call(|id| format!("{id} battery"));
    ///     battery.log_errors().subscribe(|reply| println!("{reply}"));
    /// });
    /// # Ok::<(), WsError>(())
    /// ```
    pub fn calls<R: Into<Option<u64>>>(&self, number_of: impl FnMut(&D::Item) -> R + Send + 'static) -> Calls<D> {
        Calls::new(self.clone(), number_of)
    }

    /// The round trip of the last ping that the peer has answered, to the microsecond; `None` before the first answer, and as
    /// long as the heartbeat is off. The first ping goes out within the `ping_interval`, 30 s by default.
    ///
    /// It includes the time in which either side was busy. The ping is counted from the moment at which the operating system
    /// has taken it, with all that was written before it.
    #[must_use]
    pub fn latency(&self) -> Option<Duration> {
        self.core().outbox.latency()
    }

    /// Whether its client is there. Only a connection of the [resumable mode](crate::Resume) lives on without it; what is
    /// pushed then waits.
    #[must_use]
    pub fn is_linked(&self) -> bool {
        self.core().linked.get()
    }

    /// Whether its client is there, the present state first, and then each change. Completes when the connection is gone.
    /// Emits on the server's I/O thread.
    ///
    /// ```no_run
    /// use rxplus::prelude::*;
    ///
    /// let server = RxWsServer::builder("ws://127.0.0.1:8765", WsStr).resumable(Resume::new()).bind()?;
    /// server.connections().subscribe(|connection| {
    ///     connection.link().subscribe(|linked| println!("{}", if linked { "here" } else { "away" }));
    /// });
    /// # Ok::<(), WsError>(())
    /// ```
    #[must_use]
    pub fn link(&self) -> Io<Feed<bool>> {
        Feed::of(&self.core().links(), &self.scheduler)
    }

    pub(crate) fn core(&self) -> &Arc<ConnectionCore<D>> {
        &self.inner.core
    }
}

/// Whether a client is there, and those who want to know.
pub(crate) struct Linked(Mutex<LinkedState>);

struct LinkedState {
    now: bool,
    /// The connection is gone.
    is_over: bool,
    /// Made for the first who wants to know.
    changes: Option<SerializedSubject<bool>>,
}

impl Default for Linked {
    fn default() -> Self {
        Self(Mutex::new(LinkedState { now: true, is_over: false, changes: None }))
    }
}

impl Linked {
    fn lock(&self) -> MutexGuard<'_, LinkedState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self) -> bool {
        self.lock().now
    }
}

impl<D: WsDatatype> ConnectionCore<D> {
    /// As events name it.
    pub(crate) fn peer(&self) -> Peer {
        Peer { id: self.id, path: self.path.clone(), addr: self.request.peer_addr() }
    }

    pub(crate) fn set_linked(&self, linked: bool) {
        let mut state = self.linked.lock();
        let changes = if replace(&mut state.now, linked) == linked { None } else { state.changes.clone() };
        drop(state);
        if let Some(changes) = changes {
            changes.next(linked);
        }
    }

    /// Reports the drops of its outbox, as events of the connection and of its server.
    pub(crate) fn report_drops(&self, server: &ServerCore<D>) {
        let event = |reason, dropped| ServerEvent::Dropped { peer: self.peer(), reason, dropped };
        endpoint::report_drops(&self.outbox, &server.component.events, Some(&self.component.events), event);
    }

    /// Notes that the connection is gone. Returns what those have still to hear who want to know.
    pub(crate) fn end_links(&self) -> Option<Arc<dyn Backlog>> {
        self.set_linked(false);
        let mut state = self.linked.lock();
        state.is_over = true;
        let changes = state.changes.clone();
        drop(state);
        let changes = changes?;
        changes.clone().complete();
        Some(changes.backlog())
    }

    fn links(&self) -> SerializedSubject<bool> {
        let mut state = self.linked.lock();
        let LinkedState { now, is_over, ref mut changes } = *state;
        let new = || {
            let (home, on_panic) = (self.component.home.clone(), self.component.events.on_panic());
            let changes = SerializedSubject::at_home(home, Replay::latest(now), Some(on_panic));
            if is_over {
                changes.relay_end(None);
            }
            changes
        };
        changes.get_or_insert_with(new).clone()
    }
}

impl<D: WsDatatype> EndpointCore for ConnectionCore<D> {
    type Item = D::Outgoing;
    type Arrived = Received<D::Item>;
    type Event = ServerEvent;

    fn component(&self) -> &Component<Self::Arrived, ServerEvent> {
        &self.component
    }

    fn offer(self: &Arc<Self>, item: &D::Outgoing, fate: Option<&Arc<dyn Fate>>) -> Result<(), SendError<()>> {
        let Outgoing { frame, key } = self.encode(item)?;
        self.outbox.push_with(frame, key, fate).map_err(|refusal| refusal.of(()))
    }

    fn send(self: &Arc<Self>, item: D::Outgoing, fate: Option<&Arc<dyn Fate>>) -> Result<(), SendError<D::Outgoing>> {
        sending::send(self, item, fate)
    }

    fn unencodable(&self, _item: D::Outgoing, error: DatatypeError) -> ServerEvent {
        ServerEvent::Unencodable { path: self.path.clone(), error, count: 1 }
    }

    /// The first call decides how the subscribers end; closing is under way after any.
    fn finish(&self, how: Result<(), WsError>) {
        let code = if how.is_ok() { NORMAL } else { INTERNAL_ERROR };
        if let Err(error) = how {
            self.component.ask_to_end(Err(error));
        }
        self.outbox.close(code, "", self.close_timeout);
    }

    fn is_closing(&self) -> bool {
        self.outbox.is_closing()
    }
}

impl<D: WsDatatype> Outlet for ConnectionCore<D> {
    fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    fn encode(&self, item: &D::Outgoing) -> Result<Outgoing, SendError<()>> {
        let (codec, path) = (&self.incoming.codec, &self.path);
        let frame = codec.encode(path, item, || self.is_closing())?;
        Ok(Outgoing { frame, key: codec.key(path, item) })
    }

    fn take_as_frame(&self, item: D::Outgoing) -> Result<Moved<D::Outgoing>, D::Outgoing> {
        self.incoming.codec.take_as_frame(item)
    }
}

/// Whether an endpoint may send a close frame with this code.
fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

endpoint! {
    Connection, ConnectionSource { core },
    emits D::Item, takes T => T => D::Outgoing, Into::into;

    /// Queues `item` for sending. Never blocks; a refused item becomes an event.
    ///
    /// By default 16,384 messages or 16 MiB may wait. When that much is waiting, this writes as much as the client's socket
    /// takes at that moment, on the caller's thread; the client is disconnected only if it has not read enough for that.
    fn next(item);

    /// Queues `item` for sending, and says why when it is refused. Never blocks.
    ///
    /// `Ok` is a place in the outbox, not delivery.
    ///
    /// # Errors
    ///
    /// - [`SendError::Full`] when the outbox is at its bound; the item is dropped and counted.
    /// - [`SendError::Closed`] after a terminal event.
    /// - [`SendError::Encode`] when the datatype cannot encode the item.
    fn send(_) -> SendError;

    /// Sends the queued messages, closes with code 1000, and then completes the subscribers. Returns at once.
    ///
    /// The end of `main` ends the thread that does this work: wait there, with [`wait_closed`](Self::wait_closed) of the
    /// connection or of its server, or the queued messages are lost with the process.
    fn complete();

    /// The events of this connection outside its data stream, from the subscription on.
    fn events() -> ServerEvent;

    /// Resolves once the connection is gone, with a report of the unsent messages.
    fn closed();

    /// Blocks until the connection is gone, and returns a report of the unsent messages. `Duration::MAX` means no limit.
    ///
    /// # Errors
    ///
    /// - [`WsError::TimedOut`] after `timeout`.
    /// - [`WsError::WouldDeadlock`] on the server's own I/O thread, or the only one of its tokio runtime, at once.
    fn wait_closed();
}

backpressure!(Connection, on "server's");

// Peers vanish all the time, and the events of the server report it.
subscribe!(Connection emits D::Item, errors at debug);

impl<D: WsDatatype> ConnectionSource<D> {
    fn arriving(&self) -> Inbound<D::Item> {
        self.core.branch.clone()
    }

    /// Nothing: a connection lives as long as its client and its server.
    fn held(&self) {}
}
