//! Threads: their names, what stops them, and the runtimes that have them.

use std::{
    panic::resume_unwind,
    pin::Pin,
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    task::{Context, Wake, Waker},
    thread,
};

use rxplus::prelude::*;
use rxrust::scheduler::Scheduler;

use super::PATIENCE;

/// The name of the thread that asks.
pub(crate) fn thread_name() -> String {
    thread::current().name().unwrap_or_default().to_owned()
}

/// Runs `f` on a thread with a small stack and fails if it does not return: a deadlock is a failure, not a hang, and so is
/// deep recursion.
pub(crate) fn within_patience(f: impl FnOnce() + Send + 'static) {
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

/// Keeps the one thread of `runtime` from doing anything until what this returns is dropped.
pub(crate) fn stall(runtime: &IoRuntime) -> mpsc::Sender<()> {
    let (release, held) = mpsc::channel();
    let (holds, holding) = mpsc::channel();
    let stalled = async move {
        holds.send(()).unwrap();
        held.recv().unwrap_or(());
    };
    IoScheduler::on(runtime).schedule(stalled, None);
    holding.recv_timeout(PATIENCE).unwrap();
    release
}

/// One of each kind of runtime, those of several threads with `threads` of them, and what keeps the program's own running.
pub(crate) fn each_runtime(threads: usize) -> (Vec<IoRuntime>, tokio::runtime::Runtime) {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build().unwrap();
    let own = IoRuntime::from_tokio(tokio.handle().clone());
    (vec![IoRuntime::new("one").unwrap(), IoRuntime::with_threads("several", threads).unwrap(), own], tokio)
}

/// Polls a future once, with a waker that panics, and keeps it.
pub(crate) fn poll_with_waker_that_panics<F: Future>(future: F) -> Pin<Box<F>> {
    struct Panicking;
    impl Wake for Panicking {
        fn wake(self: Arc<Self>) {
            panic!("a waker of the program");
        }
    }
    let mut future = Box::pin(future);
    let waker = Waker::from(Arc::new(Panicking));
    assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    future
}
