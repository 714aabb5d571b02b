//! The load on a server: many connections driven by one thread, or a part of them by each of some, which counts bytes and looks at none.

pub(crate) mod full;
pub(crate) mod paced;
pub(crate) mod rush;

use std::{
    io::{ErrorKind, IoSlice, Read, Write},
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    event::epoll::{self, CreateFlags, Event, EventData, EventFlags},
    io::ioctl_fionbio,
    time::Timespec,
};

use crate::{
    resuming::{self, Session},
    wire::{PATIENCE, connect_all, masked_frame, plain_frame},
};

/// Larger than any socket buffer hands over at once.
const READ_LEN: usize = 1024 * 1024;

/// A socket, or what encrypts over one.
pub(crate) trait Stream: Read + Write + AsFd + Send {}

impl<S: Read + Write + AsFd + Send> Stream for S {}

pub(crate) struct Swarm {
    epoll: OwnedFd,
    peers: Vec<Peer>,
    buffer: Vec<u8>,
    /// Peers that have not yet received what they are to receive.
    waiting: usize,
}

/// One connection. It sends bursts, each of them once the answer to the former is there.
struct Peer {
    stream: Box<dyn Stream>,
    session: Option<Session>,
    /// An acknowledgement that goes out before anything else.
    ack: Vec<u8>,
    bursts: usize,
    unsent: usize,
    unheard: usize,
}

/// What each peer sends at once, and how many bytes it gets for that.
pub(crate) struct Burst {
    bytes: Vec<u8>,
    pub(crate) messages: usize,
    answer_len: usize,
}

impl Burst {
    /// Messages that come back.
    pub(crate) fn echoed(payload_len: usize, in_flight: usize) -> Self {
        Self::of(&masked_frame(payload_len), in_flight, plain_frame(payload_len).len())
    }

    /// The same frame so many times, each answered by so many bytes.
    pub(crate) fn of(frame: &[u8], messages: usize, answer_len: usize) -> Self {
        Self { bytes: frame.repeat(messages), messages, answer_len: answer_len * messages }
    }
}

impl Burst {
    /// How many bytes a peer sends at once, and gets.
    pub(crate) fn lens(&self) -> [usize; 2] {
        [self.bytes.len(), self.answer_len]
    }
}

impl Swarm {
    pub(crate) fn connect(addr: SocketAddr, paths: impl Iterator<Item = String>) -> Self {
        Self::over(connect_all(addr, paths))
    }

    /// The same, in the resumable mode.
    pub(crate) fn resumable(addr: SocketAddr, paths: impl Iterator<Item = String>) -> Self {
        let mut swarm = Self::over(resuming::connect_all(addr, paths));
        swarm.peers.iter_mut().for_each(|peer| peer.session = Some(Session::default()));
        swarm
    }

    /// Over connections that are open.
    pub(crate) fn over(open: Vec<impl Stream + 'static>) -> Self {
        let epoll = epoll::create(CreateFlags::CLOEXEC).expect("an epoll instance");
        let peers: Vec<_> = open.into_iter().map(Peer::new).collect();
        for (number, peer) in peers.iter().enumerate() {
            let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
            epoll::add(&epoll, &*peer.stream, EventData::new_u64(number as u64), flags).expect("room in epoll");
        }
        Self { epoll, peers, buffer: vec![0; READ_LEN], waiting: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.peers.len()
    }

    /// Has the peers in `range` send `bursts` bursts each, and returns when all answers are there.
    pub(crate) fn echo(&mut self, range: std::ops::Range<usize>, burst: &Burst, bursts: usize) {
        self.waiting = range.len();
        for number in range {
            let peer = &mut self.peers[number];
            peer.bursts = bursts;
            peer.begin(burst);
        }
        self.await_answers(burst);
    }

    /// Has the last peer send a burst, and returns when each other one has what comes of it, `rounds` times.
    pub(crate) fn fan_out(&mut self, burst: &Burst, rounds: usize) {
        let listeners = self.peers.len() - 1;
        for _ in 0..rounds {
            self.waiting = listeners;
            for listener in &mut self.peers[..listeners] {
                listener.bursts = 1;
                listener.unheard = burst.answer_len;
            }
            let speaker = &mut self.peers[listeners];
            speaker.unsent = burst.bytes.len();
            speaker.write(burst);
            assert_eq!(speaker.unsent, 0, "a burst of a speaker fits into its socket");
            self.await_answers(burst);
        }
    }

    fn await_answers(&mut self, burst: &Burst) {
        let mut events: Vec<Event> = Vec::with_capacity(1024);
        while self.waiting > 0 {
            for event in ready(&self.epoll, &mut events) {
                let peer = &mut self.peers[event.data.u64() as usize];
                self.waiting -= usize::from(peer.turn(burst, &mut self.buffer));
            }
        }
    }
}

/// Waits for connections that can be read or written.
fn ready<'a>(epoll: &OwnedFd, events: &'a mut Vec<Event>) -> &'a [Event] {
    let patience = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
    events.clear();
    epoll::wait(epoll, rustix::buffer::spare_capacity(events), Some(&patience)).expect("epoll");
    assert!(!events.is_empty(), "the server stopped answering");
    events
}

impl Peer {
    fn new(stream: impl Stream + 'static) -> Self {
        ioctl_fionbio(&stream, true).expect("a connected socket");
        Self { stream: Box::new(stream), session: None, ack: Vec::new(), bursts: 0, unsent: 0, unheard: 0 }
    }

    fn begin(&mut self, burst: &Burst) {
        self.unsent = burst.bytes.len();
        self.unheard = burst.answer_len;
        self.write(burst);
    }

    /// Reads and writes what is possible. True when the last answer has come.
    fn turn(&mut self, burst: &Burst, buffer: &mut [u8]) -> bool {
        self.write(burst);
        if self.unheard == 0 {
            return false;
        }
        self.read(buffer);
        if self.unheard > 0 {
            return false;
        }
        self.bursts -= 1;
        self.acknowledge();
        if self.bursts > 0 {
            self.begin(burst);
        } else {
            self.write(burst);
        }
        self.bursts == 0
    }

    /// What is due goes out with the next burst, or by itself if there is none.
    fn acknowledge(&mut self) {
        if let Some(ack) = self.session.as_mut().and_then(Session::ack) {
            self.ack.extend(ack);
        }
    }

    fn write(&mut self, burst: &Burst) {
        while self.unsent + self.ack.len() > 0 {
            let from = burst.bytes.len() - self.unsent;
            let parts = [IoSlice::new(&self.ack), IoSlice::new(&burst.bytes[from..])];
            // Not with an empty part: a stream that knows no parts writes the first one.
            match self.stream.write_vectored(&parts[usize::from(self.ack.is_empty())..]) {
                Ok(len) => {
                    let of_ack = len.min(self.ack.len());
                    self.ack.drain(..of_ack);
                    self.unsent -= len - of_ack;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("the server went away: {error}"),
            }
        }
    }

    fn read(&mut self, buffer: &mut [u8]) {
        while self.unheard > 0 {
            match self.stream.read(buffer) {
                Ok(0) => panic!("the server hung up"),
                Ok(len) => {
                    let len = self.session.as_mut().map_or(len, |session| session.hear(&buffer[..len]));
                    assert!(len <= self.unheard, "the server sent {} B more than was asked for", len - self.unheard);
                    self.unheard -= len;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("the server went away: {error}"),
            }
        }
    }
}
