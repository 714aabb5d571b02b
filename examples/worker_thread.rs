//! `cargo run --example worker_thread`
//!
//! Work that is too slow for the I/O thread is delivered to a worker, in order; the answers go back to the client that
//! asked. A second worker, slower than its source, keeps only the newest items and says how many it skipped. Stops by
//! itself, and fails if an answer is missing, late or out of order.

use std::{process::ExitCode, sync::mpsc, thread, time::Duration};

use rxplus::prelude::*;

const QUESTIONS: u64 = 20;
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> Result<ExitCode, WsError> {
    let worker = EventLoopScheduler::try_new("worker")?;
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr)?;
    server.connections().subscribe(move |connection| {
        // From `deliver_on` on, everything runs on the worker: the I/O thread goes on serving others.
        let questions = connection.clone().deliver_on(&worker);
        questions.map(|question| answer(&question)).subscribe_with(connection);
    });

    let client = RxWsClient::connect(format!("ws://{}", server.local_addr()), WsStr)?;
    let (sender, received) = mpsc::channel();
    client.clone().subscribe(move |answer| sender.send(answer.to_string()).unwrap_or(()));
    (0..QUESTIONS).for_each(|n| client.next(n.to_string()));
    let are_right =
        (0..QUESTIONS).all(|n| received.recv_timeout(PATIENCE) == Ok(format!("worker: {n} squared is {}", n * n)));
    let skipped = show_the_newest();
    println!("answers {}; a slow screen skipped {skipped} frames", if are_right { "in order" } else { "are missing" });

    client.clone().complete();
    client.wait_closed(PATIENCE)?;
    server.clone().complete();
    server.wait_closed(PATIENCE)?;
    Ok(if are_right && skipped > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Slow work.
fn answer(question: &str) -> String {
    thread::sleep(Duration::from_millis(5));
    let n: u64 = question.parse().unwrap_or_default();
    format!("{}: {n} squared is {}", thread::current().name().unwrap_or_default(), n * n)
}

/// A thousand frames per second on a screen that shows a hundred. Returns how many it skipped.
fn show_the_newest() -> u64 {
    let (skip, skipped) = mpsc::channel();
    let frames = Io::interval(Duration::from_millis(1)).take(200);
    let newest = frames.deliver_on_bounded(&EventLoopScheduler::new("screen"), 1, Lossy::DropOldest, move |count| {
        skip.send(count).unwrap_or(());
    });
    newest.subscribe(|_| thread::sleep(Duration::from_millis(10)));
    skipped.iter().sum()
}
