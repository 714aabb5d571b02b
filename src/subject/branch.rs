//! A subject whose items also flow into a main one, as the items of a connection flow into its server's subject.
//!
//! Until the main subject has its first subscriber it has one early memory for the items of all its branches. A branch keeps
//! items there while it has no subscriber of its own, and gives them to its next subscriber. It does both under its own
//! lock, so subscribing is one step, whatever thread it is made on: an item is either kept before, and taken, or emitted
//! afterwards.

use std::{
    sync::Arc,
    task::{self, Poll},
};

use rxrust::{
    context::Context,
    observable::{CoreObservable, ObservableType},
    observer::Observer,
};

use crate::{
    runtime::callback,
    subject::{
        Backlog, SerializedSubject, SerializedSubscription,
        audience::{Audience, Seen},
        discard,
        holding::Holding,
        replay::{Elsewhere, Noted, Replay},
    },
    sync::{AtomicUsize, Ordering},
};

/// A subject of `T` whose items also reach its main subject.
pub(crate) struct Branch<T, M, E> {
    own: SerializedSubject<T, E>,
    listeners: Listeners,
    main: Main<M, E>,
    seen: Seen,
}

/// The subject that branches flow into.
pub(crate) struct Main<M, E> {
    pub(crate) subject: SerializedSubject<M, E>,
    pub(crate) audience: Audience,
}

/// An item of a main subject. Its functions are called under locks, and must call no user code.
pub(crate) trait FromBranch<T> {
    /// The number of the branch it comes from.
    fn branch(&self) -> u64;

    /// The item that the branch emitted.
    fn into_own(self) -> T;
}

impl<T, M, E> Branch<T, M, E>
where
    T: Clone + Send + 'static,
    M: FromBranch<T> + Clone + Send + 'static,
    E: Clone + Send + Sync + 'static,
{
    /// `own` must have the replay of [`kept_in`] for the main subject.
    pub(crate) fn new(own: SerializedSubject<T, E>, main: Main<M, E>) -> Self {
        Self { own, listeners: Listeners::default(), main, seen: Seen::default() }
    }

    /// Emits an item to the observers of the branch, and by `feed` to those of the main subject, if any of them hears the branch's
    /// `tag`. For one thread at a time.
    pub(crate) fn emit(&self, tag: &str, item: T, feed: impl FnOnce(T)) {
        if self.main.subject.keeps_early() {
            // An item comes back if somebody has subscribed to the main subject just now.
            if let Some(item) = self.own.offer(item) {
                feed(item);
            }
        } else if !self.listeners.any() {
            match self.main.audience.hears(tag, &self.seen) {
                true => feed(item),
                false => callback::run(|| discard(item)),
            }
        } else {
            if self.main.audience.hears(tag, &self.seen) {
                // The `clone` is user code.
                if !callback::isolate("the clone of an item", || feed(item.clone())) {
                    self.main.subject.report_panic();
                }
            }
            self.own.next(item);
        }
    }

    /// Adds a subscriber, which first hears the items that have been kept for it.
    pub(crate) fn add(&self, observer: impl Observer<T, E> + Send + 'static) -> SerializedSubscription {
        // Counted before it joins, so that it is not passed over from its first item on.
        let observer = Holding::new(observer, self.listeners.count_in());
        self.own.add(observer)
    }
}

/// The deliveries that the branch and the main subject still have to make.
impl<T, M, E> Backlog for Branch<T, M, E>
where
    T: Send + 'static,
    M: Send + 'static,
    E: Send + Sync + 'static,
{
    fn poll_at_most(&self, most: usize, cx: &task::Context<'_>) -> Poll<()> {
        // Without a listener the branch delivers nothing, and most branches have none.
        if self.listeners.any() && self.own.poll_at_most(most, cx).is_pending() {
            return Poll::Pending;
        }
        self.main.subject.poll_at_most(most, cx)
    }

    fn inflated(&self) -> &AtomicUsize {
        self.main.subject.inflated()
    }
}

/// The replay of the branch with this `number`: items that nobody hears are kept by `main`, as the items that `mark` makes of them.
pub(crate) fn kept_in<T, M, E>(
    number: u64,
    main: SerializedSubject<M, E>,
    mark: impl Fn(T) -> M + Send + Sync + 'static,
) -> Replay<T>
where
    T: Clone + Send + 'static,
    M: FromBranch<T> + Clone + Send + 'static,
    E: Clone + Send + Sync + 'static,
{
    Replay::Elsewhere(Arc::new(KeptIn { number, main, mark }))
}

struct KeptIn<M, E, F> {
    number: u64,
    main: SerializedSubject<M, E>,
    mark: F,
}

impl<T, M, E, F> Elsewhere<T> for KeptIn<M, E, F>
where
    M: FromBranch<T> + Clone + Send + 'static,
    E: Clone + Send + Sync + 'static,
    F: Fn(T) -> M + Send + Sync,
{
    fn keep(&self, item: T) -> Noted<T> {
        self.main.keep_early((self.mark)(item)).map(M::into_own)
    }

    fn take(&self) -> Vec<T> {
        let taken = self.main.take_early(&|item| item.branch() == self.number);
        taken.into_iter().map(M::into_own).collect()
    }

    fn emit(&self, item: T) {
        self.main.post((self.mark)(item));
    }
}

/// How many subscribers a branch has. Its source checks it for each item, without its lock.
#[derive(Clone, Default)]
struct Listeners(Arc<AtomicUsize>);

/// Counts a subscriber out when it goes.
struct Listener(Listeners);

impl<T, M, E> Clone for Branch<T, M, E> {
    fn clone(&self) -> Self {
        let Self { own, listeners, main, seen } = self;
        Self { own: own.clone(), listeners: listeners.clone(), main: main.clone(), seen: seen.clone() }
    }
}

impl<M, E> Clone for Main<M, E> {
    fn clone(&self) -> Self {
        Self { subject: self.subject.clone(), audience: self.audience.clone() }
    }
}

impl Listeners {
    fn any(&self) -> bool {
        self.0.load(Ordering::Acquire) > 0
    }

    fn count_in(&self) -> Listener {
        self.0.fetch_add(1, Ordering::Release);
        Listener(self.clone())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Release);
    }
}

impl<T: Clone + Send + 'static, M, E: Clone> ObservableType for Branch<T, M, E> {
    type Item<'a>
        = T
    where
        Self: 'a;
    type Err = E;
}

impl<T, M, E, C> CoreObservable<C> for Branch<T, M, E>
where
    T: Clone + Send + 'static,
    M: FromBranch<T> + Clone + Send + 'static,
    E: Clone + Send + Sync + 'static,
    C: Context,
    C::Inner: Observer<T, E> + Send + 'static,
{
    type Unsub = SerializedSubscription;

    fn subscribe(self, context: C) -> SerializedSubscription {
        self.add(context.into_inner())
    }
}
