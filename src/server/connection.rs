//! [`Connection`]: one accepted connection as a subject.

use std::{
    any::Any,
    future::Future,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use http::HeaderMap;
use rxrust::{
    context::Context,
    observable::{CoreObservable, ObservableType},
    observer::Observer,
    ops::map::Map,
};

use crate::{
    Io, IoScheduler, SendError, SerializedSubject, SerializedSubscription, Tag, TaggedData, WsDatatype, WsError,
    endpoint::{
        Component, Feed, Received,
        codec::Codec,
        event::{CloseReport, Peer, ServerEvent},
        incoming::{Inlet, InletCounts},
        subject::endpoint,
        subscribe::subscribe,
    },
    handshake::{Granted, UpgradeRequest},
    outbox::Outbox,
    protocol::close::{INTERNAL_ERROR, NORMAL},
    stats::{Stats, Tally},
    subject::{
        Backlog,
        branch::{Branch, Main},
    },
};

/// One accepted connection as a subject of `D::Item`: what is pushed is sent to this client, what it sends is emitted.
/// *Hot*.
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
/// On the server's I/O thread, in the order of arrival. A subscription that is made while `connections()` emits the
/// connection hears everything; a later one, on whatever thread, hears what comes from then on, and before that, what has
/// come and nobody was there to hear: not this connection's subscribers, nor the server's (up to 1,024 messages and 1 MiB for
/// the whole server). Nothing is lost in between, and what a subscriber leaves of that is for the next.
///
/// # End
///
/// A connection lives as long as its client and its server, whether there are handles of it or not. It completes after a
/// closing handshake and errors when it ends otherwise, in either case after everything that had arrived: where nothing can be
/// written any more, what the peer has sent is read to its end, close code included. (Linux keeps that when the peer resets the
/// connection; other systems may discard it.)
pub struct Connection<D: WsDatatype> {
    inner: ConnectionSource<D>,
    scheduler: IoScheduler,
}

/// The observable inside of a [`Connection`], as RxRust's operators see it.
pub struct ConnectionSource<D: WsDatatype> {
    core: Arc<Core<D>>,
}

/// A connection, as its handles, its task and its server share it.
struct Core<D: WsDatatype> {
    /// Its name is the server's.
    component: Component<Received<D::Item>, ServerEvent>,
    inlet: Inlet<D>,
    outbox: Outbox,
    peer: Peer,
    /// Made when it is first asked for: there is a path in it.
    name: OnceLock<Box<str>>,
    request: UpgradeRequest,
    grant: Option<Granted>,
    subprotocol: Option<String>,
    close_timeout: Duration,
    branch: Inbound<D::Item>,
}

/// What a connection emits, as a branch of what its server does.
type Inbound<T> = Branch<Received<T>, TaggedData<Received<T>>, WsError>;

/// What a server gives a connection of its own.
pub(crate) struct Accepted<D: WsDatatype> {
    pub(crate) component: Component<Received<D::Item>, ServerEvent>,
    pub(crate) datatype: Arc<D>,
    pub(crate) discards_inbound: bool,
    pub(crate) outbox: Outbox,
    pub(crate) peer: Peer,
    pub(crate) request: UpgradeRequest,
    pub(crate) grant: Option<Granted>,
    pub(crate) subprotocol: Option<String>,
    pub(crate) close_timeout: Duration,
    pub(crate) server: Main<TaggedData<Received<D::Item>>, WsError>,
}

impl<D: WsDatatype> Connection<D> {
    pub(crate) fn new(accepted: Accepted<D>) -> Self {
        let Accepted {
            component,
            datatype,
            discards_inbound,
            outbox,
            peer,
            request,
            grant,
            subprotocol,
            close_timeout,
            server,
        } = accepted;
        let inlet = Inlet {
            codec: Codec::new(datatype),
            path: peer.path.clone(),
            number: peer.id,
            discards: discards_inbound,
            counts: InletCounts::default(),
        };
        let scheduler = component.home.clone();
        let branch = Branch::new(peer.id, component.inbound.clone(), server);
        let name = OnceLock::new();
        let core = Core { component, inlet, outbox, peer, name, request, grant, subprotocol, close_timeout, branch };
        Self { inner: ConnectionSource { core: Arc::new(core) }, scheduler }
    }

    /// Queues `item` for sending. Never blocks; what is refused becomes an event.
    ///
    /// By default 16,384 messages or 16 MiB may wait. With as much waiting, this writes what the client's socket takes at that
    /// moment, on the caller's thread; only a client that has not read enough for that is disconnected.
    pub fn next(&self, item: impl Into<D::Item>) {
        // The outbox itself tells of what it drops, and a closed connection ignores what is pushed.
        if let Err(SendError::Encode(_, error)) = self.send(item) {
            let path = self.core().peer.path.clone();
            self.core().component.events.post(ServerEvent::Unencodable { path, error, count: 1 });
        }
    }

    /// Queues `item` for sending, and says why when it is refused. Never blocks.
    ///
    /// `Ok` is a place in the outbox, not delivery.
    ///
    /// # Errors
    ///
    /// - [`SendError::Full`] when the outbox is at its bound; the item is dropped and counted.
    /// - [`SendError::Closed`] after a terminal event.
    /// - [`SendError::Encode`] when the datatype cannot encode the item.
    pub fn send(&self, item: impl Into<D::Item>) -> Result<(), SendError<D::Item>> {
        let (core, item) = (self.core(), item.into());
        match core.inlet.codec.encode(&core.peer.path, &item, || core.outbox.is_closing()) {
            Ok(frame) => core.outbox.push(frame).map_err(|refusal| refusal.of(item)),
            Err(error) => Err(error.map(|()| item)),
        }
    }

    /// Sends what is queued, closes with code 1000, and then completes the subscribers. Returns at once.
    ///
    /// The end of `main` ends the thread that does it: wait there, with [`wait_closed`](Self::wait_closed) of the connection or of its
    /// server, or what is queued is lost with the process.
    pub fn complete(self) {
        self.core().finish(NORMAL, "", Ok(()));
    }

    /// As [`complete`](Self::complete), with close code 1011, and the subscribers get `error`.
    pub fn error(self, error: impl Into<WsError>) {
        self.core().finish(INTERNAL_ERROR, "", Err(error.into()));
    }

    /// As [`complete`](Self::complete), with a close code and a reason of the program's own.
    ///
    /// # Errors
    ///
    /// [`WsError::InvalidClose`] when `code` is not one that an endpoint may send (RFC 6455, section 7.4, and IANA's
    /// registry for it: 1000 to 1003, 1007 to 1014 and 3000 to 4999), or `reason` is longer than 123 bytes.
    pub fn close(&self, code: u16, reason: &str) -> Result<(), WsError> {
        if !may_be_sent(code) || reason.len() > 123 {
            return Err(WsError::InvalidClose { code, reason: reason.into() });
        }
        self.core().finish(code, reason, Ok(()));
        Ok(())
    }

    /// Its number, unique within its server and counted up.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.core().peer.id
    }

    /// The path it asked for, without the query.
    #[must_use]
    pub fn path(&self) -> &Tag {
        &self.core().peer.path
    }

    /// What follows the `?` in what it asked for.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.core().request.query()
    }

    /// The headers of its opening handshake.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        self.core().request.headers()
    }

    /// Where it comes from.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.core().peer.addr
    }

    /// The subprotocol chosen in the opening handshake.
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.core().subprotocol.as_deref()
    }

    /// What the server's [`authorize`](crate::ServerBuilder::authorize) returned for it, or gave to [`Grant::new`](crate::Grant); `None` without one, and when that is
    /// no `T`.
    #[must_use]
    pub fn grant<T: Any>(&self) -> Option<&T> {
        self.core().grant.as_deref()?.downcast_ref()
    }

    /// The server's name, the path and the number: `server:/chat#7`.
    #[must_use]
    pub fn name(&self) -> &str {
        let Core { component, peer, name, .. } = self.core();
        name.get_or_init(|| format!("{}:{}#{}", component.name, peer.path, peer.id).into())
    }

    /// What happens to this connection outside of its data stream, from the subscription on.
    #[must_use]
    pub fn events(&self) -> Io<Feed<ServerEvent>> {
        self.core().component.events()
    }

    /// What was sent and received so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let core = self.core();
        Stats {
            sent: core.outbox.stats(),
            unencodable: core.inlet.codec.unencodable(),
            received: core.inlet.counts.received(),
            undecodable: core.inlet.counts.undecodable(),
            ..Stats::default()
        }
    }

    /// Resolves once the connection is gone, with what was not sent.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping the future closes nothing, and a later call resolves all the same.
    pub fn closed(&self) -> impl Future<Output = CloseReport> + Send + use<D> {
        self.core().component.closed()
    }

    /// Blocks until the connection is gone, and returns what was not sent. `Duration::MAX` is no limit.
    ///
    /// # Errors
    ///
    /// - [`WsError::TimedOut`] after `timeout`.
    /// - [`WsError::WouldDeadlock`] on the server's own I/O thread, or the only one of its tokio runtime, at once.
    pub fn wait_closed(&self, timeout: Duration) -> Result<CloseReport, WsError> {
        self.core().component.wait_closed(timeout)
    }

    fn is_closing(&self) -> bool {
        self.core().outbox.is_closing()
    }

    fn core(&self) -> &Core<D> {
        &self.inner.core
    }

    pub(crate) fn peer(&self) -> &Peer {
        &self.core().peer
    }

    pub(crate) fn inlet(&self) -> &Inlet<D> {
        &self.core().inlet
    }

    pub(crate) fn outbox(&self) -> Outbox {
        self.core().outbox.clone()
    }

    /// Emits a message to its subscribers, and by `feed` to those of its server.
    pub(crate) fn emit(&self, received: Received<D::Item>, feed: impl FnOnce(Received<D::Item>)) {
        self.core().branch.emit(received, feed);
    }

    /// What its subscribers and those of its server have still to hear, for its driver.
    pub(crate) fn backlog(&self) -> Arc<dyn Backlog> {
        self.core().branch.backlog()
    }

    /// What its `events()` emit.
    pub(crate) fn told(&self) -> &SerializedSubject<ServerEvent> {
        &self.core().component.events
    }

    /// As [`end`](Self::end), for a task that has died.
    pub(crate) fn end_at_once(&self, error: WsError, last: ServerEvent, unsent: Tally) {
        let component = &self.core().component;
        component.ask_to_end(Err(error));
        component.end_at_once(unsent.into(), || last);
    }

    /// Ends the subscribers when the connection is gone.
    pub(crate) async fn end(&self, error: Option<WsError>, last: ServerEvent, unsent: Tally) {
        let component = &self.core().component;
        component.ask_to_end(error.map_or(Ok(()), Err));
        component.end(unsent.into(), || last).await;
    }
}

impl<D: WsDatatype> Core<D> {
    /// The first call decides how the subscribers end; closing is under way after any.
    fn finish(&self, code: u16, reason: &str, how: Result<(), WsError>) {
        if let Err(error) = how {
            self.component.ask_to_end(Err(error));
        }
        self.outbox.close(code, reason, self.close_timeout);
    }
}

/// Whether an endpoint may send a close frame with this code.
fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

endpoint!(Connection, ConnectionSource { core }, T => T);
// Peers vanish all the time, and the events of the server report it.
subscribe!(Connection emits D::Item, errors at debug);

impl<D: WsDatatype> ObservableType for ConnectionSource<D> {
    type Item<'a>
        = D::Item
    where
        Self: 'a;
    type Err = WsError;
}

impl<D, C> CoreObservable<C> for ConnectionSource<D>
where
    D: WsDatatype,
    C: Context,
    C::Inner: Observer<D::Item, WsError> + Send + 'static,
{
    type Unsub = SerializedSubscription;

    fn subscribe(self, context: C) -> SerializedSubscription {
        let items = Map { source: self.core.branch.clone(), func: |received: Received<_>| received.item };
        items.subscribe(context)
    }
}
