//! The closing handshake, and mistakes of the peer.

use super::*;

#[tokio::test(start_paused = true)]
async fn closing_sends_what_is_queued_first_and_is_clean_once_the_peer_answers() {
    for role in [Role::Server, Role::Client] {
        let rig = Plan::new(role).start();
        let Rig { peer, outbox, task, .. } = rig;
        outbox.push(text("last")).unwrap();
        outbox.close(1001, "bye", 5 * SECOND);
        let mut peer = websocket(peer, other(role)).await;
        assert_eq!(peer.next().await.unwrap().unwrap(), Message::text("last"));
        assert!(matches!(peer.next().await, Some(Ok(Message::Close(Some(frame)))) if frame.reason == "bye"));
        assert!(peer.next().await.is_none());
        drop(peer);
        let ending = task.await.unwrap();
        assert!(ending.error.is_none() && ending.code == 1001, "{ending:?}");
        assert_eq!((outbox.stats().written.messages, outbox.is_empty()), (1, true));
    }
}

#[tokio::test(start_paused = true)]
async fn peer_that_answers_the_ping_before_the_close_frame_has_everything() {
    for answers_ping in [true, false] {
        let Rig { mut peer, outbox, task, .. } =
            Plan { heartbeat: heartbeat(60, 60), ..Plan::new(Role::Server) }.start();
        for _ in 0..3 {
            outbox.push(text("last")).unwrap();
        }
        outbox.close(1001, "", 5 * SECOND);
        for _ in 0..3 {
            assert_eq!(read_frame(&mut peer).await, (TEXT, b"last".to_vec()));
        }
        let (kind, payload) = read_frame(&mut peer).await;
        assert_eq!((kind, Mark::read(&payload).map(|mark| mark.messages)), (PING, Some(3)));
        assert_eq!(read_frame(&mut peer).await, (CLOSE, vec![0x03, 0xe9]));
        if answers_ping {
            peer.write_all(&wire(Role::Client, PONG, &payload)).await.unwrap();
        }
        // Alone it may be one that has crossed this side's, of a peer that has read nothing.
        peer.write_all(&close_frame(Role::Client, 1001)).await.unwrap();
        let ending = task.await.unwrap();
        assert!(ending.error.is_none() && ending.code == 1001, "{ending:?}");
        let (stats, lost) = (outbox.stats(), if answers_ping { 0 } else { 3 });
        assert_eq!((ending.unconfirmed, stats.lost, stats.acknowledged), (lost, lost, 3 - lost));
    }
}

#[tokio::test(start_paused = true)]
async fn close_frame_of_the_peer_is_answered_and_the_server_hangs_up_first() {
    let mut rig = Plan::new(Role::Server).start();
    rig.peer.write_all(&wire(Role::Client, CLOSE, b"\x0f\xa0enough")).await.unwrap();
    assert_eq!(read_frame(&mut rig.peer).await, (CLOSE, b"\x0f\xa0enough".to_vec()));
    assert_eq!(rig.peer.read(&mut [0]).await.unwrap(), 0);
    let (ending, after) = rig.ending().await;
    assert!(ending.error.is_none(), "{ending:?}");
    assert_eq!((ending.code, &*ending.reason, after), (4000, "enough", 0));
}

#[tokio::test(start_paused = true)]
async fn client_leaves_hanging_up_to_the_server_but_waits_no_longer_than_a_second() {
    for hangs_up in [true, false] {
        let mut rig = Plan::new(Role::Client).start();
        rig.peer.write_all(&close_frame(Role::Server, 1000)).await.unwrap();
        // The answer: head, key, code. After it the client waits and does not hang up itself.
        rig.peer.read_exact(&mut [0; 8]).await.unwrap();
        assert!(timeout(SECOND / 2, rig.peer.read_u8()).await.is_err());
        if hangs_up {
            rig.peer.shutdown().await.unwrap();
        }
        let began = rig.began;
        let ending = rig.task.await.unwrap();
        assert!(ending.error.is_none() && ending.code == 1000, "{ending:?}");
        assert_eq!(began.elapsed(), if hangs_up { SECOND / 2 } else { SECOND });
    }
}

#[tokio::test(start_paused = true)]
async fn program_that_closes_behind_a_close_frame_waits_no_longer_than_it_says() {
    let mut rig = Plan::new(Role::Client).start();
    rig.peer.write_all(&close_frame(Role::Server, 1000)).await.unwrap();
    rig.peer.read_exact(&mut [0; 8]).await.unwrap();
    sleep(SECOND / 10).await;
    rig.outbox.close(1000, "", SECOND / 5);
    let ending = rig.task.await.unwrap();
    assert!(ending.error.is_none() && ending.code == 1000, "{ending:?}");
    assert_eq!(rig.began.elapsed(), SECOND * 3 / 10);
}

#[tokio::test(start_paused = true)]
async fn program_that_closes_while_the_last_frame_waits_for_the_peer_waits_no_longer_than_it_says() {
    let mistake = wire(Role::Server, TEXT, b"not masked");
    for (role, said, socket_len) in [
        (Role::Server, close_frame(Role::Client, 1000), 64),
        (Role::Server, mistake.clone(), 64),
        // It has it, and is to hang up.
        (Role::Server, mistake, 1 << 20),
        (Role::Client, close_frame(Role::Server, 1000), 64),
    ] {
        let mut rig = Plan { socket_len, ..Plan::new(role) }.start();
        rig.outbox.push(binary(1000)).unwrap();
        sleep(SECOND / 20).await;
        rig.peer.write_all(&said).await.unwrap();
        sleep(SECOND / 20).await;
        rig.outbox.close(1000, "", SECOND / 5);
        rig.task.await.unwrap();
        assert_eq!(rig.began.elapsed(), SECOND * 3 / 10, "{role:?} {said:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn messages_are_heard_while_the_last_ping_and_the_close_frame_wait_for_the_peer() {
    let limits = Limits::server().write_buffer_len(8);
    let plan = Plan { heartbeat: heartbeat(60, 60), limits, socket_len: 64, ..Plan::new(Role::Server) };
    let mut rig = plan.start();
    rig.outbox.push(binary(1000)).unwrap();
    rig.outbox.close(1000, "", 5 * SECOND);
    sleep(SECOND).await;
    rig.peer.write_all(&wire(Role::Client, TEXT, b"first")).await.unwrap();
    assert_eq!(timeout(SECOND, rig.heard.recv()).await, Ok(Some(text("first"))));
}

#[tokio::test(start_paused = true)]
async fn close_frames_that_cross_make_one_closing_handshake() {
    for role in [Role::Server, Role::Client] {
        let mut rig = Plan::new(role).start();
        rig.outbox.close(1001, "", 5 * SECOND);
        rig.peer.write_all(&close_frame(other(role), 4001)).await.unwrap();
        let len = if role == Role::Server { 4 } else { 8 };
        rig.peer.read_exact(&mut vec![0; len]).await.unwrap();
        rig.peer.shutdown().await.unwrap();
        let mut rest = Vec::new();
        rig.peer.read_to_end(&mut rest).await.unwrap();
        let (ending, after) = rig.ending().await;
        assert!(ending.error.is_none() && ending.code == 4001, "{ending:?}");
        assert_eq!((rest.len(), after), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn what_follows_a_close_frame_is_ignored() {
    for role in [Role::Server, Role::Client] {
        let mut rig = Plan::new(role).start();
        let mut bytes = close_frame(other(role), 1000);
        bytes.extend(wire(other(role), TEXT, b"late"));
        bytes.extend([0xff; 100]);
        rig.peer.write_all(&bytes).await.unwrap();
        rig.peer.shutdown().await.unwrap();
        assert_eq!(rig.heard.recv().await, None);
        let (ending, after) = rig.ending().await;
        assert!(ending.error.is_none() && ending.code == 1000, "{ending:?}");
        assert_eq!(after, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn closing_is_given_up_at_its_deadline() {
    // A peer that reads nothing, and one that reads everything and answers nothing.
    for socket_len in [64, 1 << 20] {
        let rig = Plan { socket_len, ..Plan::new(Role::Server) }.start();
        rig.outbox.push(binary(1000)).unwrap();
        rig.outbox.close(1013, "", 5 * SECOND);
        let (ending, after) = rig.ending().await;
        assert!(matches!(ending.error, Some(WsError::ClosingTimedOut { .. })), "{ending:?}");
        assert_eq!((ending.code, after), (1006, 5));
    }
}

#[tokio::test(start_paused = true)]
async fn closing_is_given_up_at_its_deadline_whatever_the_peer_sends_meanwhile() {
    let mut rig = Plan::new(Role::Server).start();
    rig.outbox.close(1000, "", 5 * SECOND);
    sleep(4 * SECOND + SECOND / 2).await;
    rig.peer.write_all(&wire(Role::Server, TEXT, b"not masked")).await.unwrap();
    assert_eq!(rig.ending().await.1, 5);
}

#[tokio::test(start_paused = true)]
async fn messages_are_still_heard_while_the_answer_to_a_close_frame_is_awaited() {
    let mut rig = Plan::new(Role::Server).start();
    rig.outbox.close(1000, "", 5 * SECOND);
    assert_eq!(read_frame(&mut rig.peer).await.0, CLOSE);
    rig.peer.write_all(&wire(Role::Client, TEXT, b"on its way")).await.unwrap();
    assert_eq!(rig.heard.recv().await, Some(text("on its way")));
    rig.peer.write_all(&close_frame(Role::Client, 1000)).await.unwrap();
    assert!(rig.ending().await.0.error.is_none());
}

#[tokio::test(start_paused = true)]
async fn peer_that_hangs_up_without_a_close_frame_is_an_abnormal_closure() {
    for role in [Role::Server, Role::Client] {
        let mut rig = Plan::new(role).start();
        rig.peer.shutdown().await.unwrap();
        let (ending, after) = rig.ending().await;
        assert!(matches!(ending.error, Some(WsError::AbnormalClosure { .. })), "{ending:?}");
        assert_eq!((ending.code, after), (1006, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn mistakes_of_a_peer_are_answered_with_the_code_that_names_them() {
    let too_long = wire(Role::Client, BINARY, &[0; 201]);
    let fragments = [[0x02, 0x80 | 101].as_slice(), &[0; 105], &[0x00, 0x80 | 101], &[0; 105]].concat();
    for (code, bytes) in [
        (1002, wire(Role::Server, TEXT, b"not masked")),
        (1002, wire(Role::Client, 3, b"no such opcode")),
        (1002, wire(Role::Client, 0, b"continues nothing")),
        (1002, wire(Role::Client, CLOSE, b"1")),
        (1002, [&[PING][..], &wire(Role::Client, PING, b"a fragment")[1..]].concat()),
        (1002, wire(Role::Client, PING, &[0; 126])),
        (1002, [&[0xc1][..], &wire(Role::Client, TEXT, b"reserved bit")[1..]].concat()),
        (1007, wire(Role::Client, TEXT, b"\xff")),
        (1007, wire(Role::Client, CLOSE, b"\x03\xe8\xff")),
        (1009, too_long),
        (1009, fragments),
    ] {
        let mut rig = Plan { limits: Limits::server().message_len(200), ..Plan::new(Role::Server) }.start();
        rig.peer.write_all(&bytes).await.unwrap();
        let (opcode, payload) = read_frame(&mut rig.peer).await;
        assert_eq!((opcode, &payload[..2]), (CLOSE, &u16::to_be_bytes(code)[..]), "{bytes:?}");
        // It says no more, hears no more, and leaves when the peer does.
        assert_eq!(rig.peer.read(&mut [0]).await.unwrap(), 0);
        rig.peer.write_all(&wire(Role::Client, TEXT, b"late")).await.unwrap();
        drop(rig.peer);
        let ending = rig.task.await.unwrap();
        assert!(matches!(ending.error, Some(WsError::Protocol { .. })), "{ending:?}");
        assert_eq!((ending.code, rig.heard.recv().await, rig.began.elapsed()), (code, None, Duration::ZERO));
    }
}

#[tokio::test(start_paused = true)]
async fn peer_that_made_a_mistake_and_stays_is_dropped_after_a_second() {
    // One that reads the reason, one that does not, and one that goes on sending.
    for (socket_len, sends) in [(1 << 20, false), (2, false), (1 << 20, true)] {
        let mut rig = Plan { socket_len, ..Plan::new(Role::Server) }.start();
        rig.peer.write_all(&wire(Role::Server, TEXT, b"")).await.unwrap();
        if sends {
            while rig.peer.write_all(&[0; 1 << 16]).await.is_ok() {
                sleep(SECOND / 10).await;
            }
        }
        let (ending, after) = rig.ending().await;
        assert!(matches!(ending.error, Some(WsError::Protocol { .. })), "{ending:?}");
        assert_eq!((ending.code, after), (1002, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn close_frame_of_a_peer_that_has_shut_its_side_down_is_answered() {
    for role in [Role::Server, Role::Client] {
        let mut rig = Plan { socket_len: 9, ..Plan::new(role) }.start();
        // In its way there is a message, of which the socket takes a part at a time.
        rig.outbox.push(binary(50)).unwrap();
        assert!(rig.is_open_after(SECOND).await);
        rig.peer.write_all(&close_frame(other(role), 4000)).await.unwrap();
        rig.peer.shutdown().await.unwrap();
        let mut bytes = Vec::new();
        rig.peer.read_to_end(&mut bytes).await.unwrap();
        let mut frames = FrameSocket::new(io::Cursor::new(bytes));
        let read = [0; 2].map(|_| frames.read(None).unwrap().unwrap().header().opcode.to_string());
        assert_eq!(read, ["BINARY", "CLOSE"]);
        let ending = rig.task.await.unwrap();
        assert!(ending.error.is_none(), "{ending:?}");
        assert_eq!((ending.code, rig.began.elapsed()), (4000, SECOND));
    }
}

#[tokio::test(start_paused = true)]
async fn peer_that_has_shut_its_side_down_is_told_its_mistake() {
    let mut rig = Plan::new(Role::Server).start();
    rig.peer.write_all(&wire(Role::Server, TEXT, b"not masked")).await.unwrap();
    rig.peer.shutdown().await.unwrap();
    let (opcode, payload) = read_frame(&mut rig.peer).await;
    assert_eq!((opcode, &payload[..2]), (CLOSE, &1002u16.to_be_bytes()[..]));
    let (ending, after) = rig.ending().await;
    assert!(matches!(ending.error, Some(WsError::Protocol { .. })), "{ending:?}");
    assert_eq!(after, 0);
}

#[tokio::test(start_paused = true)]
async fn peer_that_has_shut_its_side_down_and_takes_nothing_is_waited_for_no_longer_than_a_second() {
    for role in [Role::Server, Role::Client] {
        let mut rig = Plan { socket_len: 8, ..Plan::new(role) }.start();
        rig.outbox.push(binary(50)).unwrap();
        assert!(rig.is_open_after(SECOND).await);
        rig.peer.write_all(&close_frame(other(role), 4000)).await.unwrap();
        rig.peer.shutdown().await.unwrap();
        let began = rig.began;
        let ending = rig.task.await.unwrap();
        assert_eq!((ending.code, began.elapsed()), (4000, 2 * SECOND), "{ending:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn close_frame_that_came_with_the_handshake_is_answered() {
    let early_bytes = close_frame(Role::Client, 1000).into();
    let mut rig = Plan { early_bytes, ..Plan::new(Role::Server) }.start();
    assert_eq!(read_frame(&mut rig.peer).await, (CLOSE, vec![3, 232]));
    assert!(rig.ending().await.0.error.is_none());
}

/// A subject whose observer is in a callback, on another thread, until what is returned beside it is dropped; more items wait
/// than a task may be ahead.
fn stuck_subject() -> (SerializedSubject<usize>, std::sync::mpsc::Sender<()>) {
    let (subject, (let_go, told)) = (SerializedSubject::new(), std::sync::mpsc::channel());
    let (begin, begun) = std::sync::mpsc::channel();
    let mut first = Some((begin, told));
    Io::new(subject.clone()).subscribe(move |_| {
        if let Some((begin, told)) = first.take() {
            begin.send(()).unwrap();
            let _ = told.recv();
        }
    });
    let emitting = subject.clone();
    std::thread::spawn(move || emitting.next(0));
    begun.recv().unwrap();
    (0..=debts::CREDIT).for_each(|n| subject.next(n));
    (subject, let_go)
}

#[tokio::test(start_paused = true)]
async fn close_frame_that_has_come_counts_at_the_deadline_though_deliveries_are_owed() {
    for role in [Role::Server, Role::Client] {
        let (subject, _let_go) = stuck_subject();
        let (socket, mut peer) = duplex(1 << 20);
        let (outbox, (say, mut heard)) = (outbox(), mpsc::unbounded_channel());
        let receive = move |frame| {
            callback::run(|| subject.next(0));
            receipt(say.send(frame))
        };
        let task = tokio::spawn(drive(socket, Plan::new(role).link(&outbox), receive, std::future::pending()));
        peer.write_all(&wire(other(role), TEXT, b"")).await.unwrap();
        heard.recv().await.unwrap();
        // Shorter than the time for which the task waits for the other thread.
        outbox.close(1000, "", SECOND / 2);
        let began = Instant::now();
        peer.write_all(&close_frame(other(role), 4000)).await.unwrap();
        let ending = task.await.unwrap();
        assert!(ending.error.is_none() && ending.code == 4000, "{ending:?}");
        assert_eq!(began.elapsed(), SECOND / 2);
    }
}
