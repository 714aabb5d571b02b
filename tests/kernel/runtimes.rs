//! Background threads: whose they are, and when they end.

use super::*;

#[test]
fn thread_of_a_runtime_ends_when_nothing_needs_it() {
    let runtime = IoRuntime::new("ends").unwrap();
    let scheduler = IoScheduler::on(&runtime);
    assert_eq!(thread_of(&scheduler), "ends");
    assert_eq!(threads_named("ends"), 1);
    drop(runtime);
    wait_for_threads("ends", 0);
    drop(scheduler);
}

#[test]
fn thread_of_a_runtime_stays_while_a_task_is_pending() {
    let runtime = IoRuntime::new("stays").unwrap();
    let scheduler = IoScheduler::on(&runtime);
    let (release, released) = tokio::sync::oneshot::channel::<()>();
    let pending = scheduler.schedule(async move { released.await.unwrap() }, None);
    drop(runtime);
    assert_eq!(thread_of(&scheduler), "stays");
    release.send(()).unwrap();
    block_on(pending);
    wait_for_threads("stays", 0);
}

#[test]
fn cancelling_the_last_task_ends_the_thread() {
    let runtime = IoRuntime::new("cancelled").unwrap();
    let scheduler = IoScheduler::on(&runtime);
    let ticks = Io::interval_with(Duration::from_secs(3_600), scheduler.clone()).subscribe(|_| {});
    drop(runtime);
    assert_eq!(thread_of(&scheduler), "cancelled");
    ticks.unsubscribe();
    wait_for_threads("cancelled", 0);
}

#[test]
fn last_handle_may_be_dropped_on_the_runtimes_own_thread() {
    let runtime = IoRuntime::new("own-thread").unwrap();
    let scheduler = IoScheduler::on(&runtime);
    block_on(scheduler.schedule(async move { drop(runtime) }, None));
    wait_for_threads("own-thread", 0);
}

#[test]
fn scheduler_whose_thread_has_ended_uses_the_global_runtime() {
    let scheduler = IoScheduler::on(&IoRuntime::new("ended").unwrap());
    wait_for_threads("ended", 0);
    assert_eq!(thread_of(&scheduler), "rxplus-global");
    let (send, heard) = mpsc::channel();
    Io::interval_with(Duration::from_millis(1), scheduler).take(3).subscribe(move |n| send.send(n).unwrap());
    assert_eq!(heard.iter().collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn scheduling_while_the_last_handle_is_dropped_never_loses_the_task() {
    let start = Barrier::new(2);
    for _ in 0..200 {
        let runtime = IoRuntime::new("racing").unwrap();
        let scheduler = IoScheduler::on(&runtime);
        thread::scope(|scope| {
            scope.spawn(|| {
                start.wait();
                drop(runtime);
            });
            start.wait();
            assert!(["racing", "rxplus-global"].contains(&thread_of(&scheduler).as_str()));
        });
    }
    wait_for_threads("racing", 0);
}

#[test]
fn runtime_with_two_threads_runs_two_tasks_side_by_side() {
    let runtime = IoRuntime::with_threads("side-by-side", 2).unwrap();
    let scheduler = IoScheduler::on(&runtime);
    let (send, met) = mpsc::channel();
    let meet = Arc::new(Barrier::new(2));
    for _ in 0..2 {
        let (meet, send) = (meet.clone(), send.clone());
        scheduler.schedule(
            async move {
                meet.wait();
                send.send(thread_name()).unwrap();
            },
            None,
        );
    }
    for _ in 0..2 {
        assert_eq!(met.recv_timeout(PATIENCE).unwrap(), "side-by-side");
    }
    drop(runtime);
    wait_for_threads("side-by-side", 0);
}

#[test]
#[should_panic(expected = "at least one thread")]
fn runtime_without_threads_is_refused() {
    drop(IoRuntime::with_threads("none", 0));
}

#[test]
fn runtime_of_the_programs_own_runs_the_tasks() {
    let tokio = tokio::runtime::Builder::new_multi_thread().thread_name("of-program").enable_all().build().unwrap();
    let runtime = IoRuntime::from_tokio(tokio.handle().clone());
    let scheduler = IoScheduler::on(&runtime);
    assert_eq!(thread_of(&scheduler), "of-program");
    let (send, heard) = mpsc::channel();
    let ticks = Io::interval_with(Duration::from_millis(1), scheduler).take(2);
    ticks.subscribe(move |n| send.send((n, thread_name())).unwrap());
    let heard: Vec<_> = heard.iter().collect();
    assert_eq!(heard, [(0, "of-program".to_owned()), (1, "of-program".to_owned())]);
}

#[test]
fn tasks_on_a_tokio_runtime_that_was_shut_down_are_dropped() {
    let tokio = tokio::runtime::Runtime::new().unwrap();
    let runtime = IoRuntime::from_tokio(tokio.handle().clone());
    let scheduler = IoScheduler::on(&runtime);
    let ((before, before_dropped), (after, after_dropped)) = (sentinel(), sentinel());
    scheduler.schedule(Task::new(before, |_| TaskState::Sleeping(PATIENCE)), None);
    drop(tokio);
    before_dropped.recv_timeout(PATIENCE).unwrap();
    scheduler.schedule(Task::new(after, |_| TaskState::Finished), None);
    after_dropped.recv_timeout(PATIENCE).unwrap();
}

#[tokio::test]
async fn everything_works_inside_a_single_threaded_tokio_runtime() {
    in_a_tokio_task("tokio-single").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_works_inside_a_multi_threaded_tokio_runtime() {
    in_a_tokio_task("tokio-multi").await;
}

async fn in_a_tokio_task(name: &str) {
    let subject = Numbers::new();
    let (send, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let (plain, delayed) = (send.clone(), send.clone());
    Io::new(subject.clone()).subscribe(move |n| plain.send(n).unwrap());
    Io::new(subject.clone()).delay(Duration::from_millis(1)).subscribe(move |n| delayed.send(10 + n).unwrap());
    subject.next(1);
    assert_eq!([heard.recv().await, heard.recv().await], [Some(1), Some(11)]);

    let runtime = IoRuntime::new(name).unwrap();
    let scheduler = IoScheduler::on(&runtime);
    let ticks = Io::interval_with(Duration::from_millis(1), scheduler.clone());
    ticks.take(2).subscribe(move |n| send.send(n).unwrap());
    assert_eq!([heard.recv().await, heard.recv().await], [Some(0), Some(1)]);
    scheduler.schedule(async {}, None).await;

    let threaded = IoRuntime::with_threads(name, 2).unwrap();
    IoScheduler::on(&threaded).schedule(async {}, None).await;
    drop((runtime, threaded)); // ends their threads without blocking in an async context
    wait_for_threads(name, 0);
}

/// How many threads of this process have this name, which must be shorter than 16 bytes.
fn threads_named(name: &str) -> usize {
    let names = std::fs::read_dir("/proc/self/task").unwrap().filter_map(|task| {
        let comm = task.ok()?.path().join("comm");
        std::fs::read_to_string(comm).ok()
    });
    names.filter(|comm| comm.trim_end() == name).count()
}

/// The end of a thread is no event that can be waited for.
fn wait_for_threads(name: &str, count: usize) {
    let deadline = Instant::now() + PATIENCE;
    while threads_named(name) != count {
        assert!(Instant::now() < deadline, "{} threads are still named {name}", threads_named(name));
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn name_that_no_thread_can_have_loses_its_zero_bytes() {
    let one = IoRuntime::new("ze\0ro\0").unwrap();
    assert_eq!(thread_of(&IoScheduler::on(&one)), "zero");
    let two = IoRuntime::with_threads("ze\0ros", 2).unwrap();
    assert_eq!(thread_of(&IoScheduler::on(&two)), "zeros");
    assert!(EventLoopScheduler::try_new("lo\0op").is_ok());
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).name("a\0b").bind().unwrap();
    let client = RxWsClient::builder(server.local_addr(), WsStr).name("a\0b").connect().unwrap();
    let group = RxWsClientGroup::builder(server.local_addr(), WsStr).name("a\0b").build().unwrap();
    assert_eq!([server.name(), client.name(), group.name()], ["a\0b"; 3]);
}

/// The task that was to go on has not been polled when its runtime ends.
#[test]
fn what_waits_on_a_runtime_that_is_shut_down_is_delivered_elsewhere() {
    const ITEMS: u32 = 1000;
    let (subject, trigger) = (SerializedSubject::<u32>::new(), SerializedSubject::<()>::new());
    let (sender, received) = mpsc::channel();
    Io::new(subject.clone()).subscribe(move |n| _ = sender.send(n));
    Io::new(trigger.clone()).subscribe(move |()| (0..ITEMS).for_each(|n| subject.next(n)));
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // In a task: what follows its first turn is left to the runtime.
    let pushing = tokio.spawn(async move { trigger.next(()) });
    tokio.block_on(pushing).unwrap();
    drop(tokio);
    for n in 0..ITEMS {
        assert_eq!(received.recv_timeout(PATIENCE), Ok(n));
    }
}
