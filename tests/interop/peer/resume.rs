//! Both ends of the resumable mode, for the checks in `tests/interop/resume`.

use std::{
    error::Error,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    time::Duration,
};

use rxplus::prelude::*;
use serde_json::{Value, json};

/// Longer than a check of a client may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// An echo that its clients can come back to. Serves until the standard input ends.
pub(crate) fn serve(port: &str) -> Result<(), Box<dyn Error>> {
    let server = RxWsServer::builder(format!("ws://127.0.0.1:{port}"), WsFrame)
        .limits(crate::large(Limits::server()))
        .resumable(Resume::new())
        .bind()?;
    server.connections().subscribe(|connection| _ = connection.clone().subscribe_with(connection));
    println!("ws://{}", server.local_addr());

    io::copy(&mut io::stdin(), &mut io::sink())?;
    server.clone().complete();
    server.wait_closed(Duration::from_secs(10))?;
    Ok(())
}

/// What happened to the sessions of a client.
#[derive(Default)]
struct Counts {
    sessions: AtomicU64,
    resumes: AtomicU64,
    gaps: AtomicU64,
}

impl Counts {
    fn note(&self, event: &SessionEvent) {
        match event {
            SessionEvent::Opened => self.sessions.fetch_add(1, Relaxed),
            SessionEvent::Resumed { missed: 0, .. } => self.resumes.fetch_add(1, Relaxed),
            _ => self.gaps.fetch_add(1, Relaxed),
        };
    }

    /// As `clients.mjs` reads it.
    fn described(&self, heard: u64) -> Value {
        let [sessions, resumes, gaps] = [&self.sessions, &self.resumes, &self.gaps].map(|count| count.load(Relaxed));
        json!({ "heard": heard, "sessions": sessions, "resumes": resumes, "gaps": (0..gaps).collect::<Vec<_>>() })
    }
}

/// Sends `count` messages to an echo, and prints what came of it.
pub(crate) fn send(url: &str, count: u64) -> Result<(), Box<dyn Error>> {
    let client = RxWsClient::builder(url, WsFrame)
        .resumable(Resume::new().window(500, 4 * 1024 * 1024))
        .retry(RetryPolicy::fixed(Duration::from_millis(10)))
        .connect()?;
    let counts = Arc::new(Counts::default());
    let noted = counts.clone();
    client.events().subscribe(move |event| {
        if let ClientEvent::Session(event) = event {
            noted.note(&event);
        }
    });
    let (sender, echoes) = mpsc::channel();
    client.clone().subscribe(move |frame| _ = sender.send(frame));
    (0..count).for_each(|number| client.next(item(number)));
    for number in 0..count {
        let echo = echoes.recv_timeout(PATIENCE)?;
        if echo != item(number) {
            let what_happened = counts.described(number);
            return Err(format!("{echo:?} instead of number {number}: {what_happened}").into());
        }
    }
    // A link that breaks while it is closed may need another one, which finds that the session has ended.
    let described = counts.described(count);
    client.clone().complete();
    client.wait_closed(Duration::from_secs(10))?;
    println!("{described}");
    Ok(())
}

/// As in `echo.mjs`.
fn item(number: u64) -> Frame {
    let padding = if number.is_multiple_of(50) { "ü".repeat(number as usize % 4_000) } else { String::new() };
    match number {
        _ if number.is_multiple_of(5) => format!("\u{10}{number}{padding}").into(),
        _ if number.is_multiple_of(3) => format!("{number}{padding}").into_bytes().into(),
        _ => format!("{number}{padding}").into(),
    }
}
