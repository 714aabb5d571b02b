//! What servers, clients and groups have in common: a name, a home thread, what they emit, and how they end.

pub(crate) mod codec;
pub(crate) mod drop_guard;
pub(crate) mod emitter;
pub(crate) mod event;
pub(crate) mod inbound;
pub(crate) mod incoming;
pub(crate) mod options;
pub(crate) mod subject;
pub(crate) mod subscribe;
pub(crate) mod switchboard;

pub use event::{ClientEvent, CloseReport, ConnectionState, Peer, ServerEvent};

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rxrust::{
    context::Context,
    observable::{CoreObservable, ObservableType},
    observer::Observer,
};
use tokio::sync::watch;

use crate::{
    Io, IoScheduler, SerializedSubject, SerializedSubscription, TaggedData, WsError,
    subject::{
        Merge,
        branch::FromBranch,
        replay::{EarlyBounds, Replay},
    },
    time,
};

/// How many messages are kept for the first subscriber of a component.
const EARLY_MESSAGES: EarlyBounds = EarlyBounds { items: 1024, len: 1024 * 1024 };

/// How many events are kept for the first subscriber of `events()`.
const EARLY_EVENTS: usize = 256;

/// A message that arrived, how many bytes it took, and the number of the connection it came from (0 on a client).
#[derive(Clone, Debug)]
pub(crate) struct Received<T> {
    pub(crate) item: T,
    pub(crate) len: usize,
    pub(crate) from: u64,
}

impl<T> FromBranch<Received<T>> for TaggedData<Received<T>> {
    fn branch(&self) -> u64 {
        self.data.from
    }

    fn into_own(self) -> Received<T> {
        self.data
    }
}

/// `T` is what flows in, `V` what is told beside it.
pub(crate) struct Component<T, V> {
    pub(crate) name: Arc<str>,
    pub(crate) home: IoScheduler,
    pub(crate) inbound: SerializedSubject<T, WsError>,
    pub(crate) events: SerializedSubject<V>,
    /// How the subscribers are to be ended, once somebody has asked for it.
    terminal: Mutex<Option<Result<(), WsError>>>,
    is_ending: AtomicBool,
    closed: Latch,
}

impl<T: Clone + Send + 'static, V: Clone + Merge + Send + Sync + 'static> Component<T, V> {
    /// A component that keeps no events for those who subscribe later, and of its messages what `replay` does. `panicked` makes
    /// what is emitted when a subscriber did.
    pub(crate) fn new(name: Arc<str>, home: IoScheduler, replay: Replay<T>, panicked: fn() -> V) -> Self {
        let events = SerializedSubject::reporting(home.clone(), Replay::Nothing, panicked);
        Self::of(name, home, events, replay)
    }

    /// A component that keeps, for its first subscribers, what comes before them.
    ///
    /// `len` tells how long a message is. The lengths of those that are lost go to `count_lost`, and what `early_lost` makes
    /// is emitted when that begins.
    pub(crate) fn keeping_early(
        name: Arc<str>,
        home: IoScheduler,
        len: fn(&T) -> usize,
        [early_lost, panicked]: [fn() -> V; 2],
        count_lost: impl Fn(usize) + Send + 'static,
    ) -> Self {
        let events = SerializedSubject::reporting(home.clone(), Replay::first(EARLY_EVENTS), panicked);
        let mut first = Some((events.clone(), early_lost));
        let on_loss = move |len| {
            count_lost(len);
            if let Some((events, early_lost)) = first.take() {
                events.post(early_lost());
            }
        };
        Self::of(name, home, events, Replay::early(EARLY_MESSAGES, len, on_loss))
    }

    fn of(name: Arc<str>, home: IoScheduler, events: SerializedSubject<V>, replay: Replay<T>) -> Self {
        let inbound = SerializedSubject::at_home(home.clone(), replay, events.on_panic());
        Self {
            name,
            home,
            inbound,
            events,
            terminal: Mutex::new(None),
            is_ending: AtomicBool::new(false),
            closed: Latch::default(),
        }
    }

    /// An observable of what happens beside the data.
    pub(crate) fn events(&self) -> Io<Feed<V>> {
        Feed::of(&self.events, &self.home)
    }

    /// Notes how the subscribers are to be ended. The first call counts; true for it.
    pub(crate) fn ask_to_end(&self, how: Result<(), WsError>) -> bool {
        let mut terminal = self.terminal.lock().unwrap_or_else(PoisonError::into_inner);
        let first = terminal.is_none();
        if first {
            *terminal = Some(how);
        }
        first
    }

    /// Notes that the subscribers are to be ended with `error`, also if a clean end had been asked for. True unless they are
    /// ended with another one.
    pub(crate) fn fail(&self, error: WsError) -> bool {
        let mut terminal = self.terminal.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = !matches!(*terminal, Some(Err(_)));
        if is_new {
            *terminal = Some(Err(error));
        }
        is_new
    }

    /// The error that the subscribers end with, once that is known.
    pub(crate) fn terminal(&self) -> Option<WsError> {
        self.terminal.lock().unwrap_or_else(PoisonError::into_inner).clone()?.err()
    }

    /// Ends the subscribers, the events with what `last` makes, and then those who wait for the end.
    pub(crate) async fn end(&self, report: CloseReport, last: impl FnOnce() -> V) {
        self.tell_end(last);
        // With several threads another one may still be delivering: who waits for the end finds everybody told.
        self.events.delivered().await;
        self.inbound.delivered().await;
        self.closed.open(report);
    }

    /// As [`end`](Self::end), for a task that has died and can wait for nobody.
    pub(crate) fn end_at_once(&self, report: CloseReport, last: impl FnOnce() -> V) {
        self.tell_end(last);
        self.closed.open(report);
    }

    /// Once: a group that dies ends its clients, whose tasks may be about to do so themselves.
    fn tell_end(&self, last: impl FnOnce() -> V) {
        if self.is_ending.swap(true, Ordering::AcqRel) {
            return;
        }
        // Both at once: what else is told, of a subscriber that panics on the last event, say, comes too late.
        self.events.enqueue(last());
        self.events.clone().complete();
        match self.terminal() {
            Some(error) => self.inbound.clone().error(error),
            None => self.inbound.clone().complete(),
        }
    }

    pub(crate) fn closed(&self) -> impl Future<Output = CloseReport> + Send + use<T, V> {
        self.closed.opened()
    }

    /// Blocks until the end, unless that would be for ever.
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

/// Opens once, for everybody who waits or will wait. Made when the first one does: it takes 360 bytes, and hardly anybody
/// waits for a connection.
#[derive(Debug, Default)]
pub(crate) struct Latch(OnceLock<watch::Sender<Option<CloseReport>>>);

impl Latch {
    /// The first report counts.
    pub(crate) fn open(&self, report: CloseReport) {
        self.sender().send_if_modified(|opened| opened.replace(opened.unwrap_or(report)).is_none());
    }

    fn sender(&self) -> &watch::Sender<Option<CloseReport>> {
        self.0.get_or_init(|| watch::Sender::new(None))
    }

    pub(crate) fn opened(&self) -> impl Future<Output = CloseReport> + Send + use<> {
        let mut receiver = self.sender().subscribe();
        async move {
            // An error means that the component was dropped without having ended, with its runtime.
            let report = receiver.wait_for(Option::is_some).await.ok().and_then(|report| *report);
            report.unwrap_or_default()
        }
    }
}

/// An observable of a component's: what `events()`, `state()` and `connections()` return, in an [`Io`] context. *Hot*.
///
/// # Emission
///
/// On the component's I/O thread. Its error type is `Infallible`, so `subscribe(closure)` works directly.
pub struct Feed<T> {
    subject: SerializedSubject<T>,
}

impl<T> Feed<T> {
    pub(crate) fn of(subject: &SerializedSubject<T>, home: &IoScheduler) -> Io<Self> {
        Io::from_parts(Self { subject: subject.clone() }, home.clone())
    }
}

impl<T> Clone for Feed<T> {
    fn clone(&self) -> Self {
        Self { subject: self.subject.clone() }
    }
}

impl<T> ObservableType for Feed<T> {
    type Item<'a>
        = T
    where
        Self: 'a;
    type Err = Infallible;
}

impl<T, C> CoreObservable<C> for Feed<T>
where
    T: Clone + Send + 'static,
    C: Context,
    C::Inner: Observer<T, Infallible> + Send + 'static,
{
    type Unsub = SerializedSubscription;

    fn subscribe(self, context: C) -> SerializedSubscription {
        self.subject.subscribe(context)
    }
}

impl<T> fmt::Debug for Feed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").finish_non_exhaustive()
    }
}
