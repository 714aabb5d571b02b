//! `cargo run --example quickstart`
//!
//! A server that shouts, a client and a group of clients, in one process and without a runtime. Ends by itself, and with an
//! error if something expected did not happen.

use std::{sync::mpsc, time::Duration};

use rxplus::prelude::*;

const PATIENCE: Duration = Duration::from_secs(5);

fn main() -> Result<(), WsError> {
    // A client's messages come back in upper case, to everybody on the same path. Port 0: any free port.
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr)?;
    server.clone().map(|td| td.map(|text| text.to_uppercase())).subscribe_with(server.clone());
    println!("a server shouts at {}", server.local_addr());

    // A client is one connection; a group is one per path that messages are sent to.
    let address = ConnConfig::try_from(server.local_addr())?;
    let client = RxWsClient::connect(address.clone().path("/chat"), WsStr)?;
    let group = RxWsClientGroup::new(address, WsStr)?;

    // The messages of both, as one stream. A subscriber that is a closure needs `log_errors`.
    let (sender, received) = mpsc::channel();
    client.clone().tag("/chat").merge(group.clone()).log_errors().subscribe(move |td| {
        println!("heard on {}: {}", td.tag, td.data);
        sender.send(td.data).unwrap_or(()); // nobody listens any more when `main` has failed
    });

    // Pushed messages wait until the connection is made.
    client.next("hello");
    group.next(TaggedData::new("/news", "rx meets websockets"));
    group.next(TaggedData::new("/weather", "sunny"));
    expect(&received, ["HELLO", "RX MEETS WEBSOCKETS", "SUNNY"])?;

    // The other direction: to every client on a path.
    server.next(TaggedData::new("/news", "that was all"));
    expect(&received, ["that was all"])?;

    client.clone().complete();
    group.clone().complete();
    server.clone().complete();
    let closed = [client.wait_closed(PATIENCE)?, group.wait_closed(PATIENCE)?, server.wait_closed(PATIENCE)?];
    let unsent: u64 = closed.iter().map(|report| report.unsent).sum();
    println!("all closed, {unsent} messages unsent");
    Ok(())
}

/// Waits for these messages, which come over several connections and so in any order.
fn expect<const N: usize>(received: &mpsc::Receiver<WsText>, expected: [&str; N]) -> Result<(), WsError> {
    let mut missing = Vec::from(expected);
    while !missing.is_empty() {
        let late = |_| WsError::application(format!("{missing:?} did not come back within {PATIENCE:?}"));
        let text = received.recv_timeout(PATIENCE).map_err(late)?;
        missing.retain(|expected| text != *expected);
    }
    Ok(())
}
