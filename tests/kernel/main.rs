//! The reactive kernel under attack: many threads, re-entrance, panics, pipelines that push into themselves.

mod clones;
mod endings;
mod panics;
mod pipelines;
mod reentrance;
#[cfg(target_os = "linux")] // counts threads by /proc
mod runtimes;
mod schedulers;
mod subscriptions;
mod threads;

use std::{
    convert::Infallible,
    panic::resume_unwind,
    sync::{
        Arc, Barrier, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::Duration,
};

use rxplus::{SerializedSubscription, prelude::*};

/// Only fails a test that hangs.
const PATIENCE: Duration = Duration::from_secs(10);

type Numbers = SerializedSubject<usize>;
type Fallible = SerializedSubject<usize, &'static str>;

/// What an observer heard.
#[derive(Clone, Debug, PartialEq)]
enum Heard {
    Item(usize),
    Error(&'static str),
    Complete,
}

impl Heard {
    fn end(error: Option<&'static str>) -> Self {
        error.map_or(Self::Complete, Self::Error)
    }
}

fn end(subject: &Fallible, error: Option<&'static str>) {
    match error {
        Some(error) => subject.clone().error(error),
        None => subject.clone().complete(),
    }
}

/// Notes things in the order in which they happen, whoever notes them.
#[derive(Clone)]
struct Log<T>(Arc<Mutex<Vec<T>>>);

impl<T: Clone> Log<T> {
    fn new() -> Self {
        Self(Arc::default())
    }

    fn note(&self, item: T) {
        self.0.lock().unwrap().push(item);
    }

    fn items(&self) -> Vec<T> {
        self.0.lock().unwrap().clone()
    }
}

impl Log<usize> {
    fn subscribe_to(&self, subject: &Numbers) -> SerializedSubscription {
        let log = self.clone();
        Io::new(subject.clone()).subscribe(move |n| log.note(n))
    }
}

impl Log<Heard> {
    fn subscribe_to_all_of(&self, subject: &Fallible) -> SerializedSubscription {
        let [items, errors, completions] = [(); 3].map(|()| self.clone());
        Io::new(subject.clone())
            .on_complete(move || completions.note(Heard::Complete))
            .on_error(move |error| errors.note(Heard::Error(error)))
            .subscribe(move |n| items.note(Heard::Item(n)))
    }
}

/// An observer that waits in its first callback until it is told to go on.
struct Pause {
    subscription: SerializedSubscription,
    entered: Receiver<()>,
    go_on: Sender<()>,
}

impl Pause {
    fn in_observer_of(subject: &Numbers, log: &Log<usize>) -> Self {
        let ((enter, entered), (go_on, told)) = (mpsc::channel(), mpsc::channel());
        let (log, mut first) = (log.clone(), true);
        let subscription = Io::new(subject.clone()).subscribe(move |n| {
            log.note(n);
            if std::mem::take(&mut first) {
                enter.send(()).unwrap();
                told.recv_timeout(PATIENCE).unwrap();
            }
        });
        Self { subscription, entered, go_on }
    }

    /// Pushes `item` from another thread and returns once that is inside the callback.
    fn emit(&self, subject: &Numbers, item: usize) -> thread::JoinHandle<()> {
        let subject = subject.clone();
        let emitter = thread::spawn(move || subject.next(item));
        self.entered.recv_timeout(PATIENCE).unwrap();
        emitter
    }

    fn end(&self) {
        self.go_on.send(()).unwrap();
    }
}

/// Says on its channel that it was dropped.
struct Sentinel(Sender<()>);

impl Drop for Sentinel {
    fn drop(&mut self) {
        self.0.send(()).unwrap_or(());
    }
}

fn sentinel() -> (Sentinel, Receiver<()>) {
    let (send, receive) = mpsc::channel();
    (Sentinel(send), receive)
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a bug of a captured value's");
    }
}

/// Makes a closure capture `value`.
fn hold<T>(_value: &T) {}

fn subscribe_holding(subject: &Numbers, held: &Arc<()>) -> SerializedSubscription {
    let held = held.clone();
    Io::new(subject.clone()).subscribe(move |_| hold(&held))
}

fn subscribe_fallible(subject: &Fallible, held: Arc<()>) -> SerializedSubscription {
    Io::new(subject.clone()).on_error(|_| {}).subscribe(move |_| hold(&held))
}

/// Runs `f` on a thread with a small stack and fails if it does not return: a deadlock is a failure, not a hang, and so is
/// deep recursion.
fn within_patience(f: impl FnOnce() + Send + 'static) {
    let (done, finished) = mpsc::channel::<()>();
    let body = move || {
        f();
        drop(done);
    };
    let thread = thread::Builder::new().stack_size(512 << 10).spawn(body).unwrap();
    match finished.recv_timeout(PATIENCE) {
        Err(RecvTimeoutError::Timeout) => panic!("still not done after {PATIENCE:?}"),
        _ => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
    }
}

/// The name of the thread on which `scheduler` runs its tasks.
fn thread_of(scheduler: &IoScheduler) -> String {
    let (send, name) = mpsc::channel();
    scheduler.schedule(async move { send.send(thread_name()).unwrap() }, None);
    name.recv_timeout(PATIENCE).unwrap()
}

fn thread_name() -> String {
    thread::current().name().unwrap_or_default().to_owned()
}

fn block_on(handle: TaskHandle) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, handle).await }).expect("the task ends");
}
