//! WebSocket over HTTP/2 (RFC 8441).

use axum::http::{Method, Request, StatusCode, Version};
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http_body_util::Empty;
use hyper::{client::conn::http2, ext::Protocol};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio_tungstenite::WebSocketStream;
use tungstenite::{Message, protocol::Role};

use super::*;

/// Asks for a connection by an extended CONNECT. Returns the status, and the stream if it is 200.
async fn ask(addr: SocketAddr, path: &str) -> (StatusCode, Option<WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>>) {
    let stream = tokio::net::TcpStream::connect(addr).await.unwrap();
    let (mut sender, connection) =
        http2::Builder::new(TokioExecutor::new()).handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::builder()
        .method(Method::CONNECT)
        .version(Version::HTTP_2)
        .uri(format!("http://{addr}{path}"))
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Protocol", "chat")
        .extension(Protocol::from_static("websocket"));
    // The server says that it takes such requests in its settings, which come first.
    sender.ready().await.unwrap();
    let mut response = sender.send_request(request.body(Empty::new()).unwrap()).await.unwrap();
    let status = response.status();
    if status != StatusCode::OK {
        return (status, None);
    }
    assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
    let upgraded = hyper::upgrade::on(&mut response).await.unwrap();
    (status, Some(WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await))
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
