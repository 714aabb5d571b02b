//! rxplus's side of the checks in `tests/interop`, where peers that are not rxplus's talk to it.
//!
//! ```text
//! interop_peer server [PING_MS]              serves, and prints its address first
//! interop_peer client URL PING_MS [NAME..]   echoes what the server sends, and offers these subprotocols
//! interop_peer cases URL                     runs the cases of an Autobahn fuzzing server, and prints its address first
//! interop_peer resumable [PORT]              echoes, to clients that can come back, and prints its address first
//! interop_peer sender URL COUNT              sends so many messages to a resumable echo, and prints what came of it
//! ```
//!
//! `PING_MS` is the time between two pings of the heartbeat; `0` and none switch it off. A server and a client end when their
//! standard input does. With `INTEROP_MOUNTED` in the environment, the server is mounted in axum. With `INTEROP_COMPRESSED` both
//! sides compress, and nothing else will do: a server closes a connection that does not with 1008, a client ends.

mod cases;
mod client;
mod mounted;
mod resume;
mod server;

use std::{env, error::Error, time::Duration};

use rxplus::{Deflate, Limits};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<_> = env::args().skip(1).collect();
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["server"] => server::run(None),
        ["server", ping] => server::run(heartbeat(ping)?),
        ["client", url, ping, ref subprotocols @ ..] => client::run(url, heartbeat(ping)?, subprotocols),
        ["cases", url] => cases::run(url),
        ["resumable"] => resume::serve("0"),
        ["resumable", port] => resume::serve(port),
        ["sender", url, count] => resume::send(url, count.parse()?),
        _ => Err("such arguments are not known; see tests/interop/peer/main.rs".into()),
    }
}

/// The longest message of the suite has 16 MiB, and those that are sent in fragments as much.
fn large(limits: Limits) -> Limits {
    limits.message_len(32 * 1024 * 1024)
}

/// The compression that is asked for: of all messages, however short.
fn compression() -> Option<Deflate> {
    env::var_os("INTEROP_COMPRESSED").map(|_| Deflate::new().min_len(0))
}

fn heartbeat(millis: &str) -> Result<Option<Duration>, Box<dyn Error>> {
    Ok(Some(Duration::from_millis(millis.parse()?)).filter(|interval| !interval.is_zero()))
}
