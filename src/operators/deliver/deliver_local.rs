use std::{fmt, marker::PhantomData, rc::Weak};

use rxrust::{
    context::{Context, LocalCtx},
    observable::{CoreObservable, Observable, ObservableType},
    observer::Observer,
    scheduler::LocalScheduler,
};
use tokio::task::LocalSet;

use super::{DeliverObserver, DeliverSubscription, DeliverTask, channel, deliver_on::log_lost};
use crate::operators::deliver::channel::Bounds;

/// The observable that [`deliver_local`](crate::ObservableExt::deliver_local) returns. Belongs to its loop's thread.
pub struct DeliverLocal<C, T> {
    /// With its context, since the context changes from here on.
    source: C,
    target: Weak<LocalSet>,
    item: PhantomData<fn() -> T>,
}

impl<C, T> DeliverLocal<C, T> {
    pub(crate) fn new(source: C, target: Weak<LocalSet>) -> Self {
        Self { source, target, item: PhantomData }
    }
}

impl<C: Observable, T> ObservableType for DeliverLocal<C, T> {
    type Item<'a>
        = T
    where
        Self: 'a;
    type Err = C::Err;
}

impl<C, T, O> CoreObservable<LocalCtx<O, LocalScheduler>> for DeliverLocal<C, T>
where
    C: Observable<Err: Send + 'static>,
    C::Inner: CoreObservable<C::With<DeliverObserver<T, <C as Observable>::Err>>>,
    O: Observer<T, <C as Observable>::Err> + 'static,
    T: Send + 'static,
{
    type Unsub = DeliverSubscription<<C::Inner as CoreObservable<C::With<DeliverObserver<T, C::Err>>>>::Unsub>;

    fn subscribe(self, context: LocalCtx<O, LocalScheduler>) -> Self::Unsub {
        let (sender, receiver) = channel(Bounds::default_bounds());
        let closing = receiver.closing();
        let delivery = DeliverTask::new(receiver, context.into_inner(), log_lost);
        // If the loop is gone, the delivery is dropped, and the source finds its observer closed.
        if let Some(target) = self.target.upgrade() {
            target.spawn_local(delivery);
        }
        DeliverSubscription::new(self.source.subscribe_with(sender), closing)
    }
}

impl<C: Clone, T> Clone for DeliverLocal<C, T> {
    fn clone(&self) -> Self {
        Self::new(self.source.clone(), self.target.clone())
    }
}

impl<C, T> fmt::Debug for DeliverLocal<C, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeliverLocal").finish_non_exhaustive()
    }
}
