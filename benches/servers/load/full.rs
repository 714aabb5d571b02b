//! As much as a server takes, from as many threads as are needed to fill their cores.

use std::{
    io::Write,
    iter::once,
    net::{SocketAddr, TcpStream},
    sync::{
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

use super::{Burst, Swarm, ready};
use crate::{
    competitor::{LISTENERS, SPEAKER},
    machine::Cores,
    wire::connect_all,
};

/// So many bursts of a speaker are under way at once, so that neither the server nor the load waits for the end of one.
const BURSTS_AHEAD: usize = 4;

/// Many connections, each thread with its part of them.
pub(crate) struct Full {
    cores: Cores,
    swarms: Vec<Swarm>,
    /// Who speaks in a fan-out. It has a thread of its own.
    speaker: Option<TcpStream>,
}

impl Full {
    /// Connections with paths of their own, for an echo.
    pub(crate) fn echo(addr: SocketAddr, cores: Cores, peers: usize) -> Self {
        let paths = |from, to| (from..to).map(|number| format!("/{number}"));
        Self { cores, swarms: swarms(addr, cores, peers, paths), speaker: None }
    }

    /// Listeners, and one who speaks to them.
    pub(crate) fn fan_out(addr: SocketAddr, cores: Cores, listeners: usize) -> Self {
        let swarms = swarms(addr, cores, listeners, |from, to| (from..to).map(|_| LISTENERS.to_owned()));
        Self { cores, swarms, speaker: connect_all(addr, once(SPEAKER.to_owned())).pop() }
    }

    /// Returns when so many bursts are answered: of an echo, all peers together; of a fan-out, by each listener.
    pub(crate) fn run(&mut self, burst: &Burst, bursts: usize) {
        match &mut self.speaker {
            None => echo(self.cores, &mut self.swarms, burst, bursts),
            Some(speaker) => fan_out(self.cores, &mut self.swarms, speaker, burst, bursts),
        }
    }
}

/// A swarm for each thread: one for the load's own core, or one for each of both.
fn swarms<P: Iterator<Item = String>>(
    addr: SocketAddr,
    cores: Cores,
    peers: usize,
    paths: impl Fn(usize, usize) -> P,
) -> Vec<Swarm> {
    let threads = if cores == Cores::Both { 2 } else { 1 };
    let part = peers.div_ceil(threads);
    (0..peers).step_by(part).map(|from| Swarm::connect(addr, paths(from, peers.min(from + part)))).collect()
}

/// All take their bursts from one number, so that none ends long before the others.
fn echo(cores: Cores, swarms: &mut [Swarm], burst: &Burst, bursts: usize) {
    let left = AtomicUsize::new(bursts);
    thread::scope(|scope| {
        for swarm in swarms {
            let left = &left;
            scope.spawn(move || {
                cores.take();
                swarm.echo_while(burst, || left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok());
            });
        }
    });
}

fn fan_out(cores: Cores, swarms: &mut [Swarm], speaker: &mut TcpStream, burst: &Burst, bursts: usize) {
    thread::scope(|scope| {
        let mut heard = Vec::new();
        for swarm in swarms {
            let (tell, told) = channel();
            heard.push(told);
            scope.spawn(move || {
                cores.take();
                swarm.listen(burst, bursts, &tell);
            });
        }
        scope.spawn(move || {
            cores.take();
            speak(speaker, burst, bursts, &heard);
        });
    });
}

/// Each of those who have `heard` tells of every burst that all of its listeners have.
fn speak(speaker: &mut TcpStream, burst: &Burst, bursts: usize, heard: &[Receiver<()>]) {
    for number in 0..bursts {
        if number >= BURSTS_AHEAD {
            heard.iter().for_each(|swarm| swarm.recv().expect("it tells of each burst"));
        }
        speaker.write_all(&burst.bytes).expect("the server reads");
    }
}

impl Swarm {
    /// Has each peer send a burst, and another once it is answered, as long as there is one to `take`. Returns when all answers are
    /// there.
    fn echo_while(&mut self, burst: &Burst, take: impl Fn() -> bool) {
        self.waiting = 0;
        for peer in self.peers.iter_mut().take_while(|_| take()) {
            self.waiting += 1;
            peer.bursts = 1;
            peer.begin(burst);
        }
        let mut events = Vec::with_capacity(1024);
        while self.waiting > 0 {
            for event in ready(&self.epoll, &mut events) {
                let peer = &mut self.peers[event.data.u64() as usize];
                if !peer.turn(burst, &mut self.buffer) {
                    continue;
                }
                if take() {
                    peer.bursts = 1;
                    peer.begin(burst);
                } else {
                    self.waiting -= 1;
                }
            }
        }
    }

    /// Returns when all peers have what comes of so many bursts. Tells of each one that they all have.
    fn listen(&mut self, burst: &Burst, bursts: usize, tell: &Sender<()>) {
        self.peers.iter_mut().for_each(|peer| peer.unheard = burst.answer_len * bursts);
        let mut missing = vec![self.peers.len(); bursts];
        let mut events = Vec::with_capacity(1024);
        let mut heard = 0;
        while heard < bursts {
            for event in ready(&self.epoll, &mut events) {
                let peer = &mut self.peers[event.data.u64() as usize];
                let before = bursts - peer.unheard.div_ceil(burst.answer_len);
                peer.read(&mut self.buffer);
                let after = bursts - peer.unheard.div_ceil(burst.answer_len);
                missing[before..after].iter_mut().for_each(|missing| *missing -= 1);
            }
            while missing.get(heard) == Some(&0) {
                heard += 1;
                // The speaker does not wait for the last ones.
                let _ = tell.send(());
            }
        }
    }
}
