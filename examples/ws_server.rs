//! `cargo run --example ws_server -- --port 8765`
//!
//! Sends every client a numbered message each second, prints their messages, and answers their pings. Serves all paths, or
//! only `--path`. Ctrl-C ends it: the queued messages are sent, and the connections are closed.

mod support;

use rxplus::prelude::*;

fn main() -> Result<(), WsError> {
    let options = support::Options::from_args("Sends its clients a numbered message each second, and answers pings.");
    let mut server = RxWsServer::builder(options.address, WsStr);
    if let Some(path) = options.path {
        server = server.paths([path]);
    }
    let server = server.bind()?;
    println!("listening on {}, until Ctrl-C", server.local_addr());

    server.clone().subscribe(|td| println!("[{}] {}", td.tag, td.data));

    server.connections().subscribe(|connection| {
        println!("* {} came from {}", connection.name(), connection.peer_addr());
        let pongs = connection.clone().filter_map(|text| Some(format!("pong {}", text.strip_prefix("ping ")?)));
        let numbered = Io::interval(Duration::from_secs(1)).map(|n| format!("message {n}"));
        pongs.merge_into(&connection);
        numbered.subscribe_with(connection);
    });

    let closing = server.clone();
    Io::from_future(tokio::signal::ctrl_c()).subscribe(move |_| closing.clone().complete());
    let report = server.wait_closed(Duration::MAX)?;
    println!("closed, {} messages unsent", report.unsent);
    Ok(())
}
