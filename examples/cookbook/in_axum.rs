//! `cargo run --example cookbook_in_axum --features mount`
//!
//! Page, API and sockets of an axum program on one port. An extractor says who it is, and the connection keeps that.

use axum::{
    Router,
    extract::{FromRequestParts, Path, Request, State},
    http::{StatusCode, request::Parts},
    response::{Html, IntoResponse},
    routing::{any, get},
};
use rxplus::prelude::*;

type Rooms = RxWsServer<WsStr>;
struct User(String);

impl<S: Sync> FromRequestParts<S> for User {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        let name = parts.uri.query().and_then(|query| query.strip_prefix("name=")); // a real program looks at a session
        name.map(|name| Self(name.to_owned())).ok_or(StatusCode::UNAUTHORIZED)
    }
}

async fn enter(user: User, Path(room): Path<String>, rooms: State<Rooms>, request: Request) -> impl IntoResponse {
    rooms.upgrade(request, Upgrade::new().path(room).grant(user)).await
}

fn app(rooms: &Rooms) -> Router {
    let everybody = rooms.clone();
    rooms.connections().subscribe(move |connection| {
        let name = connection.grant::<User>().map(|user| user.0.clone()).unwrap_or_default();
        let said = connection.clone().log_errors().map(move |text| format!("{name}: {text}"));
        said.tag(connection.path().clone()).merge_into(&everybody);
    });
    Router::new()
        .route("/", get(|| async { Html("<h1>the page</h1>") }))
        .route("/rooms/{room}", any(enter))
        .with_state(rooms.clone())
}

/// A try of it, with a client.
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let rooms = RxWsServer::unbound(WsStr).build()?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = format!("ws://{}/rooms/tea?name=ada", listener.local_addr()?);
    let ending = rooms.clone();
    let stop = async move { _ = ending.closed().await }; // in a program: `ctrl_c`, then `complete`, then this
    let serving = tokio::spawn(axum::serve(listener, app(&rooms)).with_graceful_shutdown(stop).into_future());

    let ada = RxWsClient::connect(address, WsStr)?;
    ada.next("hello");
    println!("{}", ada.clone().take(1).into_future().await??); // ada: hello
    ada.complete();
    rooms.complete(); // 1001 to all, then the page's server ends
    Ok(serving.await??)
}
