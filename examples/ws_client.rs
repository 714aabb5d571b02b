//! `cargo run --example ws_client -- --port 8765 --path /chat`
//!
//! Prints the messages it receives and the events of its connection: start it before the server, or stop the server
//! meanwhile. Ctrl-C ends it.

mod support;

use rxplus::prelude::*;

fn main() -> Result<(), WsError> {
    let options = support::Options::from_args("Prints what a server sends.");
    let client = RxWsClient::connect(options.address.path(options.path.unwrap_or_default()), WsStr)?;
    client.events().subscribe(|event| match event {
        ClientEvent::Connected { .. } => println!("* connected"),
        ClientEvent::ConnectFailed { error, .. } => println!("* {error}"),
        ClientEvent::Disconnected { code, .. } => println!("* disconnected with code {code}"),
        ClientEvent::Reconnecting { delay, .. } => println!("* trying again in {delay:.1?}"),
        _ => {}
    });
    client.clone().subscribe(|text| println!("{text}"));
    client.next("hello");

    let closing = client.clone();
    Io::from_future(tokio::signal::ctrl_c()).subscribe(move |_| closing.clone().complete());
    let report = client.wait_closed(Duration::MAX)?;
    println!("closed, {} messages unsent", report.unsent);
    Ok(())
}
