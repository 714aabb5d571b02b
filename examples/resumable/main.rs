//! `cargo run --example resumable --features mount,json`, then open the address that it prints, and pull the plug.
//!
//! A page and a server count to each other, over a resumable WebSocket and, for contrast, over a plain one. Both go through the
//! network of `network.rs`, which breaks when the page asks for that. `page.html` is the whole of the other side; it loads
//! `clients/js`. An argument such as `0.0.0.0:8080` is an address to listen on, for a phone in the same network.

mod network;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Path, State},
    http::header::CONTENT_TYPE,
    response::Html,
    routing::{get, post},
};
use rxplus::prelude::*;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use network::Network;

const TICK: Duration = Duration::from_millis(100);

/// The client that the page imports, served as it is.
const CLIENT: [(&str, &str); 3] = [
    ("/resume.mjs", include_str!("../../clients/js/resume.mjs")),
    ("/outgoing.mjs", include_str!("../../clients/js/outgoing.mjs")),
    ("/wire.mjs", include_str!("../../clients/js/wire.mjs")),
];

/// What the server sends to one socket of a page, with each tick.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Counts {
    /// The number of this message: the next one has the next number, whether anybody is there or not.
    number: u64,
    /// Of the numbers that the page sends: how many have come, were left out, and came again.
    heard: u64,
    missing: u64,
    twice: u64,
}

impl Counts {
    fn hear(&mut self, number: u64) {
        let due = self.heard + self.missing;
        if number < due {
            self.twice += 1;
        } else {
            self.missing += number - due;
            self.heard += 1;
        }
    }
}

/// Counts to each socket, which has a path of its own and so a tag of its own, and counts what it says. A server that runs for long
/// would forget the sockets that have gone.
fn count(server: &RxWsServer<WsJson<u32, Counts>>) {
    let (server, mut sockets) = (server.clone(), BTreeMap::<Tag, Counts>::new());
    let heard = server.clone().map(Some);
    let ticks = Io::interval(TICK).map(|_| None).with_err();
    heard.merge(ticks).log_errors().subscribe(move |heard| match heard {
        Some(TaggedData { tag, data }) => sockets.entry(tag).or_default().hear(data.into()),
        None => {
            for (tag, counts) in &mut sockets {
                server.next(TaggedData::new(tag.clone(), counts.clone()));
                counts.number += 1;
            }
        }
    });
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = TcpListener::bind(std::env::args().nth(1).unwrap_or("127.0.0.1:0".into())).await?;
    let addr = listener.local_addr()?;
    let way_in = TcpListener::bind((addr.ip(), 0)).await?;
    let page = include_str!("page.html").replace("{port}", &way_in.local_addr()?.port().to_string());

    // One server for both: a client that does not ask for the mode is served plainly.
    let server = RxWsServer::unbound(WsJson::pair()).resumable(Resume::new()).build()?;
    count(&server);

    let network = Arc::new(Network::default());
    tokio::spawn(network.clone().serve(way_in, addr));
    let mut app = Router::new()
        .route("/", get(|| async { Html(page) }))
        .route("/unplug/{seconds}", post(unplug))
        .route("/swallow/{seconds}", post(swallow))
        .nest_service("/count", server.service());
    for (path, script) in CLIENT {
        app = app.route(path, get(move || async move { ([(CONTENT_TYPE, "text/javascript")], script) }));
    }
    println!("http://{addr}/");

    let stop = async move {
        tokio::signal::ctrl_c().await.ok();
        server.clone().complete();
        server.closed().await;
    };
    axum::serve(listener, app.with_state(network)).with_graceful_shutdown(stop).await?;
    Ok(())
}

// Each of these answers when the network is whole again, which it becomes even if the page has gone: hence the task.

async fn unplug(State(network): State<Arc<Network>>, Path(seconds): Path<u64>) {
    tokio::spawn(async move { network.unplug(Duration::from_secs(seconds)).await }).await.ok();
}

async fn swallow(State(network): State<Arc<Network>>, Path(seconds): Path<u64>) {
    tokio::spawn(async move { network.swallow(Duration::from_secs(seconds)).await }).await.ok();
}
