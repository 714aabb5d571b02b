//! Every operator that takes time works from a thread without a runtime, on each of the schedulers.

use super::*;

const TICK: Duration = Duration::from_millis(1);

/// Each of RxRust's operators that take a scheduler, subscribed to a subject that then emits 7.
macro_rules! operators_on {
    ($scheduler:expr, $check:expr) => {{
        let check = $check;
        let scheduler = || $scheduler.clone();
        let source = || {
            let subject = Numbers::new();
            (Io::new(subject.clone()), subject)
        };
        macro_rules! try_one {
            ($name:literal, |$from:ident| $pipeline:expr) => {{
                let ($from, subject) = source();
                let (send, heard) = mpsc::channel();
                let subscription = $pipeline.subscribe(move |item| send.send((item, thread_name())).unwrap());
                subject.next(7);
                check($name, &heard);
                subject.complete();
                drop(subscription);
            }};
        }
        try_one!("observe_on", |from| from.observe_on(scheduler()));
        try_one!("delay", |from| from.delay_with(TICK, scheduler()));
        try_one!("debounce", |from| from.debounce_with(TICK, scheduler()));
        try_one!("buffer_time", |from| {
            from.buffer_time_with(TICK, scheduler()).filter(|items| !items.is_empty()).map(|items| items[0])
        });
        try_one!("buffer_time_max", |from| from.buffer_time_max_with(TICK, 1, scheduler()).map(|items| items[0]));
        try_one!("deliver_on", |from| from.deliver_on(&scheduler()));
        try_one!("subscribe_on", |_from| Io::of(7).subscribe_on(scheduler()));
        try_one!("delay_subscription", |_from| Io::of(7).delay_subscription_with(TICK, scheduler()));
        try_one!("timer", |_from| Io::timer_with(TICK, scheduler()).map(|()| 7));
        try_one!("timer_at", |_from| Io::timer_at_with(Instant::now() + TICK, scheduler()).map(|()| 7));
        try_one!("interval", |_from| Io::interval_with(TICK, scheduler()).map(|n| n + 7).take(1));
        try_one!("from_future", |_from| Io::from_future_with(async { 7 }, scheduler()));
        try_one!("from_stream", |_from| Io::from_stream_with(futures::stream::iter([7]), scheduler()));
    }};
}

fn expect_on(thread: &'static str) -> impl Fn(&str, &Receiver<(usize, String)>) {
    move |operator, heard| {
        let first = heard.recv_timeout(LONG_PATIENCE);
        // A buffer that is full is emitted by the thread that pushed.
        let thread = if operator == "buffer_time_max" { thread_name() } else { thread.into() };
        assert_eq!(first, Ok((7, thread)), "{operator}");
    }
}

#[test]
fn on_an_event_loop() {
    operators_on!(EventLoopScheduler::new("timed"), expect_on("timed"));
}

#[test]
fn on_the_background_runtime() {
    operators_on!(IoScheduler::default(), expect_on("rxplus-global"));
}

#[test]
fn on_a_runtime_of_several_threads() {
    let runtime = IoRuntime::with_threads("spread", 2).unwrap();
    operators_on!(IoScheduler::on(&runtime), expect_on("spread"));
}

#[test]
fn on_a_run_loop() {
    let run_loop = RunLoop::new();
    let check = |operator: &str, heard: &Receiver<(usize, String)>| {
        let deadline = Instant::now() + LONG_PATIENCE;
        loop {
            match heard.try_recv() {
                Ok((item, _)) => return assert_eq!(item, 7, "{operator}"),
                Err(mpsc::TryRecvError::Empty) if Instant::now() < deadline => run_loop.run_for(TICK),
                Err(error) => panic!("{operator}: {error}"),
            }
        }
    };
    operators_on!(run_loop.scheduler(), check);
}

#[test]
fn throttling_and_unsubscribing_later() {
    let subject = Numbers::new();
    let (send, heard) = mpsc::channel();
    let throttled = Io::new(subject.clone()).throttle_time(TICK, ThrottleEdge::leading());
    throttled.subscribe(move |n| send.send(n).unwrap());
    (0..3).for_each(|n| subject.next(n));
    assert_eq!(hear(&heard), 0);

    let worker = EventLoopScheduler::new("later");
    let (sentinel, dropped) = sentinel();
    let source = Io::new(subject).delay_unsubscription_with(TICK, worker);
    source.subscribe(move |_| hold(&sentinel)).unsubscribe();
    hear(&dropped);
}
