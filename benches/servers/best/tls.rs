//! The echo over TLS: rustls itself, fed from the shared memory, without a stream around it.

use std::{
    cell::RefCell,
    future::poll_fn,
    io::{BufRead, ErrorKind, Write},
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, ReadBuf},
    net::{TcpStream, tcp::OwnedReadHalf},
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConnection};

use super::{
    Shared, handshake,
    outgoing::Outgoing,
    output::Output,
    protocol::{Next, Protocol},
};

pub(crate) fn echo(acceptor: TlsAcceptor) -> SocketAddr {
    super::serve(move || {
        let encrypted = Rc::<RefCell<Output>>::default();
        move |socket, shared| serve(socket, shared, encrypted.clone(), acceptor.clone())
    })
}

async fn serve(socket: TcpStream, shared: Rc<Shared>, encrypted: Rc<RefCell<Output>>, acceptor: TlsAcceptor) {
    let Some((mut connection, outgoing)) = open(socket, acceptor).await else { return };
    loop {
        let next = poll_fn(|cx| connection.poll(cx, &shared, &encrypted)).await;
        outgoing.write(&encrypted).await;
        if next == Next::End {
            return;
        }
    }
}

async fn open(socket: TcpStream, acceptor: TlsAcceptor) -> Option<(Connection, Outgoing)> {
    let mut stream = Box::pin(acceptor.accept(socket)).await.ok()?;
    handshake::answer(&mut stream).await?;
    let (socket, mut tls) = stream.into_inner();
    // As much as one read brings is all that it ever keeps.
    tls.set_buffer_limit(None);
    let (read, write) = socket.into_split();
    Some((Connection { socket: read, tls, protocol: None }, Outgoing::new(write)))
}

struct Connection {
    socket: OwnedReadHalf,
    tls: ServerConnection,
    protocol: Option<Protocol>,
}

impl Connection {
    /// Reads once. What is `encrypted` is then the answers.
    fn poll(&mut self, cx: &mut Context<'_>, shared: &Shared, encrypted: &RefCell<Output>) -> Poll<Next> {
        let mut input = shared.input.borrow_mut();
        let mut input = ReadBuf::new(&mut input);
        let read = ready!(Pin::new(&mut self.socket).poll_read(cx, &mut input));
        let (mut output, mut encrypted) = (shared.output.borrow_mut(), encrypted.borrow_mut());
        output.clear();
        encrypted.clear();
        if read.is_err() || input.filled().is_empty() {
            return Poll::Ready(Next::End);
        }
        let next = self.decrypt(input.filled(), shared, &mut output);
        Poll::Ready(self.encrypt(&output, &mut encrypted).map_or(Next::End, |()| next))
    }

    /// Gives all that is in it to the protocol.
    fn decrypt(&mut self, mut input: &[u8], shared: &Shared, output: &mut Output) -> Next {
        let mut next = Next::Read;
        while !input.is_empty() && next == Next::Read {
            if self.tls.read_tls(&mut input).is_err() || self.tls.process_new_packets().is_err() {
                return Next::End;
            }
            next = self.read_plaintext(shared, output);
        }
        next
    }

    fn read_plaintext(&mut self, shared: &Shared, output: &mut Output) -> Next {
        let mut reader = self.tls.reader();
        loop {
            let len = match reader.fill_buf() {
                Ok([]) => return Next::End,
                Ok(plaintext) => {
                    let next = shared.feed(&mut self.protocol, plaintext, output, &mut |text, output| {
                        output.append_text(text);
                    });
                    if next == Next::End {
                        return next;
                    }
                    plaintext.len()
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Next::Read,
                Err(_) => return Next::End,
            };
            reader.consume(len);
        }
    }

    fn encrypt(&mut self, output: &Output, encrypted: &mut Output) -> std::io::Result<()> {
        let mut written = 0;
        // All parts at once, so that a header does not become a record of its own.
        while written < output.len() {
            written += self.tls.writer().write_vectored(&output.slices(written))?;
        }
        while self.tls.wants_write() {
            self.tls.write_tls(encrypted)?;
        }
        Ok(())
    }
}
