//! A loop that the user's own thread drives.

use std::{cell::RefCell, future, rc::Rc, task::Poll};

use super::*;

#[test]
fn nothing_runs_until_the_loop_is_driven_and_then_in_order_on_its_thread() {
    let (run_loop, subject) = (RunLoop::new(), Numbers::new());
    let (send, heard) = mpsc::channel();
    let own = thread::current().id();
    let observed = Io::new(subject.clone()).observe_on(run_loop.scheduler());
    observed.subscribe(move |n| send.send((n, thread::current().id())).unwrap());
    thread::scope(|scope| drop(scope.spawn(|| (0..1_000).for_each(|n| subject.next(n)))));
    assert!(heard.try_recv().is_err());
    run_loop.run_pending();
    assert!(heard.try_iter().eq((0..1_000).map(|n| (n, own))));
}

#[test]
fn future_is_run_until_it_is_ready_while_the_loop_goes_on() {
    let run_loop = RunLoop::new();
    let scheduler = run_loop.scheduler();
    let (told, mut hear) = tokio::sync::mpsc::unbounded_channel();
    thread::spawn(move || {
        for n in 0..3 {
            let told = told.clone();
            scheduler.schedule(async move { told.send(n).unwrap() }, Some(Duration::from_millis(n)));
        }
    });
    let heard = Rc::new(RefCell::new(Vec::new()));
    run_loop.run_until(async {
        while let Some(n) = hear.recv().await {
            heard.borrow_mut().push(n);
        }
    });
    assert_eq!(*heard.borrow(), [0, 1, 2]);
}

#[test]
fn future_may_use_tokio_and_rxrusts_local_context() {
    let run_loop = RunLoop::new();
    let (send, heard) = mpsc::channel();
    run_loop.run_until(async move {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let ended = Local::interval(Duration::from_millis(1)).take(3).last().into_future();
        send.send(ended.await.unwrap().unwrap()).unwrap();
    });
    assert_eq!(hear(&heard), 2);
}

#[test]
fn run_for_takes_as_long_as_it_says_and_runs_what_falls_due() {
    let run_loop = RunLoop::new();
    let (send, heard) = mpsc::channel();
    run_loop.scheduler().schedule(async move { send.send(()).unwrap() }, Some(Duration::from_millis(5)));
    let begin = Instant::now();
    run_loop.run_for(Duration::from_millis(20));
    assert!(begin.elapsed() >= Duration::from_millis(20));
    assert!(heard.try_recv().is_ok());
}

#[test]
fn run_pending_does_not_wait_for_a_delay() {
    let run_loop = RunLoop::new();
    let (sentinel, dropped) = sentinel();
    let handle = run_loop.scheduler().schedule(async move { hold(&sentinel) }, Some(Duration::from_secs(3_600)));
    run_loop.run_pending();
    assert!(!handle.is_closed());
    handle.unsubscribe();
    run_loop.run_pending();
    assert!(dropped.try_recv().is_ok());
}

#[test]
fn loop_that_is_dropped_drops_what_waits_and_what_comes() {
    let run_loop = RunLoop::new();
    let scheduler = run_loop.scheduler();
    let ((ready, ready_dropped), (begun, begun_dropped), (delayed, delayed_dropped), (late, late_dropped)) =
        (sentinel(), sentinel(), sentinel(), sentinel());
    scheduler.schedule(Task::new(begun, |_| TaskState::Sleeping(LONG_PATIENCE)), None);
    run_loop.run_pending();
    let waiting = scheduler.schedule(async move { hold(&ready) }, None);
    scheduler.schedule(async move { hold(&delayed) }, Some(LONG_PATIENCE));
    drop(run_loop);
    assert!(waiting.is_closed());
    assert!(scheduler.schedule(async move { hold(&late) }, None).is_closed());
    for dropped in [ready_dropped, begun_dropped, delayed_dropped, late_dropped] {
        assert!(dropped.try_recv().is_ok());
    }
}

#[test]
fn loop_is_not_run_by_what_it_runs() {
    let run_loop = Rc::new(RunLoop::new());
    let inner = run_loop.clone();
    let nested = std::panic::AssertUnwindSafe(|| run_loop.run_until(async move { inner.run_pending() }));
    assert!(std::panic::catch_unwind(nested).is_err());
    let subject = Numbers::new();
    let (send, heard) = mpsc::channel();
    Io::new(subject.clone()).deliver_local(&run_loop).subscribe(move |n| send.send(n).unwrap());
    subject.next(1);
    run_loop.run_pending();
    assert_eq!(heard.try_recv(), Ok(1), "the loop is usable after a panic");
}

#[test]
fn loop_that_waits_is_woken_by_another_thread() {
    for _ in 0..300 {
        let (run_loop, subject) = (RunLoop::new(), Numbers::new());
        let next = Io::new(subject.clone()).deliver_local(&run_loop).take(1).into_future();
        let pusher = thread::spawn(move || subject.next(7));
        assert_eq!(run_loop.run_until(next).unwrap().unwrap(), 7);
        pusher.join().unwrap();
    }
}

#[test]
fn loop_in_a_tokio_program_runs() {
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    tokio.block_on(async {
        let run_loop = RunLoop::new();
        run_loop.run_until(async { tokio::time::sleep(Duration::from_millis(1)).await });
    });
}

/// Runs a loop until so many are delivered, and checks how many are between two looks at its future.
fn check_turns(run_loop: &RunLoop, delivered: &AtomicUsize, count: usize) {
    let mut before = delivered.load(SeqCst);
    run_loop.run_until(future::poll_fn(|cx| {
        let now = delivered.load(SeqCst);
        assert!(now - before <= 4 * 256, "{} deliveries in one turn", now - before);
        before = now;
        if now == count {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }));
}

#[test]
fn loop_looks_at_its_future_while_a_pipeline_delivers_on_it() {
    for to_scheduler in [false, true] {
        let (run_loop, subject) = (RunLoop::new(), Numbers::new());
        let delivered = Arc::new(AtomicUsize::new(0));
        let count = delivered.clone();
        let observe = move |_| _ = count.fetch_add(1, SeqCst);
        if to_scheduler {
            Io::new(subject.clone()).deliver_on(&run_loop.scheduler()).subscribe(observe);
        } else {
            Io::new(subject.clone()).deliver_local(&run_loop).subscribe(observe);
        }
        (0..20_000).for_each(|n| subject.next(n));
        check_turns(&run_loop, &delivered, 20_000);
    }
}

#[test]
fn burst_of_a_callback_is_delivered_on_the_loops_own_thread_in_turns() {
    let (run_loop, burst, own) = (RunLoop::new(), Numbers::new(), thread::current().id());
    let delivered = Arc::new(AtomicUsize::new(0));
    let count = delivered.clone();
    Io::new(burst.clone()).subscribe(move |n| {
        assert_eq!(thread::current().id(), own);
        assert_eq!(count.fetch_add(1, SeqCst), n);
    });
    let all = burst.clone();
    run_loop.scheduler().schedule(async move { (0..20_000).for_each(|n| burst.next(n)) }, None);
    check_turns(&run_loop, &delivered, 20_000);
    run_loop.scheduler().schedule(async move { (20_000..40_000).for_each(|n| all.next(n)) }, None);
    run_loop.run_pending();
    assert_eq!(delivered.load(SeqCst), 40_000);
}

#[test]
fn what_a_loop_leaves_when_it_is_not_run_any_more_is_delivered_all_the_same() {
    let (run_loop, burst) = (RunLoop::new(), Numbers::new());
    let (send, heard) = mpsc::channel();
    Io::new(burst.clone()).subscribe(move |n| send.send(n).unwrap());
    // Ready in the turn in which the burst comes.
    run_loop.run_until(async move { (0..1_000).for_each(|n| burst.next(n)) });
    assert!((0..1_000).all(|n| hear(&heard) == n));
}
