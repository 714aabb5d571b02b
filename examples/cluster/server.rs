//! One of the servers. Whatever a client of any of them says, all clients of all of them hear.

use std::{error::Error, io::Read};

use rxplus::prelude::*;
use serde::{Deserialize, Serialize};

/// What clients and servers say.
#[derive(Clone, Serialize, Deserialize)]
enum Line {
    /// A server to a client that has just come: who it is.
    Here { server: String },
    /// A client: its n-th message.
    Said { by: u32, number: u64 },
    /// A server: how many connections there are, on how many servers.
    Present { connections: u64, servers: usize },
    /// A server: what has become of its link to the bus, and how many messages it has missed.
    News { server: String, text: String, missed: u64 },
}

/// Runs until the standard input ends, as it does with the process that has started this one.
pub(crate) fn run(name: &str, port: &str, broker: &str) -> Result<(), Box<dyn Error>> {
    let bus = RxBus::connect(broker, WsJson::<Line>::new())?;
    let server = RxWsServer::builder(format!("ws://127.0.0.1:{port}"), WsJson::<Line>::new()).bus(&bus).bind()?;

    server.clone().merge_into(&bus);
    let server_name = name.to_owned();
    server.connections().subscribe(move |connection| {
        connection.next(Line::Here { server: server_name.clone() });
        // Each server tells its own clients: what is pushed into a server that has a bus goes to those of the others as well.
        let here = bus.presence(connection.path().clone());
        here.map(|here| Line::Present { connections: here.connections, servers: here.servers.len() })
            .merge_into(&connection);
        let server = server_name.clone();
        bus.events().filter_map(move |event| tell(&server, event)).merge_into(&connection);
    });

    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn tell(server: &str, event: BusEvent) -> Option<Line> {
    let (text, missed) = match event {
        BusEvent::Connected { .. } => ("is on the bus".to_owned(), 0),
        BusEvent::Disconnected { unconfirmed, .. } => (format!("is alone; will send {unconfirmed} again"), 0),
        BusEvent::Gap { missed, .. } => (format!("has missed {missed}"), missed),
        _ => return None,
    };
    Some(Line::News { server: server.to_owned(), text, missed })
}
