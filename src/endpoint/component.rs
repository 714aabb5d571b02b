//! [`Component`]: a name, a home thread, the subjects that emit there, and how they end.

use std::{
    future::Future,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::{
    CloseReport, Io, IoScheduler, SerializedSubject, Tally, WsError,
    endpoint::{
        Arrived,
        event::{EarlyEvent, EndpointEvent},
        events::Events,
        feed::Feed,
    },
    runtime::{UserValue, guard::Death, waiters::Waiters},
    stats::AtomicTally,
    subject::{
        Backlog, at_most,
        replay::{EarlyBounds, Replay},
    },
    time,
};

/// How many messages are kept for the first subscriber of a component.
const EARLY_MESSAGES: EarlyBounds = EarlyBounds { items: 1024, len: 1024 * 1024 };

/// How many events are kept for the first subscriber of `events()`.
const EARLY_EVENTS: usize = 256;

/// The common part of servers, clients, groups and connections. `T` is the type of the messages that arrive, `V` of the
/// events.
pub(crate) struct Component<T, V> {
    pub(crate) home: IoScheduler,
    pub(crate) inbound: SerializedSubject<T, WsError>,
    pub(crate) events: Events<V>,
    /// How the subscribers are to end, once somebody has asked for it. An error is in a box, since each connection has room
    /// for it.
    terminal: Mutex<Option<Result<(), UserValue<Box<WsError>>>>>,
    /// The messages before the first subscriber that found no room; `None` where the server or the group counts them.
    early_lost: Option<Arc<AtomicTally>>,
    is_ending: AtomicBool,
    closed: Latch,
}

impl<T: Clone + Send + 'static, V: EndpointEvent> Component<T, V> {
    /// A component that keeps no events for later subscribers, and only the messages that `replay` keeps.
    pub(crate) fn new(name: Arc<str>, home: IoScheduler, replay: Replay<T>) -> Self {
        let events = Events::new(name, home.clone());
        Self::of(home, events, replay, None)
    }

    /// A component that keeps events for its first subscriber, and no messages.
    #[cfg(feature = "nats")]
    pub(crate) fn keeping_events(name: Arc<str>, home: IoScheduler) -> Self {
        let events = Events::keeping(EARLY_EVENTS, name, home.clone());
        Self::of(home, events, Replay::Nothing, None)
    }

    /// A component that keeps messages and events for its first subscribers, and emits an event when it has to lose messages.
    pub(crate) fn keeping_early(name: Arc<str>, home: IoScheduler) -> Self
    where
        T: Arrived,
        V: EarlyEvent,
    {
        let events = Events::keeping(EARLY_EVENTS, name, home.clone());
        let early_lost = Arc::new(AtomicTally::default());
        let (lost, mut untold) = (early_lost.clone(), Some((events.clone(), home.clone())));
        let on_loss = move |len| {
            lost.add(len);
            if let Some((events, home)) = untold.take() {
                events.subject().post(V::early_lost());
                // Not here, where a lock is held: a subscriber of `tracing` is user code.
                home.spawn(async move { events.trace(&V::early_lost()) });
            }
        };
        Self::of(home, events, Replay::early(EARLY_MESSAGES, T::len, on_loss), Some(early_lost))
    }

    fn of(home: IoScheduler, events: Events<V>, replay: Replay<T>, early_lost: Option<Arc<AtomicTally>>) -> Self {
        let inbound = SerializedSubject::at_home(home.clone(), replay, Some(events.on_panic()));
        Self {
            home,
            inbound,
            events,
            terminal: Mutex::new(None),
            early_lost,
            is_ending: AtomicBool::new(false),
            closed: Latch::default(),
        }
    }

    /// Its name.
    pub(crate) fn name(&self) -> &Arc<str> {
        self.events.name()
    }

    /// The messages that came before the first subscriber and were lost.
    pub(crate) fn early_lost(&self) -> Tally {
        self.early_lost.as_ref().map_or_else(Tally::default, |lost| lost.tally())
    }

    /// An observable of its events.
    pub(crate) fn events(&self) -> Io<Feed<V>> {
        Feed::of(&self.events.subject(), &self.home)
    }

    /// Notes how the subscribers are to end. The first call counts, and returns true.
    pub(crate) fn ask_to_end(&self, how: Result<(), WsError>) -> bool {
        let mut terminal = self.terminal.lock().unwrap_or_else(PoisonError::into_inner);
        let first = terminal.is_none();
        if first {
            *terminal = Some(how.map_err(|error| UserValue::new(error.into())));
        }
        first
    }

    /// Notes that the task has died, emits that as an event, and returns it as an error. The subscribers end with this
    /// error, even if a clean end had been asked for, unless the program has given an error of its own.
    pub(crate) fn fail(&self, death: &Death) -> WsError {
        let error = death.of(self.name());
        let mut terminal = self.terminal.lock().unwrap_or_else(PoisonError::into_inner);
        // An error that the program gave stays.
        let is_new = !matches!(*terminal, Some(Err(_)));
        if is_new {
            *terminal = Some(Err(UserValue::new(error.clone().into())));
        }
        drop(terminal);
        if is_new {
            self.events.next(V::failed(error.clone()));
        }
        error
    }

    /// The error that the subscribers end with, once it is known.
    pub(crate) fn terminal(&self) -> Option<WsError> {
        let terminal = self.terminal.lock().unwrap_or_else(PoisonError::into_inner).clone();
        terminal?.err().map(|error| *error.into_inner())
    }

    /// Ends the events, with `last()` as the last one, then the subscribers, and then the waits for the end, once the `others`
    /// that have ended are delivered as well. `last` is to [trace](Events::traced) the event, unless that of a server stands for
    /// it.
    pub(crate) async fn end(&self, report: CloseReport, last: impl FnOnce() -> V, others: Vec<Arc<dyn Backlog>>) {
        self.emit_end(last);
        // With several threads another one may still be delivering. A wait for the end is over only after all deliveries.
        self.events.delivered().await;
        self.inbound.delivered().await;
        for other in others {
            at_most(&*other, 0).await;
        }
        self.closed.open(report);
    }

    /// As [`end`](Self::end), for a task that has died: it does not wait.
    pub(crate) fn end_at_once(&self, report: CloseReport, last: impl FnOnce() -> V) {
        self.emit_end(last);
        self.closed.open(report);
    }

    /// Once: a group that dies ends its clients, whose tasks may be about to do so themselves.
    fn emit_end(&self, last: impl FnOnce() -> V) {
        if self.is_ending.swap(true, Ordering::AcqRel) {
            return;
        }
        self.events.end(last());
        match self.terminal() {
            Some(error) => self.inbound.clone().error(error),
            None => self.inbound.clone().complete(),
        }
    }

    pub(crate) fn closed(&self) -> impl Future<Output = CloseReport> + Send + use<T, V> {
        self.closed.opened()
    }

    /// Blocks until the end, or returns an error if that would block for ever.
    pub(crate) fn wait_closed(&self, limit: Duration) -> Result<CloseReport, WsError> {
        self.wait("closing", self.closed(), limit)
    }

    pub(crate) fn wait<R>(
        &self,
        what: &'static str,
        future: impl Future<Output = R>,
        limit: Duration,
    ) -> Result<R, WsError> {
        if self.home.waits_for() {
            return Err(WsError::WouldDeadlock(what));
        }
        time::block_on(future, limit).ok_or(WsError::TimedOut { what, after: limit })
    }
}

/// Opens once, for all present and later waits. Made at the first wait: few programs wait for the end of a connection.
#[derive(Debug, Default)]
pub(crate) struct Latch(OnceLock<Arc<Opening>>);

#[derive(Debug, Default)]
struct Opening {
    report: OnceLock<CloseReport>,
    waiters: Waiters,
}

impl Latch {
    /// The first report counts.
    pub(crate) fn open(&self, report: CloseReport) {
        self.opening().open(report);
    }

    fn opening(&self) -> &Arc<Opening> {
        self.0.get_or_init(Arc::default)
    }

    pub(crate) fn opened(&self) -> impl Future<Output = CloseReport> + Send + use<> {
        let opening = self.opening().clone();
        async move { opening.waiters.until(|| opening.report.get().copied()).await }
    }
}

impl Opening {
    fn open(&self, report: CloseReport) {
        if self.report.set(report).is_ok() {
            self.waiters.wake_all();
        }
    }
}

impl Drop for Latch {
    /// The component is dropped without having ended, with its runtime.
    fn drop(&mut self) {
        if let Some(opening) = self.0.get() {
            opening.open(CloseReport::default());
        }
    }
}
