//! `cargo run --example through_a_proxy`
//!
//! Clients that reach their server through an HTTP proxy (CONNECT) and through a SOCKS5 proxy, with the services of
//! hyper-util (features `client-legacy` and `client-proxy`). The proxies, in `mod proxies`, are part of the program, which
//! ends by itself, and with an error if an answer did not come.

use std::{error::Error, io, time::Duration};

use http::Uri;
use hyper_util::client::legacy::connect::{
    HttpConnector,
    proxy::{SocksV5, Tunnel},
};
use rxplus::prelude::*;
use tokio::{net::TcpStream, sync::mpsc, time::timeout};
use tower_service::Service;

const PATIENCE: Duration = Duration::from_secs(5);

/// The address that a proxy is asked for: that of the attempt, which a redirect or `request(..)` may have changed.
fn target(endpoint: &ConnConfig) -> Uri {
    endpoint.to_string().parse().expect("an address prints as a URL")
}

/// Through an HTTP proxy. A proxy that asks for a password gets it by `.with_auth(..)`.
async fn by_connect(proxy: Uri, endpoint: ConnConfig) -> io::Result<TcpStream> {
    let mut tunnel = Tunnel::new(proxy, HttpConnector::new());
    let stream = tunnel.call(target(&endpoint)).await.map_err(io::Error::other)?;
    Ok(stream.into_inner())
}

/// Through a SOCKS5 proxy, which looks the name of the host up. One that asks for a password gets it by `.with_auth(..)`.
async fn by_socks5(proxy: Uri, endpoint: ConnConfig) -> io::Result<TcpStream> {
    let mut to_the_proxy = HttpConnector::new();
    to_the_proxy.enforce_http(false);
    let mut socks = SocksV5::new(proxy, to_the_proxy);
    let stream = socks.call(target(&endpoint)).await.map_err(io::Error::other)?;
    Ok(stream.into_inner())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr)?;
    server.clone().map(|td| td.map(|text| text.to_uppercase())).subscribe_with(server.clone());
    let address = ConnConfig::try_from(server.local_addr())?;

    // A `wss://` address has its TLS inside of the tunnel: the proxy sees none of the messages.
    let proxy = proxies::http().await?;
    let client = RxWsClient::builder(address.clone().path("/http"), WsStr)
        .connector(move |endpoint| by_connect(proxy.clone(), endpoint))
        .connect()?;
    println!("{} through an HTTP proxy", answer(&client).await?);

    let proxy = proxies::socks5().await?;
    let client = RxWsClient::builder(address.path("/socks5"), WsStr)
        .connector(move |endpoint| by_socks5(proxy.clone(), endpoint))
        .connect()?;
    println!("{} through a SOCKS5 proxy", answer(&client).await?);

    server.clone().complete();
    server.closed().await;
    Ok(())
}

async fn answer(client: &RxWsClient<WsStr>) -> Result<WsText, Box<dyn Error>> {
    let (sender, mut received) = mpsc::channel(1);
    client.clone().subscribe(move |text| _ = sender.try_send(text));
    client.next("hello");
    let answer = timeout(PATIENCE, received.recv()).await?.ok_or("the client has ended")?;
    client.clone().complete();
    client.closed().await;
    Ok(answer)
}

/// Proxies in a few lines each, so that the example needs nothing else. They lead everybody anywhere: not for the Internet.
mod proxies {
    use std::{
        io,
        net::{Ipv4Addr, SocketAddr},
    };

    use http::Uri;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
        net::{TcpListener, TcpStream},
    };

    /// Speaks with each client until that has said where to, and then copies both ways.
    async fn start<F>(scheme: &str, ask: fn(TcpStream) -> F) -> io::Result<Uri>
    where
        F: Future<Output = io::Result<(TcpStream, SocketAddr)>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let uri = format!("{scheme}://{}", listener.local_addr()?).parse().map_err(io::Error::other)?;
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut client, target) = ask(client).await?;
                    copy_bidirectional(&mut client, &mut TcpStream::connect(target).await?).await
                });
            }
        });
        Ok(uri)
    }

    /// RFC 9110, section 9.3.6.
    pub(crate) async fn http() -> io::Result<Uri> {
        start("http", |mut client| async {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(client.read_u8().await?);
            }
            let head = String::from_utf8_lossy(&head);
            println!("the proxy was asked: {}", head.lines().next().unwrap_or_default());
            let target =
                head.split(' ').nth(1).and_then(|target| target.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
            client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
            Ok((client, target))
        })
        .await
    }

    /// RFC 1928, for clients without a password that ask for an IPv4 address.
    pub(crate) async fn socks5() -> io::Result<Uri> {
        start("socks5", |mut client| async {
            let _version = client.read_u8().await?;
            let mut methods = vec![0; client.read_u8().await?.into()];
            client.read_exact(&mut methods).await?;
            client.write_all(&[5, 0]).await?;
            // Version, command, reserved, kind of address.
            let mut request = [0; 4];
            client.read_exact(&mut request).await?;
            let target = SocketAddr::from((Ipv4Addr::from(client.read_u32().await?), client.read_u16().await?));
            println!("the proxy was asked for {target}");
            client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
            Ok((client, target))
        })
        .await
    }
}
