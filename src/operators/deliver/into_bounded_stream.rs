use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use rxrust::{
    observable::{CoreObservable, Observable},
    subscription::Subscription,
};
use tokio::task::coop;

use super::{DeliverObserver, Receiver, channel};
use crate::operators::deliver::channel::{Bounds, End};

/// The stream that [`into_bounded_stream`](crate::ObservableExt::into_bounded_stream) returns: a `futures` stream of
/// `Result<T, E>`, with a bound.
///
/// Gives `Ok` for each item, `Err` for an error, and ends after that or after the completion. Dropping it unsubscribes.
///
/// # Cancel safety
///
/// Cancel safe: an item is taken out of the queue only when it is returned.
#[must_use = "streams do nothing unless polled"]
pub struct BoundedStream<T, E, U: Subscription> {
    receiver: Receiver<T, E>,
    /// Holds an item for the moment in which it is taken.
    taken: VecDeque<T>,
    /// The terminal event, when it was found together with the last item.
    end: Option<End<E>>,
    subscription: Option<U>,
}

// No field is pinned.
impl<T, E, U: Subscription> Unpin for BoundedStream<T, E, U> {}

impl<T, E, U: Subscription> BoundedStream<T, E, U> {
    pub(crate) fn new<'a, C>(source: C, bounds: Bounds) -> Self
    where
        C: Observable<Item<'a> = T, Err = E> + 'a,
        C::Inner: CoreObservable<C::With<DeliverObserver<T, E>>, Unsub = U>,
    {
        let (sender, receiver) = channel(bounds);
        let subscription = Some(source.subscribe_with(sender));
        Self { receiver, taken: VecDeque::new(), end: None, subscription }
    }

    /// How many items were lost so far, because the queue was full.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.receiver.lost()
    }

    fn finish(&mut self) {
        if let Some(subscription) = self.subscription.take() {
            subscription.unsubscribe();
        }
    }
}

impl<T, E, U: Subscription> Stream for BoundedStream<T, E, U> {
    type Item = Result<T, E>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.subscription.is_none() {
            return Poll::Ready(None);
        }
        if this.end.is_none() {
            // Lets the thread look at its sockets even when a task has a source that never pauses.
            let progress = ready!(coop::poll_proceed(cx));
            let received = ready!(this.receiver.poll(&mut this.taken, 1, cx));
            progress.made_progress();
            this.end = received.end;
            if let Some(item) = this.taken.pop_front() {
                return Poll::Ready(Some(Ok(item)));
            }
        }
        let end = this.end.take();
        this.finish();
        Poll::Ready(match end {
            Some(End::Error(error)) => Some(Err(error)),
            _ => None,
        })
    }
}

impl<T, E, U: Subscription> Drop for BoundedStream<T, E, U> {
    fn drop(&mut self) {
        self.finish();
    }
}

impl<T, E, U: Subscription> fmt::Debug for BoundedStream<T, E, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoundedStream").field("lost", &self.lost()).finish_non_exhaustive()
    }
}
