//! The threads of rxplus's own runtimes: how they are started, kept at work, and ended.

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::Poll,
    thread,
    time::Duration,
};

use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::{Notify, oneshot},
    task::unconstrained,
};

use crate::{runtime::callback, time};

/// How long a callback that blocks can keep the other threads of a runtime from their sockets.
const NUDGE: Duration = Duration::from_millis(50);

/// After so many looks that found no thread at work, the thread that looks after them sleeps.
const IDLE_LOOKS: u32 = 4;

/// The stack of a thread that decodes messages. In a debug build 64 levels of a type that has 4 KiB per level take 7 MiB of
/// it, as MessagePack and as JSON; the rest is for the program's callbacks. The unused part costs only address space.
const STACK_LEN: usize = 16 * 1024 * 1024;

/// Starts one thread, or `workers` and one that looks after them. Each calls `enter` when it begins. They end when the
/// sender is dropped.
///
/// # Errors
///
/// When the operating system refuses a thread.
pub(crate) fn start(
    name: &str,
    workers: Option<usize>,
    enter: impl Fn() + Clone + Send + Sync + 'static,
) -> io::Result<(Handle, oneshot::Sender<()>)> {
    // The system's threads cannot have a name with a zero byte in it.
    let name = name.replace('\0', "");
    let (running, ended) = oneshot::channel();
    let (tell, told) = oneshot::channel();
    let thread = thread::Builder::new().name(name.clone()).stack_size(STACK_LEN);
    // Made in the thread that drops it: tokio forbids dropping it on threads that run another runtime.
    thread.spawn(move || {
        enter();
        let at_work = Arc::<AtWork>::default();
        let runtime = match workers {
            None => Builder::new_current_thread().enable_all().thread_name(&name).thread_stack_size(STACK_LEN).build(),
            Some(count) => build(&name, count, enter, &at_work),
        };
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return drop(tell.send(Err(error))),
        };
        // Nobody waits for it any more if the caller is gone.
        if tell.send(Ok(runtime.handle().clone())).is_err() {
            return;
        }
        match workers {
            None => _ = runtime.block_on(ended),
            Some(_) => at_work.look_after(&runtime, ended),
        }
    })?;
    // The caller may be a task that has used up its budget, by which tokio would keep it waiting.
    let told = time::block_on(unconstrained(told), Duration::MAX).and_then(Result::ok);
    let handle = told.unwrap_or_else(|| Err(io::Error::other("the thread panicked when it began")))?;
    Ok((handle, running))
}

fn build(
    name: &str,
    workers: usize,
    enter: impl Fn() + Send + Sync + 'static,
    at_work: &Arc<AtWork>,
) -> io::Result<Runtime> {
    // tokio panics when a worker is refused, or goes on with fewer.
    ask_for(workers)?;
    let [started, unparked, parked, stopped] = [(); 4].map(|()| at_work.clone());
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(workers).enable_all().thread_name(name).thread_stack_size(STACK_LEN);
    builder
        .on_thread_start(move || {
            enter();
            started.begin();
        })
        .on_thread_unpark(move || unparked.begin())
        .on_thread_park(move || parked.end())
        .on_thread_stop(move || stopped.end());
    // Inside another runtime: if it panics all the same, the panic does not wait for the workers that have begun.
    let shell = Builder::new_current_thread().build()?;
    let built = shell.block_on(async { callback::attempt("starting a runtime", || builder.build()) });
    built.unwrap_or_else(|panic| Err(io::Error::other(panic)))
}

/// Starts `count` threads and ends them, to see whether the system allows that many at once: none ends before all have
/// started.
fn ask_for(count: usize) -> io::Result<()> {
    let gate = Mutex::new(());
    thread::scope(|scope| {
        let _closed = gate.lock();
        (0..count).try_for_each(|_| {
            let thread = thread::Builder::new().stack_size(STACK_LEN);
            thread.spawn_scoped(scope, || drop(gate.lock())).map(drop)
        })
    })
}

/// How many threads are not parked, and the state of the thread that looks after them.
#[derive(Default)]
struct AtWork {
    threads: AtomicUsize,
    /// No thread looks after them: the next one at work has to wake it.
    is_unwatched: AtomicBool,
    watch: Notify,
}

/// Why the thread that looks after the others has stopped resting.
#[derive(PartialEq, Eq)]
enum Rested {
    /// A thread is at work.
    AtWork,
    Ended,
}

impl AtWork {
    fn begin(&self) {
        self.threads.fetch_add(1, SeqCst);
        if self.is_unwatched.load(SeqCst) && self.is_unwatched.swap(false, SeqCst) {
            self.watch.notify_one();
        }
    }

    fn end(&self) {
        self.threads.fetch_sub(1, SeqCst);
    }

    fn any(&self) -> bool {
        self.threads.load(SeqCst) > 0
    }

    /// Keeps the threads at work until `ended`.
    ///
    /// When a worker has looked for events and then runs a callback that blocks, nobody is left to look for more: tokio's
    /// other workers sleep until there is a task. So this thread spawns an empty task from time to time, as long as any
    /// thread is at work.
    fn look_after(&self, runtime: &Runtime, mut ended: oneshot::Receiver<()>) {
        let mut idle_looks = 0;
        loop {
            if idle_looks == IDLE_LOOKS {
                idle_looks = 0;
                if self.rest(&mut ended) == Rested::Ended {
                    return;
                }
            }
            // The sender sends nothing: the error says that it was dropped.
            if time::block_on(&mut ended, NUDGE).is_some() {
                return;
            }
            if self.any() {
                idle_looks = 0;
                runtime.spawn(time::nothing());
            } else {
                idle_looks += 1;
            }
        }
    }

    /// Waits until a thread is at work, or until the end.
    fn rest(&self, ended: &mut oneshot::Receiver<()>) -> Rested {
        self.is_unwatched.store(true, SeqCst);
        // Checked after the flag is set: a thread that begins now is either seen here, or sees the flag.
        if self.any() && self.is_unwatched.swap(false, SeqCst) {
            return Rested::AtWork;
        }
        let mut work = pin!(self.watch.notified());
        let either = poll_fn(|cx| {
            if Pin::new(&mut *ended).poll(cx).is_ready() {
                return Poll::Ready(Rested::Ended);
            }
            work.as_mut().poll(cx).map(|()| Rested::AtWork)
        });
        time::block_on(either, Duration::MAX).unwrap_or(Rested::Ended)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Instant};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn callback_that_blocks_a_runtime_that_was_idle_does_not_keep_the_others_from_their_timers() {
        let at_work = Arc::<AtWork>::default();
        let runtime = build("idle", 2, || {}, &at_work).unwrap();
        let (running, ended) = oneshot::channel();
        let handle = runtime.handle().clone();
        thread::scope(|scope| {
            scope.spawn(|| at_work.look_after(&runtime, ended));
            for _ in 0..5 {
                let began = Instant::now();
                while !at_work.is_unwatched.load(SeqCst) {
                    assert!(began.elapsed() < PATIENCE, "somebody still looks after an idle runtime");
                    thread::yield_now();
                }
                let ((tell, told), (release, released)) = (mpsc::channel(), mpsc::channel::<()>());
                handle.spawn(async move {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    tell.send(()).unwrap();
                });
                handle.spawn(async move { _ = released.recv() });
                told.recv_timeout(PATIENCE).unwrap();
                drop(release);
            }
            drop(running);
        });
    }
}
