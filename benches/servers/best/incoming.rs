//! Reading: as much as there is into the shared memory, and from there through tungstenite.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, ReadBuf},
    net::tcp::OwnedReadHalf,
};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::{
    Shared,
    output::Output,
    protocol::{Next, Protocol},
};

pub(super) struct Incoming {
    socket: OwnedReadHalf,
    /// While a message is not complete.
    protocol: Option<Protocol>,
}

impl Incoming {
    pub(super) fn new(socket: OwnedReadHalf) -> Self {
        Self { socket, protocol: None }
    }

    /// Reads once. The shared output is then what `answer` and the protocol have appended.
    pub(super) async fn read(&mut self, shared: &Shared, mut answer: impl FnMut(Utf8Bytes, &mut Output)) -> Next {
        poll_fn(|cx| self.poll_read(cx, shared, &mut answer)).await
    }

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        shared: &Shared,
        answer: &mut impl FnMut(Utf8Bytes, &mut Output),
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
        Poll::Ready(shared.feed(&mut self.protocol, input.filled(), &mut output, answer))
    }
}
