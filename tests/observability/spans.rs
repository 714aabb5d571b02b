//! What is logged in a callback is inside the span of the connection or the client.

use rxplus::prelude::*;
use tracing::Level;

use crate::{
    log::log,
    support::{PATIENCE, echo_server_with, url},
};

#[test]
fn line_of_a_callback_is_inside_the_span_of_its_connection_and_of_its_client() {
    let log = log();
    let options = RxWsServer::builder("ws://127.0.0.1:0", WsStr).name("spanned");
    let server = echo_server_with(options);
    server.clone().subscribe(|td| tracing::info!(text = &*td.data, "heard by the server"));
    let address = url(&server, "/span");
    let client = RxWsClient::builder(&*address, WsStr).name("spanning").connect().unwrap();
    client.clone().subscribe(|text| tracing::info!(text = &*text, "heard by the client"));
    client.next("hello");
    let span = log.find(|entry| entry.fields.message() == "heard by the server").span.unwrap();
    assert_eq!((span.name, span.level), ("rxplus.connection", Level::INFO));
    assert_eq!(["server", "id", "path"].map(|name| span.fields.get(name)), ["spanned", "1", "/span"]);
    assert!(span.fields.get("peer").starts_with("127.0.0.1:"), "{span:?}");
    let span = log.find(|entry| entry.fields.message() == "heard by the client").span.unwrap();
    assert_eq!((span.name, span.level), ("rxplus.client", Level::INFO));
    assert_eq!(["name", "endpoint"].map(|name| span.fields.get(name)), ["spanning", &*address]);
}

#[test]
fn events_of_a_connection_are_inside_its_span() {
    let log = log();
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).name("inside").bind().unwrap();
    for path in ["/a", "/b"] {
        let client = RxWsClient::connect(url(&server, path), WsStr).unwrap();
        client.wait_connected(PATIENCE).unwrap();
        client.clone().complete();
        client.wait_closed(PATIENCE).unwrap();
    }
    server.clone().complete();
    server.wait_closed(PATIENCE).unwrap();
    let entries = log.of("server", "inside", "closed");
    for entry in &entries[..4] {
        let span = entry.span.as_ref().expect("it is inside a span");
        assert_eq!(span.fields.get("path"), entry.fields.get("path"));
    }
    assert!(entries[4].span.is_none());
}
