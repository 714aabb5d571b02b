use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Poll, Waker},
};

use loom::{future::block_on, sync::Mutex, thread};
use rxrust::subscription::Subscription;

use crate::{
    model,
    runtime::run_queue::{RunQueue, Turns},
};

/// Runs `queue` until `done` says so.
fn run(queue: &RunQueue, done: impl Fn() -> bool) {
    block_on(poll_fn(|cx| match queue.run_some(cx.waker()) {
        _ if done() => Poll::Ready(()),
        Turns::Closed => Poll::Ready(()),
        _ => Poll::Pending,
    }));
}

fn counting(count: &Arc<AtomicUsize>) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
    let count = count.clone();
    Box::pin(async move {
        count.fetch_add(1, SeqCst);
    })
}

#[test]
fn runner_that_waits_is_woken_for_every_task() {
    model(|| {
        let (queue, count) = (Arc::<RunQueue>::default(), Arc::default());
        let (other, counted) = (queue.clone(), counting(&count));
        let scheduling = thread::spawn(move || drop(other.schedule(counted, None)));
        let first = queue.schedule(counting(&count), None);
        run(&queue, || count.load(SeqCst) == 2);
        scheduling.join().unwrap();
        assert!(first.is_closed());
    });
}

/// A future that another thread wakes.
#[derive(Default)]
struct Event {
    state: std::sync::OnceLock<Mutex<(bool, Option<Waker>)>>,
}

impl Event {
    fn state(&self) -> &Mutex<(bool, Option<Waker>)> {
        self.state.get_or_init(|| Mutex::new((false, None)))
    }

    fn set(&self) {
        let mut state = self.state().lock().unwrap();
        state.0 = true;
        let waker = state.1.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }

    async fn wait(&self) {
        poll_fn(|cx| {
            let mut state = self.state().lock().unwrap();
            state.1 = Some(cx.waker().clone());
            if state.0 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

#[test]
fn task_that_is_woken_while_it_runs_runs_again() {
    model(|| {
        let (queue, event) = (Arc::<RunQueue>::default(), Arc::new(Event::default()));
        event.state();
        let waiting = event.clone();
        let handle = queue.schedule(Box::pin(async move { waiting.wait().await }), None);
        let setting = thread::spawn(move || event.set());
        run(&queue, || handle.is_closed());
        setting.join().unwrap();
    });
}

#[test]
fn task_is_dropped_whichever_way_closing_races_with_it() {
    model(|| {
        let (queue, event, held) = (Arc::<RunQueue>::default(), Arc::new(Event::default()), Arc::new(()));
        event.state();
        let (waiting, holding) = (event.clone(), held.clone());
        let work = async move {
            waiting.wait().await;
            drop(holding);
        };
        queue.schedule(Box::pin(work), None);
        let closer = queue.clone();
        let closing = thread::spawn(move || closer.close());
        run(&queue, || false);
        closing.join().unwrap();
        assert_eq!(Arc::strong_count(&held), 1);
    });
}
