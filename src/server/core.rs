//! The task behind a server: accepts connections, and serves each as a task of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU16, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use rxrust::context::Context;
use tokio::{
    net::TcpStream,
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tungstenite::protocol::Role;

use crate::{
    Connection, Frame, Io, IoScheduler, ObservableExt, SendError, SerializedSubject, Tag, TaggedData, UpgradeRequest,
    WsDatatype, WsError,
    endpoint::{
        Component, Received,
        codec::Codec,
        emitter::Source,
        event::{CloseReport, Peer, ServerEvent},
        incoming::EarlyLost,
        options::Options,
        switchboard::{Line, Switchboard},
    },
    handshake::{
        self, Entrant, Granted, Policy, Refused,
        admission::{Admission, Permit},
    },
    link::{
        driver::{Ending, Link, OpenLink, READ_AHEAD, Receipt, drive},
        write_scheduler::WriteScheduler,
    },
    outbox::{Outbox, Refusal},
    protocol::close::{GOING_AWAY, INTERNAL_ERROR},
    runtime::guard::{Death, isolated},
    server::connection::Accepted,
    stats::{PathStats, SendStats, ServerStats, Tally},
    subject::{
        at_most,
        branch::{Listeners, Main, kept_in},
        replay::Replay,
    },
    transport::{Transport, listen::Listener, tls::ServerTls},
};

/// How long accepting rests when the operating system refuses, for want of file descriptors, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A server, as its handles and its tasks share it.
pub(crate) struct Acceptor<D: WsDatatype> {
    pub(crate) component: Component<TaggedData<Received<D::Item>>, ServerEvent>,
    /// Those who subscribe to the server itself.
    pub(crate) listeners: Listeners,
    /// What `connections()` emits.
    pub(crate) connections: SerializedSubject<Connection<D>>,
    switchboard: Switchboard,
    /// Writes what is pushed for connections that sleep. On several threads they write for themselves, side by side.
    scheduler: Option<Arc<WriteScheduler>>,
    codec: Codec<D>,
    options: Options,
    policy: Policy,
    tls: Option<ServerTls>,
    admission: Arc<Admission>,
    open: Mutex<Open<D>>,
    /// Tells the tasks that the server is to end.
    closing: watch::Sender<bool>,
    /// The close code when it is to end, and 0 before. Asked for with each message, so without the lock of `closing`.
    close_code: AtomicU16,
    early_lost: Arc<EarlyLost>,
    /// Messages for whose path there were only connections that were ending.
    missed: AtomicU64,
}

/// The open connections, and the sums of those that were.
struct Open<D: WsDatatype> {
    connections: BTreeMap<u64, Connection<D>>,
    /// Those whose clients have not heard of it yet.
    untold: BTreeSet<u64>,
    /// The number of the latest one.
    numbers: u64,
    accepted: u64,
    sent: SendStats,
    received: Tally,
    undecodable: u64,
    /// What was not sent when the server closed.
    unsent: Tally,
    /// How many are gone and not told of yet.
    leaving: usize,
    /// The server's task has died.
    is_dead: bool,
}

impl<D: WsDatatype> Acceptor<D> {
    pub(crate) fn new(
        datatype: D,
        options: Options,
        policy: Policy,
        tls: Option<ServerTls>,
        home: IoScheduler,
    ) -> Self {
        let early_lost = Arc::new(EarlyLost::default());
        let lost = early_lost.clone();
        let component = Component::keeping_early(
            options.name.clone(),
            home.clone(),
            |tagged: &TaggedData<Received<D::Item>>| tagged.data.len,
            [|| ServerEvent::EarlyLost, || ServerEvent::SubscriberPanicked],
            move |len| lost.count(len),
        );
        let on_panic = component.events.on_panic();
        let connections = SerializedSubject::at_home(home.clone(), Replay::members(Connection::id), on_panic);
        Self {
            component,
            listeners: Listeners::default(),
            connections,
            switchboard: Switchboard::default(),
            scheduler: home.runtime().has_one_thread().then(Arc::default),
            codec: Codec::new(Arc::new(datatype)),
            admission: Admission::new(options.limits.clone()),
            options,
            policy,
            tls,
            open: Mutex::new(Open {
                connections: BTreeMap::new(),
                untold: BTreeSet::new(),
                numbers: 0,
                accepted: 0,
                sent: SendStats::default(),
                received: Tally::default(),
                undecodable: 0,
                unsent: Tally::default(),
                leaving: 0,
                is_dead: false,
            }),
            closing: watch::Sender::new(false),
            close_code: AtomicU16::new(0),
            early_lost,
            missed: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open<D>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Encodes a message once and offers it to every connection on its path, or says why not.
    pub(crate) fn send(&self, tagged: TaggedData<D::Item>) -> Result<(), SendError<TaggedData<D::Item>>> {
        self.offer(&tagged).map_err(|error| error.map(|()| tagged))
    }

    /// As [`send`](Self::send), with an event instead of an answer.
    pub(crate) fn next(&self, tagged: TaggedData<D::Item>) {
        // The outboxes themselves tell of what they drop, and a closed server ignores what is pushed.
        if let Err(SendError::Encode((), error)) = self.offer(&tagged) {
            self.component.events.post(ServerEvent::Unencodable { path: tagged.tag, error, count: 1 });
        }
    }

    fn offer(&self, tagged: &TaggedData<D::Item>) -> Result<(), SendError<()>> {
        if self.is_closing() {
            return Err(SendError::Closed(()));
        }
        let frame = self.codec.encode(&tagged.tag, &tagged.data, || self.is_closing())?;
        match self.switchboard.push(&tagged.tag, frame) {
            Some(Err(Refusal::Full)) => Err(SendError::Full(())),
            // All of its connections are ending: as good as none.
            Some(Err(Refusal::Closed)) if !self.is_closing() => {
                self.missed.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Some(Err(Refusal::Closed)) => Err(SendError::Closed(())),
            Some(Ok(())) | None => Ok(()),
        }
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.close_code.load(Ordering::SeqCst) != 0
    }

    async fn until_closing(&self) {
        // An error is impossible: `self` holds the sender.
        let _ = self.closing.subscribe().wait_for(|closing| *closing).await;
    }

    /// Has the server end, and its subscribers with it, once all connections are closed. The first call counts.
    pub(crate) fn finish(&self, how: Result<(), WsError>) {
        let code = if how.is_ok() { GOING_AWAY } else { INTERNAL_ERROR };
        if self.component.ask_to_end(how) {
            self.begin_closing(code);
        }
    }

    fn begin_closing(&self, code: u16) {
        // Before anybody is woken: whoever closes the connections there are must see it.
        self.close_code.store(code, Ordering::SeqCst);
        self.closing.send_replace(true);
    }

    pub(crate) fn connection_count(&self) -> usize {
        self.lock().connections.len()
    }

    pub(crate) fn stats(&self) -> ServerStats {
        let open = self.lock();
        let mut stats = ServerStats {
            connections: open.connections.len(),
            accepted: open.accepted,
            pushed: self.switchboard.pushed(),
            unrouted: self.switchboard.unrouted() + self.missed.load(Ordering::Relaxed),
            unencodable: self.codec.unencodable(),
            sent: open.sent,
            received: open.received,
            undecodable: open.undecodable,
            early_lost: self.early_lost.tally(),
        };
        for connection in open.connections.values() {
            let own = connection.stats();
            stats.sent += own.sent;
            stats.received += own.received;
            stats.undecodable += own.undecodable;
        }
        stats
    }

    pub(crate) fn path_stats(&self, path: &Tag) -> PathStats {
        let mut stats = PathStats::default();
        for connection in self.lock().connections.values().filter(|connection| connection.path() == path) {
            stats.connections += 1;
            stats.all += connection.stats();
        }
        stats
    }

    /// Serves until the server has ended. Meanwhile the same task writes for connections that sleep.
    pub(crate) async fn run(self: Arc<Self>, listener: Listener) {
        let scheduler = self.scheduler.clone();
        let flushing = async {
            match scheduler {
                Some(scheduler) => scheduler.run().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = flushing => {}
            () = self.serve_all(listener) => {}
        }
    }

    /// Accepts connections until the server is to end, and then sees them all closed.
    async fn serve_all(self: Arc<Self>, mut listener: Listener) {
        let mut serving = JoinSet::new();
        let mut closing = pin!(self.until_closing());
        loop {
            let accepting = async {
                // Each connection is told of: where nobody takes that in, no more are let in.
                at_most(&*self.component.events.backlog(), READ_AHEAD).await;
                listener.accept().await
            };
            tokio::select! {
                accepted = accepting => match accepted {
                    Ok((stream, addr)) => match self.admission.enter(addr.ip()) {
                        Some(permit) => {
                            serving.spawn(self.clone().serve(stream, addr, permit));
                        }
                        None => self.turn_away(stream, addr),
                    },
                    // A peer that left before it was its turn (POSIX, `accept`).
                    Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                    Err(error) => {
                        // We may be out of file descriptors.
                        self.admission.evict_older_half();
                        let peer = self.component.name.to_string();
                        let error = WsError::Transport { peer, source: Arc::new(error) };
                        self.component.events.next(ServerEvent::AcceptFailed { error, count: 1 });
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
                // A finished task is forgotten, so that the set holds no more than there are connections.
                Some(_) = serving.join_next() => {}
                () = &mut closing => break,
            }
        }
        drop(listener);
        self.close_connections();
        while serving.join_next().await.is_some() {}
        let report = CloseReport::from(self.lock().unsent);
        self.component.end(report, || self.last(report)).await;
    }

    /// Ends all but the events and what arrives, and makes the last event.
    fn last(&self, report: CloseReport) -> ServerEvent {
        self.connections.clone().complete();
        ServerEvent::Closed(report)
    }

    async fn serve(self: Arc<Self>, stream: TcpStream, addr: SocketAddr, mut permit: Permit) {
        // Each on the heap for as long as it lasts: handshakes do not take the room of connections, nor the other way round.
        let mut evicted = pin!(permit.evicted());
        let shaking = Box::pin(self.shake_hands(stream, addr, &mut permit, evicted.as_mut()));
        let shaken = isolated("an opening handshake", shaking).await;
        match shaken.unwrap_or_else(|panic| Err(Refused::unanswered(format!("its handshake panicked: {panic}")))) {
            Ok(registered) => Box::pin(self.converse(registered)).await,
            Err(mut refused) => {
                let stream = refused.stream.take();
                self.tell_of_refusal(addr, refused);
                if let Some(stream) = stream {
                    self.see_off(stream, evicted).await;
                }
            }
        }
    }

    /// Gives a peer that was refused the time to read why, as long as nobody needs its place.
    async fn see_off(&self, stream: Transport, evicted: Pin<&mut impl Future<Output = ()>>) {
        tokio::select! {
            () = handshake::see_off(stream) => {}
            () = evicted => {}
            () = self.until_closing() => {}
        }
    }

    async fn shake_hands(
        &self,
        stream: TcpStream,
        addr: SocketAddr,
        permit: &mut Permit,
        evicted: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Registered<'_, D>, Refused> {
        let limits = &self.options.limits;
        let gone = |reason: &str| Err(Refused::unanswered(reason));
        tokio::select! {
            shaken = timeout(
                limits.handshake,
                handshake::accept(stream, addr, permit, &self.policy, self.tls.as_ref(), limits, async |entrant| self.register(entrant).await),
            ) => {
                shaken.unwrap_or_else(|_| gone("the handshake took too long (Limits::handshake)"))
            }
            () = evicted => gone("it made room for other handshakes (Limits::handshakes)"),
            () = self.until_closing() => gone("the server is closing"),
        }
    }

    /// Refuses a peer for which there is not even room to hear it.
    fn turn_away(&self, stream: TcpStream, addr: SocketAddr) {
        let reason = "this server has as many handshakes under way as it allows (Limits::handshakes)";
        // Before the TLS handshake, plain text means nothing to the client.
        let status = self.tls.is_none().then_some(503);
        if status.is_some() {
            handshake::turn_away(stream, reason);
        }
        self.tell_of_refusal(addr, Refused { status, reason: reason.into(), stream: None });
    }

    fn tell_of_refusal(&self, addr: SocketAddr, Refused { status, reason, .. }: Refused) {
        self.component.events.next(ServerEvent::Rejected { addr, status, reason, count: 1 });
    }

    /// Serves a connection from its opening handshake to its end.
    async fn converse(&self, mut registered: Registered<'_, D>) {
        let Some(link) = registered.link.take() else { return };
        let connection = registered.connection.clone();
        self.lock().untold.remove(&connection.id());
        // Inbound: what it receives flows into the server's subject, tagged with its path.
        let received = Io::from_parts(Source::new(), self.component.home.clone());
        let mut feeder = received.tag(connection.path().clone()).merge_into(&self.component.inbound.fed());
        self.tell(&connection, ServerEvent::Connected { peer: connection.peer().clone() });
        // What its subscribers are to hear is not read before. It does not wait for those that come behind it, in a rush without
        // end perhaps.
        self.connections.deliver_at_home(connection.clone()).await;
        let receive = |frame| self.receive(&connection, frame, |received| feeder.next(received));
        let driving = drive(link, receive, std::future::pending());
        let ending = isolated("a connection", driving)
            .await
            .unwrap_or_else(|panic| Ending::lost(Death::Panic(panic.into()).of(connection.name())));
        self.switchboard.disconnect(&registered.line);
        self.dismiss(&connection, ending).await;
        registered.is_over = true;
    }

    /// Makes a connection of a peer, and tells it so.
    async fn register(&self, entrant: Entrant) -> io::Result<Registered<'_, D>> {
        let Entrant { stream, early_bytes, answer, request, subprotocol, grant } = entrant;
        let connection = self.connection(request, subprotocol, grant);
        // Before anybody can push: what the socket takes is written, behind the answer, and not held against the peer.
        let link = self.link(&connection, early_bytes).open(stream, answer);
        // Outbound: what is pushed for its path goes into its outbox.
        let line = self.switchboard.connect(connection.path().clone(), connection.outbox());
        self.admit(&connection);
        let registered = Registered { acceptor: self, link: Some(link), connection, line, is_over: false };
        if let Some(link) = &registered.link {
            link.answered().await?;
        }
        Ok(registered)
    }

    fn connection(
        &self,
        request: UpgradeRequest,
        subprotocol: Option<String>,
        grant: Option<Granted>,
    ) -> Connection<D> {
        let peer = Peer { id: self.next_number(), path: request.tag().clone(), addr: request.peer_addr() };
        let server = Main { subject: self.component.inbound.clone(), listeners: self.listeners.clone() };
        // What nobody hears goes into the early buffer that all connections share.
        let path = peer.path.clone();
        let early = kept_in(server.subject.clone(), move |received| TaggedData::new(path.clone(), received));
        let home = self.component.home.clone();
        let component = Component::new(self.component.name.clone(), home, early, || ServerEvent::SubscriberPanicked);
        Connection::new(Accepted {
            outbox: self.outbox(&peer, component.events.clone()),
            component,
            datatype: self.codec.datatype(),
            discards_inbound: self.options.discards_inbound,
            peer,
            request,
            grant,
            subprotocol,
            close_timeout: self.options.limits.close_timeout,
            server,
        })
    }

    fn next_number(&self) -> u64 {
        let mut open = self.lock();
        open.numbers += 1;
        open.numbers
    }

    /// Counts a connection among those that are open. It is on its path already.
    fn admit(&self, connection: &Connection<D>) {
        let mut open = self.lock();
        open.accepted += 1;
        open.connections.insert(connection.id(), connection.clone());
        open.untold.insert(connection.id());
        drop(open);
        // Checked after the insertion: a connection that comes while the server closes is either in the list of those to
        // be closed or sees it here.
        if self.is_closing() {
            self.close(connection);
        }
    }

    /// An outbox that tells of its drops on the home thread, all that have come together until then in one event.
    fn outbox(&self, peer: &Peer, own: SerializedSubject<ServerEvent>) -> Outbox {
        let (home, peer, events) = (self.component.home.clone(), peer.clone(), self.component.events.clone());
        Outbox::new(self.options.outbox, move |outbox| {
            let (outbox, peer, events, own) = (outbox.clone(), peer.clone(), events.clone(), own.clone());
            home.spawn(async move {
                report_drops(&outbox, &peer, [&own, &events]);
            });
        })
    }

    fn link(&self, connection: &Connection<D>, early_bytes: Bytes) -> Link {
        Link {
            role: Role::Server,
            peer: Box::new(connection.peer().clone()),
            outbox: connection.outbox(),
            scheduler: self.scheduler.clone(),
            heartbeat: self.options.heartbeat,
            limits: self.options.limits.clone(),
            inbound: connection.backlog(),
            events: self.component.events.backlog(),
            early_bytes,
        }
    }

    /// Emits what is in a frame, if it is anything.
    fn receive(&self, connection: &Connection<D>, frame: Frame, feed: impl FnOnce(Received<D::Item>)) -> Receipt {
        let len = frame.len();
        match connection.inlet().take(frame) {
            Ok(Some(received)) => connection.emit(received, feed),
            Ok(None) => {}
            Err(error) => {
                let peer = connection.peer().clone();
                self.tell(connection, ServerEvent::Undecodable { peer, error, len, count: 1 });
                return Receipt::Undecodable;
            }
        }
        Receipt::Taken
    }

    /// Tells those who watch the connection, and those who watch the server.
    fn tell(&self, connection: &Connection<D>, event: ServerEvent) {
        connection.told().next(event.clone());
        self.component.events.next(event);
    }

    fn close_connections(&self) {
        let connections: Vec<_> = self.lock().connections.values().cloned().collect();
        connections.iter().for_each(|connection| self.close(connection));
    }

    fn close(&self, connection: &Connection<D>) {
        let code = self.close_code.load(Ordering::SeqCst);
        connection.outbox().close(code, "", self.options.limits.close_timeout);
    }

    /// Forgets a connection that is gone, and ends its subscribers.
    async fn dismiss(&self, connection: &Connection<D>, ending: Ending) {
        let error = ending.error.clone();
        let (last, unsent) = self.part_from(connection, ending);
        connection.end(error, last, unsent).await;
    }

    /// As [`dismiss`](Self::dismiss), for a connection whose task has died and can wait for nobody.
    fn lose(&self, connection: &Connection<D>, error: WsError) {
        let (last, unsent) = self.part_from(connection, Ending::lost(error.clone()));
        connection.end_at_once(error, last, unsent);
    }

    /// Tells the server's subscribers that a connection is gone. Returns its last event, and what it has not sent.
    fn part_from(&self, connection: &Connection<D>, ending: Ending) -> (ServerEvent, Tally) {
        let peer = connection.peer().clone();
        connection.outbox().end();
        report_drops(&connection.outbox(), &peer, [connection.told(), &self.component.events]);
        self.connections.forget(peer.id);
        let Ending { code, reason, error, unconfirmed } = ending;
        let last = ServerEvent::Disconnected { peer, code, reason, error, unconfirmed };
        let unsent = connection.stats().sent.dropped.closed;
        // Once only: a server that dies ends the connections whose tasks may still do it themselves.
        if let Some(acquaintance) = self.forget(connection, unsent) {
            if acquaintance == Acquaintance::Told {
                self.component.events.next(last.clone());
            }
            self.lock().leaving -= 1;
            self.end_if_alone();
        }
        (last, unsent)
    }

    /// Leaves it to the caller to tell of it. `None` when it has been forgotten already.
    fn forget(&self, connection: &Connection<D>, unsent: Tally) -> Option<Acquaintance> {
        let stats = connection.stats();
        let mut open = self.lock();
        open.connections.remove(&connection.id())?;
        open.leaving += 1;
        let acquaintance = match open.untold.remove(&connection.id()) {
            true => Acquaintance::Untold,
            false => Acquaintance::Told,
        };
        // One that could not be told of it never was a connection.
        open.accepted -= u64::from(acquaintance == Acquaintance::Untold);
        open.sent += stats.sent;
        open.received += stats.received;
        open.undecodable += stats.undecodable;
        if self.is_closing() {
            open.unsent += unsent;
        }
        Some(acquaintance)
    }

    /// Ends the server, its connections first, when its task has died.
    pub(crate) fn died(&self, death: &Death) {
        let error = death.of(&self.component.name);
        if self.component.fail(error.clone()) {
            self.component.events.next(ServerEvent::Failed { error: error.clone() });
        }
        self.begin_closing(INTERNAL_ERROR);
        let mut open = self.lock();
        open.is_dead = true;
        let connections: Vec<_> = open.connections.values().cloned().collect();
        drop(open);
        connections.iter().for_each(|connection| self.lose(connection, error.clone()));
        self.end_if_alone();
    }

    /// Ends a server whose task has died behind its last connection, of which another thread may be telling.
    fn end_if_alone(&self) {
        let open = self.lock();
        if !open.is_dead || !open.connections.is_empty() || open.leaving > 0 {
            return;
        }
        let report = CloseReport::from(open.unsent);
        drop(open);
        self.component.end_at_once(report, || self.last(report));
    }
}

/// Whether the client of a connection knows of it. Nobody else does before.
#[derive(Clone, Copy, PartialEq)]
enum Acquaintance {
    Told,
    Untold,
}

/// A connection on its path. One whose client cannot be told of it, or whose task is dropped, with its runtime or its server,
/// ends all the same.
struct Registered<'a, D: WsDatatype> {
    acceptor: &'a Acceptor<D>,
    /// Until its task takes it.
    link: Option<OpenLink<Transport>>,
    connection: Connection<D>,
    /// Its outbox's place on the switchboard.
    line: Line,
    is_over: bool,
}

impl<D: WsDatatype> Drop for Registered<'_, D> {
    fn drop(&mut self) {
        if !self.is_over {
            let Self { acceptor, connection, line, .. } = self;
            // Nothing may be written any more of what is counted as not sent.
            self.link = None;
            acceptor.switchboard.disconnect(line);
            let of_server = acceptor.component.terminal();
            acceptor.lose(connection, of_server.unwrap_or_else(|| Death::Shutdown.of(connection.name())));
        }
    }
}

/// Tells those who watch the connection, and those who watch the server, of what an outbox has dropped.
fn report_drops(outbox: &Outbox, peer: &Peer, told: [&SerializedSubject<ServerEvent>; 2]) {
    outbox.report_drops(|reason, dropped| {
        let event = ServerEvent::Dropped { peer: peer.clone(), reason, dropped };
        told.iter().for_each(|events| events.enqueue(event.clone()));
    });
    told.iter().for_each(|events| events.wake_home());
}
