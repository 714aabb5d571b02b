//! `cargo run --example cookbook_dashboard --features json`
//!
//! Sensors send MessagePack and pages get JSON, on one port: the newest temperature of each sensor, five times a second.

use std::{collections::BTreeMap, sync::mpsc};

use rxplus::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
struct Reading {
    sensor: String,
    celsius: f64,
}

fn dashboard(address: &str) -> Result<RxWsServer<WsByPath>, WsError> {
    let by_path = WsByPath::new(|path| if path == "/live" { WsKind::Json } else { WsKind::Object });
    let server = RxWsServer::bind(address, by_path)?;
    let readings = server.clone().tag_filter("/sensors").untag().filter_map(|sent| sent.decode::<Reading>().ok());
    let newest = readings.filter(|reading| reading.celsius > -273.15).scan(BTreeMap::new(), |mut newest, reading| {
        newest.insert(reading.sensor, reading.celsius);
        newest
    });
    newest
        .sample(Io::interval(Duration::from_millis(200)).with_err())
        .filter_map(|newest| Payload::json(&newest).ok())
        .tag("/live")
        .merge_into(&server);
    Ok(server)
}

/// A try of it, with a sensor and a page.
fn main() -> Result<(), WsError> {
    let server = dashboard("ws://127.0.0.1:0")?; // a port of its own, in a program
    let address = ConnConfig::try_from(server.local_addr())?;

    let sensor = RxWsClient::connect(address.clone().path("/sensors"), WsObject::<Reading>::new())?;
    let ticks = Io::interval(Duration::from_millis(50));
    ticks.map(|n| Reading { sensor: "boiler".into(), celsius: 80.0 + n as f64 / 10.0 }).merge_into(&sensor);

    let page = RxWsClient::connect(address.path("/live"), WsStr)?;
    let (sender, shown) = mpsc::channel();
    page.clone().subscribe(move |json| _ = sender.send(json));
    for _ in 0..3 {
        println!("{}", shown.recv_timeout(Duration::from_secs(10)).map_err(WsError::application)?);
    }

    server.clone().complete();
    server.wait_closed(Duration::from_secs(10))?;
    Ok(())
}
