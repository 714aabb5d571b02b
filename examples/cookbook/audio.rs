//! `cargo run --example cookbook_audio`
//!
//! A microphone, its listeners and a recorder. A listener that falls behind misses what is old, half a second at most; the
//! recorder must not miss anything, so it may lag, and is disconnected rather than given half of it.

use std::sync::mpsc;

use rxplus::prelude::*;

/// A packet lasts 20 ms.
const HALF_A_SECOND: usize = 25;
const A_MINUTE: usize = 3_000;

fn relay(address: &str) -> Result<RxWsServer<WsBytes>, WsError> {
    let relay = RxWsServer::builder(address, WsBytes)
        .paths(["/mic", "/listen", "/record"])
        .outbox_for("/listen", HALF_A_SECOND, 1 << 20, Overflow::DropOldest)
        .outbox_for("/record", A_MINUTE, 64 << 20, Overflow::Disconnect)
        .bind()?;
    for listeners in ["/listen", "/record"] {
        relay.clone().tag_filter("/mic").untag().tag(listeners).merge_into(&relay);
    }
    relay.events().subscribe(|event| {
        if let ServerEvent::Dropped { peer, dropped, .. } = event {
            eprintln!("{peer} has missed {} packets", dropped.messages);
        }
    });
    Ok(relay)
}

/// A try of it, with one of each.
fn main() -> Result<(), WsError> {
    let relay = relay("ws://127.0.0.1:0")?; // a port of its own, in a program
    let come = |path| RxWsClient::connect(format!("ws://{}{path}", relay.local_addr()), WsBytes);
    let (mic, listener, recorder) = (come("/mic")?, come("/listen")?, come("/record")?);
    let (sender, heard) = mpsc::channel();
    for (ear, client) in [("listener", &listener), ("recorder", &recorder)] {
        let sender = sender.clone();
        client.clone().subscribe(move |packet| _ = sender.send((ear, packet.len())));
        client.wait_connected(Duration::from_secs(10))?; // who comes later hears what is said from then on
    }

    let packets = Io::interval(Duration::from_millis(20)).map(|_| vec![0; 960]);
    packets.take(5).merge_into(&mic);
    for _ in 0..10 {
        println!("{:?}", heard.recv_timeout(Duration::from_secs(10)).map_err(WsError::application)?);
    }

    let lost = relay.path_stats("/listen").all.sent.dropped.overflow;
    println!("listeners have missed {} packets", lost.messages);
    relay.clone().complete();
    relay.wait_closed(Duration::from_secs(10)).map(drop)
}
