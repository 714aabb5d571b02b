//! What a mounted server serves.

use std::sync::mpsc;

use axum::{
    Extension,
    extract::{ConnectInfo, Path, Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{any, get},
};

use super::*;

#[test]
fn service_echoes_beside_a_page_on_one_port() {
    let server = unbound_echo();
    assert_eq!(server.local_addr(), rxplus::Addr::Mounted);
    let addr = serve(Router::new().route("/", get(|| async { "page" })).route_service("/echo", server.service()));
    assert_echoes(format!("ws://{addr}/echo"));
    let error = refused(format!("ws://{addr}/"));
    assert!(matches!(*error, WsError::Rejected { status: 200, .. }), "{error}");
    assert_eq!(server.stats().accepted, 1);
}

#[test]
fn callbacks_do_not_run_on_the_thread_of_axum() {
    let (runtimes, _tokio) = each_runtime(2);
    for runtime in runtimes {
        let server = RxWsServer::unbound(WsStr).runtime(&runtime).build().unwrap();
        let (say, heard) = mpsc::channel();
        server.clone().log_errors().subscribe(move |_| say.send(thread_name()).unwrap());
        let addr = serve(Router::new().route_service("/", server.service()));
        let client = RxWsClient::connect(format!("ws://{addr}/"), WsStr).unwrap();
        client.next("x");
        assert_ne!(heard.recv_timeout(PATIENCE).unwrap(), "axum");
    }
}

#[derive(Debug, PartialEq)]
struct User(&'static str);

async fn enter(
    Path(room): Path<String>,
    ConnectInfo(addr): ConnectInfo<SocketAddr>,
    State(rooms): State<RxWsServer<WsStr>>,
    request: Request,
) -> Response {
    if request.headers().get("cookie").is_none_or(|cookie| cookie != "user=ann") {
        return (StatusCode::UNAUTHORIZED, "who are you?").into_response();
    }
    let upgrade = Upgrade::new().path(format!("/{room}")).grant(User("ann")).peer_addr(addr);
    rooms.upgrade(request, upgrade).await.into_response()
}

/// Rooms that a handler lets in, and their address.
fn rooms() -> (RxWsServer<WsStr>, SocketAddr) {
    let rooms = RxWsServer::unbound(WsStr).authorize(async |_| Err::<(), _>(Refuse::status(403))).build().unwrap();
    let app = Router::new().route("/rooms/{room}", any(enter)).with_state(rooms.clone());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let serve = async {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await
    };
    thread::spawn(move || runtime.block_on(serve));
    (rooms, addr)
}

#[test]
fn handler_decides_on_path_grant_and_address() {
    let (rooms, addr) = rooms();
    let connections = Recorder::on(rooms.connections().log_errors());
    let builder = RxWsClient::builder(format!("ws://{addr}/rooms/tea?x=1"), WsStr).header("Cookie", "user=ann");
    let client = builder.connect().unwrap();
    let connection: Connection<WsStr> = connections.item();
    assert_eq!(connection.path().to_string(), "/tea");
    assert_eq!(connection.grant::<User>(), Some(&User("ann")));
    assert!(connection.peer_addr().port().is_some());
    assert_eq!(connection.query(), Some("x=1"));
    let heard = Recorder::on(client.clone());
    rooms.next(TaggedData::new("/tea", "milk?"));
    assert_eq!(heard.item(), "milk?");
}

#[test]
fn path_that_a_handler_gives_without_a_slash_gets_one() {
    let rooms = RxWsServer::unbound(WsStr).build().unwrap();
    let connections = Recorder::on(rooms.connections().log_errors());
    let enter = |Path(room): Path<String>, State(rooms): State<RxWsServer<WsStr>>, request: Request| async move {
        rooms.upgrade(request, Upgrade::new().path(room)).await
    };
    let addr = serve(Router::new().route("/rooms/{room}", any(enter)).with_state(rooms));
    let _client = RxWsClient::connect(format!("ws://{addr}/rooms/tea"), WsStr).unwrap();
    assert_eq!(connections.item().path().to_string(), "/tea");
}

#[test]
fn refusal_of_a_handler_reaches_the_client() {
    let (rooms, addr) = rooms();
    let error = refused(format!("ws://{addr}/rooms/tea"));
    assert!(matches!(*error, WsError::Rejected { status: 401, .. }), "{error}");
    assert_eq!(rooms.stats().accepted, 0);
}

#[test]
fn nested_service_sees_the_path_behind_its_prefix() {
    let server = RxWsServer::unbound(WsStr).paths(["/tea"]).build().unwrap();
    let connections = Recorder::on(server.connections().log_errors());
    let addr = serve(Router::new().nest_service("/rooms", server.service()));
    let client = RxWsClient::connect(format!("ws://{addr}/rooms/tea"), WsStr).unwrap();
    client.wait_connected(PATIENCE).unwrap();
    assert_eq!(connections.item().path().to_string(), "/tea");
}

#[test]
fn authorize_decides_on_requests_of_a_service() {
    let authorize = async |request: UpgradeRequest| match request.header("cookie") {
        Some(cookie) => Ok(Grant::new(cookie.to_owned()).header("X-Hello", "you")),
        None => Err(Refuse::status(401).because("who are you?")),
    };
    let server = RxWsServer::unbound(WsStr).authorize(authorize).build().unwrap();
    let connections = Recorder::on(server.connections().log_errors());
    let addr = serve(Router::new().fallback_service(server.service()));
    let error = refused(format!("ws://{addr}/x"));
    let WsError::Rejected { status: 401, response, .. } = &*error else { panic!("{error}") };
    assert_eq!(response.body(), "who are you?\n".as_bytes());
    let friend = RxWsClient::builder(format!("ws://{addr}/x"), WsStr).header("Cookie", "ann").connect().unwrap();
    friend.wait_connected(PATIENCE).unwrap();
    assert_eq!(connections.item().grant::<String>().map(String::as_str), Some("ann"));
}

#[test]
fn extensions_of_a_request_are_not_kept() {
    let server = unbound_echo();
    let (sentinel, dropped) = sentinel();
    let extension = Arc::new(std::sync::Mutex::new(Some(sentinel)));
    let insert = move |mut request: Request, next: axum::middleware::Next| {
        let sentinel = extension.lock().unwrap().take().map(Arc::new);
        async move {
            request.extensions_mut().insert(sentinel);
            next.run(request).await
        }
    };
    let app = Router::new().route_service("/", server.service());
    let addr = serve(app.layer(axum::middleware::from_fn(insert)).layer(Extension(())));
    let client = assert_echoes(format!("ws://{addr}/"));
    dropped.recv_timeout(PATIENCE).unwrap();
    assert_eq!(server.connection_count(), 1);
    drop(client);
}

/// As on a listener of its own: the connection is on its path before the client knows of it.
#[test]
fn push_reaches_a_client_that_knows_that_it_is_connected() {
    let server = RxWsServer::unbound(WsStr).build().unwrap();
    let addr = serve(Router::new().fallback_service(server.service()));
    for n in 0..200 {
        let mut client = support::foreign::foreign_client(addr, "/x");
        server.next(TaggedData::new("/x", n.to_string()));
        assert_eq!(support::foreign::read(&mut client), tungstenite::Message::text(n.to_string()));
        client.close(None).unwrap();
        while client.read().is_ok() {}
        until("leaving", || server.connection_count() == 0);
    }
}
