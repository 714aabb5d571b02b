//! First in first out, wherever things are scheduled from.

use super::*;

const MILLION: usize = 1_000_000;

/// Counts what comes out of order, or on another thread.
struct Watch {
    next: usize,
    inversions: usize,
    elsewhere: usize,
    thread: &'static str,
    done: Sender<(usize, usize, usize)>,
}

impl Watch {
    fn on(thread: &'static str) -> (Self, Receiver<(usize, usize, usize)>) {
        let (done, finished) = mpsc::channel();
        (Self { next: 0, inversions: 0, elsewhere: 0, thread, done }, finished)
    }
}

impl Observer<usize, Infallible> for Watch {
    fn next(&mut self, item: usize) {
        self.inversions += usize::from(item < self.next);
        self.elsewhere += usize::from(thread::current().name() != Some(self.thread));
        self.next = item + 1;
    }

    fn error(self, never: Infallible) {
        match never {}
    }

    fn complete(self) {
        self.done.send((self.next, self.inversions, self.elsewhere)).unwrap();
    }

    fn is_closed(&self) -> bool {
        false
    }
}

#[test]
fn million_items_through_deliver_on_keep_their_order_on_the_named_thread() {
    let (watch, finished) = Watch::on("delivered");
    let subject = Numbers::new();
    Io::new(subject.clone()).deliver_on(&EventLoopScheduler::new("delivered")).subscribe_with(watch);
    (0..MILLION).for_each(|n| subject.next(n));
    subject.complete();
    assert_eq!(hear(&finished), (MILLION, 0, 0));
}

#[test]
fn million_items_through_observe_on_keep_their_order_on_the_named_thread() {
    let (watch, finished) = Watch::on("observed");
    let subject = Numbers::new();
    let worker = EventLoopScheduler::new("observed");
    Io::new(subject.clone()).observe_on(worker.clone()).subscribe_with(watch);
    for burst in 0..MILLION / 1_000 {
        // Meanwhile nothing is observed: RxRust never lets go of the handle of a task that is over before it was stored, and
        // looks through all handles for each item, so a million items at full speed would take minutes.
        let held = Held::on(&worker);
        (burst * 1_000..(burst + 1) * 1_000).for_each(|n| subject.next(n));
        held.let_go();
    }
    subject.complete();
    assert_eq!(hear(&finished), (MILLION, 0, 0));
}

#[test]
fn items_delivered_on_a_runtime_of_several_threads_keep_their_order() {
    const COUNT: usize = 200_000;
    let runtime = IoRuntime::with_threads("several", 3).unwrap();
    let (watch, finished) = Watch::on("several");
    Io::from_iter(0..COUNT).deliver_on(&IoScheduler::on(&runtime)).subscribe_with(watch);
    assert_eq!(hear(&finished), (COUNT, 0, 0));
}

/// Schedules from outside and from the scheduler's own thread by turns, each after the one before.
fn schedule_by_turns<S>(scheduler: &S) -> Vec<usize>
where
    S: Scheduler<std::pin::Pin<Box<dyn Future<Output = ()> + Send>>> + Send + 'static,
{
    const TURNS: usize = 2_000;
    let (note, heard) = mpsc::channel();
    for turn in (0..TURNS).map(|n| 3 * n) {
        let note = |n: usize| {
            let note = note.clone();
            async move { note.send(n).unwrap() }
        };
        let (inner, inside) = (scheduler.clone(), Box::pin(note(turn + 1)));
        let (scheduled, go_on) = mpsc::channel();
        let (first, second) = (note(turn), note(turn + 2));
        let from_inside = async move {
            first.await;
            inner.schedule(inside, None);
            scheduled.send(()).unwrap();
            // So that what comes from outside is behind it and both wait.
            thread::yield_now();
        };
        scheduler.schedule(Box::pin(from_inside), None);
        hear(&go_on);
        scheduler.schedule(Box::pin(second), None);
    }
    drop(note);
    heard.iter().collect()
}

#[test]
fn tasks_scheduled_from_inside_and_outside_by_turns_run_in_that_order() {
    let runtime = IoRuntime::new("by-turns").unwrap();
    let from_tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let handle = IoRuntime::from_tokio(from_tokio.handle().clone());
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let tokio = thread::spawn(move || from_tokio.block_on(ended));
    for scheduler in [IoScheduler::on(&runtime), IoScheduler::on(&handle), IoScheduler::default()] {
        assert!(schedule_by_turns(&scheduler).is_sorted());
    }
    assert!(schedule_by_turns(&EventLoopScheduler::new("by-turns")).is_sorted());
    drop(end);
    assert!(tokio.join().unwrap().is_err());
}

#[test]
fn tasks_of_four_threads_run_in_the_order_of_each() {
    const TASKS: usize = 5_000;
    let scheduler = EventLoopScheduler::new("of-four");
    let (note, heard) = mpsc::channel();
    let start = Barrier::new(4);
    thread::scope(|scope| {
        for pusher in 0..4 {
            let (scheduler, note, start) = (&scheduler, note.clone(), &start);
            scope.spawn(move || {
                start.wait();
                for n in 0..TASKS {
                    let note = note.clone();
                    scheduler.schedule(async move { note.send((pusher, n)).unwrap() }, None);
                }
            });
        }
    });
    drop(note);
    let heard: Vec<(usize, usize)> = heard.iter().collect();
    for pusher in 0..4 {
        assert!(heard.iter().filter(|(from, _)| *from == pusher).map(|(_, n)| *n).eq(0..TASKS));
    }
}

#[test]
fn delayed_tasks_that_fall_due_while_the_thread_is_busy_run_by_the_time_they_are_due() {
    let scheduler = EventLoopScheduler::new("overdue");
    let (note, heard) = mpsc::channel();
    let held = Held::on(&scheduler);
    let task = |n: usize| {
        let note = note.clone();
        async move { note.send(n).unwrap() }
    };
    for (n, millis) in [(2, 3), (4, 5), (1, 2), (3, 3), (0, 1), (5, 7)] {
        scheduler.schedule(task(n), Some(Duration::from_millis(millis)));
    }
    let late = Instant::now() + Duration::from_millis(8);
    while Instant::now() < late {
        thread::yield_now();
    }
    held.let_go();
    assert_eq!([(); 6].map(|()| hear(&heard)), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn delayed_items_keep_their_order_behind_a_busy_thread() {
    const COUNT: usize = 20_000;
    for delay in [Duration::ZERO, Duration::from_millis(1)] {
        let (watch, finished) = Watch::on("delayed");
        let subject = Numbers::new();
        Io::new(subject.clone()).delay_with(delay, EventLoopScheduler::new("delayed")).subscribe_with(watch);
        (0..COUNT).for_each(|n| subject.next(n));
        subject.complete();
        assert_eq!(hear(&finished), (COUNT, 0, 0));
    }
}
