//! The task behind a client: connects, drives the connection, and connects again.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use http::HeaderMap;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout_at},
};
use tungstenite::protocol::Role;

use crate::{
    ConnConfig, DatatypeError, Frame, HttpResponse, IoScheduler, OnClose, RetryPolicy, SendError, SerializedSubject,
    Tag, WsDatatype, WsError,
    client::{
        request::{ConnRequest, GivenHeader, check_subprotocols, given_header},
        retry::Verdict,
        suspicion::Suspicion,
    },
    endpoint::{
        self, Component, EndpointCore, Received,
        codec::Codec,
        event::{ClientEvent, CloseReport, ConnectionState},
        inbound::{Inbound, Member},
        incoming::{Incoming, IncomingCounts},
        options::Options,
        reporting_at,
    },
    handshake::{self, ConnectAsk, Connected, Opened},
    link::{Ending, Link, READ_AHEAD, Receipt, drive},
    one_line::OneLine,
    outbox::{Closing, Outbox},
    protocol::close::{INTERNAL_ERROR, NORMAL},
    runtime::{
        callback,
        guard::{Death, isolated},
    },
    stats::Stats,
    subject::{Backlog, at_most, replay::Replay},
    time::after,
    transport::tls::ClientTls,
};

/// The close code of a server that has looked at the client and does not want it (RFC 6455, section 7.4.1).
const POLICY_VIOLATION: u16 = 1008;

/// Names the messages that are sent first on every connection to a path, each as what makes it: that may panic.
type Greeting<I> = Arc<dyn Fn(&str, &mut dyn FnMut(Box<dyn FnOnce() -> I + '_>)) + Send + Sync>;

/// Changes what an attempt to connect asks for.
type Requesting = Arc<dyn Fn(ConnRequest) -> ConnRequest + Send + Sync>;

/// Decides what follows a close code and reason of the server's, or leaves it to the policy.
type Deciding = Arc<dyn Fn(u16, &str) -> Option<OnClose> + Send + Sync>;

/// For how long a connection that received something must last to be taken for a good one: a server that says why it hangs up,
/// and does, received nothing but that.
const PROVING_UPTIME: Duration = Duration::from_secs(1);

/// How a client reaches its server.
pub(crate) struct Dialing<D: WsDatatype> {
    pub(crate) retry: RetryPolicy,
    pub(crate) min_uptime: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) subprotocols: Arc<[String]>,
    pub(crate) greeting: Option<Greeting<D::Item>>,
    pub(crate) request: Option<Requesting>,
    pub(crate) on_close: Option<Deciding>,
    /// The group that the client belongs to.
    member: Option<Member<D::Item>>,
    pub(crate) tls: Option<ClientTls>,
    pub(crate) follows_redirects: bool,
    headers: Result<HeaderMap, WsError>,
}

impl<D: WsDatatype> Default for Dialing<D> {
    fn default() -> Self {
        Self {
            retry: RetryPolicy::default(),
            min_uptime: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(10),
            subprotocols: Arc::default(),
            greeting: None,
            request: None,
            on_close: None,
            member: None,
            tls: None,
            follows_redirects: false,
            headers: Ok(HeaderMap::new()),
        }
    }
}

// Not derived: the datatype need not be `Clone`.
impl<D: WsDatatype> Clone for Dialing<D> {
    fn clone(&self) -> Self {
        Self {
            retry: self.retry.clone(),
            min_uptime: self.min_uptime,
            connect_timeout: self.connect_timeout,
            subprotocols: self.subprotocols.clone(),
            greeting: self.greeting.clone(),
            request: self.request.clone(),
            on_close: self.on_close.clone(),
            member: self.member.clone(),
            tls: self.tls.clone(),
            follows_redirects: self.follows_redirects,
            headers: self.headers.clone(),
        }
    }
}

impl<D: WsDatatype> fmt::Debug for Dialing<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialing").field("retry", &self.retry).finish_non_exhaustive()
    }
}

impl<D: WsDatatype> Dialing<D> {
    /// As it is, for a client that belongs to a group.
    pub(crate) fn of(&self, member: Member<D::Item>) -> Self {
        Self { member: Some(member), ..self.clone() }
    }

    /// Adds a header; the first one that cannot be sent is remembered as an error.
    pub(crate) fn add_header(&mut self, name: &str, value: &str) {
        let Ok(headers) = &mut self.headers else { return };
        match given_header(name, value) {
            Ok(GivenHeader::Other(name, value)) => _ = headers.append(name, value),
            Ok(GivenHeader::Subprotocols(names)) => {
                self.subprotocols = self.subprotocols.iter().cloned().chain(names).collect();
            }
            Err(error) => self.headers = Err(error),
        }
    }

    /// Whether a connection that lasted for `uptime` was a good one.
    fn is_proven(&self, uptime: Duration, has_received: bool) -> bool {
        uptime >= if has_received { self.min_uptime.min(PROVING_UPTIME) } else { self.min_uptime }
    }

    /// What to ask of the server at `endpoint`.
    ///
    /// # Errors
    ///
    /// When a header or a subprotocol cannot be sent, or there is no TLS for an endpoint that wants it.
    pub(crate) fn ask(&self, endpoint: ConnConfig) -> Result<ConnectAsk, WsError> {
        let tls = match &self.tls {
            None if endpoint.is_tls() => Some(ClientTls::system()?),
            given => given.clone(),
        };
        let (headers, subprotocols) = (self.headers.clone()?, self.subprotocols.clone());
        check_subprotocols(&subprotocols)?;
        Ok(ConnectAsk { endpoint, headers, subprotocols, tls, follows_redirects: self.follows_redirects })
    }
}

/// How a client stands, for those who wait for it.
struct Standing {
    state: ConnectionState,
    /// The answer that opened the connection there is.
    response: Option<HttpResponse>,
    /// How often `reconnect()` was called.
    asked: u64,
    /// How often it had been when the latest attempt ended, which was what was asked for until then.
    served: u64,
}

/// What has been tried since a connection was last a good one.
struct Tries {
    /// How many attempts have failed in a row.
    attempt: u32,
    /// When the first of them began, or the good connection ended.
    since: Instant,
    suspicion: Suspicion,
}

/// How an attempt, or the connection that it made, ended.
struct Failure {
    error: WsError,
    /// How often `reconnect()` had been called when the attempt ended.
    served: u64,
}

/// A client, as its handles and its task share it.
pub(crate) struct ClientCore<D: WsDatatype> {
    pub(crate) component: Component<Received<D::Item>, ClientEvent>,
    pub(crate) inbound: Inbound<D::Item>,
    pub(crate) incoming: Incoming<D>,
    pub(crate) outbox: Outbox,
    /// What `state()` emits.
    pub(crate) states: SerializedSubject<ConnectionState>,
    /// Where what is told of it may pile up: its own events, or its group's.
    told: Arc<dyn Backlog>,
    standing: watch::Sender<Standing>,
    ask: ConnectAsk,
    options: Options,
    dialing: Dialing<D>,
    links: AtomicU64,
}

impl<D: WsDatatype> EndpointCore for ClientCore<D> {
    type Item = D::Item;
    type Arrived = Received<D::Item>;
    type Event = ClientEvent;

    fn component(&self) -> &Component<Self::Arrived, ClientEvent> {
        &self.component
    }

    fn offer(self: &Arc<Self>, item: &D::Item) -> Result<(), SendError<()>> {
        let frame = self.incoming.codec.encode(&self.incoming.path, item, || self.is_closing())?;
        self.outbox.push(frame).map_err(|refusal| refusal.of(()))
    }

    fn unencodable(&self, _item: D::Item, error: DatatypeError) -> ClientEvent {
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

impl<D: WsDatatype> ClientCore<D> {
    /// Makes a client that will run at `home`.
    ///
    /// # Errors
    ///
    /// As [`Dialing::ask`].
    pub(crate) fn new(
        endpoint: ConnConfig,
        datatype: Arc<D>,
        options: Options,
        dialing: Dialing<D>,
        home: IoScheduler,
    ) -> Result<Self, WsError> {
        let member = dialing.member.as_ref();
        let (name, thread) = (options.name.clone(), home.clone());
        let component = match member {
            // Its group listens to its events from the start.
            Some(member) => Component::new(name, thread, member.replay()),
            None => Component::keeping_early(name, thread),
        };
        let (path, discards) = (Tag::from(endpoint.as_path()), options.discards_inbound);
        let number = member.map_or(0, |member| member.number);
        let incoming =
            Incoming { codec: Codec::new(datatype), path, number, discards, counts: IncomingCounts::default() };
        let outbox = {
            let events = component.events.clone();
            let report = move |outbox: &Outbox| report_drops(outbox, &events);
            Outbox::new(options.outbox, reporting_at(home.clone(), report))
        };
        let initial = ConnectionState::Disconnected;
        let states = SerializedSubject::at_home(home, Replay::latest(initial), component.events.on_panic());
        let told = member.map_or_else(|| component.events.backlog(), |member| member.events.clone());
        Ok(Self {
            told,
            inbound: Inbound::new(component.inbound.clone(), member),
            component,
            incoming,
            outbox,
            states,
            standing: watch::Sender::new(Standing { state: initial, response: None, asked: 0, served: 0 }),
            ask: dialing.ask(endpoint)?,
            options,
            dialing,
            links: AtomicU64::new(0),
        })
    }

    /// Tries to connect now instead of after the wait, or drops the connection to make a new one.
    pub(crate) fn reconnect(&self) {
        self.standing.send_modify(|standing| standing.asked += 1);
    }

    /// The answer that opened the connection there is.
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
            _ => Err(self.component.terminal().unwrap_or_else(|| WsError::Closed(self.component.name.to_string()))),
        }
    }

    /// Runs the client to its end.
    pub(crate) async fn run(self: Arc<Self>) {
        let served = self.serve().await;
        let ended = if self.outbox.has_overflown() { Err(self.overflow()) } else { served };
        if let Err(error) = ended
            && self.component.ask_to_end(Err(error.clone()))
        {
            self.component.events.next(ClientEvent::Failed { error });
        }
        let report = self.end_outbox();
        self.component.end(report, || self.last(report)).await;
    }

    /// Ends the client when its task has died.
    pub(crate) fn died(&self, death: &Death) {
        self.component.fail(death);
        let report = self.end_outbox();
        self.component.end_at_once(report, || self.last(report));
    }

    fn end_outbox(&self) -> CloseReport {
        self.outbox.end();
        self.outbox.stats().dropped.closed.into()
    }

    /// Ends all but the events and what arrives, and makes the last event.
    fn last(&self, report: CloseReport) -> ClientEvent {
        self.set_state(ConnectionState::Closed);
        self.states.clone().complete();
        report_drops(&self.outbox, &self.component.events);
        ClientEvent::Closed(report)
    }

    /// Keeps a connection up until the client is asked to end, or must.
    async fn serve(&self) -> Result<(), WsError> {
        let mut tries = Tries { attempt: 0, since: Instant::now(), suspicion: Suspicion::default() };
        while let Some(Failure { error, served }) = self.try_once(&mut tries).await {
            if self.is_done() {
                break;
            }
            if matches!(error, WsError::Cut(_)) {
                // It was asked for: nothing has failed that the policy had to judge.
                continue;
            }
            let Some(delay) = self.delay(&tries, &error) else {
                let (endpoint, attempts) = (self.ask.endpoint.clone(), tries.attempt.saturating_add(1));
                return Err(WsError::RetriesExhausted { endpoint, attempts, source: Arc::new(error) });
            };
            tries.attempt = tries.attempt.saturating_add(1);
            let attempt = tries.attempt;
            self.set_state(ConnectionState::Reconnecting { attempt, delay });
            self.component.events.next(ClientEvent::Reconnecting { attempt, delay });
            if self.unless_done(pause(delay, self.asked_again(served))).await.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// Connects, and serves the connection to its end. `None` when the client was asked to end before there was one.
    async fn try_once(&self, tries: &mut Tries) -> Option<Failure> {
        self.set_state(ConnectionState::Connecting);
        let connected = self.unless_done(self.attempt(tries.attempt)).await?;
        // Before anybody hears how the attempt ended, and asks for another one.
        let served = self.note_served();
        let error = match connected {
            Ok(connected) => {
                let (error, proven) = self.serve_link(connected, tries.attempt, served).await;
                if proven {
                    (tries.attempt, tries.since) = (0, Instant::now());
                }
                self.give_up_what_ends_links(&mut tries.suspicion, &error);
                error
            }
            Err(error) => {
                self.component.events.next(ClientEvent::ConnectFailed { attempt: tries.attempt, error: error.clone() });
                error
            }
        };
        Some(Failure { error, served })
    }

    /// Notes that an attempt has ended, and returns for how many calls of `reconnect()` it stands.
    fn note_served(&self) -> u64 {
        self.standing.send_modify(|standing| standing.served = standing.asked);
        self.standing.borrow().served
    }

    /// Resolves once `reconnect()` was called oftener than `served` times.
    async fn asked_again(&self, served: u64) {
        // An error is impossible: `self` holds the sender.
        let _ = self.standing.subscribe().wait_for(|standing| standing.asked != served).await;
    }

    /// As [`connect`](Self::connect). One that panics, as a name's lookup does when there is no thread for it, has failed.
    async fn attempt(&self, attempt: u32) -> Result<(Connected, String), WsError> {
        // Each attempt is told of: while nobody takes that in, no more are made.
        at_most(&*self.told, READ_AHEAD).await;
        at_most(&*self.states.backlog(), READ_AHEAD).await;
        let connecting = isolated("an attempt to connect", Box::pin(self.connect(attempt)));
        connecting.await.unwrap_or_else(|panic| {
            let what = format!("an attempt to connect to {}", self.ask.endpoint);
            Err(WsError::Panicked { what, panic: panic.into() })
        })
    }

    async fn connect(&self, attempt: u32) -> Result<(Connected, String), WsError> {
        let ask = self.ask(attempt)?;
        let limit = self.dialing.connect_timeout;
        let deadline = after(Instant::now(), limit);
        let connecting = timeout_at(deadline, handshake::connect(&ask, &self.options.limits, deadline)).await;
        let timed_out = |_| WsError::HandshakeTimedOut { endpoint: ask.endpoint.clone(), after: limit };
        Ok((connecting.map_err(timed_out)??, ask.endpoint.to_string()))
    }

    /// What to ask for in this attempt.
    fn ask(&self, attempt: u32) -> Result<ConnectAsk, WsError> {
        let Some(change) = &self.dialing.request else { return Ok(self.ask.clone()) };
        let mut asked = Err(WsError::application("the function given to request(..) panicked"));
        let request = ConnRequest::new(self.ask.clone(), attempt);
        callback::run(|| callback::isolate("a request function", || asked = change(request).into_ask()));
        asked
    }

    /// Serves one connection, to `peer`, until it ends or `reconnect()` was called oftener than `served` times. Returns what
    /// ended it, and whether it had proved itself.
    async fn serve_link(&self, (connected, peer): (Connected, String), attempt: u32, served: u64) -> (WsError, bool) {
        let began = Instant::now();
        let heard_before = self.incoming.counts.received();
        self.links.fetch_add(1, Relaxed);
        let Connected { opened: Opened { stream, early_bytes, subprotocol }, response } = connected;
        self.standing.send_modify(|standing| standing.response = Some(response.clone()));
        self.outbox.greet(self.greetings());
        let link = Link {
            role: Role::Client,
            peer: Box::new(peer.clone()),
            outbox: self.outbox.clone(),
            scheduler: None,
            heartbeat: self.options.heartbeat,
            limits: self.options.limits.clone(),
            inbound: self.inbound.backlog(),
            events: self.told.clone(),
            early_bytes,
        };
        // Before anybody who hears of the connection pushes.
        let link = link.open(stream, Vec::new());
        self.set_state(ConnectionState::Connected);
        self.component.events.next(ClientEvent::Connected { attempt, subprotocol, response });
        let driving = drive(link, |frame| self.receive(frame), self.asked_again(served));
        let ending = isolated("a connection", driving).await.unwrap_or_else(|panic| {
            let what = format!("the connection to {peer}");
            Ending::lost(WsError::Panicked { what, panic: panic.into() })
        });
        self.standing.send_modify(|standing| standing.response = None);
        let proven = self.dialing.is_proven(began.elapsed(), self.incoming.counts.received() != heard_before);
        let Ending { code, reason, error, unconfirmed } = ending;
        // With several threads another one may still be delivering what this connection received.
        self.component.inbound.delivered().await;
        self.set_state(ConnectionState::Disconnected);
        report_drops(&self.outbox, &self.component.events);
        let told = ClientEvent::Disconnected { code, reason: reason.clone(), error: error.clone(), unconfirmed };
        self.component.events.next(told);
        (error.unwrap_or(WsError::ClosedByPeer { peer, code, reason }), proven)
    }

    fn receive(&self, frame: Frame) -> Receipt {
        let len = frame.len();
        match self.incoming.take(frame) {
            Ok(Some(received)) => self.inbound.emit(received),
            Ok(None) => {}
            Err(error) => {
                self.component.events.next(ClientEvent::Undecodable { error, len, count: 1 });
                return Receipt::Undecodable;
            }
        }
        Receipt::Taken
    }

    fn greetings(&self) -> Vec<Frame> {
        let Some(greeting) = &self.dialing.greeting else { return Vec::new() };
        let mut frames = Vec::new();
        let mut add = |make: Box<dyn FnOnce() -> D::Item + '_>| {
            let encode = || self.incoming.codec.encode(&self.incoming.path, &make(), || false);
            match callback::attempt("a greeting", encode) {
                Ok(Ok(frame)) => frames.push(frame),
                Ok(Err(error)) => self.tell_if_unencodable(error),
                Err(panic) => self.lacks_greeting(&panic),
            }
        };
        callback::run(|| {
            if let Err(panic) = callback::attempt("a greeting", || greeting(&self.incoming.path, &mut add)) {
                self.lacks_greeting(&panic);
            }
        });
        frames
    }

    fn lacks_greeting(&self, panic: &str) {
        self.incoming.codec.count_unencodable();
        let error = DatatypeError::new(format!("a greeting panicked: {panic}"));
        self.component.events.post(ClientEvent::Unencodable { error, count: 1 });
    }

    fn tell_if_unencodable<I>(&self, error: SendError<I>) {
        if let SendError::Encode(_, error) = error {
            self.component.events.post(ClientEvent::Unencodable { error, count: 1 });
        }
    }

    /// Drops the message at the head of the outbox if it is what makes links end, as the last one did with `error`.
    fn give_up_what_ends_links(&self, suspicion: &mut Suspicion, error: &WsError) {
        let code = match error {
            // The program's own doing.
            WsError::Cut(_) => return,
            WsError::ClosedByPeer { code, .. } => Some(*code),
            _ => None,
        };
        if let Some(head) = self.outbox.head()
            && suspicion.is_confirmed(head, code)
            && self.outbox.try_drop_head(head)
        {
            let (len, links, error) = (head.len, suspicion.links, error.clone());
            self.component.events.next(ClientEvent::Undeliverable { len, links, error });
            report_drops(&self.outbox, &self.component.events);
        }
    }

    fn delay(&self, tries: &Tries, error: &WsError) -> Option<Duration> {
        let retry_after = match error {
            WsError::Rejected { response, .. } => response.retry_after(),
            _ => None,
        };
        let verdict = Verdict { then: self.decide(error), retry_after };
        self.dialing.retry.delay(tries.attempt, tries.since.elapsed(), verdict, rand::random())
    }

    /// What follows `error`, if the policy's limits allow it.
    fn decide(&self, error: &WsError) -> OnClose {
        let mut decided = None;
        if let (WsError::ClosedByPeer { code, reason, .. }, Some(decide)) = (error, &self.dialing.on_close) {
            callback::run(|| callback::isolate("an on_close function", || decided = decide(*code, reason)));
        }
        decided.unwrap_or_else(|| if will_not_change(error) { self.dialing.retry.rejected() } else { OnClose::Retry })
    }

    /// Whether the client is to end and there is no reason, or no time, to connect once more for it.
    fn is_done(&self) -> bool {
        let is_over = |closing: Closing| self.outbox.is_empty() || closing.deadline <= Instant::now();
        self.outbox.closing().is_some_and(is_over)
    }

    /// Runs `work` unless the client is asked to end and has nothing to send, or no time left for it.
    async fn unless_done<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = work => Some(done),
            () = self.done() => None,
        }
    }

    async fn done(&self) {
        let closing = self.outbox.until_closing().await;
        if !self.outbox.is_empty() {
            sleep_until(closing.deadline).await;
        }
    }

    fn overflow(&self) -> WsError {
        let dropped = self.outbox.stats().dropped.overflow;
        WsError::OutboxFull { name: self.component.name.to_string(), messages: dropped.messages, len: dropped.len }
    }

    fn set_state(&self, state: ConnectionState) {
        tracing::debug!(name = %OneLine(&self.component.name), ?state, "client");
        self.states.next(state);
        // After the emission, so that who has waited for a state finds it in `state()`.
        self.standing.send_modify(|standing| standing.state = state);
    }
}

async fn pause(delay: Duration, cut_short: impl Future<Output = ()>) {
    tokio::select! {
        () = sleep(delay) => {}
        () = cut_short => {}
    }
}

fn report_drops(outbox: &Outbox, events: &SerializedSubject<ClientEvent>) {
    endpoint::report_drops(outbox, &[events], |reason, dropped| ClientEvent::Dropped { reason, dropped });
}

/// Whether waiting does not make this failure go away.
fn will_not_change(error: &WsError) -> bool {
    match error {
        // "Request timeout", "too early" and "too many requests" (RFC 9110, 8470 and 6585) ask for patience.
        WsError::Rejected { status: 408 | 425 | 429, .. } => false,
        WsError::Rejected { status, .. } => (400..500).contains(status),
        WsError::ClosedByPeer { code, .. } => *code == POLICY_VIOLATION,
        WsError::CertificateName { .. } => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::WsStr;

    #[test]
    fn connection_is_proven_by_its_uptime_and_sooner_if_something_was_received() {
        let proven = |min_uptime, uptime, has_received| {
            let dialing = Dialing::<WsStr> { min_uptime: Duration::from_millis(min_uptime), ..Dialing::default() };
            dialing.is_proven(Duration::from_millis(uptime), has_received)
        };
        assert!(!proven(5000, 4999, false) && proven(5000, 5000, false));
        assert!(!proven(5000, 999, true) && proven(5000, 1000, true));
        assert!(!proven(500, 499, true) && proven(500, 500, true));
        assert!(proven(0, 0, false) && proven(0, 0, true));
    }
}
