//! The common part of `deliver_on`, `deliver_on_bounded`, `deliver_local` and `into_bounded_stream`: a channel from the
//! source's thread, its two ends, and the task that observes at the far one.

pub(crate) mod channel;
#[cfg(test)]
mod channel_tests;
mod deliver_local;
mod deliver_on;
mod into_bounded_stream;

pub use channel::Lossy;
pub use deliver_local::DeliverLocal;
pub use deliver_on::DeliverOn;
pub use into_bounded_stream::BoundedStream;

use std::{
    collections::VecDeque,
    fmt,
    mem::take,
    ops::ControlFlow::{self, Break, Continue},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    thread,
};

use rxrust::{observer::Observer, subscription::Subscription};

use crate::{
    operators::deliver::channel::{Bounds, Channel, End, Pushed, Received},
    runtime::{
        self, UserValue,
        callback::{self, Room},
        debts::{Debts, Standing},
    },
};

/// From this many waiting items on, a sender that may wait does so, where no capacity was asked for. As for a subject's
/// inbox: far above the size of any burst.
const CROWD: usize = 1 << 20;

/// How many items are delivered before the thread's sockets and its other tasks get their turn.
const BATCH: usize = callback::SHARE;

impl Bounds {
    /// For a queue for which the program chose no capacity.
    pub(crate) fn default_bounds() -> Self {
        // Senders that may not wait, callbacks and I/O threads, can go on for as long again.
        Self { capacity: 2 * CROWD, lossy: Lossy::DropLatest, crowd: CROWD }
    }

    /// # Panics
    ///
    /// If `capacity` is zero.
    pub(crate) fn with_capacity(capacity: usize, lossy: Lossy) -> Self {
        assert!(capacity > 0, "a queue needs a capacity of at least one");
        Self { capacity, lossy, crowd: usize::MAX }
    }
}

/// Both ends of a new channel.
pub(crate) fn channel<T, E>(bounds: Bounds) -> (DeliverObserver<T, E>, Receiver<T, E>) {
    let channel = Arc::new(Channel::new(bounds));
    (DeliverObserver { sender: Arc::new(Sender { channel: channel.clone() }) }, Receiver { channel })
}

/// The observer that queues the items of a source.
pub struct DeliverObserver<T, E> {
    sender: Arc<Sender<T, E>>,
}

struct Sender<T, E> {
    channel: Arc<Channel<T, E>>,
}

/// The far end of a channel, which it closes when it is dropped.
pub(crate) struct Receiver<T, E> {
    channel: Arc<Channel<T, E>>,
}

impl<T: Send + 'static, E: Send + 'static> Observer<T, E> for DeliverObserver<T, E> {
    fn next(&mut self, item: T) {
        let Pushed { lost, is_crowded } = self.sender.channel.push(item);
        drop(lost);
        if is_crowded {
            callback::wait_outside(self.sender.channel.clone());
        }
    }

    fn error(self, error: E) {
        self.sender.channel.end(End::Error(error));
    }

    fn complete(self) {
        self.sender.channel.end(End::Complete);
    }

    fn is_closed(&self) -> bool {
        !self.sender.channel.is_open()
    }
}

impl<T, E> Drop for Sender<T, E> {
    fn drop(&mut self) {
        self.channel.end(End::Dropped);
    }
}

impl<T: Send, E: Send> Room for Channel<T, E> {
    fn wait(self: Arc<Self>) {
        self.wait_for_room();
    }
}

impl<T, E> Receiver<T, E> {
    pub(crate) fn poll(&self, batch: &mut VecDeque<T>, limit: usize, cx: &mut Context<'_>) -> Poll<Received<E>> {
        self.channel.poll(batch, limit, cx)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.channel.is_open()
    }

    pub(crate) fn lost(&self) -> u64 {
        self.channel.lost()
    }
}

impl<T: Send + 'static, E: Send + 'static> Receiver<T, E> {
    pub(crate) fn closing(&self) -> Closing {
        Closing { channel: self.channel.clone() }
    }
}

impl<T, E> Drop for Receiver<T, E> {
    fn drop(&mut self) {
        close(&self.channel);
    }
}

fn close<T, E>(channel: &Channel<T, E>) {
    let (items, end) = channel.close();
    callback::run(|| drop_queued(items, end));
}

/// Drops what nobody observes any more. Its destructors are user code.
fn drop_queued<T, E>(items: VecDeque<T>, end: Option<End<E>>) {
    callback::drop_each("an item's destructor", items);
    callback::drop_each("an error's destructor", end);
}

/// Closes a channel, whatever its types.
#[derive(Clone)]
pub(crate) struct Closing {
    channel: Arc<dyn Close>,
}

trait Close: Send + Sync {
    fn close(&self);
    fn is_open(&self) -> bool;
}

impl<T: Send, E: Send> Close for Channel<T, E> {
    fn close(&self) {
        close(self);
    }

    fn is_open(&self) -> bool {
        self.is_open()
    }
}

/// The subscription to an observable that delivers elsewhere.
///
/// After `unsubscribe` has returned no delivery begins, and the queued items are gone; if the observer is in the middle of a
/// delivery, up to 256 of them go when it returns. The observer is dropped on the thread that it was called on. Dropping the
/// subscription does not unsubscribe.
#[derive(Clone)]
pub struct DeliverSubscription<U> {
    source: U,
    closing: Closing,
}

impl<U> DeliverSubscription<U> {
    pub(crate) fn new(source: U, closing: Closing) -> Self {
        Self { source, closing }
    }
}

impl<U: Subscription> Subscription for DeliverSubscription<U> {
    fn unsubscribe(self) {
        self.closing.channel.close();
        self.source.unsubscribe();
    }

    fn is_closed(&self) -> bool {
        !self.closing.channel.is_open()
    }
}

/// The task that takes items out of a channel and hands them to an observer.
pub struct DeliverTask<T, E, O, L> {
    receiver: Receiver<T, E>,
    batch: VecDeque<T>,
    /// The terminal event behind the batch.
    end: Option<End<E>>,
    /// `None` when the delivery is over.
    observer: Option<O>,
    on_lost: UserValue<L>,
    /// How many losses have been reported to `on_lost`.
    told: u64,
    /// The deliveries that the observer has caused and that nobody has made: they come before the next item.
    debts: Debts,
}

// No field is pinned.
impl<T, E, O, L> Unpin for DeliverTask<T, E, O, L> {}

impl<T, E, O, L> DeliverTask<T, E, O, L>
where
    O: Observer<T, E>,
    L: FnMut(u64),
{
    pub(crate) fn new(receiver: Receiver<T, E>, observer: O, on_lost: L) -> Self {
        let (observer, on_lost) = (Some(observer), UserValue::new(on_lost));
        Self { receiver, batch: VecDeque::new(), end: None, observer, on_lost, told: 0, debts: Debts::default() }
    }

    /// Receives up to `limit` items once the batch is delivered. Breaks when the delivery is over.
    fn receive(&mut self, limit: usize, cx: &mut Context<'_>) -> Poll<ControlFlow<()>> {
        if !self.batch.is_empty() {
            return Poll::Ready(Continue(()));
        }
        let received = ready!(self.receiver.poll(&mut self.batch, limit, cx));
        self.end = received.end;
        Poll::Ready(self.report_losses(received.lost))
    }

    /// Delivers the batch, as far as this turn of the thread reaches. Breaks when the delivery is over.
    fn deliver(&mut self) -> ControlFlow<()> {
        self.deliver_items()?;
        let end = if self.batch.is_empty() { self.end.take() } else { None };
        let Some(end) = end else { return Continue(()) };
        self.deliver_end(end);
        Break(())
    }

    /// Reports new losses to the program. Breaks if its callback panics.
    fn report_losses(&mut self, lost: u64) -> ControlFlow<()> {
        let news = lost - self.told;
        self.told = lost;
        let on_lost = &mut self.on_lost;
        let returned = news == 0 || callback::run(|| callback::isolate("a callback for losses", || on_lost(news)));
        if returned { Continue(()) } else { Break(()) }
    }

    fn deliver_items(&mut self) -> ControlFlow<()> {
        let Some(observer) = &mut self.observer else { return Break(()) };
        while let Some(item) = self.batch.pop_front() {
            let is_open = self.receiver.is_open();
            let returned = callback::run(|| {
                callback::isolate("an observer", || if is_open { observer.next(item) } else { drop(item) })
            });
            if !is_open || !returned {
                return Break(());
            }
            callback::deliver_deferred();
            if callback::is_turn_over() {
                break;
            }
        }
        let mut is_closed = true;
        callback::isolate("an observer", || is_closed = observer.is_closed());
        if self.receiver.is_open() && !is_closed { Continue(()) } else { Break(()) }
    }

    /// The standing of the task: deliveries that the observer has caused come first, unless nobody is interested any more.
    fn standing(&mut self, cx: &mut Context<'_>) -> Standing {
        if self.receiver.is_open() { self.debts.pay(cx) } else { Standing::Clear }
    }

    fn deliver_end(&mut self, end: End<E>) {
        let Some(observer) = self.observer.take() else { return };
        callback::run(|| {
            callback::isolate("an observer", || match end {
                End::Error(error) => observer.error(error),
                End::Complete => observer.complete(),
                End::Dropped => drop(observer),
            })
        });
    }
}

impl<T, E, O, L> DeliverTask<T, E, O, L> {
    /// Drops the observer, whose captured values may panic in their destructors.
    fn finish(&mut self) {
        close(&self.receiver.channel);
        let (observer, items, end) = (self.observer.take(), take(&mut self.batch), self.end.take());
        callback::run(|| {
            callback::drop_each("an observer's destructor", observer);
            drop_queued(items, end);
        });
    }
}

impl<T, E, O, L> Drop for DeliverTask<T, E, O, L> {
    /// Its runtime may end before the delivery.
    fn drop(&mut self) {
        self.finish();
    }
}

impl<T, E, O, L> Future for DeliverTask<T, E, O, L>
where
    O: Observer<T, E>,
    L: FnMut(u64),
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if !callback::is_inside() {
            callback::begin_turn();
        }
        let mut share = BATCH;
        while share > 0 && !callback::is_turn_over() {
            match this.standing(cx) {
                Standing::Clear => {}
                Standing::InDebt => break,
                Standing::Waiting => {
                    this.debts.wake_in_time(cx);
                    return Poll::Pending;
                }
            }
            let mut flow = ready!(this.receive(share, cx));
            let received = this.batch.len();
            if flow.is_continue() {
                let mut debts = take(&mut this.debts);
                flow = debts.incur(|| this.deliver());
                this.debts = debts;
            }
            if flow.is_break() {
                this.finish();
                return Poll::Ready(());
            }
            let delivered = received - this.batch.len();
            share -= delivered;
            callback::spend(delivered);
            // Gives the sender a moment to queue more: when two threads pass the queue back and forth for every item or two,
            // that costs a third to a half more.
            thread::yield_now();
        }
        // Looks again after the thread's sockets and its other tasks have had their turn.
        runtime::yield_now(cx);
        Poll::Pending
    }
}

impl<T, E> Clone for DeliverObserver<T, E> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone() }
    }
}

impl<T, E> fmt::Debug for DeliverObserver<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeliverObserver").field("is_closed", &!self.sender.channel.is_open()).finish()
    }
}

impl<U> fmt::Debug for DeliverSubscription<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeliverSubscription").field("is_closed", &!self.closing.channel.is_open()).finish()
    }
}

impl<T, E, O, L> fmt::Debug for DeliverTask<T, E, O, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeliverTask").field("told", &self.told).finish_non_exhaustive()
    }
}
