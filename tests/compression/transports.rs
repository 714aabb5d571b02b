//! Compression inside TLS, and where another server reads the request.

use std::thread;

use axum::Router;
use rcgen::{CertificateParams, KeyPair};

use crate::*;

#[test]
fn mounted_server_compresses_as_well() {
    let server = RxWsServer::unbound(WsFrame).compression(Deflate::new()).build().unwrap();
    let connections = Recorder::on(server.connections());
    let app = Router::new().fallback_service(echoing(server.clone()).service());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { axum::serve(tokio::net::TcpListener::from_std(listener).unwrap(), app).await })
    });
    let client = client(format!("ws://{addr}/any"), Some(Deflate::new()));
    assert!(client.is_compressed() && connections.item().is_compressed());
    assert_echoes(&client);
    until("the echo is counted", || server.stats().sent.compressed == tally(1, 2000));
}

#[test]
fn messages_are_compressed_inside_tls() {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap().self_signed(&key).unwrap().pem();
    let tls = ServerTls::from_pem(&certificate, key.serialize_pem()).unwrap();
    let builder = RxWsServer::builder("wss://127.0.0.1:0", WsFrame).tls(tls).compression(Deflate::new());
    let server = echo_server_with(builder);
    let builder = RxWsClient::builder(format!("wss://{}", server.local_addr()), WsFrame).compression(Deflate::new());
    let client = builder.tls(ClientTls::with_roots_pem(&certificate).unwrap()).connect().unwrap();
    client.wait_connected(PATIENCE).unwrap();
    assert_echoes(&client);
    until("the echo is counted", || server.stats().sent.compressed == tally(1, 2000));
}

fn assert_echoes(client: &RxWsClient<WsFrame>) {
    let heard = Recorder::on(client.clone());
    client.next(text(2000));
    assert_eq!(heard.item(), text(2000).into());
    assert_eq!(client.stats().sent.compressed, tally(1, 2000));
}
