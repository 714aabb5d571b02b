//! `cargo run --example metrics`
//!
//! The counts of a server for Prometheus, served on a port of their own. Ends by itself, and with an error if the counts are
//! not those of what has happened.

use std::{
    fmt::Write as _,
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc,
    thread,
    time::Duration,
};

use rxplus::prelude::*;

const PATIENCE: Duration = Duration::from_secs(5);

/// The text format of Prometheus. `figures()` has all counts of an endpoint, also those of later versions.
fn exposition(endpoint: &str, figures: &[Figure]) -> String {
    let mut text = String::new();
    for Figure { name, kind, value, .. } in figures {
        let (name, kind) = (name.replace('.', "_"), if *kind == FigureKind::Counter { "counter" } else { "gauge" });
        _ = writeln!(text, "# TYPE {name} {kind}\n{name}{{endpoint=\"{endpoint}\"}} {value}");
    }
    text
}

/// Answers each request with the counts of that moment.
fn export<D: WsDatatype>(server: &RxWsServer<D>) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let (addr, server) = (listener.local_addr()?, server.clone());
    thread::spawn(move || {
        for mut scrape in listener.incoming().flatten() {
            let text = exposition(server.name(), &server.stats().figures());
            let head =
                format!("HTTP/1.0 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}", text.len());
            // A scraper that has gone needs no answer.
            _ = scrape.read(&mut [0; 4096]).and_then(|_| write!(scrape, "{head}\r\n\r\n{text}"));
        }
    });
    Ok(addr)
}

fn scrape(addr: SocketAddr) -> io::Result<String> {
    let (mut stream, mut answer) = (TcpStream::connect(addr)?, String::new());
    write!(stream, "GET /metrics HTTP/1.0\r\n\r\n")?;
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).name("echo").bind()?;
    server.clone().subscribe_with(server.clone());
    let metrics = export(&server)?;

    let client = RxWsClient::connect(server.local_addr(), WsStr)?;
    let (sender, received) = mpsc::channel();
    client.clone().subscribe(move |text| _ = sender.send(text));
    client.next("hello");
    received.recv_timeout(PATIENCE)?;

    let text = scrape(metrics)?;
    println!("{text}");
    for (name, value) in [("active_connections", 1), ("messages_received", 1), ("bytes_received", 5)] {
        let line = format!("\nrxplus_server_{name}{{endpoint=\"echo\"}} {value}\n");
        assert!(text.contains(&line), "no {line:?}");
    }
    client.clone().complete();
    client.wait_closed(PATIENCE)?;
    server.clone().complete();
    server.wait_closed(PATIENCE)?;
    Ok(())
}
