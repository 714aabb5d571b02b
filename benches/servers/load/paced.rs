//! Messages on a schedule. The time of each counts from when it is due, not from when it was sent: a server that stands still
//! for a moment pays for all that are due in it. (To count from sending, which then happens later as well, is known as
//! coordinated omission.)

use std::{
    collections::VecDeque,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use rustix::{
    event::epoll::{self, CreateFlags, Event, EventData, EventFlags},
    time::Timespec,
};

use crate::wire::{PATIENCE, connect_all, masked_frame};

const PAYLOAD_LEN: usize = 128;
/// With a header of four bytes.
const ANSWER_LEN: usize = 4 + PAYLOAD_LEN;

pub(crate) struct Paced {
    epoll: OwnedFd,
    peers: Vec<Peer>,
    message: Vec<u8>,
    latencies: Vec<Duration>,
}

struct Peer {
    stream: TcpStream,
    /// When the messages were due that are not yet answered.
    due: VecDeque<Instant>,
    /// Bytes of the answer that is not complete.
    heard: usize,
}

impl Paced {
    pub(crate) fn connect(addr: SocketAddr, paths: impl Iterator<Item = String>) -> Self {
        let epoll = epoll::create(CreateFlags::CLOEXEC).expect("an epoll instance");
        let peers: Vec<_> = connect_all(addr, paths).into_iter().map(Peer::new).collect();
        for (number, peer) in peers.iter().enumerate() {
            let number = EventData::new_u64(number as u64);
            epoll::add(&epoll, &peer.stream, number, EventFlags::IN).expect("room in epoll");
        }
        Self { epoll, peers, message: masked_frame(PAYLOAD_LEN), latencies: Vec::new() }
    }

    /// Sends so many messages, one in each interval, and returns how long each took to come back.
    pub(crate) fn run(&mut self, interval: Duration, messages: usize) -> Vec<Duration> {
        let begin = Instant::now() + interval;
        let due = |number: usize| begin + interval.mul_f64(number as f64);
        let mut events = Vec::with_capacity(self.peers.len());
        let mut sent = 0;
        while self.latencies.len() < messages {
            // One at a time also when more are due: the answers to the others must not wait for the load.
            if sent < messages && due(sent) <= Instant::now() {
                let peer = sent % self.peers.len();
                self.peers[peer].send(&self.message, due(sent));
                sent += 1;
            }
            self.hear(&mut events);
            assert!(due(sent) + PATIENCE > Instant::now(), "the server stopped answering");
        }
        std::mem::take(&mut self.latencies)
    }

    /// Takes the answers that are there. It does not wait: to be woken takes longer than some intervals.
    fn hear(&mut self, events: &mut Vec<Event>) {
        const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
        events.clear();
        epoll::wait(&self.epoll, rustix::buffer::spare_capacity(events), Some(&NOW)).expect("epoll");
        for event in events {
            self.peers[event.data.u64() as usize].hear(&mut self.latencies);
        }
    }
}

impl Peer {
    fn new(stream: TcpStream) -> Self {
        stream.set_nonblocking(true).expect("a connected socket");
        Self { stream, due: VecDeque::new(), heard: 0 }
    }

    fn send(&mut self, message: &[u8], due: Instant) {
        let len = self.stream.write(message).expect("a message fits into the socket");
        assert_eq!(len, message.len(), "a message fits into the socket");
        self.due.push_back(due);
    }

    fn hear(&mut self, latencies: &mut Vec<Duration>) {
        let mut buffer = [0; 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => panic!("the server hung up"),
            Ok(len) => self.heard += len,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("the server went away: {error}"),
        }
        let now = Instant::now();
        while self.heard >= ANSWER_LEN {
            self.heard -= ANSWER_LEN;
            latencies.push(now - self.due.pop_front().expect("no more answers than messages"));
        }
    }
}
