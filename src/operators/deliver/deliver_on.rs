use std::{fmt, marker::PhantomData};

use rxrust::{
    context::Context,
    observable::{CoreObservable, ObservableType},
    observer::Observer,
    scheduler::Scheduler,
};

use super::{DeliverObserver, DeliverSubscription, DeliverTask, channel};
use crate::operators::deliver::channel::Bounds;

/// The observable that [`deliver_on`](crate::ObservableExt::deliver_on) and
/// [`deliver_on_bounded`](crate::ObservableExt::deliver_on_bounded) return.
pub struct DeliverOn<S, T, Sch, L> {
    source: S,
    scheduler: Sch,
    bounds: Bounds,
    on_lost: L,
    item: PhantomData<fn() -> T>,
}

impl<S, T, Sch> DeliverOn<S, T, Sch, fn(u64)> {
    pub(crate) fn with_default_bounds(source: S, scheduler: Sch) -> Self {
        Self::new(source, scheduler, Bounds::default_bounds(), log_lost)
    }
}

impl<S, T, Sch, L> DeliverOn<S, T, Sch, L> {
    pub(crate) fn new(source: S, scheduler: Sch, bounds: Bounds, on_lost: L) -> Self {
        Self { source, scheduler, bounds, on_lost, item: PhantomData }
    }
}

/// Logs losses where the program has no callback for them.
pub(crate) fn log_lost(count: u64) {
    tracing::warn!(count, "items were lost: their observer is slower than their source");
}

impl<S: ObservableType, T, Sch, L> ObservableType for DeliverOn<S, T, Sch, L> {
    type Item<'a>
        = T
    where
        Self: 'a;
    type Err = S::Err;
}

impl<S, T, Sch, L, C> CoreObservable<C> for DeliverOn<S, T, Sch, L>
where
    C: Context,
    C::Inner: Observer<T, S::Err>,
    T: Send + 'static,
    L: FnMut(u64),
    S: CoreObservable<C::With<DeliverObserver<T, <S as ObservableType>::Err>>, Err: Send + 'static>,
    Sch: Scheduler<DeliverTask<T, S::Err, C::Inner, L>>,
{
    type Unsub = DeliverSubscription<S::Unsub>;

    fn subscribe(self, context: C) -> Self::Unsub {
        let (sender, receiver) = channel(self.bounds);
        let closing = receiver.closing();
        let (observer, context) = context.swap(sender);
        // Before the source begins: a source that emits as it is subscribed to may wait for room.
        self.scheduler.schedule(DeliverTask::new(receiver, observer, self.on_lost), None);
        DeliverSubscription::new(self.source.subscribe(context), closing)
    }
}

impl<S: Clone, T, Sch: Clone, L: Clone> Clone for DeliverOn<S, T, Sch, L> {
    fn clone(&self) -> Self {
        Self::new(self.source.clone(), self.scheduler.clone(), self.bounds, self.on_lost.clone())
    }
}

impl<S: fmt::Debug, T, Sch: fmt::Debug, L> fmt::Debug for DeliverOn<S, T, Sch, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeliverOn")
            .field("source", &self.source)
            .field("scheduler", &self.scheduler)
            .finish_non_exhaustive()
    }
}
