//! When a driver reads, and when it does not.

use super::*;

#[tokio::test(start_paused = true)]
async fn pings_of_a_peer_that_reads_no_pongs_take_bounded_memory_and_the_connection_recovers() {
    const LIMIT: usize = 100_000;
    let limits = Limits::server().write_buffer_len(LIMIT);
    let mut rig = Plan { limits, socket_len: 4096, ..Plan::new(Role::Server) }.start();
    let ping = wire(Role::Client, PING, &[b'p'; 125]);
    let mut taken = 0;
    while timeout(SECOND, rig.peer.write_all(&ping)).await.is_ok() {
        taken += 1;
        assert!(taken * 127 < LIMIT + 2 * READ_BUFFER_LEN + 2 * 4096, "{taken} pings were taken");
    }
    // The last one was written in part: from here on the bytes of this peer mean nothing, but all is taken and answered.
    let (mut read, mut write) = tokio::io::split(rig.peer);
    let pongs = tokio::spawn(async move {
        for _ in 0..taken {
            let mut pong = [0; 127];
            read.read_exact(&mut pong).await.unwrap();
            assert_eq!((pong[0] & 0x0f, pong[126]), (PONG, b'p'));
        }
    });
    pongs.await.unwrap();
    timeout(SECOND, write.write_all(&[b'p'; 131])).await.expect("reading has resumed").unwrap();
}

#[tokio::test(start_paused = true)]
async fn reading_that_paused_while_it_answered_goes_on_without_a_wake_up() {
    let limits = Limits::server().write_buffer_len(1);
    let mut rig = Plan { limits, ..Plan::new(Role::Server) }.start();
    let mut bytes = wire(Role::Client, PING, b"?").repeat(2 * READ_BUFFER_LEN / 7);
    bytes.extend(wire(Role::Client, TEXT, b"heard"));
    rig.peer.write_all(&bytes).await.unwrap();
    assert_eq!(rig.heard.recv().await, Some(text("heard")));
    assert_eq!(rig.began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_read_while_the_subscribers_do_not_keep_up_and_that_is_not_the_peers_silence() {
    let subscribers = Arc::new(Subscribers::default());
    let plan = Plan { heartbeat: heartbeat(10, 10), inbound: subscribers.clone(), ..Plan::new(Role::Server) };
    let mut rig = plan.start();
    rig.peer.write_all(&wire(Role::Client, TEXT, b"waits")).await.unwrap();
    assert!(rig.is_open_after(1000 * SECOND).await);
    assert!(rig.heard.try_recv().is_err());
    subscribers.catch_up();
    assert_eq!(rig.heard.recv().await, Some(text("waits")));
    assert_eq!(rig.ending().await.1, 1020);
}

#[tokio::test(start_paused = true)]
async fn messages_survive_segments_of_one_byte_and_fragments_with_pings_between() {
    let mut rig = Plan { socket_len: 1, ..Plan::new(Role::Server) }.start();
    let zero = [0; 4];
    let first = [&[0x01, 0x80 | 2], &zero[..], "gr".as_bytes()].concat();
    // Cut in the middle of a character.
    let second = [&[0x00, 0x80 | 1], &zero[..], &"ö".as_bytes()[..1]].concat();
    let third = [&[0x80, 0x80 | 3], &zero[..], &"öße".as_bytes()[1..4]].concat();
    let last = wire(Role::Client, BINARY, &[]);
    let ping = wire(Role::Client, PING, b"ping");
    let bytes = [first, ping.clone(), second, ping, third, last].concat();
    let (mut read, mut write) = tokio::io::split(rig.peer);
    tokio::spawn(async move { write.write_all(&bytes).await.map(|()| write) });
    let mut pongs = [0; 12];
    read.read_exact(&mut pongs).await.unwrap();
    assert_eq!(&pongs, b"\x8a\x04ping\x8a\x04ping");
    assert_eq!(rig.heard.recv().await, Some(text("größ")));
    assert_eq!(rig.heard.recv().await, Some(binary(0)));
}

#[tokio::test(start_paused = true)]
async fn what_came_with_the_handshake_is_heard_first() {
    let early = [wire(Role::Client, TEXT, b"early"), wire(Role::Client, TEXT, b"torn")[..8].to_vec()].concat();
    let mut rig = Plan { early_bytes: early.into(), ..Plan::new(Role::Server) }.start();
    assert_eq!(rig.heard.recv().await, Some(text("early")));
    rig.peer.write_all(b"rn").await.unwrap();
    assert_eq!(rig.heard.recv().await, Some(text("torn")));
    assert_eq!(rig.began.elapsed(), Duration::ZERO);
}

/// Sends a message in one piece or in more, each once the last was read, and waits until it is heard.
async fn say(rig: &mut Rig, from: Role, len: usize, cuts: &[usize]) {
    let bytes = wire(from, BINARY, &vec![7; len]);
    let ends = cuts.iter().copied().chain([bytes.len()]);
    let starts = [0].into_iter().chain(cuts.iter().copied());
    for (start, end) in starts.zip(ends) {
        rig.peer.write_all(&bytes[start..end]).await.unwrap();
        // The clock moves once everybody waits.
        sleep(SECOND).await;
    }
    assert_eq!(rig.heard.recv().await, Some(binary(len)));
}

#[tokio::test(start_paused = true)]
async fn stream_that_clears_its_memory_has_none_to_clear_but_where_a_long_message_is_gathered() {
    const LONG_LEN: usize = 4 * READ_BUFFER_LEN;
    for role in [Role::Server, Role::Client] {
        let cleared = Arc::new(AtomicUsize::new(0));
        let stream_cleared = cleared.clone();
        let mut rig = Plan::new(role).start_on(|stream| Clearing { stream, cleared: stream_cleared });
        for len in [0, 5, 125, 1000, GATHERED_LEN - 1].repeat(20) {
            say(&mut rig, other(role), len, &[]).await;
            say(&mut rig, other(role), len, &[1, 2]).await;
        }
        assert_eq!(cleared.load(Ordering::Relaxed), 0, "short messages came to a {role:?}");
        say(&mut rig, other(role), LONG_LEN, &[]).await;
        // Its beginning has come to where short messages come.
        let by_long = cleared.load(Ordering::Relaxed);
        assert!(by_long <= LONG_LEN, "{by_long} bytes for a message to a {role:?}");
        say(&mut rig, other(role), LONG_LEN, &[LONG_LEN - 1000]).await;
        say(&mut rig, other(role), 5, &[]).await;
    }
}

/// Events whose subscribers keep up, or do not.
#[derive(Default)]
struct Told {
    is_full: AtomicBool,
    inflated: AtomicUsize,
    waiting: Mutex<Option<Waker>>,
}

impl Backlog for Told {
    fn poll_at_most(&self, _: usize, cx: &Context<'_>) -> Poll<()> {
        *self.waiting.lock().unwrap() = Some(cx.waker().clone());
        if self.is_full.load(Ordering::Relaxed) { Poll::Pending } else { Poll::Ready(()) }
    }

    fn inflated(&self) -> &AtomicUsize {
        &self.inflated
    }
}

#[tokio::test(start_paused = true)]
async fn driver_that_causes_events_is_held_while_too_many_wait() {
    let told = Arc::new(Told::default());
    told.is_full.store(true, Ordering::Relaxed);
    let plan = Plan { events: told.clone(), ..Plan::new(Role::Server) };
    let (socket, mut peer) = duplex(1 << 16);
    let (say, mut heard) = mpsc::unbounded_channel();
    let receive = move |frame: Frame| {
        say.send(frame.len()).unwrap();
        Receipt::Undecodable
    };
    let _driving = tokio::spawn(drive(socket, plan.link(&outbox()), receive, std::future::pending()));
    for len in [1, 2] {
        peer.write_all(&wire(Role::Client, BINARY, &vec![0; len])).await.unwrap();
        sleep(Duration::from_secs(1)).await;
    }
    // It had caused none before the first.
    assert_eq!((heard.recv().await, heard.try_recv().is_err()), (Some(1), true));
    told.is_full.store(false, Ordering::Relaxed);
    told.waiting.lock().unwrap().take().unwrap().wake();
    assert_eq!(heard.recv().await, Some(2));
}

#[tokio::test(start_paused = true)]
async fn long_message_is_read_to_its_end_in_one_turn_unless_it_is_very_long() {
    for (len, is_heard) in [(1 << 20, true), (1 << 23, false)] {
        let limits = Limits::server().message_len(len);
        let mut rig = Plan { limits, socket_len: 2 * len, ..Plan::new(Role::Server) }.start();
        rig.peer.write_all(&wire(Role::Client, BINARY, &vec![7; len])).await.unwrap();
        tokio::task::yield_now().await;
        assert_eq!(rig.heard.try_recv().is_ok(), is_heard, "a message of {len} bytes");
        assert!(is_heard || rig.heard.recv().await == Some(Frame::Binary(vec![7; len].into())));
    }
}

#[tokio::test(start_paused = true)]
async fn turns_are_short_while_another_peer_sends_short_messages_and_not_pongs() {
    const LEN: usize = 1 << 20;
    let mut other = Plan::new(Role::Server).start();
    let mut rig = Plan { socket_len: 2 * LEN, ..Plan::new(Role::Server) }.start();
    for is_long in [true, false] {
        if is_long {
            other.peer.write_all(&wire(Role::Client, PONG, &mark(0))).await.unwrap();
            sleep(SECOND).await;
        } else {
            other.peer.write_all(&wire(Role::Client, TEXT, b"short")).await.unwrap();
            assert_eq!(other.heard.recv().await, Some(text("short")));
        }
        rig.peer.write_all(&wire(Role::Client, BINARY, &vec![7; LEN])).await.unwrap();
        tokio::task::yield_now().await;
        assert_eq!(rig.heard.try_recv().is_ok(), is_long);
        assert!(is_long || rig.heard.recv().await == Some(Frame::Binary(vec![7; LEN].into())));
    }
}
