//! What messages that become long cost a server: its memory, and the time of its other clients. Both are printed.

use std::{
    sync::{
        Arc, Barrier,
        atomic::{
            AtomicBool, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    apart::Apart,
    hostile::{OFFER, bomb, send_in_frames},
    peer::{Peer, compress, compressor},
    *,
};

/// The default of `Limits::message_len`.
const MESSAGE_LEN: usize = 1 << 20;

/// For each I/O thread: the message that it inflates, and 2 MiB.
const ROOM: usize = 3 << 20;

/// How many bytes of messages may wait for a slow subscriber, where there are several I/O threads.
const READ_AHEAD_LEN: usize = 16 << 20;

/// Sends a message and waits until it is back, again and again, on a connection of its own.
struct Echoes {
    count: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
    echoing: JoinHandle<Vec<Duration>>,
}

impl Echoes {
    fn on(server: &Apart) -> Self {
        let client = client(format!("ws://{}/echo", server.addr), Some(Deflate::new()));
        let (count, is_over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, over) = (count.clone(), is_over.clone());
        let echoing = thread::spawn(move || {
            let (heard, mut times) = (Recorder::on(client.clone()), Vec::new());
            while !over.load(Relaxed) {
                let began = Instant::now();
                client.next(text(2000));
                assert_eq!(heard.item(), text(2000).into());
                times.push(began.elapsed());
                counted.fetch_add(1, SeqCst);
            }
            times
        });
        Self { count, is_over, echoing }
    }

    /// Waits for one that has begun since.
    fn go_on(&self) {
        let before = self.count.load(SeqCst);
        until("an echo", || self.count.load(SeqCst) >= before + 2);
    }

    fn end(self) -> String {
        self.is_over.store(true, Relaxed);
        let mut times = self.echoing.join().unwrap();
        times.sort();
        format!("{} echoes, median {:?}, worst {:?}", times.len(), times[times.len() / 2], times[times.len() - 1])
    }
}

/// Attacks a server that has talked with clients before. It is to take at most `room` bytes of memory for that.
fn suffer(what: &str, threads: usize, busy: Duration, room: usize, attack: impl FnOnce(&Apart, &Echoes)) {
    let server = Apart::start(threads, busy);
    // Hardly a thread has no compressor and no inflater then.
    for _ in 0..4 * threads {
        let echoes = Echoes::on(&server);
        echoes.go_on();
        echoes.end();
    }
    let echoes = Echoes::on(&server);
    echoes.go_on();
    server.forget_peak();
    let before = server.peak();
    attack(&server, &echoes);
    let (echoes, more) = (echoes.end(), server.peak() - before);
    println!("{what}, {threads} threads, busy for {busy:?}: {} KiB at the peak; {echoes}", more / 1024);
    assert!(more <= room, "{what}, {threads} threads: {more} bytes, not {room}");
}

#[test]
fn bombs_take_no_more_memory_than_a_message_and_the_turn_of_nobody() {
    let bomb = bomb();
    for (threads, step) in [(1, bomb.len()), (1, 16), (4, bomb.len()), (4, 16)] {
        suffer(&format!("frames of {step}"), threads, Duration::ZERO, ROOM * threads, |server, echoes| {
            for _ in 0..20 {
                let mut peer = Peer::connect(server.addr.clone(), "/", OFFER);
                send_in_frames(&mut peer, &bomb, step);
                assert_eq!(peer.close_code(), 1009);
                echoes.go_on();
            }
        });
    }
}

#[test]
fn bombs_of_many_connections_at_once_take_no_more_memory_than_a_message_for_each_thread() {
    const PEERS: usize = 50;
    let bomb = bomb();
    for threads in [1, 4] {
        suffer("many at once", threads, Duration::ZERO, ROOM * threads, |server, echoes| {
            let together = Barrier::new(PEERS);
            let attack = || {
                let mut peer = Peer::connect(server.addr.clone(), "/", OFFER);
                together.wait();
                send_in_frames(&mut peer, &bomb, bomb.len());
                assert_eq!(peer.close_code(), 1009);
                echoes.go_on();
            };
            thread::scope(|scope| (0..PEERS).for_each(|_| _ = scope.spawn(attack)));
        });
    }
}

/// Several threads read ahead of the subscriber. Memory that comes and goes in pieces of all lengths has gaps: here as much again.
fn room_to_read_ahead(threads: usize) -> usize {
    ROOM * threads + if threads > 1 { 2 * READ_AHEAD_LEN } else { 0 }
}

#[test]
fn flood_of_messages_that_become_long_takes_no_more_memory_than_those_that_may_wait() {
    let message = compress(&mut compressor(), &vec![0; MESSAGE_LEN - 1]);
    assert!(message.len() < 1100);
    let (fast, slow) = (Duration::ZERO, Duration::from_millis(3));
    for (peers, threads, busy) in [(1, 1, fast), (1, 4, slow), (8, 1, fast), (8, 1, slow), (8, 4, fast), (8, 4, slow)] {
        suffer(&format!("flood of {peers}"), threads, busy, room_to_read_ahead(threads), |server, echoes| {
            let flood = || {
                let mut peer = Peer::connect(server.addr.clone(), "/flood", OFFER);
                for _ in 0..5 {
                    (0..10).for_each(|_| peer.send(0xc2, &message));
                    echoes.go_on();
                }
                peer.send(0x88, &1000_u16.to_be_bytes());
                assert_eq!(peer.close_code(), 1000);
            };
            thread::scope(|scope| (0..peers).for_each(|_| _ = scope.spawn(flood)));
        });
    }
}

#[test]
fn first_messages_of_many_connections_take_no_more_memory_than_those_that_may_wait() {
    const PEERS: usize = 200;
    /// What a connection takes.
    const EACH: usize = 12 * 1024;
    let message = compress(&mut compressor(), &vec![0; MESSAGE_LEN - 1]);
    let room = room_to_read_ahead(4) + PEERS * EACH;
    suffer("first messages", 4, Duration::from_millis(3), room, |server, echoes| {
        let connect = |_| Peer::connect(server.addr.clone(), "/flood", OFFER);
        let mut peers: Vec<_> = (0..PEERS).map(connect).collect();
        peers.iter_mut().for_each(|peer| {
            peer.send(0xc2, &message);
            peer.send(0x88, &1000_u16.to_be_bytes());
        });
        echoes.go_on();
        peers.iter_mut().for_each(|peer| assert_eq!(peer.close_code(), 1000));
    });
}
