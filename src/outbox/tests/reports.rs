//! The reports of drops, and the tasks that make them.

use std::{
    hint, iter,
    ops::ControlFlow,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::oneshot,
};

use super::*;

/// How long after a report the next one comes at the earliest.
const PAUSE: Duration = Duration::from_millis(50);

/// Reports by tasks, and adds up what they report.
struct Reporting {
    home: Mutex<Handle>,
    told: Mutex<Dropped>,
    spawned: AtomicUsize,
}

impl Reporter for Reporting {
    fn post_drops(self: Arc<Self>, reports: Reports) {
        self.spawned.fetch_add(1, SeqCst);
        let home = self.home.lock().unwrap().clone();
        home.spawn(reports.make(move |outbox| {
            outbox.report_drops(|reason, dropped| self.told.lock().unwrap().add(reason, dropped));
            ControlFlow::Continue(())
        }));
    }
}

impl Reporting {
    /// With an outbox that is full, so that each push drops a message.
    fn at(home: Handle) -> (Arc<Self>, Outbox) {
        let (told, spawned) = (Mutex::default(), AtomicUsize::new(0));
        let reporting = Arc::new(Self { home: Mutex::new(home), told, spawned });
        let reporter: Weak<Self> = Arc::downgrade(&reporting);
        let outbox = Outbox::new(OutboxBound::new(1, 1000, Overflow::DropOldest), reporter);
        outbox.push(message(0, 0)).unwrap();
        (reporting, outbox)
    }

    /// How many messages were reported, and by how many tasks.
    fn told(&self) -> (u64, usize) {
        (self.told.lock().unwrap().overflow.messages, self.spawned.load(SeqCst))
    }
}

fn paused_runtime() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

async fn after(pause: Duration) {
    tokio::time::sleep(pause).await;
}

#[tokio::test(start_paused = true)]
async fn one_task_reports_for_as_long_as_drops_come_and_the_next_drop_after_it_has_its_own() {
    let (reporting, outbox) = Reporting::at(Handle::current());
    let drop_some = |count| (0..count).for_each(|n| outbox.push(message(n, 0)).unwrap());
    drop_some(3);
    tokio::task::yield_now().await;
    assert_eq!(reporting.told(), (3, 1));
    for round in 1..=5 {
        drop_some(2);
        tokio::task::yield_now().await;
        assert_eq!(reporting.told(), (3 + 2 * (round - 1), 1));
        after(PAUSE + Duration::from_millis(1)).await;
        assert_eq!(reporting.told(), (3 + 2 * round, 1));
    }
    after(2 * PAUSE).await;
    drop_some(1);
    tokio::task::yield_now().await;
    assert_eq!(reporting.told(), (14, 2));
    assert_eq!(*reporting.told.lock().unwrap(), dropped(&outbox));
}

#[tokio::test(start_paused = true)]
async fn task_that_waits_for_further_drops_keeps_no_outbox() {
    let (reporting, outbox) = Reporting::at(Handle::current());
    outbox.push(message(1, 0)).unwrap();
    tokio::task::yield_now().await;
    assert_eq!((reporting.told(), Arc::strong_count(&outbox.core)), ((1, 1), 1));
    let core = Arc::downgrade(&outbox.core);
    drop(outbox);
    assert_eq!(core.strong_count(), 0);
}

#[test]
fn drops_whose_task_is_gone_with_its_runtime_are_reported_with_the_next() {
    let ended = paused_runtime();
    let (reporting, outbox) = Reporting::at(ended.handle().clone());
    outbox.push(message(1, 0)).unwrap();
    // Its task has not run. That of the next drop is refused.
    drop(ended);
    outbox.push(message(2, 0)).unwrap();
    assert_eq!(reporting.told(), (0, 2));
    let next = paused_runtime();
    *reporting.home.lock().unwrap() = next.handle().clone();
    outbox.push(message(3, 0)).unwrap();
    next.block_on(after(PAUSE / 2));
    assert_eq!(reporting.told(), (3, 3));
    // Its task waits.
    drop(next);
    let last = paused_runtime();
    *reporting.home.lock().unwrap() = last.handle().clone();
    outbox.push(message(4, 0)).unwrap();
    last.block_on(after(2 * PAUSE));
    assert_eq!(reporting.told(), (4, 4));
}

#[tokio::test(start_paused = true)]
async fn task_without_an_endpoint_leaves_the_next_drop_to_others() {
    let (reporting, outbox) = Reporting::at(Handle::current());
    outbox.lock().rare().has_reports = true;
    let reports = Reports::of(&outbox);
    outbox.push(message(1, 0)).unwrap();
    reports.make(|_| ControlFlow::Break(())).await;
    assert_eq!(reporting.told(), (0, 0));
    outbox.push(message(2, 0)).unwrap();
    tokio::task::yield_now().await;
    assert_eq!(reporting.told(), (2, 1));
}

// The pause costs no time: the clock of the task's runtime moves on as soon as it has nothing to do. So the drops of another
// thread meet all moments of the end of a task.
#[test]
fn drop_while_the_task_ends_is_reported() {
    const DROPS: u32 = 5000;
    let runtime = paused_runtime();
    let (reporting, outbox) = Reporting::at(runtime.handle().clone());
    let (done, until_done) = oneshot::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(|| runtime.block_on(until_done));
        let _done = done;
        for n in 1..=DROPS {
            outbox.push(message(n, 0)).unwrap();
            let begun = std::time::Instant::now();
            while reporting.told().0 < n.into() {
                assert!(begun.elapsed() < PATIENCE, "{n}: {:?}", reporting.told());
                thread::yield_now();
            }
            iter::repeat_n((), n as usize % 97 * 20).for_each(|()| hint::spin_loop());
        }
    });
    let (told, spawned) = reporting.told();
    assert_eq!((told, *reporting.told.lock().unwrap()), (DROPS.into(), dropped(&outbox)));
    println!("{spawned} tasks");
}
