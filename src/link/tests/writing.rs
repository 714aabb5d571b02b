//! When a link writes, and which messages are left when it breaks.

use super::*;

#[tokio::test]
async fn socket_that_is_ready_is_written_to_by_a_task_that_always_uses_up_its_turn() {
    let (socket, mut peer) = duplex(1 << 20);
    let outbox = outbox();
    let busy = poll_fn(|cx| {
        while pin!(coop::consume_budget()).poll(cx).is_ready() {}
        Poll::<()>::Pending
    });
    let _driving = tokio::spawn(drive(socket, Plan::new(Role::Client).link(&outbox), receipt, busy));
    outbox.push(binary(10)).unwrap();
    let mut frame = [0; 16];
    timeout(30 * SECOND, peer.read_exact(&mut frame)).await.expect("nothing was written").unwrap();
}

#[tokio::test(start_paused = true)]
async fn peer_that_takes_nothing_is_dropped_and_the_message_is_kept_whole() {
    let rig = Plan { socket_len: 64, ..Plan::new(Role::Server) }.start();
    let outbox = rig.outbox.clone();
    outbox.push(binary(10)).unwrap();
    outbox.push(binary(1000)).unwrap();
    let (ending, after) = rig.ending().await;
    assert!(matches!(ending.error, Some(WsError::WriteStalled { .. })), "{ending:?}");
    assert_eq!((ending.unconfirmed, after), (1, 30));
    assert_eq!((outbox.stats().written.len, outbox.stats().queued.len), (10, 1000));
}

#[tokio::test(start_paused = true)]
async fn peer_that_takes_a_byte_now_and_then_is_not_stalled() {
    let mut rig = Plan { socket_len: 64, ..Plan::new(Role::Server) }.start();
    rig.outbox.push(binary(1000)).unwrap();
    for _ in 0..100 {
        sleep(29 * SECOND).await;
        rig.peer.read_u8().await.unwrap();
    }
    assert!(!rig.task.is_finished());
}

// A drop costs more than a usual push already.
#[tokio::test(start_paused = true)]
async fn task_of_a_socket_that_takes_nothing_is_left_alone_by_pushes_that_ask_the_socket() {
    let (socket, mut peer) = duplex(64);
    let outbox = Outbox::unreported(OutboxBound::new(2, 1 << 20, Overflow::DropOldest));
    let polls = Arc::new(AtomicUsize::new(0));
    let counted = polls.clone();
    let cut = poll_fn(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        Poll::<()>::Pending
    });
    let _driving = tokio::spawn(drive(socket, Plan::new(Role::Client).link(&outbox), receipt, cut));
    outbox.push(binary(100)).unwrap();
    sleep(SECOND).await;
    (0..3).for_each(|_| outbox.push(binary(200)).unwrap());
    sleep(SECOND).await;
    let before = polls.load(Ordering::Relaxed);
    for _ in 0..10 {
        outbox.push(binary(200)).unwrap();
        // Longer than a socket is believed to take nothing, and well before the link's next deadline.
        sleep(SECOND / 10).await;
    }
    assert_eq!((polls.load(Ordering::Relaxed) - before, outbox.stats().dropped.overflow.messages), (0, 12));
    // It is still woken by the socket.
    let mut written = vec![0; 6 + 100 + 8 + 200];
    timeout(SECOND, peer.read_exact(&mut written)).await.expect("nothing was written").unwrap();
}

#[tokio::test(start_paused = true)]
async fn task_sleeps_while_its_transport_keeps_the_last_bytes() {
    for overflow in [Overflow::DropOldest, Overflow::Disconnect] {
        let (stream, _peer) = duplex(64);
        let outbox = Outbox::unreported(OutboxBound::new(2, 1 << 20, overflow));
        let polls = Arc::new(AtomicUsize::new(0));
        let counted = polls.clone();
        // One that is polled without end is cut.
        let cut = poll_fn(move |_| match counted.fetch_add(1, Ordering::Relaxed) {
            1000.. => Poll::Ready(()),
            _ => Poll::Pending,
        });
        let link = Plan::new(Role::Client).link(&outbox);
        let _driving = tokio::spawn(drive(Keeping { stream, kept: 0 }, link, receipt, cut));
        sleep(SECOND).await;
        outbox.push(binary(100)).unwrap();
        sleep(SECOND).await;
        assert!(polls.load(Ordering::Relaxed) < 10, "{overflow:?}: {polls:?} polls");
    }
}

#[tokio::test(start_paused = true)]
async fn messages_of_no_length_are_sent_and_counted() {
    let mut rig = Plan::new(Role::Server).start();
    for frame in [text(""), binary(0), text("")] {
        rig.outbox.push(frame).unwrap();
    }
    for opcode in [TEXT, BINARY, TEXT] {
        assert_eq!(read_frame(&mut rig.peer).await, (opcode, vec![]));
    }
    assert_eq!(rig.outbox.stats().written.messages, 3);
}

#[tokio::test(start_paused = true)]
async fn driver_that_sleeps_is_woken_by_a_push_and_by_a_close() {
    let mut rig = Plan::new(Role::Server).start();
    for n in 0..100 {
        assert!(rig.is_open_after(SECOND).await);
        rig.outbox.push(text(&n.to_string())).unwrap();
        assert_eq!(read_frame(&mut rig.peer).await, (TEXT, n.to_string().into_bytes()));
    }
    sleep(SECOND).await;
    rig.outbox.close(1000, "", 5 * SECOND);
    assert_eq!(read_frame(&mut rig.peer).await.0, CLOSE);
    assert_eq!(rig.began.elapsed(), 101 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn cancelled_driver_leaves_the_rest_to_the_next_one() {
    let rig = Plan { socket_len: 64, ..Plan::new(Role::Server) }.start();
    rig.outbox.push(binary(10)).unwrap();
    rig.outbox.push(binary(1000)).unwrap();
    assert!(rig.is_open_after(SECOND).await);
    rig.task.abort();
    assert!(rig.task.await.unwrap_err().is_cancelled());
    let mut batch = Vec::new();
    rig.outbox.take(&Context::from_waker(Waker::noop()), 1 << 20, &mut batch);
    assert_eq!(batch, [binary(1000)]);
}

/// The payloads of the messages that are whole in `bytes`.
fn whole_messages(bytes: Vec<u8>) -> Vec<Vec<u8>> {
    let mut frames = FrameSocket::new(io::Cursor::new(bytes));
    let mut messages = Vec::new();
    while let Ok(Some(mut frame)) = frames.read(None) {
        let mask = frame.header_mut().mask.take().unwrap_or_default();
        let unmask = |(n, byte): (usize, &u8)| byte ^ mask[n % 4];
        if frame.header().opcode.to_string() != "CLOSE" {
            messages.push(frame.payload().iter().enumerate().map(unmask).collect());
        }
    }
    messages
}

fn numbered_messages(lens: &[usize]) -> Vec<Vec<u8>> {
    let message = |(n, len): (usize, &usize)| [&(n as u32).to_be_bytes()[..], &vec![n as u8; *len]].concat();
    lens.iter().enumerate().map(message).collect()
}

/// Pushes some messages each second, in runs as a server does for many, then closes the outbox if that was the last link. Never returns.
async fn push_slowly(
    outbox: &Outbox,
    mut runs: Option<&mut Runs>,
    messages: impl Iterator<Item = &Vec<u8>>,
    at_once: usize,
    is_last: bool,
) {
    for (n, message) in messages.enumerate() {
        push(outbox, runs.as_deref_mut(), Frame::Binary(message.clone().into()));
        if n % at_once == 0 {
            sleep(SECOND).await;
        }
    }
    if is_last {
        outbox.close(1000, "", SECOND);
    }
    std::future::pending().await
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn broken_links_lose_nothing_send_nothing_twice_and_keep_the_order(
        is_client: bool,
        is_scheduled: bool,
        in_runs: bool,
        at_once in 1..5usize,
        pushed_before in 0..12usize,
        lens in prop::collection::vec(prop_oneof![Just(0), 1..300usize, Just(66_000)], 1..12),
        portions in prop::collection::vec(prop_oneof![0..4usize, 1..400usize, 1..40_000usize], 1..10),
        cuts in prop::collection::vec(0..3_000usize, 0..6),
    ) {
        // One portion at least lets something through.
        prop_assume!(portions.iter().any(|len| *len > 0));
        let role = if is_client { Role::Client } else { Role::Server };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let (outbox, scheduler, sent) = (outbox(), Arc::new(WriteScheduler::default()), numbered_messages(&lens));
        let mut runs = (in_runs && !is_client).then(Runs::default);
        let mut unsent = sent.iter();
        unsent.by_ref().take(pushed_before).for_each(|message| outbox.push(Frame::Binary(message.clone().into())).unwrap());
        let last = cuts.len();
        let mut arrived = Vec::new();
        for (n, left) in cuts.into_iter().chain([usize::MAX]).enumerate() {
            let taken = Arc::new(Mutex::new(Vec::new()));
            let socket = Breaking { portions: portions.clone().into_iter().cycle(), left, taken: taken.clone() };
            let link = Plan { scheduler: is_scheduled.then(|| scheduler.clone()), ..Plan::new(role) }.link(&outbox);
            let pushed = unsent.by_ref().take(if n == last { usize::MAX } else { at_once });
            let pushing = push_slowly(&outbox, runs.as_mut(), pushed, at_once, n == last);
            runtime.block_on(async {
                let over = sleep(60 * SECOND);
                tokio::select! {
                    _ = drive(socket, link, receipt, over) => {}
                    () = scheduler.run() => {}
                    () = pushing => {}
                }
            });
            arrived.extend(whole_messages(take(&mut taken.lock().unwrap())));
            prop_assert_eq!(outbox.stats().written.messages, arrived.len() as u64);
        }
        prop_assert_eq!(arrived, sent);
        prop_assert!(outbox.is_empty());
    }
}
