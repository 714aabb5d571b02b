//! What the handles, the tasks and the connections of a server share.

use std::{
    slice,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU16, AtomicU64, Ordering},
    },
};

use tokio::sync::{Semaphore, mpsc, watch};

#[cfg(feature = "nats")]
use crate::server::bus::BusOptions;
use crate::{
    Addr, Connection, DatatypeError, IoRuntime, IoScheduler, Resume, SendError, SerializedSubject, Tag, TaggedData,
    WsDatatype, WsError,
    endpoint::{
        Component, EndpointCore, Received,
        codec::Codec,
        event::{CloseReport, ServerEvent},
        options::Options,
        routing_table::RoutingTable,
    },
    fate::Fate,
    handshake::{
        self, Policy, Refused,
        admission::{Admission, Permit},
    },
    numbered::Numbered,
    presence::{Registry, register::Register},
    protocol::close::{GOING_AWAY, INTERNAL_ERROR, TRY_AGAIN_LATER},
    runtime::{
        debts::{self, Debts},
        guard::Death,
    },
    server::{arrival::Arrival, lane::Lane, presence::Naming, serving::Serving, session::Sessions},
    stats::{PathStats, Rejections, SendStats, ServerStats, Tally},
    subject::{audience::Audience, replay::Replay},
    transport::{raw::Given, tls::ServerTls},
};

/// Why a peer is refused for which there is not even room to read its request.
pub(crate) const NO_ROOM: &str = "this server has as many handshakes under way as it allows (Limits::handshakes)";

/// How many connections at once make the deliveries that their beginnings and ends have caused. While more have to, no peer
/// is accepted: a program's subjects grow by what this many connections, and the handshakes under way, make it push.
const PAYERS: usize = 8;

/// A server, as its handles and its tasks share it.
pub(crate) struct ServerCore<D: WsDatatype> {
    pub(crate) component: Component<TaggedData<Received<D::Item>>, ServerEvent>,
    /// The subscribers of the server itself.
    pub(crate) audience: Audience,
    /// What `connections()` emits.
    pub(crate) connections: SerializedSubject<Connection<D>>,
    pub(crate) routes: RoutingTable,
    pub(crate) lanes: Box<[Arc<Lane>]>,
    pub(crate) codec: Codec<D>,
    pub(crate) options: Options,
    pub(crate) policy: Policy,
    pub(crate) tls: Option<ServerTls>,
    pub(crate) admission: Arc<Admission>,
    /// `None` if the server offers none.
    pub(crate) sessions: Option<Sessions>,
    pub(crate) naming: Naming<D>,
    /// Where the connections are counted that are there.
    pub(crate) presence: Arc<dyn Registry>,
    #[cfg(feature = "nats")]
    pub(crate) on_bus: BusOptions<D>,
    /// For connections, which do not keep it alive.
    pub(crate) this: Weak<Self>,
    open: Mutex<Open<D>>,
    /// Peers that do not come through the listener.
    arrivals: mpsc::Sender<Arrival>,
    /// The places of the connections that make deliveries which their beginnings and ends have caused.
    payers: Semaphore,
    /// Tells the tasks that the server is to end.
    closing: watch::Sender<bool>,
    /// The close code when it is to end, and 0 before. Asked for with each message, so without the lock of `closing`.
    close_code: AtomicU16,
    /// Messages for whose tag there were only connections that were ending.
    pub(super) missed: AtomicU64,
}

/// The open connections, and the sums of those that were.
struct Open<D: WsDatatype> {
    connections: Numbered<Known<D>>,
    /// The number of the latest one.
    numbers: u64,
    accepted: u64,
    rejected: Rejections,
    sent: SendStats,
    received: Tally,
    undecodable: u64,
    /// What was not sent when the server closed.
    unsent: Tally,
    /// How many are forgotten while their end has not been emitted yet.
    leaving: usize,
    /// The server's task has died.
    is_dead: bool,
}

/// A connection that is open.
struct Known<D: WsDatatype> {
    connection: Connection<D>,
    acquaintance: Acquaintance,
}

impl<D: WsDatatype> Open<D> {
    fn connections(&self) -> impl Iterator<Item = &Connection<D>> {
        self.connections.values().map(|known| &known.connection)
    }
}

// Not derived: the datatype need not be `Default`.
impl<D: WsDatatype> Default for Open<D> {
    fn default() -> Self {
        Self {
            connections: Numbered::default(),
            numbers: 0,
            accepted: 0,
            rejected: Rejections::default(),
            sent: SendStats::default(),
            received: Tally::default(),
            undecodable: 0,
            unsent: Tally::default(),
            leaving: 0,
            is_dead: false,
        }
    }
}

impl<D: WsDatatype> EndpointCore for ServerCore<D> {
    type Item = TaggedData<D::Outgoing>;
    type Arrived = TaggedData<Received<D::Item>>;
    type Event = ServerEvent;

    fn component(&self) -> &Component<Self::Arrived, ServerEvent> {
        &self.component
    }

    fn offer(
        self: &Arc<Self>,
        tagged: &TaggedData<D::Outgoing>,
        fate: Option<&Arc<dyn Fate>>,
    ) -> Result<(), SendError<()>> {
        self.offer_except(tagged, fate, None)
    }

    fn unencodable(&self, tagged: TaggedData<D::Outgoing>, error: DatatypeError) -> ServerEvent {
        ServerEvent::Unencodable { path: tagged.tag, error, count: 1 }
    }

    /// The subscribers end once all connections are closed.
    fn finish(&self, how: Result<(), WsError>) {
        let code = if how.is_ok() { GOING_AWAY } else { INTERNAL_ERROR };
        if self.component.ask_to_end(how) {
            self.begin_closing(code);
        }
    }

    fn is_closing(&self) -> bool {
        self.close_code.load(Ordering::SeqCst) != 0
    }
}

impl<D: WsDatatype> ServerCore<D> {
    pub(crate) fn new(
        codec: Codec<D>,
        options: Options,
        resume: Option<Resume>,
        policy: Policy,
        tls: Option<ServerTls>,
        runtime: &IoRuntime,
        arrivals: mpsc::Sender<Arrival>,
    ) -> Self {
        let home = IoScheduler::on(runtime);
        let component = Component::keeping_early(options.name.clone(), home.clone());
        let on_panic = Some(component.events.on_panic());
        let deflate = options.deflate.clone();
        let presence = Register::new(options.name.clone(), home.clone(), on_panic.clone());
        Self {
            component,
            audience: Audience::default(),
            connections: SerializedSubject::at_home(home.clone(), Replay::members(Connection::id), on_panic),
            routes: RoutingTable::default(),
            lanes: Lane::all_of(runtime),
            codec,
            admission: Admission::new(options.limits.clone()),
            sessions: resume.map(|resume| Sessions::new(resume, options.limits.clone())),
            naming: Naming::default(),
            presence: Arc::new(presence),
            #[cfg(feature = "nats")]
            on_bus: BusOptions::default(),
            this: Weak::new(),
            options,
            policy: Policy { deflate, ..policy },
            tls,
            open: Mutex::default(),
            arrivals,
            payers: Semaphore::new(PAYERS),
            closing: watch::Sender::new(false),
            close_code: AtomicU16::new(0),
            missed: AtomicU64::new(0),
        }
    }

    #[cfg(feature = "nats")]
    pub(crate) fn on_bus(mut self, on_bus: BusOptions<D>) -> Self {
        if let Some(bus) = &on_bus.bus {
            self.presence = bus.clone();
        }
        self.on_bus = on_bus;
        self
    }

    pub(crate) fn shared(self, naming: Naming<D>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self { this: this.clone(), naming, ..self })
    }

    fn lock(&self) -> MutexGuard<'_, Open<D>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) async fn until_closing(&self) {
        // An error is impossible: `self` holds the sender.
        let _ = self.closing.subscribe().wait_for(|closing| *closing).await;
    }

    /// Makes the deliveries that the connection of this task has caused as it began or ended, until the server ends.
    pub(crate) async fn paid(&self) {
        if debts::are_owed() {
            let paid = async {
                let _payer = self.payers.acquire().await;
                debts::paid().await;
            };
            tokio::select! {
                biased;
                () = paid => {}
                () = self.until_closing() => {}
            }
        }
    }

    /// As [`paid`](Self::paid), for a task with these debts. In a box, since thousands of tasks may be parked in a handshake.
    pub(crate) async fn pay(&self, debts: &mut Debts) {
        if debts.are_owed() {
            debts.owing(Box::pin(self.paid())).await;
        }
    }

    /// Waits until few connections have deliveries to [make](Self::paid).
    pub(crate) async fn until_few_owe(&self) {
        let _ = self.payers.acquire().await;
    }

    fn begin_closing(&self, code: u16) {
        // Before anybody is woken: the task that closes the connections must see it.
        self.close_code.store(code, Ordering::SeqCst);
        self.closing.send_replace(true);
    }

    /// A connection that its client knows of.
    pub(crate) fn connection(&self, id: u64) -> Option<Connection<D>> {
        let open = self.lock();
        let known = open.connections.get(id).filter(|known| known.acquaintance == Acquaintance::Told);
        known.map(|known| known.connection.clone())
    }

    pub(crate) fn connection_count(&self) -> usize {
        self.lock().connections.len()
    }

    pub(crate) fn stats(&self) -> ServerStats {
        let open = self.lock();
        let mut stats = ServerStats {
            connections: open.connections.len(),
            parked: self.sessions.as_ref().map_or(0, Sessions::parked),
            accepted: open.accepted,
            rejected: open.rejected,
            pushed: self.routes.pushed(),
            unrouted: self.routes.unrouted() + self.missed.load(Ordering::Relaxed),
            unencodable: self.codec.unencodable(),
            sent: open.sent,
            received: open.received,
            undecodable: open.undecodable,
            early_lost: self.component.early_lost(),
        };
        for connection in open.connections() {
            let own = connection.stats();
            stats.sent += own.sent;
            stats.received += own.received;
            stats.undecodable += own.undecodable;
        }
        stats
    }

    pub(crate) fn path_stats(&self, path: &Tag) -> PathStats {
        let mut stats = PathStats::default();
        for connection in self.lock().connections().filter(|connection| connection.core().is_on(path)) {
            stats.connections += 1;
            stats.all += connection.stats();
        }
        stats
    }

    /// Ends all but the presence, the events and what arrives, and makes the last event.
    pub(crate) fn last(&self, report: CloseReport) -> ServerEvent {
        self.connections.clone().complete();
        self.component.events.traced(ServerEvent::Closed(report))
    }

    /// Gives a peer that the program brings a place in the server, and one among those that wait for its task. `None` when
    /// there is no room; nobody else is then evicted for it.
    pub(crate) fn admit(&self, addr: &Addr) -> Option<(Permit, mpsc::Permit<'_, Arrival>)> {
        let place = self.arrivals.try_reserve().ok()?;
        Some((self.admission.enter(addr.ip())?, place))
    }

    /// Refuses a peer at once, since there is no room even to read its request.
    pub(crate) fn turn_away(&self, stream: Given) -> Refused {
        // Before the TLS handshake, plain text means nothing to the client.
        let status = self.tls.is_none().then_some(503);
        if status.is_some() {
            handshake::turn_away(stream, NO_ROOM);
        }
        Refused { status, reason: NO_ROOM.into(), stream: None }
    }

    /// As [`report_refusal`](Self::report_refusal), from a thread of the program's: the event is emitted on the I/O thread.
    pub(crate) fn post_refusal(&self, addr: Addr, refused: Refused) {
        self.component.events.post(self.count_refusal(addr, refused));
    }

    pub(crate) fn report_refusal(&self, addr: Addr, refused: Refused) {
        self.component.events.next(self.count_refusal(addr, refused));
    }

    /// Counts a peer that was refused, and makes the event about it.
    fn count_refusal(&self, addr: Addr, Refused { status, reason, .. }: Refused) -> ServerEvent {
        self.lock().rejected.add(status);
        ServerEvent::Rejected { addr, status, reason, count: 1 }
    }

    pub(crate) fn next_number(&self) -> u64 {
        let mut open = self.lock();
        open.numbers += 1;
        open.numbers
    }

    /// Counts a connection among those that are open. It is on its path already.
    pub(crate) fn add(&self, connection: &Connection<D>) {
        let mut open = self.lock();
        open.accepted += 1;
        let known = Known { connection: connection.clone(), acquaintance: Acquaintance::Untold };
        open.connections.insert(connection.id(), known);
        drop(open);
        // Checked after the insertion: a connection that comes while the server closes is either in the list of those to
        // be closed or sees it here.
        self.close_if_due(slice::from_ref(connection));
    }

    /// Closes all connections of a server that is closing, or [suspended](Policy::is_suspended).
    pub(crate) fn close_connections(&self) {
        let connections: Vec<_> = self.lock().connections().cloned().collect();
        self.close_if_due(&connections);
    }

    fn close_if_due(&self, connections: &[Connection<D>]) {
        let code = match self.close_code.load(Ordering::SeqCst) {
            0 if !self.policy.is_suspended() => return,
            0 => TRY_AGAIN_LATER,
            code => code,
        };
        let timeout = self.options.limits.close_timeout;
        connections.iter().for_each(|connection| connection.core().outbox.close(code, "", timeout));
    }

    /// Takes a connection out of those that are open; it is for the caller to emit that as an event, and to
    /// [note](Self::note_left) it. `None` when it has been forgotten already.
    pub(crate) fn forget(&self, connection: &Connection<D>, unsent: Tally) -> Option<Acquaintance> {
        let stats = connection.stats();
        let mut open = self.lock();
        let Known { acquaintance, .. } = open.connections.remove(connection.id())?;
        open.leaving += 1;
        // A peer that never got the answer never was a connection.
        open.accepted -= u64::from(acquaintance == Acquaintance::Untold);
        open.sent += stats.sent;
        open.received += stats.received;
        open.undecodable += stats.undecodable;
        if self.is_closing() {
            open.unsent += unsent;
        }
        Some(acquaintance)
    }

    /// Notes that the client of a connection knows of it.
    pub(crate) fn note_told(&self, connection: &Connection<D>) {
        if let Some(known) = self.lock().connections.get_mut(connection.id()) {
            known.acquaintance = Acquaintance::Told;
        }
    }

    /// Notes that the end of a connection which was [forgotten](Self::forget) has been emitted.
    pub(crate) fn note_left(&self) {
        self.lock().leaving -= 1;
        self.end_if_alone();
    }

    /// What was not sent when the server closed.
    pub(crate) fn unsent(&self) -> Tally {
        self.lock().unsent
    }

    /// Ends the server, its connections first, when its task has died.
    pub(crate) fn died(&self, death: &Death) {
        let error = self.component.fail(death);
        self.begin_closing(INTERNAL_ERROR);
        let mut open = self.lock();
        open.is_dead = true;
        let connections: Vec<_> = open.connections().cloned().collect();
        drop(open);
        for connection in connections {
            if let Death::Shutdown = death {
                // Messages that are counted as unsent must not be written any more.
                connection.core().outbox.stop_link();
            }
            Serving { server: self, connection }.lose(error.clone());
        }
        self.end_if_alone();
    }

    /// Ends a server whose task has died, after its last connection: another thread may be emitting the end of one.
    fn end_if_alone(&self) {
        let open = self.lock();
        if !open.is_dead || !open.connections.is_empty() || open.leaving > 0 {
            return;
        }
        let report = CloseReport::from(open.unsent);
        drop(open);
        drop(self.presence.end());
        self.component.end_at_once(report, || self.last(report));
    }
}

/// Whether the client of a connection knows of it. No subscriber does before the client.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Acquaintance {
    Told,
    Untold,
}
