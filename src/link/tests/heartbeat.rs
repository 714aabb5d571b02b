//! Pings, silence, and the signs of life.

use super::*;

#[tokio::test(start_paused = true)]
async fn peer_that_is_silent_for_interval_and_timeout_is_gone() {
    let rig = Plan { heartbeat: heartbeat(30, 20), ..Plan::new(Role::Server) }.start();
    let (ending, after) = rig.ending().await;
    assert!(matches!(ending.error, Some(WsError::PeerGone { .. })), "{ending:?}");
    assert_eq!((ending.code, after), (1006, 50));
}

#[tokio::test(start_paused = true)]
async fn every_byte_is_life_also_one_that_completes_nothing() {
    let mut rig = Plan { heartbeat: heartbeat(30, 20), ..Plan::new(Role::Server) }.start();
    for byte in wire(Role::Client, BINARY, &[0; 20]) {
        sleep(40 * SECOND).await;
        rig.peer.write_all(&[byte]).await.unwrap();
    }
    assert_eq!(rig.heard.recv().await.map(|frame| frame.len()), Some(20));
    let before = rig.began.elapsed().as_secs();
    assert_eq!(rig.ending().await.1, before + 50);
}

#[tokio::test(start_paused = true)]
async fn peer_that_answers_pings_stays() {
    let rig = Plan { heartbeat: heartbeat(30, 20), ..Plan::new(Role::Client) }.start();
    let Rig { peer, task, .. } = rig;
    let mut peer = websocket(peer, Role::Server).await;
    assert!(timeout(3600 * SECOND, async { while peer.next().await.is_some() {} }).await.is_err());
    assert!(!task.is_finished());
}

#[tokio::test(start_paused = true)]
async fn clock_is_watched_also_by_a_task_that_has_used_up_its_turn() {
    let (socket, _peer) = duplex(1 << 20);
    let link = Plan { heartbeat: heartbeat(30, 20), ..Plan::new(Role::Server) }.link(&outbox());
    let mut first = true;
    // Polled before the driver, it leaves nothing of the share of work that tokio gives a task at a time.
    let busy = poll_fn(move |cx| {
        let is_first = take(&mut first);
        while is_first && pin!(coop::consume_budget()).poll(cx).is_ready() {}
        Poll::<()>::Pending
    });
    let driving = drive(socket, link, receipt, busy);
    let ending = timeout(100 * SECOND, tokio::spawn(driving)).await.expect("the driver never looked at the clock");
    assert!(matches!(ending.unwrap().error, Some(WsError::PeerGone { .. })));
}

#[tokio::test(start_paused = true)]
async fn without_a_heartbeat_nothing_is_sent_and_silence_is_borne() {
    let mut rig = Plan::new(Role::Server).start();
    assert!(rig.is_open_after(100_000 * SECOND).await);
    assert!(timeout(SECOND, rig.peer.read_u8()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn longest_times_there_are_are_no_limits() {
    let limits = Limits::server().write_stalled(Duration::MAX).close_timeout(Duration::MAX);
    let forever = Heartbeat { interval: Some(Duration::MAX), timeout: Some(Duration::MAX) };
    let rig = Plan { heartbeat: forever, limits, socket_len: 16, ..Plan::new(Role::Server) }.start();
    rig.outbox.push(binary(100)).unwrap();
    rig.outbox.close(1000, "", Duration::MAX);
    assert!(rig.is_open_after(100_000 * SECOND).await);
}

#[tokio::test(start_paused = true)]
async fn while_reading_is_paused_the_write_stall_decides_and_not_the_heartbeat() {
    let limits = Limits::server().write_buffer_len(1000).write_stalled(90 * SECOND);
    let mut rig = Plan { heartbeat: heartbeat(10, 10), limits, socket_len: 64, ..Plan::new(Role::Server) }.start();
    let flood = async {
        loop {
            rig.peer.write_all(&wire(Role::Client, PING, b"?")).await.unwrap();
        }
    };
    assert!(timeout(80 * SECOND, flood).await.is_err());
    let (ending, after) = rig.ending().await;
    assert!(matches!(ending.error, Some(WsError::WriteStalled { .. })), "{ending:?}");
    assert_eq!(after, 90);
}

#[tokio::test(start_paused = true)]
async fn pings_are_not_piled_up_for_a_peer_that_takes_nothing() {
    let limits = Limits::server().write_stalled(Duration::MAX);
    let often = Heartbeat { interval: Some(SECOND), timeout: None };
    let mut rig = Plan { heartbeat: often, limits, socket_len: 64, ..Plan::new(Role::Server) }.start();
    rig.outbox.push(binary(1000)).unwrap();
    assert!(rig.is_open_after(10_000 * SECOND).await);
    let mut sent = Vec::new();
    let _ = timeout(SECOND / 2, rig.peer.read_to_end(&mut sent)).await;
    assert!(sent.len() < 1100, "{} bytes", sent.len());
}

#[tokio::test(start_paused = true)]
async fn peer_that_is_well_is_not_gone_after_a_time_in_which_this_side_stood_still() {
    let Rig { peer, task, .. } = Plan { heartbeat: heartbeat(30, 20), ..Plan::new(Role::Client) }.start();
    let mut peer = websocket(peer, Role::Server).await;
    for _ in 0..10 {
        assert!(timeout(100 * SECOND, async { while peer.next().await.is_some() {} }).await.is_err());
        advance(1000 * SECOND).await;
    }
    assert!(timeout(3600 * SECOND, async { while peer.next().await.is_some() {} }).await.is_err());
    assert!(!task.is_finished());
}

#[tokio::test(start_paused = true)]
async fn silent_peer_has_its_timeout_after_a_time_in_which_this_side_stood_still_and_no_more() {
    for stands_still_after in [1, 2, 30, 49] {
        let rig = Plan { heartbeat: heartbeat(30, 20), ..Plan::new(Role::Server) }.start();
        assert!(rig.is_open_after(stands_still_after * SECOND).await);
        advance(1000 * SECOND).await;
        let back = Instant::now();
        let ending = rig.task.await.unwrap();
        assert!(matches!(ending.error, Some(WsError::PeerGone { .. })), "{ending:?}");
        assert_eq!(back.elapsed(), 20 * SECOND);
    }
}

#[tokio::test(start_paused = true)]
async fn peer_whose_messages_take_long_to_be_handled_is_alive() {
    let heard = Arc::new(AtomicUsize::new(0));
    let (socket, mut peer) = duplex(1 << 20);
    let link = Plan { heartbeat: heartbeat(3, 2), ..Plan::new(Role::Server) }.link(&outbox());
    let count = heard.clone();
    let block = move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        receipt(pin!(advance(SECOND / 10)).poll(&mut Context::from_waker(Waker::noop())))
    };
    peer.write_all(&wire(Role::Client, TEXT, b"x").repeat(1000)).await.unwrap();
    let ending = tokio::spawn(drive(socket, link, block, std::future::pending())).await.unwrap();
    assert!(matches!(ending.error, Some(WsError::PeerGone { .. })), "{ending:?}");
    assert_eq!(heard.load(Ordering::Relaxed), 1000);
}

#[tokio::test(start_paused = true)]
async fn peer_of_which_the_reactor_has_not_told_yet_is_not_gone() {
    let plan = Plan { heartbeat: heartbeat(30, 20), ..Plan::new(Role::Server) };
    let has_arrived = Arc::new(AtomicBool::new(true));
    let arrived = has_arrived.clone();
    let rig = plan.start_on(|stream| Mute { has_arrived: arrived, ..unbroken(stream) });
    assert!(rig.is_open_after(1000 * SECOND).await);
    has_arrived.store(false, Ordering::Relaxed);
    let (ending, after) = rig.ending().await;
    assert!(matches!(ending.error, Some(WsError::PeerGone { .. })), "{ending:?}");
    assert!((1000..=1050).contains(&after), "{after}");
}

#[tokio::test(start_paused = true)]
async fn peer_that_could_not_be_pinged_is_not_gone() {
    let limits = Limits::server().write_stalled(1000 * SECOND);
    let rig = Plan { heartbeat: heartbeat(3, 2), limits, ..Plan::new(Role::Server) }.start_on(full);
    rig.outbox.push(binary(1000)).unwrap();
    let (ending, after) = rig.ending().await;
    assert!(matches!(ending.error, Some(WsError::WriteStalled { .. })), "{ending:?}");
    assert_eq!(after, 1000);
}

#[tokio::test(start_paused = true)]
async fn ping_counts_from_when_the_system_has_taken_it() {
    let mut rig = Plan { heartbeat: heartbeat(30, 20), socket_len: 1, ..Plan::new(Role::Server) }.start();
    // A ping has fourteen bytes, of which one has room in the socket, and the peer takes one every ten seconds.
    for _ in 0..12 {
        rig.peer.read_u8().await.unwrap();
        sleep(10 * SECOND).await;
    }
    rig.peer.read_u8().await.unwrap();
    let asked = Instant::now();
    let ending = rig.task.await.unwrap();
    assert!(matches!(ending.error, Some(WsError::PeerGone { .. })), "{ending:?}");
    assert_eq!(asked.elapsed().as_secs(), 20);
}

#[tokio::test(start_paused = true)]
async fn unconfirmed_counts_what_was_written_since_the_last_ping_that_was_answered() {
    let often = Heartbeat { interval: Some(10 * SECOND), timeout: None };
    let rig = Plan { heartbeat: often, ..Plan::new(Role::Client) }.start();
    let Rig { peer, outbox, cut, task, .. } = rig;
    let mut peer = websocket(peer, Role::Server).await;
    for _ in 0..3 {
        outbox.push(text("confirmed")).unwrap();
    }
    // Answers the pings of these 25 seconds.
    assert!(timeout(25 * SECOND, async { while peer.next().await.is_some() {} }).await.is_err());
    peer.send(Message::Pong(Bytes::copy_from_slice(&mark(u64::MAX)))).await.unwrap();
    for _ in 0..2 {
        outbox.push(text("not confirmed")).unwrap();
    }
    sleep(SECOND / 10).await;
    cut.send(()).unwrap();
    let ending = task.await.unwrap();
    assert!(matches!(ending.error, Some(WsError::Cut(_))), "{ending:?}");
    assert_eq!(ending.unconfirmed, 2);
}

#[tokio::test(start_paused = true)]
async fn pong_that_nobody_asked_for_confirms_no_message_on_its_way() {
    for role in [Role::Client, Role::Server] {
        let mut rig = Plan { socket_len: 64, ..Plan::new(role) }.start();
        for len in [10, 1000, 10] {
            rig.outbox.push(binary(len)).unwrap();
        }
        sleep(SECOND).await;
        for count in 1..=3_u64 {
            rig.peer.write_all(&wire(other(role), PONG, &mark(count))).await.unwrap();
        }
        sleep(SECOND).await;
        let stats = rig.outbox.stats();
        assert_eq!((stats.written.messages, stats.acknowledged, stats.retained, stats.lost), (1, 1, 0, 0));
        drop(rig.peer);
        let ending = rig.task.await.unwrap();
        let stats = rig.outbox.stats();
        assert_eq!((ending.unconfirmed, stats.acknowledged, stats.retained, stats.lost), (0, 1, 0, 0));
    }
}
