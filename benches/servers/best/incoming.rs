//! Reading: as much as there is into the shared memory, and from there through tungstenite.

use std::{
    future::poll_fn,
    io::{self, ErrorKind, Read, Write},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, ReadBuf},
    net::tcp::OwnedReadHalf,
};
use tokio_tungstenite::tungstenite::{
    Error, Message, Utf8Bytes,
    protocol::{Role, WebSocketConfig, WebSocketContext},
};

use super::Shared;

/// What tungstenite keeps of a connection: of a message that is not complete, hardly more. It clears as much for each read.
const PART_LEN: usize = 4 * 1024;

/// Whether the connection goes on after a read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Read,
    End,
}

pub(super) struct Incoming {
    socket: OwnedReadHalf,
    protocol: WebSocketContext,
}

impl Incoming {
    pub(super) fn new(socket: OwnedReadHalf) -> Self {
        let config = WebSocketConfig::default().read_buffer_size(PART_LEN).write_buffer_size(0);
        Self { socket, protocol: WebSocketContext::new(Role::Server, Some(config)) }
    }

    /// Reads once. `answer` appends to the shared output what a message is answered by; what the protocol answers, a pong or
    /// the close frame, is there as well.
    pub(super) async fn read(&mut self, shared: &Shared, mut answer: impl FnMut(&Utf8Bytes, &mut Vec<u8>)) -> Next {
        poll_fn(|cx| self.poll_read(cx, shared, &mut answer)).await
    }

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        shared: &Shared,
        answer: &mut impl FnMut(&Utf8Bytes, &mut Vec<u8>),
    ) -> Poll<Next> {
        let mut input = shared.input.borrow_mut();
        let mut input = ReadBuf::new(&mut input);
        // After a read that does not fill the memory, tokio waits for the socket before it reads again.
        let read = ready!(Pin::new(&mut self.socket).poll_read(cx, &mut input));
        let mut output = shared.output.borrow_mut();
        output.clear();
        if read.is_err() || input.filled().is_empty() {
            return Poll::Ready(Next::End);
        }
        Poll::Ready(self.feed(Memory { input: input.filled(), output: &mut output }, answer))
    }

    fn feed(&mut self, mut memory: Memory<'_>, answer: &mut impl FnMut(&Utf8Bytes, &mut Vec<u8>)) -> Next {
        loop {
            match self.protocol.read(&mut memory) {
                Ok(Message::Text(text)) => answer(&text, memory.output),
                Ok(_) => {}
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => return Next::Read,
                Err(_) => return Next::End,
            }
        }
    }
}

/// The stream that tungstenite sees.
struct Memory<'a> {
    input: &'a [u8],
    output: &'a mut Vec<u8>,
}

impl Read for Memory<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.input.read(buffer)
    }
}

impl Write for Memory<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
