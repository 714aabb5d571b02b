//! Connectors through proxies, with the tower services of hyper-util. The proxies are the test's own.

use std::{io, net::SocketAddr};

use http::Uri;
use hyper_util::client::legacy::connect::{
    HttpConnector,
    proxy::{SocksV5, Tunnel},
};
use rxplus::prelude::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
};
use tower_service::Service;

use crate::{
    another_runtime,
    support::{PATIENCE, Recorder, chain, echo_server},
};

/// A proxy on a runtime of its own, and the address of whom it leads to, whatever it is asked for.
struct Proxy {
    addr: SocketAddr,
    _runtime: Runtime,
}

impl Proxy {
    /// A proxy that does `negotiate` with each client, and then connects it to `target` if that says so.
    fn start<F>(target: SocketAddr, negotiate: impl Fn(TcpStream) -> F + Clone + Send + 'static) -> Self
    where
        F: Future<Output = io::Result<TcpStream>> + Send + 'static,
    {
        let runtime = another_runtime();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let addr = listener.local_addr().unwrap();
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let negotiate = negotiate.clone();
                tokio::spawn(async move {
                    let mut client = negotiate(client).await?;
                    copy_bidirectional(&mut client, &mut TcpStream::connect(target).await?).await
                });
            }
        });
        Self { addr, _runtime: runtime }
    }

    /// Lets those in who say the word and ask for `robot`.
    fn http(target: SocketAddr) -> Self {
        Self::start(target, |mut client| async {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(client.read_u8().await?);
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let is_welcome = head.starts_with("CONNECT robot:") && head.contains("Basic cm9ib3Q6YmVlcA==");
            let answer = if is_welcome { "200 Connection established" } else { "403 Forbidden" };
            client.write_all(format!("HTTP/1.1 {answer}\r\n\r\n").as_bytes()).await?;
            if is_welcome { Ok(client) } else { Err(io::ErrorKind::PermissionDenied.into()) }
        })
    }

    /// Lets those in who ask for `robot` (RFC 1928).
    fn socks5(target: SocketAddr) -> Self {
        Self::start(target, |mut client| async {
            let mut greeting = vec![0; 2];
            client.read_exact(&mut greeting).await?;
            let mut methods = vec![0; greeting[1].into()];
            client.read_exact(&mut methods).await?;
            client.write_all(&[5, 0]).await?;
            // Version, command, reserved, kind of the address, and the length of a name.
            let mut request = [0; 5];
            client.read_exact(&mut request).await?;
            let mut name = vec![0; usize::from(request[4]) + 2];
            client.read_exact(&mut name).await?;
            let is_welcome = request[..4] == [5, 1, 0, 3] && name.starts_with(b"robot");
            client.write_all(&[5, if is_welcome { 0 } else { 2 }, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
            if is_welcome { Ok(client) } else { Err(io::ErrorKind::PermissionDenied.into()) }
        })
    }

    fn uri(&self, scheme: &str) -> Uri {
        format!("{scheme}://{}", self.addr).parse().unwrap()
    }
}

/// The address that a proxy is asked for.
fn uri(endpoint: &ConnConfig) -> Uri {
    endpoint.to_string().parse().expect("an endpoint prints as a URL")
}

/// Through an HTTP proxy, by CONNECT.
async fn tunnel(proxy: Uri, endpoint: ConnConfig, password: &'static str) -> io::Result<TcpStream> {
    let tunnel = Tunnel::new(proxy, HttpConnector::new());
    let mut tunnel = tunnel.with_auth(password.parse().expect("it can stand in a header"));
    let stream = tunnel.call(uri(&endpoint)).await.map_err(io::Error::other)?;
    Ok(stream.into_inner())
}

async fn socks5(proxy: Uri, endpoint: ConnConfig) -> io::Result<TcpStream> {
    let mut connector = HttpConnector::new();
    // The address of the proxy is no http:// one.
    connector.enforce_http(false);
    let stream = SocksV5::new(proxy, connector).call(uri(&endpoint)).await.map_err(io::Error::other)?;
    Ok(stream.into_inner())
}

const PASSWORD: &str = "Basic cm9ib3Q6YmVlcA==";

#[track_caller]
fn is_served(client: &RxWsClient<WsStr>) {
    let heard = Recorder::on(client.clone());
    client.next("hello");
    assert_eq!(heard.item(), "hello");
    client.clone().complete();
    assert_eq!(client.wait_closed(PATIENCE).unwrap().unsent, 0);
}

#[track_caller]
fn failure(client: &RxWsClient<WsStr>) -> WsError {
    let failure = Recorder::on(client.events()).find(|event| match event {
        ClientEvent::ConnectFailed { error, .. } => Some(error),
        _ => None,
    });
    client.clone().complete();
    failure
}

#[test]
fn http_proxy_leads_to_the_server() {
    let server = echo_server(WsStr);
    let proxy = Proxy::http(server.local_addr().as_tcp().unwrap());
    let uri = proxy.uri("http");
    let connecting = move |endpoint| tunnel(uri.clone(), endpoint, PASSWORD);
    is_served(&RxWsClient::builder("ws://robot/", WsStr).connector(connecting).connect().unwrap());
    server.complete();
}

#[test]
fn socks_proxy_leads_to_the_server() {
    let server = echo_server(WsStr);
    let proxy = Proxy::socks5(server.local_addr().as_tcp().unwrap());
    let uri = proxy.uri("socks5");
    let connecting = move |endpoint| socks5(uri.clone(), endpoint);
    is_served(&RxWsClient::builder("ws://robot/", WsStr).connector(connecting).connect().unwrap());
    server.complete();
}

#[test]
fn refusal_of_a_proxy_is_an_error_with_its_reason() {
    let server = echo_server(WsStr);
    let proxy = Proxy::http(server.local_addr().as_tcp().unwrap());
    let uri = proxy.uri("http");
    let connecting = move |endpoint| tunnel(uri.clone(), endpoint, "Basic wrong");
    let error = failure(&RxWsClient::builder("ws://robot/", WsStr).connector(connecting).connect().unwrap());
    assert!(matches!(error, WsError::Connect { .. }) && chain(&error).contains("tunnel"), "{}", chain(&error));

    let proxy = Proxy::socks5(server.local_addr().as_tcp().unwrap());
    let uri = proxy.uri("socks5");
    let connecting = move |endpoint| socks5(uri.clone(), endpoint);
    let error = failure(&RxWsClient::builder("ws://another/", WsStr).connector(connecting).connect().unwrap());
    assert!(matches!(error, WsError::Connect { .. }), "{}", chain(&error));
    server.complete();
}

#[cfg(feature = "tls")]
#[test]
fn wss_goes_through_both_kinds_of_proxy_and_is_not_opened_there() {
    let identity = crate::tls::Identity::new();
    let tls = identity.of_server();
    let server = crate::echoing(RxWsServer::builder("wss://127.0.0.1:0", WsStr).tls(tls).bind().unwrap());
    let target = server.local_addr().as_tcp().unwrap();
    let builder = || RxWsClient::builder("wss://robot/", WsStr).tls(identity.trust());

    let proxy = Proxy::http(target);
    let uri = proxy.uri("http");
    let connecting = move |endpoint| tunnel(uri.clone(), endpoint, PASSWORD);
    is_served(&builder().connector(connecting).connect().unwrap());

    let proxy = Proxy::socks5(target);
    let uri = proxy.uri("socks5");
    let connecting = move |endpoint| socks5(uri.clone(), endpoint);
    is_served(&builder().connector(connecting).connect().unwrap());
    server.complete();
}
