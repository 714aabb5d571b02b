//! Clients flat out, ours and tokio-tungstenite's. Each answers a batch of messages with one message, or one message with a
//! batch; the load is a server that was written by hand.

use std::{
    collections::VecDeque,
    io::{Read, Write},
    mem::swap,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
        mpsc,
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use rxplus::prelude::*;
use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::Notify,
};
use tokio_tungstenite::{
    connect_async_with_config,
    tungstenite::{Message, Utf8Bytes, handshake::derive_accept_key, protocol::WebSocketConfig},
};

use crate::{
    competitor::Competitor,
    wire::{PATIENCE, masked_frame, plain_frame, read_head},
};

/// Messages in a batch.
pub(crate) const BATCH: usize = 50_000;
const PAYLOAD_LEN: usize = 128;

/// A client as a competitor, named by the first argument; the second is the address of its server.
pub(crate) fn run(name: &str, args: &[String]) -> SocketAddr {
    let addr: SocketAddr = args[0].parse().expect("an address");
    match name {
        "client-ours-receiving" => ours_receiving(addr),
        "client-ours-sending" => ours_sending(addr),
        "client-tuned-receiving" => tuned(addr, tuned_receiving),
        "client-tuned-sending" => tuned(addr, tuned_sending),
        "client-bare-sending" => tuned(addr, bare_sending),
        _ => panic!("there is no competitor {name}"),
    }
    addr
}

fn text() -> String {
    "x".repeat(PAYLOAD_LEN)
}

fn client(addr: SocketAddr) -> RxWsClient<WsStr> {
    RxWsClient::builder(format!("ws://{addr}/"), WsStr).ping_interval(None).connect().expect("an address")
}

fn ours_receiving(addr: SocketAddr) {
    let client = client(addr);
    let answer = client.clone();
    let mut received = 0;
    client.log_errors().subscribe(move |_| {
        received += 1;
        if received % BATCH == 0 {
            answer.next("done");
        }
    });
}

fn ours_sending(addr: SocketAddr) {
    let client = client(addr);
    let (go, asked) = mpsc::channel();
    client.clone().log_errors().subscribe(move |_| go.send(()).expect("the sender lives"));
    std::thread::spawn(move || {
        let text = WsText::from(text());
        for () in asked {
            for _ in 0..BATCH {
                while client.send(text.clone()).is_err() {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        }
    });
}

type Stream = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

fn tuned<F: Future<Output = ()> + Send>(addr: SocketAddr, work: impl Fn(Stream) -> F + Send + 'static) {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let config = WebSocketConfig::default().read_buffer_size(64 * 1024);
            let connected = connect_async_with_config(format!("ws://{addr}/"), Some(config), true).await;
            work(connected.expect("the server answers").0).await;
        });
    });
}

async fn tuned_receiving(mut stream: Stream) {
    let mut received = 0;
    while let Some(Ok(_)) = stream.next().await {
        received += 1;
        if received % BATCH == 0 && stream.send(Message::text("done")).await.is_err() {
            return;
        }
    }
}

async fn tuned_sending(mut stream: Stream) {
    let text = Utf8Bytes::from(text());
    while let Some(Ok(_)) = stream.next().await {
        for _ in 0..BATCH {
            stream.feed(Message::Text(text.clone())).await.expect("the server reads");
        }
        stream.flush().await.expect("the server reads");
    }
}

/// What is left of sending where another thread pushes: a queue between the two, the copy of frames that are made already, and
/// the system calls.
async fn bare_sending(stream: Stream) {
    let queue = Arc::new(Queue::default());
    let (go, asked) = mpsc::channel();
    let pushing = queue.clone();
    std::thread::spawn(move || {
        let frame = Bytes::from(masked_frame(PAYLOAD_LEN));
        for () in asked {
            (0..BATCH).for_each(|_| pushing.push(frame.clone()));
        }
    });
    let (mut reader, mut writer) = tokio::io::split(stream.into_inner());
    let mut question = plain_frame(1);
    let listening = async {
        while reader.read_exact(&mut question).await.is_ok() {
            go.send(()).expect("the thread lives");
        }
    };
    tokio::join!(listening, queue.write_to(&mut writer));
}

/// Without a bound.
#[derive(Default)]
struct Queue {
    frames: Mutex<VecDeque<Bytes>>,
    sleeps: AtomicBool,
    pushed: Notify,
}

impl Queue {
    fn push(&self, frame: Bytes) {
        self.frames.lock().expect("no panics").push_back(frame);
        if self.sleeps.load(SeqCst) && self.sleeps.swap(false, SeqCst) {
            self.pushed.notify_one();
        }
    }

    async fn write_to(&self, writer: &mut (impl AsyncWrite + Unpin)) {
        const BUFFER_LEN: usize = 128 * 1024;
        let (mut taken, mut buffer) = (VecDeque::new(), Vec::with_capacity(BUFFER_LEN));
        loop {
            swap(&mut taken, &mut *self.frames.lock().expect("no panics"));
            if taken.is_empty() && self.sleeps.swap(true, SeqCst) {
                self.pushed.notified().await;
            }
            while !taken.is_empty() {
                while let Some(frame) = taken.front()
                    && buffer.len() + frame.len() <= BUFFER_LEN
                {
                    buffer.extend_from_slice(frame);
                    taken.pop_front();
                }
                writer.write_all(&buffer).await.expect("the server reads");
                buffer.clear();
            }
        }
    }
}

/// A client, and its server's side of the connection.
pub(crate) struct Link {
    pub(crate) client: Competitor,
    socket: TcpStream,
    buffer: Vec<u8>,
    batch: Vec<u8>,
}

impl Link {
    pub(crate) fn start(name: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("a bound socket");
        let client = Competitor::start(name, &[addr.to_string()]);
        let (mut socket, _) = listener.accept().expect("the client connects");
        socket.set_read_timeout(Some(PATIENCE)).expect("a connected socket");
        answer(&mut socket);
        Self { client, socket, buffer: vec![0; 1024 * 1024], batch: plain_frame(PAYLOAD_LEN).repeat(BATCH) }
    }

    /// The CPU time the client takes for a message received, in nanoseconds.
    pub(crate) fn receiving(&mut self) -> f64 {
        let before = self.client.cpu();
        self.socket.write_all(&self.batch).expect("the client reads");
        self.hear(masked_frame("done".len()).len());
        (self.client.cpu() - before) / BATCH as f64
    }

    /// The CPU time the client takes for a message sent, in nanoseconds.
    pub(crate) fn sending(&mut self) -> f64 {
        let before = self.client.cpu();
        self.socket.write_all(&plain_frame(1)).expect("the client reads");
        self.hear(masked_frame(PAYLOAD_LEN).len() * BATCH);
        (self.client.cpu() - before) / BATCH as f64
    }

    fn hear(&mut self, mut len: usize) {
        while len > 0 {
            let read = self.socket.read(&mut self.buffer).expect("the client answers in time");
            assert!(read > 0, "the client hung up");
            len = len.checked_sub(read).expect("no more than was asked for");
        }
    }
}

fn answer(socket: &mut TcpStream) {
    let request = read_head(socket);
    let key = request.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim())
    });
    let accept = derive_accept_key(key.expect("a key").as_bytes());
    let response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    socket.write_all(response.as_bytes()).expect("the client reads");
}
