//! A time limit for each item. The items and the timer meet in a subject, which lets one of them through at a time. The timer goes with the
//! observer behind that, however this one ends: it holds memory and a thread, and the limit may be long.

use std::{
    fmt,
    marker::PhantomData,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rxrust::{
    context::Context,
    observable::{CoreObservable, ObservableType},
    observer::Observer,
    scheduler::{Scheduler, Task, TaskHandle, TaskState},
    subscription::Subscription,
};
use tokio::time::Instant;

use super::ref_count::lock;
use crate::{SerializedSubject, SerializedSubscription, WsError};

/// The observable that [`timeout`](crate::ObservableExt::timeout) returns.
pub struct Timeout<S, T, Sch> {
    source: S,
    limit: Duration,
    scheduler: Sch,
    // Of `fn() -> T`, so that `T` need not be `Send` or `Clone`: no value of it exists.
    item: PhantomData<fn() -> T>,
}

/// The subscription to a [`Timeout`].
///
/// Dropping it does not unsubscribe.
pub struct TimeoutSubscription<U> {
    inner: SerializedSubscription,
    source: U,
}

/// The observer that [`timeout`](crate::ObservableExt::timeout) subscribes.
pub struct TimeoutObserver<T>(Arc<Gated<T>>);

/// What the task of a [`Timeout`] has.
pub struct Timer<T> {
    gated: Arc<Gated<T>>,
    limit: Duration,
}

/// The observer behind the gate, and the timer that goes with it.
struct LimitedObserver<O> {
    observer: O,
    switch: Switch,
}

/// Stops the timer when it is dropped.
struct Switch(Arc<Mutex<Running>>);

/// Whether the timer still runs.
#[derive(Default)]
struct Running {
    is_over: bool,
    timer: Option<TaskHandle>,
}

impl Running {
    /// Returns the timer if it has to be stopped at once.
    fn begin(&mut self, timer: TaskHandle) -> Option<TaskHandle> {
        if self.is_over {
            return Some(timer);
        }
        self.timer.replace(timer)
    }

    fn end(&mut self) -> Option<TaskHandle> {
        self.is_over = true;
        self.timer.take()
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        // Outside the lock: that wakes a task.
        let timer = lock(&self.0).end();
        timer.into_iter().for_each(TaskHandle::unsubscribe);
    }
}

/// What the source and the timer share.
struct Gated<T> {
    gate: SerializedSubject<T, WsError>,
    /// That of the observer behind the gate, once it is there.
    inner: OnceLock<SerializedSubscription>,
    clock: Clock,
}

impl<T> Gated<T> {
    fn new() -> Arc<Self> {
        let clock = Clock { began: Instant::now(), last: AtomicU64::new(0) };
        Arc::new(Self { gate: SerializedSubject::new(), inner: OnceLock::new(), clock })
    }

    fn is_over(&self) -> bool {
        self.inner.get().is_some_and(Subscription::is_closed)
    }
}

/// When the last item came.
struct Clock {
    began: Instant,
    /// Nanoseconds since it began.
    last: AtomicU64,
}

impl Clock {
    fn wind(&self) {
        let nanos = self.began.elapsed().as_nanos();
        self.last.store(u64::try_from(nanos).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How long ago the last item came.
    fn elapsed(&self) -> Duration {
        self.began.elapsed().saturating_sub(Duration::from_nanos(self.last.load(Ordering::Relaxed)))
    }
}

impl<S, T, Sch> Timeout<S, T, Sch> {
    pub(super) fn new(source: S, limit: Duration, scheduler: Sch) -> Self {
        Self { source, limit, scheduler, item: PhantomData }
    }
}

impl<S, T, Sch> ObservableType for Timeout<S, T, Sch> {
    type Item<'a>
        = T
    where
        Self: 'a;
    type Err = WsError;
}

impl<S, T, Sch, C> CoreObservable<C> for Timeout<S, T, Sch>
where
    C: Context,
    C::Inner: Observer<T, WsError> + Send + 'static,
    T: Clone + Send + 'static,
    S: CoreObservable<C::With<TimeoutObserver<T>>>,
    Sch: Scheduler<Task<Timer<T>>>,
{
    type Unsub = TimeoutSubscription<S::Unsub>;

    fn subscribe(self, context: C) -> Self::Unsub {
        let Self { source, limit, scheduler, .. } = self;
        let gated = Gated::new();
        let feeder = context.wrap(TimeoutObserver(gated.clone()));
        // Before the source, which may emit while it is subscribed to.
        let running = Arc::default();
        let switch = Switch(Arc::clone(&running));
        let inner = gated.gate.clone().subscribe(context.transform(|observer| LimitedObserver { observer, switch }));
        let _ = gated.inner.set(inner.clone());
        let timer = scheduler.schedule(Task::new(Timer { gated, limit }, ring), Some(limit));
        let late = lock(&running).begin(timer);
        late.into_iter().for_each(TaskHandle::unsubscribe);
        TimeoutSubscription { inner, source: source.subscribe(feeder) }
    }
}

/// Ends the items if none has come in time; else sleeps until the next one would be late.
fn ring<T: Clone + Send + 'static>(timer: &mut Timer<T>) -> TaskState {
    if timer.gated.is_over() {
        return TaskState::Finished;
    }
    match timer.limit.checked_sub(timer.gated.clock.elapsed()) {
        Some(left) if !left.is_zero() => TaskState::Sleeping(left),
        _ => {
            timer.gated.gate.clone().error(WsError::TimedOut { what: "an emission", after: timer.limit });
            TaskState::Finished
        }
    }
}

impl<T: Clone + Send + 'static> Observer<T, WsError> for TimeoutObserver<T> {
    fn next(&mut self, item: T) {
        self.0.clock.wind();
        self.0.gate.relay(item);
    }

    fn error(self, error: WsError) {
        self.0.gate.relay_end(Some(Arc::new(error)));
    }

    fn complete(self) {
        self.0.gate.relay_end(None);
    }

    fn is_closed(&self) -> bool {
        self.0.is_over()
    }
}

impl<T, E, O: Observer<T, E>> Observer<T, E> for LimitedObserver<O> {
    fn next(&mut self, item: T) {
        self.observer.next(item);
    }

    fn error(self, error: E) {
        let Self { observer, switch } = self;
        drop(switch);
        observer.error(error);
    }

    fn complete(self) {
        let Self { observer, switch } = self;
        drop(switch);
        observer.complete();
    }

    fn is_closed(&self) -> bool {
        self.observer.is_closed()
    }
}

impl<U: Subscription> Subscription for TimeoutSubscription<U> {
    fn unsubscribe(self) {
        self.source.unsubscribe();
        self.inner.unsubscribe();
    }

    fn is_closed(&self) -> bool {
        self.inner.is_closed()
    }
}

impl<S: Clone, T, Sch: Clone> Clone for Timeout<S, T, Sch> {
    fn clone(&self) -> Self {
        Self::new(self.source.clone(), self.limit, self.scheduler.clone())
    }
}

// For `retry` before it, which subscribes with it again.
impl<T> Clone for TimeoutObserver<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: fmt::Debug, T, Sch> fmt::Debug for Timeout<S, T, Sch> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeout").field("source", &self.source).field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl<U> fmt::Debug for TimeoutSubscription<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimeoutSubscription").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for TimeoutObserver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimeoutObserver").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Timer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer").field("limit", &self.limit).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, mpsc};

    use rxrust::{
        scheduler::{Scheduler, TaskHandle},
        subscription::Subscription as _,
    };

    use super::Timeout;
    use crate::prelude::*;

    const LIMIT: Duration = Duration::from_millis(50);
    const PATIENCE: Duration = Duration::from_secs(10);

    /// What comes out of a limited subject: items, and the error or the end at last.
    fn limited(limit: Duration) -> (SerializedSubject<u32, WsError>, mpsc::Receiver<Result<u32, String>>) {
        let (subject, (sender, heard)) = (SerializedSubject::new(), mpsc::channel());
        let (items, errors) = (sender.clone(), sender);
        Io::new(subject.clone())
            .timeout(limit)
            .on_error(move |error| _ = errors.send(Err(error.to_string())))
            .subscribe(move |n| _ = items.send(Ok(n)));
        (subject, heard)
    }

    #[test]
    fn source_that_is_silent_for_too_long_ends_with_an_error() {
        let (subject, heard) = limited(LIMIT);
        subject.next(1);
        assert_eq!(heard.recv_timeout(PATIENCE), Ok(Ok(1)));
        let late = "an emission did not happen within 50ms".to_owned();
        assert_eq!(heard.recv_timeout(PATIENCE), Ok(Err(late)));
        subject.next(2);
        assert_eq!(heard.recv_timeout(PATIENCE), Err(mpsc::RecvTimeoutError::Disconnected));
    }

    #[test]
    fn items_in_time_and_the_end_pass() {
        let (subject, heard) = limited(PATIENCE);
        (0..100).for_each(|n| subject.next(n));
        subject.clone().complete();
        assert!(heard.iter().eq((0..100).map(Ok)));
    }

    #[test]
    fn nothing_comes_after_unsubscribing_and_nothing_is_left() {
        let (subject, (sender, heard)) = (SerializedSubject::<u32, WsError>::new(), mpsc::channel());
        let limited = Io::new(subject.clone()).timeout(LIMIT);
        limited.on_error(move |_| _ = sender.send(())).subscribe(|_| {}).unsubscribe();
        // The sender went with its observer: before the timer could ring, or there would be an item.
        assert_eq!(heard.recv_timeout(PATIENCE), Err(mpsc::RecvTimeoutError::Disconnected));
    }

    #[test]
    fn source_is_told_when_the_observer_has_had_enough() {
        let (subject, held) = (SerializedSubject::<u32, WsError>::new(), std::sync::Arc::new(()));
        let holds = held.clone();
        let counted = Io::new(subject.clone()).map(move |n| n + std::sync::Arc::strong_count(&holds) as u32);
        counted.timeout(PATIENCE).take(1).log_errors().subscribe(|_| {});
        // The first item is the last, and the second finds nobody who wants it.
        (0..2).for_each(|n| subject.next(n));
        assert_eq!(std::sync::Arc::strong_count(&held), 1);
    }

    /// Keeps the handles of its tasks.
    #[derive(Clone)]
    struct Keeping(EventLoopScheduler, Arc<Mutex<Vec<TaskHandle>>>);

    impl<S> Scheduler<S> for Keeping
    where
        EventLoopScheduler: Scheduler<S>,
    {
        fn schedule(&self, source: S, delay: Option<Duration>) -> TaskHandle {
            let handle = self.0.schedule(source, delay);
            self.1.lock().unwrap().push(handle.clone());
            handle
        }
    }

    #[test]
    fn timer_goes_with_the_observer_however_this_ends() {
        type Numbers = SerializedSubject<u32, WsError>;
        let ends: [fn(&Numbers); 4] = [
            |numbers| numbers.clone().complete(),
            |numbers| numbers.clone().error(WsError::Closed("it".into())),
            // One that has had enough.
            |numbers| (0..2).for_each(|n| numbers.next(n)),
            // One that panics.
            |numbers| numbers.next(9),
        ];
        for (nth, end) in ends.iter().enumerate() {
            let (numbers, scheduler) = (Numbers::new(), Keeping(EventLoopScheduler::new("timer"), Arc::default()));
            let limited = Io::new(Timeout::new(numbers.clone(), PATIENCE, scheduler.clone()));
            limited.take(1).log_errors().subscribe(|n| assert_ne!(n, 9, "on purpose"));
            let is_stopped = || scheduler.1.lock().unwrap()[0].is_closed();
            assert!(!is_stopped());
            end(&numbers);
            assert!(is_stopped(), "end {nth}");
        }
    }
}
