//! The hand-written servers: tokio-tungstenite as it is tuned, and as most write it; and
//! what is [left](bare) without WebSocket. One thread each, as ours.

pub(crate) mod bare;

use std::{
    future::pending,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use futures::{FutureExt, SinkExt, StreamExt};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    runtime::{Builder, Handle},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async_with_config,
    tungstenite::{
        Message,
        handshake::server::{Request, Response},
        protocol::WebSocketConfig,
    },
};

use crate::competitor::SPEAKER;

/// A socket, or what encrypts over one.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Transport for T {}

/// Where what a speaker says goes.
type Listeners = Arc<Mutex<Vec<UnboundedSender<Message>>>>;

/// How a server answers.
#[derive(Clone)]
pub(crate) enum Answer {
    Echo,
    FanOut(Listeners),
}

/// One task a connection reads all that is ready, feeds what comes of it, and flushes once.
pub(crate) fn tuned(answer: Answer) -> SocketAddr {
    tuned_on(1, answer)
}

/// The same on so many threads, the first of which accepts for all.
pub(crate) fn tuned_on(threads: usize, answer: Answer) -> SocketAddr {
    serve_on(threads, move |socket| tuned_connection(socket, answer.clone()))
}

/// A stream split in two, each message sent on its own.
pub(crate) fn usual(answer: Answer) -> SocketAddr {
    serve(move |socket| usual_connection(socket, answer.clone()))
}

pub(crate) fn serve<F>(connection: impl Fn(TcpStream) -> F + Clone + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    serve_on(1, connection)
}

fn serve_on<F>(threads: usize, connection: impl Fn(TcpStream) -> F + Clone + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let others = more_threads(threads - 1);
            send.send(listener.local_addr().expect("a bound socket")).expect("the main thread waits");
            for nth in (0..threads).cycle() {
                let (socket, _) = listener.accept().await.expect("file descriptors");
                socket.set_nodelay(true).expect("a connected socket");
                match nth.checked_sub(1) {
                    None => tokio::spawn(connection(socket)),
                    Some(nth) => others[nth].spawn(registered_there(socket, connection.clone())),
                };
            }
        });
    });
    receive.recv().expect("the server starts")
}

/// The runtimes of so many threads.
fn more_threads(count: usize) -> Vec<Handle> {
    let start = |_| {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let handle = runtime.handle().clone();
        std::thread::spawn(move || runtime.block_on(pending::<()>()));
        handle
    };
    (0..count).map(start).collect()
}

/// Serves a socket that another thread has accepted, and that is to wake this one.
fn registered_there<F: Future<Output = ()>>(
    socket: TcpStream,
    connection: impl FnOnce(TcpStream) -> F,
) -> impl Future<Output = ()> {
    let socket = socket.into_std().expect("a socket of this reactor");
    async move { connection(TcpStream::from_std(socket).expect("room in the reactor")).await }
}

async fn handshake<T: Transport>(socket: T, config: WebSocketConfig) -> Option<(WebSocketStream<T>, String)> {
    let mut path = String::new();
    #[expect(clippy::result_large_err, reason = "tungstenite's own signature")]
    let note_path = |request: &Request, response: Response| {
        path = request.uri().path().to_owned();
        Ok(response)
    };
    let stream = accept_hdr_async_with_config(socket, note_path, Some(config)).await.ok()?;
    Some((stream, path))
}

pub(crate) async fn tuned_connection(socket: impl Transport, answer: Answer) {
    let config = WebSocketConfig::default().read_buffer_size(4 * 1024);
    let Some((mut stream, path)) = Box::pin(handshake(socket, config)).await else { return };
    match answer {
        Answer::Echo => while echo_batch(&mut stream).await.is_some() {},
        Answer::FanOut(listeners) if path == SPEAKER => {
            while let Some(Ok(message)) = stream.next().await {
                listeners.lock().expect("no panics").retain(|listener| listener.send(message.clone()).is_ok());
            }
        }
        Answer::FanOut(listeners) => {
            let mut published = subscribe(&listeners);
            while publish_batch(&mut stream, &mut published).await.is_some() {}
        }
    }
}

async fn echo_batch(stream: &mut WebSocketStream<impl Transport>) -> Option<()> {
    let mut received = stream.next().await;
    loop {
        let message = received?.ok()?;
        if message.is_text() {
            stream.feed(message).await.ok()?;
        }
        match stream.next().now_or_never() {
            Some(next) => received = next,
            None => break,
        }
    }
    stream.flush().await.ok()
}

async fn publish_batch(
    stream: &mut WebSocketStream<impl Transport>,
    published: &mut UnboundedReceiver<Message>,
) -> Option<()> {
    tokio::select! {
        received = stream.next() => {
            received?.ok()?;
        }
        message = published.recv() => {
            stream.feed(message?).await.ok()?;
            while let Ok(message) = published.try_recv() {
                stream.feed(message).await.ok()?;
            }
            stream.flush().await.ok()?;
        }
    }
    Some(())
}

fn subscribe(listeners: &Listeners) -> UnboundedReceiver<Message> {
    let (send, receive) = unbounded_channel();
    listeners.lock().expect("no panics").push(send);
    receive
}

async fn usual_connection(socket: TcpStream, answer: Answer) {
    let Some((stream, path)) = handshake(socket, WebSocketConfig::default()).await else { return };
    let (mut sink, mut stream) = stream.split();
    match answer {
        Answer::Echo => {
            while let Some(Ok(message)) = stream.next().await {
                if message.is_text() && sink.send(message).await.is_err() {
                    return;
                }
            }
        }
        Answer::FanOut(listeners) if path == SPEAKER => {
            while let Some(Ok(message)) = stream.next().await {
                listeners.lock().expect("no panics").retain(|listener| listener.send(message.clone()).is_ok());
            }
        }
        Answer::FanOut(listeners) => {
            let mut published = subscribe(&listeners);
            tokio::spawn(async move {
                while let Some(message) = published.recv().await {
                    if sink.send(message).await.is_err() {
                        return;
                    }
                }
            });
            while let Some(Ok(_)) = stream.next().await {}
        }
    }
}
