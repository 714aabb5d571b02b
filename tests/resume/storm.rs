//! Thousands of sessions that are cut at once: how long it takes until all are back, and how much memory.

use std::{
    fs, io,
    net::{self, Shutdown},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rxplus::prelude::*;
use tokio::net::TcpStream;

use super::{sessions::resumable_server, support::*};

/// The links of all clients, by which they are cut.
#[derive(Clone, Default)]
struct Links(Arc<Mutex<Vec<net::TcpStream>>>);

impl Links {
    async fn connect(self, addr: String) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(addr).await?.into_std()?;
        self.0.lock().unwrap().push(stream.try_clone()?);
        TcpStream::from_std(stream)
    }

    fn cut(&self) {
        let links = std::mem::take(&mut *self.0.lock().unwrap());
        links.into_iter().for_each(|link| link.shutdown(Shutdown::Both).unwrap_or_default());
    }
}

/// Bytes of memory of this process.
fn resident() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// 5,000, or as many as this process may open files for: three each, while a few are on their way.
fn crowd_len() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let files: usize = line.split_whitespace().nth(3).unwrap().parse().unwrap_or(usize::MAX);
    5_000.min(files / 4)
}

fn crowd(server: &RxWsServer<WsStr>, links: &Links) -> Vec<RxWsClient<WsStr>> {
    let (addr, links) = (server.local_addr().to_string(), links.clone());
    let connect = move |_: ConnConfig| links.clone().connect(addr.clone());
    let runtime = IoRuntime::new("clients").unwrap();
    let client = |n| {
        let builder = RxWsClient::builder(format!("ws://robot/{n}"), WsStr).resumable(Resume::new());
        let builder = builder.connector(connect.clone()).conn_retry_timeout(Duration::from_millis(1));
        builder.min_uptime(Duration::ZERO).runtime(&runtime).connect().unwrap()
    };
    let clients: Vec<_> = (0..crowd_len()).map(client).collect();
    for client in &clients {
        // Otherwise the first events are kept for a subscriber.
        client.events().subscribe(|_| {});
        client.wait_connected(PATIENCE).unwrap();
    }
    clients
}

#[test]
#[ignore = "measures time and memory with 15,000 open files"]
fn thousands_of_clients_that_are_cut_at_once_come_back_without_a_loss() {
    let server = resumable_server(Resume::new());
    let (links, up) = (Links::default(), Recorder::on(server.clone()));
    let clients = crowd(&server, &links);
    let (count, before) = (clients.len(), resident());
    for _ in 0..3 {
        let start = Instant::now();
        links.cut();
        clients.iter().for_each(|client| client.send("again").unwrap());
        up.items(count);
        let are_back = || server.stats().parked == 0 && clients.iter().all(|client| client.response().is_some());
        until("all are back", are_back);
        println!("{count} are back after {:?}; {} KiB more", start.elapsed(), resident().saturating_sub(before) / 1024);
    }
    assert_eq!((server.stats().connections, up.rest().len()), (count, 0));
    assert!(resident() < before + (256 << 20), "{} bytes, and {before} before", resident());
}
