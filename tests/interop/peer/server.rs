//! A server whose paths do what a peer has to meet once.

use std::{env, error::Error, io, time::Duration};

use rxplus::prelude::*;
use serde_json::json;

use crate::mounted;

/// Its preferred subprotocol comes first.
const SUBPROTOCOLS: [&str; 2] = ["rxplus.v2", "rxplus.v1"];

/// Serves until the standard input ends.
///
/// - `/feed` sends numbers, `/feed?count=5` five of them, and then it closes with 1000.
/// - `/close` closes with the code and the reason that it receives, as in `4001 had enough`.
/// - `/hello` sends what the server knows about the request.
/// - `/room` sends what a client sends to all of its clients.
/// - `/events` sends the ends of all connections.
/// - `/refused` is answered with 401.
/// - All others echo.
pub(crate) fn run(ping: Option<Duration>) -> Result<(), Box<dyn Error>> {
    let with_options = |builder: ServerBuilder<WsFrame>| {
        let builder = builder.limits(crate::large(Limits::server())).ping_interval(ping);
        let builder = builder.subprotocols(SUBPROTOCOLS).authorize(admit);
        crate::compression().into_iter().fold(builder, ServerBuilder::compression)
    };
    let is_mounted = env::var_os("INTEROP_MOUNTED").is_some();
    let server = match is_mounted {
        true => with_options(RxWsServer::unbound(WsFrame)).build()?,
        false => with_options(RxWsServer::builder("ws://127.0.0.1:0", WsFrame)).bind()?,
    };
    server.connections().subscribe(serve);
    server.clone().filter(|td| td.tag == *"/room").merge_into(&server);
    server.events().filter_map(ending).map(|text| TaggedData::new("/events", text)).merge_into(&server);
    let addr = if is_mounted { mounted::serve(&server)?.into() } else { server.local_addr() };
    println!("ws://{addr}");

    io::copy(&mut io::stdin(), &mut io::sink())?;
    server.clone().complete();
    server.wait_closed(Duration::from_secs(10))?;
    Ok(())
}

async fn admit(request: UpgradeRequest) -> Result<(), Refuse> {
    match request.path() {
        "/refused" => Err(Refuse::status(401).because("say the word")),
        _ => Ok(()),
    }
}

fn serve(connection: Connection<WsFrame>) {
    if crate::compression().is_some() && !connection.is_compressed() {
        // An error is impossible with this code.
        let _ = connection.close(1008, "compression is not agreed on");
    }
    match connection.path().as_str() {
        "/feed" => feed(connection),
        "/close" => close_as_told(connection),
        "/hello" => connection.next(hello(&connection)),
        "/room" | "/events" => {}
        _ => _ = connection.clone().subscribe_with(connection),
    }
}

fn feed(connection: Connection<WsFrame>) {
    let count = connection.query().and_then(|query| query.strip_prefix("count=")?.parse().ok());
    let numbers = Io::interval(Duration::from_millis(5)).map(|number| number.to_string());
    numbers.take(count.unwrap_or(usize::MAX)).subscribe_with(connection);
}

fn close_as_told(connection: Connection<WsFrame>) {
    let closing = connection.clone();
    connection.subscribe(move |frame| {
        let told = frame.as_text().and_then(|text| text.split_once(' '));
        let Some((code, reason)) = told else { return };
        let closed = code.parse().ok().map(|code| closing.close(code, reason));
        if !matches!(closed, Some(Ok(()))) {
            closing.next(format!("cannot close with {code}"));
        }
    });
}

fn hello(connection: &Connection<WsFrame>) -> String {
    let header = |name| connection.headers().get(name).and_then(|value| value.to_str().ok());
    let (subprotocol, compressed) = (connection.subprotocol(), connection.is_compressed());
    json!({ "subprotocol": subprotocol, "origin": header("origin"), "compressed": compressed }).to_string()
}

/// What the end of a connection is reported as on `/events`. Otherwise the ends on `/events` would be reported there, too.
fn ending(event: ServerEvent) -> Option<String> {
    let ServerEvent::Disconnected { peer, code, reason, unconfirmed, .. } = event else { return None };
    let told = json!({ "path": peer.path.as_str(), "code": code, "reason": *reason, "unconfirmed": unconfirmed });
    Some(told.to_string())
}
