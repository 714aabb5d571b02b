//! The best server we could write by hand: the core of tungstenite, without its streams, on tokio's sockets.
//!
//! One thread, and a task per connection. What the connections share stays in the cache: the memory that all read into, and
//! the memory that all write from.

mod echo;
mod fan_out;
mod handshake;
mod incoming;
mod outgoing;
mod output;
mod protocol;
mod subjects;
#[cfg(feature = "tls")]
pub(crate) mod tls;

use std::{cell::RefCell, net::SocketAddr, rc::Rc};

use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Builder,
    task::{LocalSet, spawn_local},
};

use tokio_tungstenite::tungstenite::Utf8Bytes;

use self::{
    fan_out::Listeners,
    incoming::Incoming,
    outgoing::Outgoing,
    output::Output,
    protocol::{Next, Protocol},
    subjects::{Audience, Tagged},
};

/// An echo.
pub(crate) fn echo() -> SocketAddr {
    serve(|| |socket, shared| echo::serve(socket, shared))
}

/// An echo through a subject of RxRust for each connection.
pub(crate) fn through_subjects() -> SocketAddr {
    serve(|| |socket, shared| subjects::serve(socket, shared))
}

/// An echo through one subject of RxRust for all connections.
pub(crate) fn through_one_subject() -> SocketAddr {
    serve(|| {
        let tagged = Rc::<Tagged>::default();
        move |socket, shared| tagged.clone().serve(socket, shared)
    })
}

/// A fan-out through one subject of RxRust.
pub(crate) fn fan_out_through_one_subject() -> SocketAddr {
    serve(|| {
        let audience = Rc::<Audience>::default();
        move |socket, shared| audience.clone().serve(socket, shared)
    })
}

/// What the speaker says goes to all listeners.
pub(crate) fn fan_out() -> SocketAddr {
    serve(|| {
        let listeners = Rc::<Listeners>::default();
        move |socket, shared| fan_out::serve(socket, shared, listeners.clone())
    })
}

/// What all connections of the thread use, each from one read to its writes, between which no other runs.
struct Shared {
    input: RefCell<Box<[u8]>>,
    output: RefCell<Output>,
    /// Those that hold nothing of a connection; the one that was used last comes first.
    protocols: RefCell<Vec<Protocol>>,
}

impl Shared {
    /// As much as stays in the second-level cache of a core, beside what is made of it.
    const INPUT_LEN: usize = 64 * 1024;

    /// Gives what a connection has read to its protocol. It has its `own` one while a message is not complete. Otherwise each
    /// takes the one that was used last, whose memory is in the cache.
    fn feed(
        &self,
        own: &mut Option<Protocol>,
        input: &[u8],
        output: &mut Output,
        answer: &mut impl FnMut(Utf8Bytes, &mut Output),
    ) -> Next {
        let mut unused = self.protocols.borrow_mut();
        let mut protocol = own.take().or_else(|| unused.pop()).unwrap_or_default();
        let next = protocol.feed(input, output, answer);
        if protocol.is_unused() && next == Next::Read {
            unused.push(protocol);
        } else {
            *own = Some(protocol);
        }
        next
    }
}

impl Default for Shared {
    fn default() -> Self {
        let input = RefCell::new(vec![0; Self::INPUT_LEN].into());
        Self { input, output: RefCell::default(), protocols: RefCell::default() }
    }
}

/// Starts the thread. `prepare` runs there, and makes what serves a connection.
fn serve<S, F>(prepare: impl FnOnce() -> S + Send + 'static) -> SocketAddr
where
    S: Fn(TcpStream, Rc<Shared>) -> F,
    F: Future<Output = ()> + 'static,
{
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        LocalSet::new().block_on(&runtime, async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            send.send(listener.local_addr().expect("a bound socket")).expect("the main thread waits");
            accept(&listener, prepare()).await;
        });
    });
    receive.recv().expect("the server starts")
}

async fn accept<F: Future<Output = ()> + 'static>(listener: &TcpListener, serve: impl Fn(TcpStream, Rc<Shared>) -> F) {
    let shared = Rc::<Shared>::default();
    loop {
        let (socket, _) = listener.accept().await.expect("file descriptors");
        socket.set_nodelay(true).expect("a connected socket");
        spawn_local(serve(socket, shared.clone()));
    }
}

/// The two directions of a connection whose handshake is over, and the path that was asked for.
async fn open(mut socket: TcpStream) -> Option<(Incoming, Outgoing, String)> {
    let path = handshake::answer(&mut socket).await?;
    let (read, write) = socket.into_split();
    Some((Incoming::new(read), Outgoing::new(write), path))
}
