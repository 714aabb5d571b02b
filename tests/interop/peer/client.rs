//! A client that echoes, and prints what happens to it.

use std::{error::Error, io, sync::mpsc, thread, time::Duration};

use rxplus::{ClientBuilder, prelude::*};
use serde_json::json;

/// Echoes until the standard input ends, or a server refuses it. `error` on the standard input ends it with an error.
///
/// It prints its events, one on a line, as JSON.
pub(crate) fn run(url: &str, ping: Option<Duration>, subprotocols: &[&str]) -> Result<(), Box<dyn Error>> {
    let builder = RxWsClient::builder(url, WsFrame);
    let client = crate::compression()
        .into_iter()
        .fold(builder, ClientBuilder::compression)
        .limits(crate::large(Limits::client()))
        .ping_interval(ping)
        .subprotocols(subprotocols.iter().copied())
        .retry(RetryPolicy::fixed(Duration::from_millis(100)).on_rejected(OnRejected::GiveUp))
        .connect()?;
    let (sender, events) = mpsc::channel();
    client.events().filter_map(described).subscribe(move |line| _ = sender.send(line));
    client.clone().subscribe_with(client.clone());
    println!("{url}");

    thread::spawn(move || obey(client));
    events.iter().for_each(|line| println!("{line}"));
    Ok(())
}

fn obey(client: RxWsClient<WsFrame>) {
    for line in io::stdin().lines().map_while(Result::ok) {
        if line == "error" {
            client.clone().error(WsError::application("told to fail"));
        }
    }
    client.complete();
}

fn described(event: ClientEvent) -> Option<String> {
    let described = match event {
        ClientEvent::Connected { compressed: false, .. } if crate::compression().is_some() => {
            json!({ "event": "compression is not agreed on" })
        }
        ClientEvent::Connected { subprotocol, .. } => json!({ "event": "connected", "subprotocol": subprotocol }),
        ClientEvent::Disconnected { code, reason, unconfirmed, .. } => {
            json!({ "event": "disconnected", "code": code, "reason": *reason, "unconfirmed": unconfirmed })
        }
        ClientEvent::ConnectFailed { error: WsError::Rejected { status, response, .. }, .. } => {
            json!({ "event": "rejected", "status": status, "body": String::from_utf8_lossy(response.body()) })
        }
        ClientEvent::Closed(report) => json!({ "event": "closed", "unsent": report.unsent }),
        _ => return None,
    };
    Some(described.to_string())
}
