//! The state that the handles, the subscribers and the task of a client share.

use std::{
    ops::ControlFlow,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tokio::sync::watch;

use crate::{
    ConnConfig, DatatypeError, Frame, HttpResponse, IoScheduler, SendError, SerializedSubject, Tag, WsDatatype,
    WsError,
    client::{calling::Calling, dialing::Dialing, multiplex::Topics},
    datatype::Moved,
    endpoint::{
        self, Component, EndpointCore, Received,
        codec::Codec,
        event::{ClientEvent, CloseReport, ConnectionState},
        events::Events,
        inbound::{Inbound, Member},
        incoming::{Incoming, IncomingCounts},
        options::Options,
    },
    fate::Fate,
    handshake::ConnectAsk,
    outbox::{Outbox, Reporter, Reports},
    protocol::close::{INTERNAL_ERROR, NORMAL},
    runtime::{UserValue, guard::Death},
    sending::{self, Outgoing, Outlet},
    stats::Stats,
    subject::{Backlog, replay::Replay},
};

/// The state that the handles, the subscribers and the task of a client share.
pub(crate) struct ClientCore<D: WsDatatype> {
    pub(crate) component: Component<Received<D::Item>, ClientEvent>,
    pub(crate) inbound: Inbound<D::Item>,
    pub(crate) incoming: Incoming<D>,
    pub(crate) path: Tag,
    /// Its number in its group, 0 without one.
    number: u64,
    pub(crate) outbox: Outbox,
    /// The outbox has no more than a weak reference to it.
    _drops: Arc<Drops>,
    /// The states that `state()` emits.
    pub(crate) states: SerializedSubject<ConnectionState>,
    /// The backlog of its events: its own, or its group's.
    pub(crate) events: Arc<dyn Backlog>,
    standing: watch::Sender<Standing>,
    /// The request to connect, before the program changes it for one attempt.
    pub(crate) ask: ConnectAsk,
    pub(crate) options: Options,
    pub(crate) dialing: Dialing<D>,
    /// How many links there have been.
    pub(crate) links: AtomicU64,
    pub(crate) calling: Calling,
    pub(crate) topics: Topics<D>,
}

/// The state of a client, for tasks that wait for a change.
struct Standing {
    state: ConnectionState,
    /// The answer that opened the present connection.
    response: Option<HttpResponse>,
    /// How often `reconnect()` was called.
    asked: u64,
    /// How often it had been called when the latest attempt ended. That attempt served all of those calls.
    served: u64,
}

impl<D: WsDatatype> EndpointCore for ClientCore<D> {
    type Item = D::Outgoing;
    type Arrived = Received<D::Item>;
    type Event = ClientEvent;

    fn component(&self) -> &Component<Self::Arrived, ClientEvent> {
        &self.component
    }

    fn offer(self: &Arc<Self>, item: &D::Outgoing, fate: Option<&Arc<dyn Fate>>) -> Result<(), SendError<()>> {
        let Outgoing { frame, key } = self.encode(item)?;
        self.outbox.push_with(frame, key, fate).map_err(|refusal| refusal.of(()))
    }

    fn send(self: &Arc<Self>, item: D::Outgoing, fate: Option<&Arc<dyn Fate>>) -> Result<(), SendError<D::Outgoing>> {
        sending::send(self, item, fate)
    }

    fn unencodable(&self, _item: D::Outgoing, error: DatatypeError) -> ClientEvent {
        ClientEvent::Unencodable { error, count: 1 }
    }

    fn finish(&self, how: Result<(), WsError>) {
        let code = if how.is_ok() { NORMAL } else { INTERNAL_ERROR };
        if self.component.ask_to_end(how) {
            self.outbox.close(code, "", self.options.limits.close_timeout);
        }
    }

    fn is_closing(&self) -> bool {
        self.outbox.is_closing()
    }
}

impl<D: WsDatatype> Outlet for ClientCore<D> {
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

impl<D: WsDatatype> ClientCore<D> {
    /// The item to emit of a frame that it has received: see [`Incoming::take`].
    #[inline(always)]
    pub(crate) fn take_in(&self, frame: Frame) -> Result<Option<Received<D::Item>>, DatatypeError> {
        self.incoming.take(frame, &self.path, self.number)
    }

    /// Makes a client that will run at `home`.
    ///
    /// # Errors
    ///
    /// As [`Dialing::connect_ask`].
    pub(crate) fn new(
        endpoint: ConnConfig,
        datatype: UserValue<Arc<D>>,
        options: Options,
        dialing: Dialing<D>,
        home: IoScheduler,
    ) -> Result<Self, WsError> {
        let member = dialing.member.as_ref();
        let component = component(options.name.clone(), home.clone(), member);
        let (path, discards) = (Tag::from(endpoint.as_path()), options.discards_inbound);
        let number = member.map_or(0, |member| member.number);
        let codec = Codec::new(datatype, dialing.key_of.clone());
        let incoming = Incoming { codec, discards, counts: IncomingCounts::default() };
        let drops = Arc::new(Drops { home: home.clone(), events: component.events.clone() });
        let reporter: Weak<Drops> = Arc::downgrade(&drops);
        let initial = ConnectionState::Disconnected;
        let states = SerializedSubject::at_home(home, Replay::latest(initial), Some(component.events.on_panic()));
        let events = member.map_or_else(|| component.events.subject().backlog(), |member| member.events.clone());
        Ok(Self {
            events,
            inbound: Inbound::new(component.inbound.clone(), member),
            component,
            incoming,
            path,
            number,
            outbox: Outbox::new(options.outbox, reporter),
            _drops: drops,
            states,
            standing: watch::Sender::new(Standing { state: initial, response: None, asked: 0, served: 0 }),
            ask: ConnectAsk { compression: options.compression_offer(), ..dialing.connect_ask(endpoint)? },
            options,
            dialing,
            links: AtomicU64::new(0),
            calling: Calling::default(),
            topics: Topics::default(),
        })
    }

    /// Tries to connect now instead of after the wait, or drops the connection to make a new one.
    pub(crate) fn reconnect(&self) {
        self.standing.send_modify(|standing| standing.asked += 1);
    }

    /// The answer that opened the present connection.
    pub(crate) fn response(&self) -> Option<HttpResponse> {
        self.standing.borrow().response.clone()
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats {
            sent: self.outbox.stats(),
            unencodable: self.incoming.codec.unencodable(),
            received: self.incoming.counts.received(),
            undecodable: self.incoming.counts.undecodable(),
            early_lost: self.component.early_lost(),
            reconnects: self.links.load(Relaxed).saturating_sub(1),
        }
    }

    /// Begins a session, with these greetings.
    pub(crate) fn begin_session(&self, greetings: Vec<Frame>) {
        let window = self.dialing.resume.as_ref().map(|resume| resume.window);
        self.outbox.begin_session(window.unwrap_or_default(), greetings);
    }

    /// Waits until the client is connected, after a `reconnect()` by another connection than before.
    pub(crate) async fn connected(&self) -> Result<(), WsError> {
        let settled = |standing: &Standing| match standing.state {
            ConnectionState::Connected => standing.asked == standing.served,
            state => state == ConnectionState::Closed,
        };
        let mut standing = self.standing.subscribe();
        // An error is impossible: `self` holds the sender.
        match standing.wait_for(settled).await.map(|standing| standing.state) {
            Ok(ConnectionState::Connected) => Ok(()),
            _ => Err(self.component.terminal().unwrap_or_else(|| WsError::Closed(self.component.name().to_string()))),
        }
    }

    /// Ends the client when its task has died.
    pub(crate) fn died(&self, death: &Death) {
        self.component.fail(death);
        let report = self.end_outbox();
        self.component.end_at_once(report, || self.last(report));
    }

    pub(crate) fn end_outbox(&self) -> CloseReport {
        self.outbox.end();
        self.outbox.stats().dropped.closed.into()
    }

    /// Ends everything but the events and the inbound subject, and makes the last event.
    pub(crate) fn last(&self, report: CloseReport) -> ClientEvent {
        self.set_state(ConnectionState::Closed);
        self.states.clone().complete();
        report_drops(&self.outbox, &self.component.events);
        self.component.events.traced(ClientEvent::Closed(report))
    }

    /// Notes that an attempt has ended, and returns how many calls of `reconnect()` it has served.
    pub(crate) fn note_served(&self) -> u64 {
        self.standing.send_modify(|standing| standing.served = standing.asked);
        self.standing.borrow().served
    }

    /// Resolves once `reconnect()` was called more often than `served` times.
    pub(crate) async fn asked_again(&self, served: u64) {
        // An error is impossible: `self` holds the sender.
        let _ = self.standing.subscribe().wait_for(|standing| standing.asked != served).await;
    }

    /// Notes the answer that opened the present connection, or that there is none any more.
    pub(crate) fn set_response(&self, response: Option<HttpResponse>) {
        self.standing.send_modify(|standing| standing.response = response);
    }

    pub(crate) fn set_state(&self, state: ConnectionState) {
        self.states.next(state);
        // After the emission, so that a caller who has waited for a state finds it in `state()`.
        self.standing.send_modify(|standing| standing.state = state);
    }
}

fn component<T: Clone + Send + 'static>(
    name: Arc<str>,
    home: IoScheduler,
    member: Option<&Member<T>>,
) -> Component<Received<T>, ClientEvent> {
    match member {
        // Its group listens to its events from the start.
        Some(member) => Component::new(name, home, member.replay()),
        None => Component::keeping_early(name, home),
    }
}

/// Reports what the outbox of a client drops.
struct Drops {
    home: IoScheduler,
    events: Events<ClientEvent>,
}

impl Reporter for Drops {
    /// On the I/O thread; drops that have come together until then share one event.
    fn post_drops(self: Arc<Self>, reports: Reports) {
        let (home, drops) = (self.home.clone(), Arc::downgrade(&self));
        home.spawn_aside(reports.make(move |outbox| {
            // A client that is gone has reported what was dropped.
            let Some(drops) = drops.upgrade() else { return ControlFlow::Break(()) };
            report_drops(outbox, &drops.events);
            ControlFlow::Continue(())
        }));
    }
}

/// Reports the drops of the outbox as events.
pub(crate) fn report_drops(outbox: &Outbox, events: &Events<ClientEvent>) {
    endpoint::report_drops(outbox, events, None, |reason, dropped| ClientEvent::Dropped { reason, dropped });
}
