//! The write scheduler, and the wake-ups between the threads that push and the tasks that write.

use super::*;

#[tokio::test(start_paused = true)]
async fn what_is_pushed_while_the_driver_sleeps_is_written_without_waking_it() {
    let (socket, mut peer) = duplex(1 << 20);
    let (outbox, polls) = (outbox(), Arc::new(AtomicUsize::new(0)));
    let plan = Plan::new(Role::Server);
    let (link, scheduler, counted) = (plan.link(&outbox), plan.scheduler.unwrap(), polls.clone());
    tokio::spawn(async move { scheduler.run().await });
    let mut driving = Box::pin(drive(socket, link, receipt, std::future::pending()));
    let task = tokio::spawn(poll_fn(move |cx| {
        counted.fetch_add(1, Ordering::SeqCst);
        driving.as_mut().poll(cx)
    }));
    sleep(SECOND).await;
    let before = polls.load(Ordering::SeqCst);
    for n in 1..=100 {
        outbox.push(binary(n)).unwrap();
        assert_eq!(read_frame(&mut peer).await, (BINARY, vec![7; n]));
    }
    assert_eq!((outbox.stats().written.messages, polls.load(Ordering::SeqCst)), (100, before));
    outbox.close(1000, "", SECOND);
    assert_eq!(read_frame(&mut peer).await.0, CLOSE);
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn driver_writes_for_itself_once_the_scheduler_is_gone() {
    let (socket, mut peer) = duplex(1 << 20);
    let (outbox, plan) = (outbox(), Plan::new(Role::Server));
    let (link, scheduler) = (plan.link(&outbox), plan.scheduler.unwrap());
    let scheduling = tokio::spawn(async move { scheduler.run().await });
    let _driving = tokio::spawn(drive(socket, link, receipt, std::future::pending()));
    sleep(SECOND).await;
    // Due when it goes, and asked of it when it is gone.
    outbox.push(binary(1)).unwrap();
    scheduling.abort();
    assert_eq!(read_frame(&mut peer).await, (BINARY, vec![7; 1]));
    assert!(scheduling.await.unwrap_err().is_cancelled());
    outbox.push(binary(2)).unwrap();
    assert_eq!(read_frame(&mut peer).await, (BINARY, vec![7; 2]));
}

#[tokio::test(start_paused = true)]
async fn what_breaks_while_the_scheduler_writes_ends_the_connection_with_its_reason() {
    for in_run in [false, true] {
        let socket = Breaking { portions: vec![usize::MAX].into_iter().cycle(), left: 12, taken: Arc::default() };
        let (outbox, plan, mut runs) = (outbox(), Plan::new(Role::Server), in_run.then(Runs::default));
        let (link, scheduler) = (plan.link(&outbox), plan.scheduler.unwrap());
        tokio::spawn(async move { scheduler.run().await });
        let driving = tokio::spawn(drive(socket, link, receipt, std::future::pending()));
        sleep(SECOND).await;
        push(&outbox, runs.as_mut(), binary(10));
        sleep(SECOND).await;
        assert!(!driving.is_finished());
        push(&outbox, runs.as_mut(), binary(10));
        let ending = timeout(SECOND, driving).await.expect("it was not told").unwrap();
        let Some(WsError::Transport { source, .. }) = ending.error else { panic!("{:?}", ending.error) };
        assert_eq!((source.kind(), ending.unconfirmed), (io::ErrorKind::BrokenPipe, 1));
        assert_eq!((outbox.stats().written.messages, outbox.stats().queued.messages), (1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn messages_of_a_run_arrive_once_whether_the_socket_takes_parts_or_panics() {
    let taken = Arc::<Mutex<_>>::default();
    let portions = vec![1000, PANIC_IN_FLUSH, PANIC, 5, 0, 1, 1000, 1000, 1000].into_iter().cycle();
    let socket = Breaking { portions, left: usize::MAX, taken: taken.clone() };
    let (outbox, plan, mut runs) = (outbox(), Plan::new(Role::Server), Runs::default());
    let (link, scheduler) = (plan.link(&outbox), plan.scheduler.unwrap());
    tokio::spawn(async move { scheduler.run().await });
    let _driving = tokio::spawn(drive(socket, link, receipt, std::future::pending()));
    sleep(SECOND).await;
    for len in 1..4 {
        push(&outbox, Some(&mut runs), binary(len));
        push(&outbox, Some(&mut runs), binary(len));
        sleep(SECOND).await;
    }
    let expected =
        [1, 1, 2, 2, 3, 3].into_iter().flat_map(|len| wire(Role::Server, BINARY, &vec![7; len])).collect::<Vec<_>>();
    assert_eq!((&*taken.lock().unwrap(), outbox.stats().written.messages), (&expected, 6));
}

#[tokio::test(start_paused = true)]
async fn message_of_a_run_is_not_sent_behind_the_close_frame() {
    let mut rig = Plan::new(Role::Server).start();
    sleep(SECOND).await;
    // The opcode 3 is reserved (RFC 6455, section 5.2).
    rig.peer.write_all(&wire(Role::Client, 3, &[])).await.unwrap();
    assert_eq!(read_frame(&mut rig.peer).await.0, CLOSE);
    push(&rig.outbox, Some(&mut Runs::default()), binary(10));
    let mut rest = Vec::new();
    timeout(60 * SECOND, rig.peer.read_to_end(&mut rest)).await.expect("the connection ends").unwrap();
    assert_eq!((rest, rig.outbox.stats().queued.messages), (vec![], 1));
}

#[tokio::test(start_paused = true)]
async fn peer_that_takes_nothing_of_what_the_scheduler_writes_is_dropped_too() {
    for in_run in [false, true] {
        let rig = Plan { socket_len: 64, ..Plan::new(Role::Server) }.start();
        sleep(SECOND).await;
        push(&rig.outbox, in_run.then(Runs::default).as_mut(), binary(1000));
        let (ending, after) = rig.ending().await;
        assert!(matches!(ending.error, Some(WsError::WriteStalled { .. })), "{ending:?}");
        assert_eq!(after, 31);
    }
}

#[tokio::test(start_paused = true)]
async fn message_of_a_run_counts_as_written_only_when_the_system_has_it() {
    let (stream, _peer) = duplex(64);
    let (outbox, plan) = (outbox(), Plan::new(Role::Server));
    let (link, scheduler) = (plan.link(&outbox), plan.scheduler.unwrap());
    tokio::spawn(async move { scheduler.run().await });
    let _driving = tokio::spawn(drive(Keeping { stream, kept: 0 }, link, receipt, std::future::pending()));
    sleep(SECOND).await;
    push(&outbox, Some(&mut Runs::default()), binary(10));
    sleep(SECOND).await;
    assert_eq!((outbox.stats().written.messages, outbox.stats().queued.messages), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn burst_that_is_passed_on_to_many_makes_no_good_reader_look_slow() {
    const LISTENERS: usize = 600;
    const BURST: usize = 3000;
    let bound = OutboxBound::new(1024, 1 << 20, Overflow::Disconnect);
    let (plan, routes, path) = (Plan::new(Role::Server), RoutingTable::default(), Tag::from("/"));
    let scheduler = plan.scheduler.clone().unwrap();
    tokio::spawn(async move { scheduler.run().await });
    let listeners: Vec<_> = (0..LISTENERS).map(|_| (duplex(1 << 20), Outbox::unreported(bound))).collect();
    let mut peers = Vec::new();
    for ((socket, peer), outbox) in listeners {
        let _route = routes.add(path.clone(), outbox.clone(), false);
        tokio::spawn(drive(socket, plan.link(&outbox), receipt, std::future::pending()));
        peers.push((peer, outbox));
    }
    sleep(SECOND).await;
    let (socket, mut talker) = duplex(1 << 20);
    talker.write_all(&wire(Role::Client, BINARY, b"x").repeat(BURST)).await.unwrap();
    let pass_on = move |frame: Frame| receipt(routes.push(&path, frame.into(), None, None));
    tokio::spawn(drive(socket, plan.link(&outbox()), pass_on, std::future::pending()));
    sleep(SECOND).await;
    for (_, outbox) in &peers {
        assert_eq!((outbox.stats().written.messages, outbox.has_overflown()), (BURST as u64, false));
    }
}

#[test]
fn no_wake_up_is_lost_between_pushes_of_several_threads_drivers_and_the_scheduler() {
    const EACH: usize = 20_000;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let outboxes: Vec<_> = (0..3).map(|_| outbox()).collect();
    let pushing = [1, 2].map(|_| {
        let outboxes = outboxes.clone();
        std::thread::spawn(move || {
            for number in 0..EACH {
                outboxes.iter().for_each(|outbox| outbox.push(binary(8)).unwrap());
                // Now and then, so that they find a driver that sleeps, and one that does not.
                (0..number % 64).for_each(|_| std::hint::spin_loop());
            }
        })
    });
    runtime.block_on(async {
        let plan = Plan::new(Role::Server);
        let scheduler = plan.scheduler.clone().unwrap();
        tokio::spawn(async move { scheduler.run().await });
        let mut hearing = Vec::new();
        for outbox in &outboxes {
            // The second size is one that is full again and again.
            let (socket, mut peer) = duplex(if hearing.len() == 1 { 1000 } else { 1 << 20 });
            tokio::spawn(drive(socket, plan.link(outbox), receipt, std::future::pending()));
            hearing.push(tokio::spawn(async move {
                for _ in 0..2 * EACH {
                    assert_eq!(read_frame(&mut peer).await, (BINARY, vec![7; 8]));
                }
            }));
        }
        for heard in hearing {
            timeout(30 * SECOND, heard).await.expect("somebody sleeps").unwrap();
        }
    });
    pushing.into_iter().for_each(|thread| thread.join().unwrap());
}

/// A thread that pushes in rounds.
struct Pusher {
    begin: std::sync::mpsc::Sender<usize>,
    thread: std::thread::JoinHandle<()>,
}

impl Pusher {
    fn start(number: usize, outbox: &Outbox, done: &mpsc::UnboundedSender<()>) -> Self {
        let (outbox, done) = (outbox.clone(), done.clone());
        let (begin, rounds) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            for round in rounds {
                // From none to more than there is room for.
                (0..round % 8 * 30 + number).for_each(|_| _ = outbox.push(binary(8)));
                done.send(()).unwrap();
            }
        });
        Self { begin, thread }
    }

    fn join(self) {
        drop(self.begin);
        self.thread.join().unwrap();
    }
}

/// Threads that push write for themselves, beside the task and the scheduler: whoever is last leaves nothing behind.
#[test]
fn no_wake_up_is_lost_between_those_who_push_into_full_outboxes_drivers_and_the_scheduler() {
    const ROUNDS: usize = 1_000;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    for (role, overflow) in [Role::Server, Role::Client].into_iter().zip([Overflow::DropLatest, Overflow::DropOldest]) {
        let outbox = Outbox::unreported(OutboxBound::new(2, 1 << 20, overflow));
        let (done, mut rounds) = mpsc::unbounded_channel();
        let threads = [0, 1].map(|number| Pusher::start(number, &outbox, &done));
        runtime.block_on(async {
            let plan = Plan::new(role);
            // It is full again and again.
            let (socket, mut peer) = duplex(50);
            tokio::spawn(drive(socket, plan.link(&outbox), receipt, std::future::pending()));
            if let Some(scheduler) = plan.scheduler {
                tokio::spawn(async move { scheduler.run().await });
            }
            let reading = tokio::spawn(async move { tokio::io::copy(&mut peer, &mut tokio::io::sink()).await });
            for round in 0..ROUNDS {
                threads.iter().for_each(|pusher| pusher.begin.send(round).unwrap());
                let emptied = async {
                    rounds.recv().await.unwrap();
                    rounds.recv().await.unwrap();
                    while !outbox.is_empty() {
                        tokio::task::yield_now().await;
                    }
                };
                // Well before the write-stall limit wakes a task that sleeps.
                timeout(10 * SECOND, emptied).await.expect("somebody sleeps");
            }
            reading.abort();
        });
        threads.into_iter().for_each(Pusher::join);
    }
}
