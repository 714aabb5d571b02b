//! `cargo run --example from_tokio_tungstenite`
//!
//! A program that accepts with tokio-tungstenite, decides on each request by itself, and hands the connections over: from
//! then on they are an rxplus server's, with its outboxes, heartbeat and operators. A client of tokio-tungstenite talks to it.
//! Ends by itself, and with an error if something expected did not happen.

use std::{error::Error, net::SocketAddr};

use futures::{SinkExt, StreamExt};
use rxplus::{Adopted, prelude::*};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{
    accept_hdr_async, connect_async,
    tungstenite::handshake::server::{ErrorResponse, Request, Response},
};

/// What this program has found out about a client.
struct User(String);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = RxWsServer::unbound(WsStr).build()?;
    server.connections().subscribe(|connection| {
        let name = connection.grant().map_or("nobody", |User(name)| name.as_str()).to_owned();
        let answers = connection.clone().map(move |text| format!("{name}, you said: {text}"));
        answers.subscribe_with(connection);
    });

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    let accepting = server.clone();
    let accept_loop = tokio::spawn(async move {
        while let Ok((stream, addr)) = listener.accept().await {
            let server = accepting.clone();
            tokio::spawn(async move {
                if let Err(error) = hand_over(&server, stream, addr).await {
                    println!("refused {addr}: {error}");
                }
            });
        }
    });

    let (mut client, _) = connect_async(format!("ws://{addr}/chat?user=ada")).await?;
    client.send("hello".into()).await?;
    let answer = client.next().await.ok_or("no answer came")??;
    println!("{answer}");
    server.next(TaggedData::new("/chat", "and this goes to all on /chat"));
    println!("{}", client.next().await.ok_or("nothing came")??);
    if connect_async(format!("ws://{addr}/chat")).await.is_ok() {
        return Err("a client without a name was let in".into());
    }

    accept_loop.abort();
    server.clone().complete();
    // The client answers the closing handshake when it is asked for its next message.
    while client.next().await.is_some_and(|message| message.is_ok()) {}
    println!("{} messages unsent", server.closed().await.unsent);
    Ok(())
}

/// Makes the opening handshake with tokio-tungstenite. The stream is given away before anything is read from it: the bytes
/// that a `WebSocketStream` has read ahead cannot be had from it.
async fn hand_over(server: &RxWsServer<WsStr>, stream: TcpStream, addr: SocketAddr) -> Result<(), Box<dyn Error>> {
    let mut asked = None;
    #[expect(clippy::result_large_err, reason = "tungstenite's own type")]
    let decide = |request: &Request, response: Response| {
        let name = request.uri().query().and_then(|query| query.strip_prefix("user="));
        let Some(name) = name else { return Err(forbidden()) };
        asked = Some((request.uri().path().to_owned(), User(name.to_owned())));
        Ok(response)
    };
    let websocket = accept_hdr_async(stream, decide).await?;
    let (path, user) = asked.ok_or("there was no request")?;
    server.adopt(websocket.into_inner(), Adopted::new(path).grant(user).peer_addr(addr));
    Ok(())
}

fn forbidden() -> ErrorResponse {
    let mut response = ErrorResponse::new(Some("say who you are: ?user=..".into()));
    *response.status_mut() = http::StatusCode::FORBIDDEN;
    response
}
