//! Handshakes as fast as they go: many under way at once, and a new one for each that is over.

use std::{
    io::Read,
    net::{SocketAddr, TcpStream},
    os::fd::OwnedFd,
    time::Duration,
};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use socket2::SockRef;

use super::ready;
use crate::wire::ask;

/// Below the backlog of any listener, 128 of tokio's: one that is full would let a connection wait for a second.
const AT_ONCE: usize = 100;

/// Connections from their first packet to the answer.
pub(crate) struct Rush {
    epoll: OwnedFd,
    asked: Vec<TcpStream>,
    answered: usize,
}

impl Rush {
    /// Opens as many connections as there are paths.
    pub(crate) fn run(addr: SocketAddr, mut paths: impl Iterator<Item = String>) -> Self {
        let epoll = epoll::create(CreateFlags::CLOEXEC).expect("an epoll instance");
        let mut rush = Self { epoll, asked: Vec::new(), answered: 0 };
        let mut events = Vec::with_capacity(AT_ONCE);
        loop {
            let free = AT_ONCE - (rush.asked.len() - rush.answered);
            paths.by_ref().take(free).for_each(|path| rush.ask(addr, &path));
            if rush.answered == rush.asked.len() {
                return rush;
            }
            rush.hear(&mut events);
        }
    }

    fn ask(&mut self, addr: SocketAddr, path: &str) {
        let mut stream = TcpStream::connect(addr).expect("the server listens");
        ask(&mut stream, addr, path, "");
        let number = EventData::new_u64(self.asked.len() as u64);
        epoll::add(&self.epoll, &stream, number, EventFlags::IN).expect("room in epoll");
        self.asked.push(stream);
    }

    fn hear(&mut self, events: &mut Vec<Event>) {
        let mut buffer = [0; 1024];
        for event in ready(&self.epoll, events) {
            let len = self.asked[event.data.u64() as usize].read(&mut buffer).expect("the server answers");
            assert!(len > 0, "the server hung up");
            // An answer in parts has its end in the last one.
            self.answered += usize::from(buffer[..len].ends_with(b"\r\n\r\n"));
        }
    }
}

impl Drop for Rush {
    /// Resets the connections. Closed in order, each would keep its port for a minute, and the next rushes would find none.
    fn drop(&mut self) {
        for stream in &self.asked {
            SockRef::from(stream).set_linger(Some(Duration::ZERO)).expect("a connected socket");
        }
    }
}
