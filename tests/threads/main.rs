//! Moving data to a thread: schedulers that keep order, and operators that queue.

mod bounds;
mod churn;
mod debts;
mod deliver;
mod local;
mod order;
mod panics;
mod run_loop;
mod stream;
mod time;
mod turns;
mod unsubscribing;

use std::{
    convert::Infallible,
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use rxplus::prelude::*;

/// Only fails a test that hangs.
const PATIENCE: Duration = Duration::from_secs(30);

type Numbers = SerializedSubject<usize>;
type Fallible = SerializedSubject<usize, &'static str>;

/// What an observer heard.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Heard {
    Item(usize),
    Error(&'static str),
    Complete,
}

/// An observer that sends on what it hears. Its end of the channel says when it is dropped.
#[derive(Clone)]
struct Pen(Sender<Heard>);

impl Observer<usize, &'static str> for Pen {
    fn next(&mut self, item: usize) {
        self.0.send(Heard::Item(item)).unwrap_or(());
    }

    fn error(self, error: &'static str) {
        self.0.send(Heard::Error(error)).unwrap_or(());
    }

    fn complete(self) {
        self.0.send(Heard::Complete).unwrap_or(());
    }

    fn is_closed(&self) -> bool {
        false
    }
}

/// Holds a scheduler's thread until it is let go.
struct Held {
    let_go: Sender<()>,
}

impl Held {
    fn on(scheduler: &EventLoopScheduler) -> Self {
        let (let_go, told) = mpsc::channel();
        let (begin, begun) = mpsc::channel();
        scheduler.schedule(
            async move {
                begin.send(()).unwrap();
                told.recv_timeout(PATIENCE).unwrap_or(());
            },
            None,
        );
        begun.recv_timeout(PATIENCE).unwrap();
        Self { let_go }
    }

    fn let_go(self) {
        self.let_go.send(()).unwrap();
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

/// Makes a closure capture `value`.
fn hold<T>(_value: &T) {}

fn hear<T>(heard: &Receiver<T>) -> T {
    heard.recv_timeout(PATIENCE).unwrap()
}

/// Returns once everything scheduled by now has been run.
fn flush(scheduler: &EventLoopScheduler) {
    let (done, finished) = mpsc::channel();
    scheduler.schedule(async move { done.send(()).unwrap() }, None);
    hear(&finished);
}

fn thread_name() -> String {
    thread::current().name().unwrap_or_default().to_owned()
}
