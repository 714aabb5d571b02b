//! [`PresenceFeed`]: the observable that [`RxBus::presence`](crate::RxBus::presence) returns.

use std::{convert::Infallible, fmt, sync::Arc};

use rxrust::{
    context::Context,
    observable::{CoreObservable, ObservableType},
    observer::Observer,
};

use crate::{
    Presence, SerializedSubscription, Tag, WsDatatype,
    bus::{core::BusCore, interests::Interests, presence::Tracker},
    endpoint::drop_guard::DropGuard,
    subject::holding::Holding,
};

/// Who is on a path, in an [`Io`](crate::Io) context: the present state first, then each change. *Hot*.
///
/// # Emission
///
/// On the bus's I/O thread. The first observer hears the present state a quarter of a second after it has subscribed, by when the other
/// servers have answered; later ones at once. Then five times a second at most: an observer that is slow hears the latest state. Its error type is
/// `Infallible`, so `subscribe(closure)` works directly. It completes with the bus, which observers keep open.
#[derive(Clone)]
pub struct PresenceFeed {
    tracker: Arc<Tracker>,
    interests: Arc<Interests>,
    /// Keeps the bus open.
    guard: Arc<DropGuard>,
    path: Tag,
}

impl PresenceFeed {
    pub(crate) fn of<D: WsDatatype>(core: &BusCore<D>, guard: Arc<DropGuard>, path: Tag) -> Self {
        Self { tracker: core.presence.clone(), interests: core.interests.clone(), guard, path }
    }
}

impl ObservableType for PresenceFeed {
    type Item<'a>
        = Presence
    where
        Self: 'a;
    type Err = Infallible;
}

impl<C> CoreObservable<C> for PresenceFeed
where
    C: Context,
    C::Inner: Observer<Presence, Infallible> + Send + 'static,
{
    type Unsub = SerializedSubscription;

    fn subscribe(self, context: C) -> SerializedSubscription {
        let (subject, watching) = self.tracker.watch(&self.path);
        let interests = self.tracker.hears(&self.interests);
        subject.subscribe(context.transform(|observer| Holding::new(observer, (watching, interests, self.guard))))
    }
}

impl fmt::Debug for PresenceFeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PresenceFeed").field("path", &self.path).finish_non_exhaustive()
    }
}
