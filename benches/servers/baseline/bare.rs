//! What is left of a server without its protocol: the system calls of an echo, a handshake or a fan-out, and what waits for
//! them. It answers by the number of bytes, and looks at none.

use std::{
    cell::RefCell,
    future::poll_fn,
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener},
    pin::Pin,
    sync::Arc,
    task::{Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWriteExt, ReadBuf},
    net::TcpStream,
};

use super::serve;
use crate::{competitor::SPEAKER, wire::read_head};

/// As long as a server's answer; the load does not check the key.
const ANSWER: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n";

const READ_LEN: usize = 128 * 1024;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_LEN]);
}

/// For each `heard` bytes of a client, `told` bytes go back to it.
pub(crate) fn echo(heard: usize, told: usize) -> SocketAddr {
    let answers: Arc<[u8]> = vec![0; (READ_LEN / heard + 1) * told].into();
    serve(move |socket| {
        let answers = answers.clone();
        async move { _ = answer(socket, heard, told, &answers).await }
    })
}

async fn answer(mut socket: TcpStream, heard: usize, told: usize, answers: &[u8]) -> io::Result<()> {
    while !read(&mut socket, |bytes| bytes.ends_with(b"\r\n\r\n")).await? {}
    socket.write_all(ANSWER).await?;
    let mut unanswered = 0;
    loop {
        unanswered += read(&mut socket, <[u8]>::len).await?;
        let count = unanswered / heard;
        unanswered %= heard;
        socket.write_all(&answers[..count * told]).await?;
    }
}

/// Reads into memory that all connections share. The end of the stream is an error.
async fn read<R>(socket: &mut TcpStream, look: impl Fn(&[u8]) -> R) -> io::Result<R> {
    poll_fn(|cx| {
        BUFFER.with_borrow_mut(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            ready!(Pin::new(&mut *socket).poll_read(cx, &mut buffer))?;
            let bytes = buffer.filled();
            Poll::Ready(if bytes.is_empty() { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(look(bytes)) })
        })
    })
    .await
}

/// For each `heard` bytes of the speaker, `told` bytes go to each listener. One thread, which waits for nobody.
pub(crate) fn fan_out(heard: usize, told: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("a bound socket");
    std::thread::spawn(move || {
        let mut listeners = Vec::new();
        let mut speaker = loop {
            let (mut socket, _) = listener.accept().expect("file descriptors");
            socket.set_nodelay(true).expect("a connected socket");
            let request = read_head(&mut socket);
            socket.write_all(ANSWER).expect("the load reads");
            if request.contains(SPEAKER) {
                break socket;
            }
            listeners.push(socket);
        };
        let (mut burst, answer) = (vec![0; heard], vec![0; told]);
        while speaker.read_exact(&mut burst).is_ok() {
            listeners.iter_mut().for_each(|listener| listener.write_all(&answer).expect("the load reads"));
        }
    });
    addr
}
