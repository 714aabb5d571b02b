//! A decided end: before it, everything that has arrived is dispatched.

use super::*;

/// How many messages come, each of them short: more than a turn dispatches, and than a read buffer has room for.
const BURST: usize = 40_000;

fn burst(from: Role) -> Vec<u8> {
    wire(from, TEXT, b"four").repeat(BURST)
}

impl Rig {
    /// How many messages were received until the end, and how it ended.
    async fn heard_until_the_end(mut self) -> (usize, Ending) {
        let mut count = 0;
        while self.heard.recv().await.is_some() {
            count += 1;
        }
        (count, self.task.await.unwrap())
    }
}

#[tokio::test(start_paused = true)]
async fn what_has_arrived_is_heard_when_a_write_fails_and_then_why() {
    for role in [Role::Server, Role::Client] {
        let mut rig = Plan::new(role).start_on(broken_after(20));
        rig.outbox.push(binary(1)).unwrap();
        rig.outbox.push(binary(100)).unwrap();
        rig.peer.write_all(&burst(other(role))).await.unwrap();
        rig.peer.shutdown().await.unwrap();
        let outbox = rig.outbox.clone();
        let (count, ending) = rig.heard_until_the_end().await;
        assert_eq!((count, ending.code, ending.unconfirmed), (BURST, 1006, 1));
        assert!(matches!(ending.error, Some(WsError::Transport { .. })), "{ending:?}");
        assert_eq!((outbox.stats().written.messages, outbox.stats().queued.messages), (1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn close_code_that_has_arrived_is_told_when_a_write_fails() {
    for role in [Role::Server, Role::Client] {
        for closes in [true, false] {
            let mut rig = Plan::new(role).start_on(broken_after(0));
            rig.outbox.push(text("an answer")).unwrap();
            if closes {
                rig.outbox.close(1001, "", 5 * SECOND);
            }
            rig.peer.write_all(&[burst(other(role)), close_frame(other(role), 4000)].concat()).await.unwrap();
            let (count, ending) = rig.heard_until_the_end().await;
            assert!(ending.error.is_none(), "{ending:?}");
            assert_eq!((count, ending.code), (BURST, 4000));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn pong_that_has_arrived_confirms_when_a_write_fails() {
    let mut rig = Plan::new(Role::Server).start_on(broken_after(10));
    (0..3).for_each(|_| rig.outbox.push(binary(3)).unwrap());
    // Two are written; a pong has confirmed the first.
    rig.peer.write_all(&[burst(Role::Client), wire(Role::Client, PONG, &mark(1))].concat()).await.unwrap();
    let (count, ending) = rig.heard_until_the_end().await;
    assert_eq!((count, ending.unconfirmed), (BURST, 1));
}

#[tokio::test(start_paused = true)]
async fn peer_that_goes_on_when_nothing_can_be_written_to_it_is_not_heard_for_ever() {
    let mut rig = Plan::new(Role::Server).start_on(broken_after(0));
    rig.outbox.push(binary(1)).unwrap();
    let mut sent = 0;
    while rig.peer.write_all(&burst(Role::Client)).await.is_ok() {
        sent += BURST;
    }
    let (count, ending) = rig.heard_until_the_end().await;
    assert!(matches!(ending.error, Some(WsError::Transport { .. })), "{ending:?}");
    assert!((BURST..=sent + BURST).contains(&count) && sent * 10 < 2 * ARRIVED_LEN, "{sent} sent, {count} heard");
}

#[tokio::test(start_paused = true)]
async fn what_has_arrived_is_heard_before_another_connection_takes_the_place_of_this_one() {
    let mut rig = Plan::new(Role::Client).start();
    assert!(rig.is_open_after(SECOND).await);
    let (cut, _) = oneshot::channel();
    rig.peer.write_all(&[burst(Role::Server), close_frame(Role::Server, 4000)].concat()).await.unwrap();
    std::mem::replace(&mut rig.cut, cut).send(()).unwrap();
    let began = rig.began;
    let (count, ending) = rig.heard_until_the_end().await;
    assert!(matches!(ending.error, Some(WsError::Cut(_))), "{ending:?}");
    assert_eq!((count, began.elapsed()), (BURST, SECOND));
}

#[tokio::test(start_paused = true)]
async fn what_has_arrived_is_heard_when_the_time_for_closing_is_over_but_for_no_more_than_a_second() {
    for (held_for, is_heard) in [(5 * SECOND + SECOND / 2, true), (10 * SECOND, false)] {
        let subscribers = Arc::new(Subscribers::default());
        let mut rig = Plan { inbound: subscribers.clone(), ..Plan::new(Role::Server) }.start();
        rig.outbox.close(1001, "", 5 * SECOND);
        rig.peer.write_all(&[burst(Role::Client), close_frame(Role::Client, 4000)].concat()).await.unwrap();
        sleep(held_for).await;
        subscribers.catch_up();
        let began = rig.began;
        let (count, ending) = rig.heard_until_the_end().await;
        let expected = if is_heard { (BURST, 4000) } else { (0, 1006) };
        assert_eq!((count, ending.code), expected, "{ending:?}");
        assert_eq!((ending.error.is_none(), began.elapsed()), (is_heard, held_for));
    }
}

#[tokio::test(start_paused = true)]
async fn what_has_arrived_when_a_write_failed_is_heard_until_the_time_for_closing_is_over_and_a_second_more() {
    for (held_for, is_heard) in [(SECOND, true), (5 * SECOND + SECOND / 2, true), (60 * SECOND, false)] {
        let subscribers = Arc::new(Subscribers::default());
        let mut rig = Plan { inbound: subscribers.clone(), ..Plan::new(Role::Server) }.start_on(broken_after(0));
        rig.outbox.push(text("an answer")).unwrap();
        rig.peer.write_all(&[burst(Role::Client), close_frame(Role::Client, 4000)].concat()).await.unwrap();
        assert!(rig.is_open_after(SECOND).await);
        rig.outbox.close(1001, "", 5 * SECOND);
        let began = Instant::now();
        let catching_up = tokio::spawn(async move {
            sleep(held_for).await;
            subscribers.catch_up();
        });
        let (count, ending) = rig.heard_until_the_end().await;
        if is_heard {
            assert_eq!((count, ending.code, began.elapsed()), (BURST, 4000, held_for), "{ending:?}");
        } else {
            assert!(matches!(ending.error, Some(WsError::ClosingTimedOut { .. })), "{ending:?}");
            assert_eq!((count, began.elapsed()), (0, 6 * SECOND));
        }
        catching_up.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn what_lies_behind_pings_is_heard_when_their_answers_are_not_taken() {
    let limits = Limits::server().write_buffer_len(100);
    let mut rig = Plan { limits, ..Plan::new(Role::Server) }.start_on(full);
    let pings = wire(Role::Client, PING, &[0; 100]).repeat(1000);
    rig.peer.write_all(&[pings, burst(Role::Client)].concat()).await.unwrap();
    let began = rig.began;
    let (count, ending) = rig.heard_until_the_end().await;
    assert!(matches!(ending.error, Some(WsError::WriteStalled { .. })), "{ending:?}");
    assert_eq!((count, began.elapsed()), (BURST, 30 * SECOND));
}
