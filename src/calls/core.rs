//! [`Core`]: the calls of an endpoint that wait for their replies.

use std::{
    collections::{BTreeSet, HashMap},
    mem::take,
    sync::{Arc, Mutex, MutexGuard, OnceLock, Weak},
    time::Duration,
};

use rxrust::subscription::Subscription;
use tokio::{sync::Notify, time::Instant};

use crate::{
    DropReason, SendError, SerializedSubscription, WsDatatype, WsError,
    calls::{
        Caller, Loss, OnLoss, Replies,
        ask::{Ask, lock},
        replies::NumberOf,
        shares::in_shares,
        timer,
    },
    error::Chain,
    fate::Fate,
    runtime::{
        UserValue,
        callback::{self, SHARE},
    },
    sparse,
    subject::discard,
    time::after,
};

/// What the handles of [`Calls`](crate::Calls) share, and the calls that wait.
pub(super) struct Core<D: WsDatatype> {
    caller: Box<dyn Caller<D>>,
    registry: Mutex<Registry<D>>,
    /// Wakes the timer before its time.
    alarm: Arc<Notify>,
    hearing: OnceLock<SerializedSubscription>,
}

struct Registry<D: WsDatatype> {
    asks: HashMap<u64, Arc<Ask<D>>>,
    deadlines: BTreeSet<(Instant, u64)>,
    /// When the timer looks again; `None` while there is none.
    looks_at: Option<Instant>,
    /// The error of all further calls, which may be one of the program's.
    over: Option<UserValue<WsError>>,
}

impl<D: WsDatatype> Core<D> {
    /// Subscribes to what arrives at `caller`.
    pub(super) fn listening(caller: Box<dyn Caller<D>>, number_of: NumberOf<D>) -> Arc<Self> {
        let registry = Registry { asks: HashMap::new(), deadlines: BTreeSet::new(), looks_at: None, over: None };
        let (alarm, hearing) = (Arc::default(), OnceLock::new());
        let core = Arc::new(Self { caller, registry: Mutex::new(registry), alarm, hearing });
        // Weak, since the endpoint, which `core` holds, holds its observers.
        let (weak, on_loss) = (Arc::downgrade(&core), Arc::downgrade(&core));
        core.caller.watch(on_loss);
        let subscription = core.caller.hear(Replies::new(weak, number_of));
        let _ = core.hearing.set(subscription);
        core
    }

    pub(super) fn caller(&self) -> &dyn Caller<D> {
        &*self.caller
    }

    pub(super) fn pending(&self) -> usize {
        self.lock().asks.len()
    }

    /// Sends a request. The reply may be there before this returns.
    pub(super) fn ask(
        self: &Arc<Self>,
        number: u64,
        request: D::Outgoing,
        timeout: Duration,
        resends: bool,
    ) -> Arc<Ask<D>> {
        let again = resends.then(|| request.clone());
        let ask = Arc::new(Ask::new(Arc::downgrade(self), number, timeout, again));
        match self.enter(&ask) {
            Ok(()) => self.send(&ask, &request),
            Err(error) => ask.finish(Err(error)),
        }
        ask
    }

    fn enter(self: &Arc<Self>, ask: &Arc<Ask<D>>) -> Result<(), WsError> {
        let mut registry = self.lock();
        if let Some(error) = &registry.over {
            return Err(WsError::clone(error));
        }
        registry.asks.insert(ask.number, ask.clone());
        registry.deadlines.insert((ask.deadline, ask.number));
        let before = registry.looks_at;
        registry.looks_at = Some(before.map_or(ask.deadline, |at| at.min(ask.deadline)));
        drop(registry);
        match before {
            None => timer::start(self, &self.alarm),
            Some(at) if at > ask.deadline => self.alarm.notify_one(),
            Some(_) => {}
        }
        Ok(())
    }

    fn send(&self, ask: &Arc<Ask<D>>, request: &D::Outgoing) {
        let fate: Arc<dyn Fate> = ask.clone();
        if let Err(error) = self.caller.offer(request, &fate) {
            let error = match error {
                SendError::Closed(()) => WsError::Closed(self.caller.name().into()),
                refused => self.not_sent(Chain(&refused).to_string()),
            };
            self.end_one(ask.number, Err(error));
        }
    }

    /// Ends the call with this number, if it waits.
    pub(super) fn end_one(&self, number: u64, reply: Result<D::Item, WsError>) {
        // Not in the `match`, which would keep the lock.
        let ask = self.lock().take(number);
        match ask {
            Some(ask) => ask.finish(reply),
            None => discard(reply),
        }
    }

    /// Ends all calls, and those to come.
    pub(super) fn end(&self, error: WsError) {
        let mut registry = self.lock();
        if registry.over.is_some() {
            return;
        }
        registry.over = Some(UserValue::new(error.clone()));
        registry.deadlines.clear();
        let asks = take(&mut registry.asks);
        drop(registry);
        self.alarm.notify_one();
        in_shares(self.caller.home(), in_order(asks.into_values()), move |ask| ask.finish(Err(error.clone())));
    }

    /// Ends the calls whose time is over, up to a [share](SHARE) of them. Returns when to look again, at the latest: `None` when there
    /// will be no more calls.
    pub(super) fn expire(&self, now: Instant) -> Option<Instant> {
        for _ in 0..SHARE {
            let mut registry = self.lock();
            if registry.over.is_some() {
                return None;
            }
            let first = registry.deadlines.first().copied();
            let Some((_, number)) = first.filter(|(deadline, _)| *deadline <= now) else {
                registry.looks_at = Some(first.map_or_else(|| after(now, Duration::MAX), |(deadline, _)| deadline));
                return registry.looks_at;
            };
            let ask = registry.take(number);
            drop(registry);
            let Some(ask) = ask else { continue };
            let late = WsError::TimedOut { what: "the reply to a call", after: ask.timeout };
            callback::task(|| ask.finish(Err(late)));
        }
        Some(now)
    }

    /// The outbox has dropped a request.
    pub(super) fn dropped(&self, number: u64, reason: DropReason) {
        let ask = self.lock().asks.get(&number).cloned();
        let Some(ask) = ask else { return };
        let why = match reason {
            DropReason::Unconfirmed | DropReason::Refused => return self.unconfirmed(&ask, None),
            DropReason::Closed => {
                return self.end_one(number, Err(WsError::Closed(self.caller.name().into())));
            }
            DropReason::Overflow => "its outbox was full",
            DropReason::Cleared => "the outbox was cleared",
            DropReason::Replaced => "a newer request with the same key has taken its place",
            DropReason::Undeliverable | DropReason::Greeting => "the link ended at it, again and again",
        };
        self.end_one(number, Err(self.not_sent(why.into())));
    }

    /// A request was written, and what was to bring the reply is lost.
    fn unconfirmed(&self, ask: &Arc<Ask<D>>, error: Option<&WsError>) {
        let Some(request) = ask.again() else {
            let (name, source) = (self.caller.name().into(), error.cloned().map(Arc::new));
            return self.end_one(ask.number, Err(WsError::Unanswered { name, source }));
        };
        // Its `clone` is user code.
        callback::isolate("the clone of a request", || ask.keep(request.clone()));
        self.send(ask, &request);
    }

    fn not_sent(&self, reason: String) -> WsError {
        WsError::NotSent { name: self.caller.name().into(), reason }
    }

    fn lock(&self) -> MutexGuard<'_, Registry<D>> {
        lock(&self.registry)
    }
}

impl<D: WsDatatype> Registry<D> {
    fn take(&mut self, number: u64) -> Option<Arc<Ask<D>>> {
        let ask = sparse::remove_entry(&mut self.asks, &number).map(|(_, ask)| ask)?;
        self.deadlines.remove(&(ask.deadline, number));
        Some(ask)
    }
}

impl<D: WsDatatype> Core<D> {
    /// Nobody waits for this call any more.
    pub(super) fn forget(&self, ask: &Ask<D>) {
        let ask = self.lock().take(ask.number);
        discard(ask);
    }
}

impl<D: WsDatatype> OnLoss for Core<D> {
    fn lost(self: Arc<Self>, loss: Loss, error: &WsError) {
        let asks: Vec<_> = self.lock().asks.values().filter(|ask| ask.lose(loss)).cloned().collect();
        let (core, error) = (self.clone(), error.clone());
        let again = move |ask: &Arc<Ask<D>>| {
            // Its time may be over before its turn has come.
            let waits = core.lock().asks.contains_key(&ask.number);
            if waits {
                core.unconfirmed(ask, Some(&error));
            }
        };
        callback::run(|| in_shares(self.caller.home(), in_order(asks), again));
    }
}

impl<D: WsDatatype> Drop for Core<D> {
    fn drop(&mut self) {
        self.alarm.notify_one();
        if let Some(hearing) = self.hearing.take() {
            hearing.unsubscribe();
        }
    }
}

/// The calls in the order in which they were made.
fn in_order<D: WsDatatype>(asks: impl IntoIterator<Item = Arc<Ask<D>>>) -> Vec<Arc<Ask<D>>> {
    let mut asks: Vec<_> = asks.into_iter().collect();
    asks.sort_unstable_by_key(|ask| ask.number);
    asks
}

/// As observers of an endpoint hold it.
pub(super) type WeakCore<D> = Weak<Core<D>>;
