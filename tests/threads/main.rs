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
#[path = "../support/mod.rs"]
mod support;
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
use support::{Bomb, Heard, Pen, Sentinel, hold, sentinel, thread_name};

/// Only fails a test that hangs. Longer than [`support::PATIENCE`]: many of these tests keep all cores busy, each with as many
/// items as an unoptimized build delivers in a second or more.
const LONG_PATIENCE: Duration = Duration::from_secs(30);

type Numbers = SerializedSubject<usize>;
type Fallible = SerializedSubject<usize, &'static str>;

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
                told.recv_timeout(LONG_PATIENCE).unwrap_or(());
            },
            None,
        );
        begun.recv_timeout(LONG_PATIENCE).unwrap();
        Self { let_go }
    }

    fn let_go(self) {
        self.let_go.send(()).unwrap();
    }
}

fn hear<T>(heard: &Receiver<T>) -> T {
    heard.recv_timeout(LONG_PATIENCE).unwrap()
}

/// Returns once everything scheduled by now has been run.
fn flush(scheduler: &EventLoopScheduler) {
    let (done, finished) = mpsc::channel();
    scheduler.schedule(async move { done.send(()).unwrap() }, None);
    hear(&finished);
}
