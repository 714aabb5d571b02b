//! A stream that takes whatever it is offered, as HTTP/2 streams of hyper do.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
};

use rxplus::{Adopted, prelude::*};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};
use tokio_tungstenite::WebSocketStream;
use tungstenite::{Message, protocol::Role};

use crate::{next, run, support::Recorder};

/// How long the messages are, all together shorter than what the stream in memory holds.
const LENS: [usize; 4] = [1_000_000, 10, 40_000, 300_000];
const HELD_LEN: usize = 2_000_000;

/// As much as a server may offer at once.
const WRITE_LEN: usize = 64 * 1024;

struct Greedy {
    stream: DuplexStream,
    is_vectored: bool,
    /// The most that it was offered at once.
    most: Arc<AtomicUsize>,
}

impl AsyncRead for Greedy {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, space: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, space)
    }
}

impl AsyncWrite for Greedy {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.most.fetch_max(bytes.len(), SeqCst);
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let taken = if self.is_vectored { slices.len() } else { 1 };
        let bytes = slices[..taken].iter().flat_map(|slice| slice.iter().copied()).collect::<Vec<_>>();
        self.poll_write(cx, &bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.is_vectored
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

// Whatever it takes it may keep, while its peer reads nothing: that would be out of the outbox's bound, and count as written.
#[test]
fn stream_that_takes_all_is_offered_a_part_of_a_long_message() {
    for is_vectored in [false, true] {
        let server = RxWsServer::unbound(WsBytes).build().unwrap();
        let connections = Recorder::on(server.connections());
        let (near, stream) = duplex(HELD_LEN);
        let most = Arc::new(AtomicUsize::new(0));
        server.adopt(Greedy { stream, is_vectored, most: most.clone() }, Adopted::new("/"));
        let connection: Connection<WsBytes> = connections.item();
        let messages = LENS.map(|len| (0..len).map(|n| (n % 251) as u8).collect::<Vec<_>>());
        messages.iter().for_each(|message| connection.next(message.clone()));
        run(async {
            let mut peer = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
            for message in messages {
                assert!(next(&mut peer).await == Message::binary(message));
            }
        });
        assert!(most.load(SeqCst) <= WRITE_LEN, "{} bytes at once", most.load(SeqCst));
    }
}
