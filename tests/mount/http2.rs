//! WebSocket over HTTP/2 (RFC 8441).

use axum::http::{HeaderMap, Method, Request, StatusCode, Version};
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http_body_util::Empty;
use hyper::{client::conn::http2, ext::Protocol, upgrade::Upgraded};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{io::AsyncReadExt, time::timeout};
use tokio_tungstenite::WebSocketStream;
use tungstenite::{Message, protocol::Role};

use super::*;

type Peer = WebSocketStream<TokioIo<Upgraded>>;

/// Asks for a connection by an extended CONNECT. Returns the status, and the stream if it is 200.
async fn ask(addr: SocketAddr, path: &str) -> (StatusCode, Option<Peer>) {
    ask_for(addr, path, "chat", None).await
}

/// The peer reads no further than `window` ahead.
async fn ask_for(addr: SocketAddr, path: &str, subprotocol: &str, window: Option<u32>) -> (StatusCode, Option<Peer>) {
    let asked = ask_with(addr, path, ("Sec-WebSocket-Protocol", subprotocol), window).await;
    let (answer, stream) = match asked {
        Ok(opened) => opened,
        Err(status) => return (status, None),
    };
    assert_eq!(answer["sec-websocket-protocol"], subprotocol);
    (StatusCode::OK, Some(WebSocketStream::from_raw_socket(stream, Role::Client, None).await))
}

/// Asks with a header more. Returns the headers of the answer and the stream, or the status if that is not 200.
pub(crate) async fn ask_with(
    addr: SocketAddr,
    path: &str,
    (name, value): (&str, &str),
    window: Option<u32>,
) -> Result<(HeaderMap, TokioIo<Upgraded>), StatusCode> {
    let stream = tokio::net::TcpStream::connect(addr).await.unwrap();
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(window);
    let (mut sender, connection) = builder.handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::builder()
        .method(Method::CONNECT)
        .version(Version::HTTP_2)
        .uri(format!("http://{addr}{path}"))
        .header("Sec-WebSocket-Version", "13")
        .header(name, value)
        .extension(Protocol::from_static("websocket"));
    // The server says that it takes such requests in its settings, which come first.
    sender.ready().await.unwrap();
    let mut response = sender.send_request(request.body(Empty::new()).unwrap()).await.unwrap();
    match response.status() {
        StatusCode::OK => {
            let upgraded = hyper::upgrade::on(&mut response).await.unwrap();
            Ok((response.headers().clone(), TokioIo::new(upgraded)))
        }
        status => Err(status),
    }
}

#[test]
fn extended_connect_becomes_a_connection() {
    let server = RxWsServer::unbound(WsStr).subprotocols(["chat"]).paths(["/x"]).build().unwrap();
    server.clone().log_errors().subscribe_with(server.clone());
    let connections = Recorder::on(server.connections().log_errors());
    let addr = serve(Router::new().fallback_service(server.service()));
    Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let (_, peer) = ask(addr, "/x").await;
        let mut peer = peer.unwrap();
        peer.send(Message::text("hello")).await.unwrap();
        assert_eq!(peer.next().await.unwrap().unwrap(), Message::text("hello"));
        let connection: Connection<WsStr> = connections.item();
        assert_eq!((connection.path().to_string(), connection.subprotocol()), ("/x".into(), Some("chat")));
        server.clone().complete();
        assert!(peer.next().await.unwrap().unwrap().is_ping());
        let Message::Close(Some(close)) = peer.next().await.unwrap().unwrap() else { panic!("no close frame") };
        assert_eq!(u16::from(close.code), 1001);
    });
}

#[test]
fn refusal_with_a_status_of_success_opens_no_tunnel() {
    let authorize = async |_| Err::<(), _>(Refuse::status(200).because("fine"));
    let server = RxWsServer::unbound(WsStr).authorize(authorize).build().unwrap();
    let addr = serve(Router::new().fallback_service(server.service()));
    let (status, _) = Builder::new_current_thread().enable_all().build().unwrap().block_on(ask(addr, "/x"));
    assert_eq!(status, StatusCode::FORBIDDEN);
}

#[test]
fn extended_connect_for_an_unknown_path_is_refused() {
    let server = RxWsServer::unbound(WsStr).paths(["/x"]).build().unwrap();
    let addr = serve(Router::new().fallback_service(server.service()));
    let (status, _) = Builder::new_current_thread().enable_all().build().unwrap().block_on(ask(addr, "/none"));
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[test]
fn long_message_counts_as_written_when_its_peer_has_read_on() {
    let server = RxWsServer::unbound(WsBytes).build().unwrap();
    let connections = Recorder::on(server.connections());
    let addr = serve(Router::new().fallback_service(server.service()));
    Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let (_, mut peer) = ask_with(addr, "/", ("X-Peer", "slow"), Some(1000)).await.unwrap();
        let connection: Connection<WsBytes> = connections.item();
        connection.next(vec![0; 1_000_000]);
        let mut bytes = vec![0; 1_000_010];
        peer.read_exact(&mut bytes[..100_000]).await.unwrap();
        assert_eq!(connection.stats().sent.written, Tally::default());
        peer.read_exact(&mut bytes[100_000..]).await.unwrap();
        until("the message counts", || connection.stats().sent.written == tally(1, 1_000_000));
    });
}

/// As long as `hello`.
const WINDOW: u32 = 35;

/// A resumable server, and the token of a session in it whose client has gone.
async fn parked_session() -> (RxWsServer<WsStr>, SocketAddr, String) {
    let server = RxWsServer::unbound(WsStr).resumable(Resume::new()).build().unwrap();
    let addr = serve(Router::new().fallback_service(server.service()));
    let (mut client, token) = resumable(addr).await;
    say(&mut client, "new").await;
    assert_eq!(heard(&mut client).await, "ack 0");
    (server, addr, token)
}

/// A client that has heard `hello`, and the token that it is offered.
async fn resumable(addr: SocketAddr) -> (Peer, String) {
    let (_, client) = ask_for(addr, "/", "rxplus.resume.1", None).await;
    let mut client = client.unwrap();
    let hello = heard(&mut client).await;
    (client, hello.split(' ').nth(1).unwrap().to_owned())
}

async fn say(peer: &mut Peer, control: &str) {
    peer.send(Message::text(format!("\u{10}{control}"))).await.unwrap();
}

async fn heard(peer: &mut Peer) -> String {
    let message = timeout(PATIENCE, peer.next()).await.expect("it comes in time");
    let Some(Ok(Message::Text(text))) = message else { panic!("no text: {message:?}") };
    text.strip_prefix('\u{10}').expect("a control message").to_owned()
}

/// hyper takes some writes for which the stream has no window. With one of these numbers of pongs the close frame is the first that it
/// does not take.
#[test]
fn client_that_does_not_read_why_it_is_refused_leaves_its_session_to_the_next_link() {
    Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        for pongs in 0..4 {
            let (_server, addr, token) = parked_session().await;
            let (_, refused) = ask_for(addr, "/", "rxplus.resume.1", Some(WINDOW)).await;
            let mut refused = refused.unwrap();
            for _ in 0..pongs {
                refused.send(Message::Ping(Bytes::new())).await.unwrap();
            }
            say(&mut refused, &format!("resume {token} 2 99")).await;
            let (mut next, _) = resumable(addr).await;
            say(&mut next, &format!("resume {token} 3 0")).await;
            assert_eq!(heard(&mut next).await, "resumed 0 0", "{pongs}");
        }
    });
}
