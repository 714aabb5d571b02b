//! The modules that lock, under the interleavings of two or three threads, by loom.
//!
//! `cargo test --test loom`
//!
//! Up to two preemptions, which find most races in seconds; `LOOM_MAX_PREEMPTIONS=10` tries more, for minutes.
//!
//! They are compiled here a second time, with loom's locks in place of the standard library's, and with a `callback` whose
//! thread-local state is loom's. So nothing in the library itself depends on loom.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "each module is compiled whole, and its models use a part"
)]

#[path = "../../src/operators/deliver/channel.rs"]
mod channel;
#[path = "../../src/numbered.rs"]
mod numbered;
#[path = "../../src/sparse.rs"]
mod sparse;
#[path = "../../src/subject/mod.rs"]
mod subject;

mod models {
    mod of_branch;
    mod of_channel;
    mod of_run_queue;
    mod of_subject;
}

/// Tries `f` under all interleavings with few preemptions.
fn model(f: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(2));
    builder.check(f);
}

mod sync {
    use std::ops::{Deref, DerefMut};

    use loom::sync::atomic::fence;
    pub(crate) use loom::sync::{
        Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    };

    /// As `try_lock::TryLock`. loom takes `SeqCst` for `AcqRel`, except in a fence.
    ///
    /// Not made of loom's mutex: a thread in its `try_lock` waits until it is free.
    pub(crate) struct TryLock<T> {
        is_locked: AtomicBool,
        content: std::sync::Mutex<T>,
    }

    pub(crate) struct Locked<'a, T> {
        is_locked: &'a AtomicBool,
        /// `None` only while it is dropped.
        content: Option<std::sync::MutexGuard<'a, T>>,
        unlock: Ordering,
    }

    impl<T> TryLock<T> {
        pub(crate) fn new(content: T) -> Self {
            Self { is_locked: AtomicBool::new(false), content: std::sync::Mutex::new(content) }
        }

        pub(crate) fn try_lock_explicit(&self, lock: Ordering, unlock: Ordering) -> Option<Locked<'_, T>> {
            fence_if_seq_cst(lock);
            if self.is_locked.swap(true, lock) {
                return None;
            }
            let content = Some(self.content.try_lock().expect("one holder at a time"));
            Some(Locked { is_locked: &self.is_locked, content, unlock })
        }
    }

    impl<T> Deref for Locked<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            self.content.as_ref().unwrap()
        }
    }

    impl<T> DerefMut for Locked<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.content.as_mut().unwrap()
        }
    }

    impl<T> Drop for Locked<'_, T> {
        fn drop(&mut self) {
            self.content = None;
            // A `store` in the crate. loom would not know that it comes behind a `swap` that has found the lock taken.
            self.is_locked.swap(false, Ordering::Release);
            fence_if_seq_cst(self.unlock);
        }
    }

    fn fence_if_seq_cst(ordering: Ordering) {
        if ordering == Ordering::SeqCst {
            fence(ordering);
        }
    }
}

#[path = "../../src/runtime"]
mod runtime {
    #[path = "run_queue.rs"]
    pub(crate) mod run_queue;
    #[path = "task_handle.rs"]
    mod task_handle;

    /// As `src/runtime/callback.rs`, without the isolation of panics: a panic is a failed model.
    pub(crate) mod callback {
        use std::{
            cell::{Cell, RefCell},
            collections::VecDeque,
            sync::Arc,
            task::{Context, Waker},
        };

        pub(crate) trait Drain: Send + Sync {
            fn drain(self: Arc<Self>) -> Rest;
            fn watch(&self, cx: &mut Context<'_>) -> Option<u64>;
            fn unwatch(&self, task: &Waker);
            fn note_stuck(&self, delivered: u64);
        }

        #[derive(PartialEq)]
        pub(crate) enum Rest {
            Little,
            Much,
        }

        pub(crate) trait Room: Send + Sync {
            fn wait(self: Arc<Self>);
        }

        loom::thread_local! {
            static DEPTH: Cell<usize> = Cell::new(0);
            static LATER: RefCell<VecDeque<Arc<dyn Drain>>> = RefCell::new(VecDeque::new());
            /// How many deliveries that others left this thread makes in one turn, and how many are left of them.
            static LEFT: Cell<[usize; 2]> = Cell::new([usize::MAX; 2]);
        }

        /// Makes this thread one that has sockets: what it [hands over](crate::runtime::hand_over) is to be
        /// [served](crate::runtime::serve).
        pub(crate) fn with_share(share: usize) {
            LEFT.with(|left| left.set([share; 2]));
        }

        pub(crate) fn begin_turn() {
            LEFT.with(|left| left.set([left.get()[0]; 2]));
        }

        pub(crate) fn is_turn_over() -> bool {
            LEFT.with(|left| left.get()[1]) == 0
        }

        pub(crate) fn spend(deliveries: usize) {
            LEFT.with(|left| left.set([left.get()[0], left.get()[1].saturating_sub(deliveries)]));
        }

        pub(crate) fn may_deliver() -> bool {
            let may = !is_turn_over();
            spend(1);
            may
        }

        /// More than any model puts off.
        pub(crate) const SHARE: usize = 256;

        pub(crate) fn should_return() -> bool {
            false
        }

        pub(crate) fn may_wait() -> bool {
            true
        }

        pub(crate) fn is_inside() -> bool {
            DEPTH.with(Cell::get) > 0
        }

        pub(crate) fn run<R>(f: impl FnOnce() -> R) -> R {
            let depth = DEPTH.with(|depth| depth.replace(depth.get() + 1));
            let result = f();
            DEPTH.with(|current| current.set(depth));
            while depth == 0
                && let Some(source) = LATER.with(|later| later.borrow_mut().pop_front())
            {
                DEPTH.with(|current| current.set(1));
                source.drain();
                DEPTH.with(|current| current.set(0));
            }
            result
        }

        pub(crate) fn task<R>(f: impl FnOnce() -> R) -> R {
            run(f)
        }

        pub(crate) fn later(source: Arc<dyn Drain>) {
            LATER.with(|later| later.borrow_mut().push_back(source));
        }

        pub(crate) fn put_back(source: Arc<dyn Drain>) {
            later(source);
        }

        pub(crate) fn wait_outside(room: Arc<dyn Room>) {
            room.wait();
        }

        pub(crate) fn attempt<R>(_: &'static str, f: impl FnOnce() -> R) -> Result<R, String> {
            Ok(f())
        }

        pub(crate) fn isolate(_: &'static str, f: impl FnOnce()) -> bool {
            f();
            true
        }

        pub(crate) fn drop_each<T>(_: &'static str, items: impl IntoIterator<Item = T>) {
            items.into_iter().for_each(drop);
        }

        pub(crate) fn wake(task: Waker) {
            task.wake();
        }
    }

    /// No model runs a task that could wait.
    pub(crate) mod debts {
        pub(crate) const CREDIT: usize = 1_024;

        pub(crate) fn owe(_: usize) -> Option<tokio::sync::oneshot::Sender<()>> {
            None
        }
    }

    /// A subject of the user's own has no home thread; to those of components, every thread is one.
    use std::{cell::RefCell, sync::Arc, task::Context};

    pub(crate) trait Deliver: callback::Drain {
        fn is_done_at(&self, place: Place) -> bool;
        fn is_at_end(&self) -> bool;
    }

    /// Each thread is a place of its own.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Place {
        Thread(loom::thread::ThreadId),
    }

    #[derive(Clone)]
    pub(crate) struct IoScheduler;

    impl IoScheduler {
        pub(crate) fn is_current(&self) -> bool {
            true
        }
    }

    loom::thread_local! {
        static HANDED: RefCell<Vec<Arc<dyn Deliver>>> = RefCell::new(Vec::new());
    }

    pub(crate) fn place(_: Option<&IoScheduler>) -> Place {
        Place::Thread(loom::thread::current().id())
    }

    pub(crate) fn hand_over(deliveries: Arc<dyn Deliver>, _: Place, _: Option<&IoScheduler>) {
        HANDED.with(|handed| handed.borrow_mut().push(deliveries));
    }

    /// Does what this thread's runtime does once the thread is back in it.
    pub(crate) fn serve() {
        while let Some(deliveries) = HANDED.with(|handed| handed.borrow_mut().pop()) {
            loop {
                callback::begin_turn();
                callback::run(|| _ = deliveries.clone().drain());
                if deliveries.is_done_at(place(None)) {
                    break;
                }
            }
        }
    }

    pub(crate) fn deliver_on(_: &IoScheduler, _: Arc<dyn Deliver>, _: Place) {
        unreachable!("the models have no home thread");
    }

    pub(crate) fn yield_now(cx: &mut Context<'_>) {
        cx.waker().wake_by_ref();
    }
}
