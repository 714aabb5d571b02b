//! A server whose connections are served by several threads at once.

mod support;

use std::thread;

use rxplus::prelude::*;
use support::{Recorder, url};

const CLIENTS: usize = 16;
const MESSAGES: usize = 2_000;

#[test]
fn server_on_several_threads_echoes_each_connection_in_order() {
    let runtime = IoRuntime::with_threads("several", 4).unwrap();
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr)
        .runtime(&runtime)
        .outbox(MESSAGES, usize::MAX, Overflow::Disconnect)
        .bind()
        .unwrap();
    // Each client has a path of its own, so through the server's own subject it hears itself alone.
    server.clone().subscribe_with(server.clone());
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let client = RxWsClient::connect(url(&server, &format!("/{number}")), WsStr).unwrap();
            scope.spawn(move || {
                let heard = Recorder::on(client.clone());
                for message in 0..MESSAGES {
                    client.next(message.to_string());
                }
                for message in 0..MESSAGES {
                    assert_eq!(heard.item(), message.to_string());
                }
                client.complete();
            });
        }
    });
    let stats = server.stats();
    assert_eq!(stats.received.messages, (CLIENTS * MESSAGES) as u64);
    assert_eq!(stats.sent.dropped.total().messages, 0);
}
