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
#[path = "../support/mod.rs"]
mod support;
mod threads;

use std::{
    convert::Infallible,
    sync::{
        Arc, Barrier, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::Duration,
};

use rxplus::{SerializedSubscription, prelude::*};
use support::{Bomb, Heard, PATIENCE, hold, sentinel, thread_name, within_patience};

type Numbers = SerializedSubject<usize>;
type Fallible = SerializedSubject<usize, &'static str>;

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

impl Log<Heard<usize>> {
    fn subscribe_to_all_of(&self, subject: &Fallible) -> SerializedSubscription {
        let [items, errors, completions] = [(); 3].map(|()| self.clone());
        Io::new(subject.clone())
            .on_complete(move || completions.note(Heard::Complete))
            .on_error(move |error| errors.note(Heard::end(Some(error))))
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

fn subscribe_holding(subject: &Numbers, held: &Arc<()>) -> SerializedSubscription {
    let held = held.clone();
    Io::new(subject.clone()).subscribe(move |_| hold(&held))
}

fn subscribe_fallible(subject: &Fallible, held: Arc<()>) -> SerializedSubscription {
    Io::new(subject.clone()).on_error(|_| {}).subscribe(move |_| hold(&held))
}

/// The name of the thread on which `scheduler` runs its tasks.
fn thread_of(scheduler: &IoScheduler) -> String {
    let (send, name) = mpsc::channel();
    scheduler.schedule(async move { send.send(thread_name()).unwrap() }, None);
    name.recv_timeout(PATIENCE).unwrap()
}

fn block_on(handle: TaskHandle) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, handle).await }).expect("the task ends");
}
