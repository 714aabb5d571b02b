//! RxRust's operators that take time, on background threads: in order, cancelled at once, from any thread.

use super::*;

#[test]
fn items_observed_on_a_single_threaded_scheduler_keep_their_order() {
    const COUNT: usize = 50_000;
    let subject = Numbers::new();
    let heard = Log::new();
    let (noted, (sentinel, finished)) = (heard.clone(), sentinel());
    Io::new(subject.clone()).observe_on(IoScheduler::default()).subscribe(move |n| {
        hold(&sentinel);
        noted.note(n);
    });
    (0..COUNT).for_each(|n| subject.next(n));
    subject.complete();
    finished.recv_timeout(PATIENCE).unwrap();
    assert!(heard.items().into_iter().eq(0..COUNT));
}

#[test]
fn delayed_items_keep_their_order() {
    const COUNT: usize = 20_000;
    for delay in [Duration::ZERO, Duration::from_millis(3)] {
        let subject = Numbers::new();
        let heard = Log::new();
        let (noted, (sentinel, finished)) = (heard.clone(), sentinel());
        Io::new(subject.clone()).delay(delay).subscribe(move |n| {
            hold(&sentinel);
            noted.note(n);
        });
        (0..COUNT).for_each(|n| subject.next(n));
        subject.complete();
        finished.recv_timeout(PATIENCE).unwrap();
        assert!(heard.items().into_iter().eq(0..COUNT), "with a delay of {delay:?}");
    }
}

#[test]
fn operators_that_take_time_work_on_a_plain_thread() {
    fn first<T>(heard: &Receiver<T>) -> T {
        heard.recv_timeout(PATIENCE).unwrap()
    }
    let tick = Duration::from_millis(1);
    let (subject, (send, heard)) = (Numbers::new(), mpsc::channel());

    let sent = send.clone();
    let interval = Io::interval(tick).subscribe(move |n| sent.send(n).unwrap_or(()));
    assert_eq!([first(&heard), first(&heard)], [0, 1]);
    interval.unsubscribe();

    let (sent, timed) = mpsc::channel();
    Io::timer(tick).subscribe(move |()| sent.send(thread::current().name().map(String::from)).unwrap());
    assert_eq!(first(&timed).as_deref(), Some("rxplus-global"));

    type Operator = fn(Io<Numbers>, Sender<usize>);
    let operators: [Operator; 4] = [
        |source, send| drop(source.debounce(Duration::from_millis(1)).subscribe(move |n| send.send(n).unwrap())),
        |source, send| drop(source.delay(Duration::from_millis(1)).subscribe(move |n| send.send(n).unwrap())),
        |source, send| drop(source.observe_on(IoScheduler::default()).subscribe(move |n| send.send(n).unwrap())),
        |source, send| {
            let buffered = source.buffer_time(Duration::from_millis(1)).filter(|items| !items.is_empty());
            drop(buffered.take(1).subscribe(move |items| send.send(items[0]).unwrap()));
        },
    ];
    for subscribe in operators {
        let (send, heard) = mpsc::channel();
        subscribe(Io::new(subject.clone()), send);
        subject.next(7);
        assert_eq!(first(&heard), 7);
    }
}

#[test]
fn time_operators_run_on_the_scheduler_of_their_context() {
    let runtime = IoRuntime::new("own-context").unwrap();
    let subject = Numbers::new();
    let (send, heard) = mpsc::channel();
    let pipeline = Io::from_parts(subject.clone(), IoScheduler::on(&runtime));
    pipeline.map(|n| n + 1).delay(Duration::from_millis(1)).subscribe(move |n| send.send((n, thread_name())).unwrap());
    subject.next(1);
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), (2, "own-context".into()));
}

#[test]
fn scheduler_runs_tasks_and_futures_at_once_or_after_a_delay() {
    struct Steps {
        left: Vec<TaskState>,
        sent: Sender<&'static str>,
    }
    let scheduler = IoScheduler::default();
    for delay in [None, Some(Duration::from_millis(1))] {
        let (sent, heard) = mpsc::channel();
        let future = sent.clone();
        let handle = scheduler.schedule(async move { future.send("future").unwrap() }, delay);
        block_on(handle.clone());
        assert!(handle.is_closed());
        let left = vec![TaskState::Finished, TaskState::Sleeping(Duration::from_millis(1)), TaskState::Yield];
        let task = Task::new(Steps { left, sent }, |steps: &mut Steps| {
            steps.sent.send("step").unwrap();
            steps.left.pop().unwrap()
        });
        block_on(scheduler.schedule(task, delay));
        assert_eq!(heard.iter().collect::<Vec<_>>(), ["future", "step", "step", "step"]);
    }
}

#[test]
fn item_pushed_by_a_task_is_delivered_when_the_task_yields() {
    let subject = Numbers::new();
    let heard = Log::new();
    heard.subscribe_to(&subject);
    let noted = heard.clone();
    let task = Task::new((subject, noted, 2), |(subject, noted, left)| {
        subject.next(*left);
        noted.note(10 + *left);
        *left -= 1;
        if *left == 0 { TaskState::Finished } else { TaskState::Yield }
    });
    block_on(IoScheduler::default().schedule(task, None));
    assert_eq!(heard.items(), [12, 2, 11, 1]);
}

#[test]
fn task_cancelled_during_a_delay_of_an_hour_is_dropped_at_once() {
    const HOUR: Duration = Duration::from_secs(3_600);
    let scheduler = IoScheduler::default();
    let ((delayed, delayed_dropped), (waiting, waiting_dropped), (sleeping, sleeping_dropped)) =
        (sentinel(), sentinel(), sentinel());
    let handles = [
        scheduler.schedule(async move { hold(&delayed) }, Some(HOUR)),
        scheduler.schedule(
            async move {
                std::future::pending::<()>().await;
                hold(&waiting);
            },
            None,
        ),
        scheduler.schedule(Task::new(sleeping, |_| TaskState::Sleeping(HOUR)), None),
    ];
    for (handle, dropped) in handles.into_iter().zip([delayed_dropped, waiting_dropped, sleeping_dropped]) {
        assert!(!handle.is_closed());
        handle.clone().unsubscribe();
        assert!(handle.is_closed());
        dropped.recv_timeout(PATIENCE).expect("the cancelled task is dropped");
    }
}

#[test]
fn observer_behind_a_delay_of_an_hour_is_dropped_when_it_unsubscribes() {
    let subject = Numbers::new();
    let (sentinel, dropped) = sentinel();
    let subscription = Io::new(subject.clone()).delay(Duration::from_secs(3_600)).subscribe(move |_| hold(&sentinel));
    subject.next(0);
    subscription.unsubscribe();
    dropped.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn observer_of_an_interval_is_dropped_when_it_unsubscribes() {
    let (sentinel, dropped) = sentinel();
    let subscription = Io::interval(Duration::from_secs(3_600)).subscribe(move |_| hold(&sentinel));
    subscription.unsubscribe();
    dropped.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn task_that_runs_is_dropped_whichever_way_unsubscribe_races_with_it() {
    let scheduler = IoScheduler::default();
    for _ in 0..2_000 {
        let (sentinel, dropped) = sentinel();
        let handle = scheduler.schedule(Task::new(sentinel, |_| TaskState::Yield), None);
        handle.unsubscribe();
        dropped.recv_timeout(PATIENCE).unwrap();
    }
}

#[test]
fn task_that_panics_does_not_end_its_thread() {
    let runtime = IoRuntime::new("panicking").unwrap();
    let scheduler = IoScheduler::on(&runtime);
    let (sentinel, dropped) = sentinel();
    let task = async move {
        hold(&sentinel);
        panic!("a bug of the task's");
    };
    block_on(scheduler.schedule(task, None));
    dropped.recv_timeout(PATIENCE).unwrap();
    assert_eq!(thread_of(&scheduler), "panicking");
}

#[test]
fn task_whose_captured_value_panics_in_drop_does_not_end_its_thread() {
    let runtime = IoRuntime::new("bombed").unwrap();
    let scheduler = IoScheduler::on(&runtime);
    let cancelled = scheduler.schedule(Task::new(Bomb, |_| TaskState::Sleeping(PATIENCE)), None);
    block_on(scheduler.schedule(Task::new(Bomb, |_| TaskState::Finished), None));
    cancelled.unsubscribe();
    assert_eq!(thread_of(&scheduler), "bombed");
}
