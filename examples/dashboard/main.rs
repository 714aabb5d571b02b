//! `cargo run --example dashboard --features mount,json`, then open the address that it prints.
//!
//! A page, sensors, a live chart and a chat on one port: axum serves the page, and three mounted servers the rest. Ctrl-C ends all
//! of it together. `page.html` is the whole of the other side.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use axum::{
    Router,
    extract::{FromRequestParts, Path, Request, State},
    http::{StatusCode, request::Parts},
    response::{Html, IntoResponse},
    routing::{any, get},
};
use rxplus::prelude::*;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

/// What a sensor sends, as MessagePack.
#[derive(Clone, Serialize, Deserialize)]
struct Reading {
    celsius: f64,
}

/// What the chart gets, as JSON: the highest temperature of each sensor so far, and its newest one.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Chart {
    newest: BTreeMap<String, f64>,
    highest: BTreeMap<String, f64>,
}

/// What people say in a room, as JSON.
#[derive(Clone, Serialize, Deserialize)]
struct Said {
    #[serde(default)]
    by: String,
    text: String,
}

/// Who asks, by the name in the query: a real program looks at a session.
struct User(String);

impl<S: Sync> FromRequestParts<S> for User {
    type Rejection = (StatusCode, &'static str);

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let name = parts.uri.query().and_then(|query| query.strip_prefix("name=")).filter(|name| !name.is_empty());
        name.map(|name| Self(name.to_owned())).ok_or((StatusCode::UNAUTHORIZED, "say who you are: ?name=.."))
    }
}

async fn enter(
    User(name): User,
    Path(room): Path<String>,
    State(rooms): State<RxWsServer<WsJson<Said>>>,
    request: Request,
) -> impl IntoResponse {
    rooms.upgrade(request, Upgrade::new().path(room).grant(name)).await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = std::env::args().nth(1).map_or(Ok(0), |port| port.parse())?;
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
    let addr = listener.local_addr()?;

    let sensors = RxWsServer::unbound(WsObject::<Reading>::new()).name("sensors").build()?;
    let live = RxWsServer::unbound(WsJson::<Chart>::new()).name("live").discard_inbound().build()?;
    let rooms = RxWsServer::unbound(WsJson::<Said>::new()).name("rooms").build()?;

    // All that the chart is: no broken sensor, the highest so far, five times a second.
    let readings = sensors.clone().filter(|reading| reading.data.celsius > -273.15);
    let charts = readings.scan(Chart::default(), |mut chart, reading| {
        let (sensor, celsius) = (reading.tag.trim_start_matches('/').to_owned(), reading.data.celsius);
        let highest = chart.highest.entry(sensor.clone()).or_insert(celsius);
        *highest = highest.max(celsius);
        chart.newest.insert(sensor, celsius);
        chart
    });
    charts.sample(Io::interval(Duration::from_millis(200)).with_err()).tag("/live").merge_into(&live);

    // What somebody says goes to everybody in the room, with the name that the handler has found.
    let everybody = rooms.clone();
    rooms.connections().subscribe(move |connection| {
        let name = connection.grant::<String>().cloned().unwrap_or_default();
        let (room, everybody) = (connection.path().clone(), everybody.clone());
        connection.subscribe(move |said| {
            everybody.next(TaggedData::new(room.clone(), Said { by: name.clone(), text: said.text }));
        });
    });

    let app = Router::new()
        .route("/", get(|| async { Html(include_str!("page.html")) }))
        .nest_service("/sensors", sensors.service())
        .route_service("/live", live.service())
        .route("/rooms/{room}", any(enter))
        .with_state(rooms.clone());
    for (sensor, mean) in [("boiler", 80.0), ("cellar", 12.0), ("roof", 25.0)] {
        measure(addr, sensor, mean)?;
    }
    println!("http://{addr}/");

    let stop = async move {
        tokio::signal::ctrl_c().await.ok();
        sensors.clone().complete();
        live.clone().complete();
        rooms.clone().complete();
        tokio::join!(sensors.closed(), live.closed(), rooms.closed());
    };
    axum::serve(listener, app).with_graceful_shutdown(stop).await?;
    Ok(())
}

/// A sensor, which would be another machine: a temperature ten times a second.
fn measure(addr: SocketAddr, sensor: &str, mean: f64) -> Result<(), WsError> {
    let client = RxWsClient::connect(format!("ws://{addr}/sensors/{sensor}"), WsObject::<Reading>::new())?;
    let ticks = Io::interval(Duration::from_millis(100));
    let readings = ticks.map(move |tick| Reading { celsius: mean + 5.0 * (tick as f64 / 10.0 + mean).sin() });
    readings.subscribe_with(client);
    Ok(())
}
