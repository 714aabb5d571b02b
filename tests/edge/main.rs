//! Hostile peers: whatever they do, the others are served and memory is given back.

mod answers;
mod authorize;
mod crowds;
mod endings;
mod hostile_clients;
mod hostile_servers;
mod last_words;
mod limits;
mod log_lines;
mod nesting;
mod raw;
mod requests;
#[path = "../support/mod.rs"]
mod support;
#[cfg(feature = "tls")]
mod tls;

use std::{
    backtrace::Backtrace,
    fs,
    sync::{Mutex, MutexGuard, Once, PoisonError},
    time::{Duration, Instant},
};

use rxplus::prelude::*;
use support::{Recorder, connected, until, url};

/// Memory is the process's: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

pub(crate) fn alone() -> MutexGuard<'static, ()> {
    // What the first panic of a process reads for its backtrace, and keeps.
    static SYMBOLS: Once = Once::new();
    SYMBOLS.call_once(|| drop(Backtrace::force_capture().to_string()));
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How much more memory than before may be in use after an attack.
const ROOM: usize = 8 * 1024 * 1024;

/// Within which time a good client has to be served after an attack.
const SOON: Duration = Duration::from_secs(1);

/// The bytes of memory that the process has for itself, without what it has mapped of files, as its own code; 0 where nobody
/// tells.
pub(crate) fn memory() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: Vec<usize> = statm.split(' ').map_while(|pages| pages.parse().ok()).collect();
    pages.get(1..3).map_or(0, |pages| (pages[0] - pages[1]) * 4096)
}

/// Prints what a test has found: how soon a good peer was served after the attack, and what memory that took.
pub(crate) fn show(time: Duration, before: usize) {
    let thread = std::thread::current();
    let (name, more) = (thread.name().unwrap_or_default(), memory().saturating_sub(before) / 1024);
    println!("{name}: served within {time:?}, {more} KiB more than before");
}

/// An echo server under attack.
pub(crate) struct Site {
    pub(crate) server: RxWsServer<WsStr>,
    pub(crate) events: Recorder<ServerEvent>,
    before: usize,
    _alone: MutexGuard<'static, ()>,
}

impl Site {
    pub(crate) fn new() -> Self {
        Self::with(|builder| builder)
    }

    pub(crate) fn with(options: impl FnOnce(ServerBuilder<WsStr>) -> ServerBuilder<WsStr>) -> Self {
        let site = Self::over(options);
        // What is allocated once is allocated before the attack.
        site.serves_a_good_client();
        site.is_empty();
        Self { before: memory(), ..site }
    }

    /// As [`with`](Self::with), with no good client before the attack: over TLS it takes more to be one.
    pub(crate) fn over(options: impl FnOnce(ServerBuilder<WsStr>) -> ServerBuilder<WsStr>) -> Self {
        let alone = alone();
        let server = options(RxWsServer::builder("ws://127.0.0.1:0", WsStr)).bind().unwrap();
        server.connections().subscribe(|connection| {
            connection.clone().subscribe_with(connection);
        });
        let events = Recorder::on(server.events());
        Self { server, events, before: memory(), _alone: alone }
    }

    pub(crate) fn addr(&self) -> std::net::SocketAddr {
        self.server.local_addr().as_tcp().unwrap()
    }

    /// What the attack must not have cost.
    pub(crate) fn is_unharmed(&self) {
        let time = self.serves_a_good_client();
        until(&format!("memory back to {} KiB and 8 MiB", self.before / 1024), || memory() < self.before + ROOM);
        show(time, self.before);
    }

    pub(crate) fn serves_a_good_client(&self) -> Duration {
        let time = self.time_of_a_good_client();
        assert!(time < SOON, "a good client was served after {time:?}");
        time
    }

    fn time_of_a_good_client(&self) -> Duration {
        let began = Instant::now();
        let client = connected(&self.server, "/", WsStr);
        let heard = Recorder::on(client.clone());
        client.next("hello");
        assert_eq!(heard.item(), "hello");
        client.complete();
        began.elapsed()
    }

    /// Waits until nobody is connected any more.
    pub(crate) fn is_empty(&self) {
        until("all connections gone", || self.server.connection_count() == 0);
    }

    /// Waits for the refusal of a request: its status and why.
    pub(crate) fn refusal(&self) -> (Option<u16>, String) {
        self.events.find(|event| match event {
            ServerEvent::Rejected { status, reason, .. } => Some((status, reason.to_string())),
            _ => None,
        })
    }

    /// Waits for a connection that ended otherwise than by a closing handshake: the code and why.
    pub(crate) fn failure(&self) -> (u16, String) {
        self.events.find(|event| match event {
            ServerEvent::Disconnected { code, error: Some(error), .. } => Some((code, error.to_string())),
            _ => None,
        })
    }

    pub(crate) fn url(&self, path: &str) -> String {
        url(&self.server, path)
    }
}
