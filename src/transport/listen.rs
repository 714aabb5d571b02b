//! A server's listening sockets.

use std::{
    future::poll_fn,
    io::{self, ErrorKind},
    net::{self, SocketAddr, ToSocketAddrs},
    sync::Arc,
    task::{Context, Poll},
};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use crate::{Addr, ConnConfig, WsError};

/// How many connections the operating system holds ready for being accepted.
const BACKLOG: i32 = 1024;

/// How often the system is asked for a port that is free at all addresses.
const PORTS_TRIED: usize = 16;

/// The sockets that a server listens on: one for each address of its host.
pub(crate) struct Listener {
    sockets: Vec<TcpListener>,
    /// The index of the socket that is looked at first.
    first: usize,
    /// What is accepted sends small messages at once (`TCP_NODELAY`), as the sockets here do.
    are_prompt: bool,
}

/// Listens on the address in `endpoint`: on all addresses of its host that this machine has, at one port. Afterwards
/// [`Listener::new`] is to be called inside the runtime that serves.
pub(crate) fn listen(endpoint: &ConnConfig) -> Result<Vec<net::TcpListener>, WsError> {
    let addresses = (endpoint.host(), endpoint.port()).to_socket_addrs();
    let listening = addresses.and_then(|addresses| listen_on(&addresses.collect::<Vec<_>>()));
    listening.map_err(|error| WsError::Bind { endpoint: endpoint.clone(), source: Arc::new(error) })
}

fn listen_on(addresses: &[SocketAddr]) -> io::Result<Vec<net::TcpListener>> {
    let is_free_choice = addresses.iter().all(|address| address.port() == 0);
    let taken = |error: &io::Error| error.kind() == ErrorKind::AddrInUse;
    let attempts = if is_free_choice { PORTS_TRIED } else { 1 };
    let mut attempts = (0..attempts).map(|_| try_to_listen_on(addresses));
    attempts.find(|attempt| !attempt.as_ref().is_err_and(taken)).unwrap_or_else(|| Err(ErrorKind::AddrInUse.into()))
}

/// Port 0 is the port that the system chooses for the first address.
fn try_to_listen_on(addresses: &[SocketAddr]) -> io::Result<Vec<net::TcpListener>> {
    let mut listeners: Vec<net::TcpListener> = Vec::new();
    let mut missing = io::Error::new(ErrorKind::NotFound, "the host has no address");
    for (nth, address) in addresses.iter().enumerate() {
        if addresses[..nth].contains(address) {
            continue;
        }
        let port =
            listeners.first().map_or(Ok(address.port()), |first| first.local_addr().map(|first| first.port()))?;
        match open(*address).map(|socket| bind(socket, with_port(*address, port))) {
            Ok(Ok(listener)) => listeners.push(listener),
            Ok(Err(error)) if error.kind() != ErrorKind::AddrNotAvailable => return Err(error),
            // The address is not one of this machine's, or it has no IPv6 or no IPv4 at all.
            Ok(Err(error)) | Err(error) => missing = error,
        }
    }
    if listeners.is_empty() { Err(missing) } else { Ok(listeners) }
}

fn with_port(mut address: SocketAddr, port: u16) -> SocketAddr {
    address.set_port(port);
    address
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))
}

fn bind(socket: Socket, address: SocketAddr) -> io::Result<net::TcpListener> {
    if address.is_ipv6() {
        // The wildcard listens on both stacks, whatever the system's default is.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    // A restarted server may bind while connections of the old one linger. On Windows the option would let two servers have
    // the same port.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // For what it accepts, see `Listener::new`.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

impl Listener {
    /// On Linux, what is accepted has the options of its listener: one system call less for each connection. But the listener may
    /// be the program's, and peers may have come before it has an option.
    pub(crate) fn new(sockets: Vec<net::TcpListener>) -> io::Result<Self> {
        let is_prompt = |socket| SockRef::from(socket).tcp_nodelay().unwrap_or(false);
        let are_prompt = cfg!(target_os = "linux") && sockets.iter().all(is_prompt);
        let sockets = sockets.into_iter().map(TcpListener::from_std).collect::<io::Result<_>>()?;
        Ok(Self { sockets, first: 0, are_prompt })
    }

    /// The addresses of its sockets, in their order. At least one.
    pub(crate) fn local_addrs(&self) -> io::Result<Arc<[Addr]>> {
        if self.sockets.is_empty() {
            return Ok([Addr::Mounted].into());
        }
        self.sockets.iter().map(|socket| socket.local_addr().map(Addr::from)).collect()
    }

    /// Cancel safe.
    pub(crate) async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        let accepted = poll_fn(|cx| self.poll_accept(cx)).await?;
        if !self.are_prompt {
            // Fails if the peer has gone, which shows in its handshake.
            let _ = accepted.0.set_nodelay(true);
        }
        Ok(accepted)
    }

    /// Looks at each socket, starting with another one each time: a rush at one keeps nobody waiting at the others.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        let count = self.sockets.len();
        let turns = self.first..self.first + count;
        self.first = (self.first + 1) % count.max(1);
        let mut accepted = turns.map(|turn| self.sockets[turn % count].poll_accept(cx));
        accepted.find(Poll::is_ready).unwrap_or(Poll::Pending)
    }
}

#[cfg(test)]
mod tests {
    use std::{net::TcpStream as Client, time::Duration};

    use tokio::time::timeout;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn addresses<const N: usize>(texts: [&str; N]) -> [SocketAddr; N] {
        texts.map(|text| text.parse().unwrap())
    }

    fn places(listeners: &[net::TcpListener]) -> Vec<SocketAddr> {
        listeners.iter().map(|listener| listener.local_addr().unwrap()).collect()
    }

    /// What `localhost` has on most machines, and a second one for those without IPv6.
    fn loopbacks() -> [SocketAddr; 3] {
        addresses(["127.0.0.1:0", "[::1]:0", "127.0.0.2:0"])
    }

    #[test]
    fn all_addresses_of_a_host_are_listened_on_at_one_port() {
        let listeners = listen_on(&loopbacks()).unwrap();
        let places = places(&listeners);
        assert_eq!(places[0].ip(), loopbacks()[0].ip());
        assert!(places.len() >= 2 && places.iter().all(|place| place.port() == places[0].port()), "{places:?}");
        for place in places {
            Client::connect(place).unwrap();
        }
    }

    #[test]
    fn address_that_this_machine_has_not_is_left_out() {
        let [ours, twice, theirs] = addresses(["127.0.0.1:0", "127.0.0.1:0", "192.0.2.1:0"]);
        assert_eq!(places(&listen_on(&[theirs, ours, twice]).unwrap()).len(), 1);
        assert_eq!(listen_on(&[theirs]).unwrap_err().kind(), ErrorKind::AddrNotAvailable);
        assert!(listen_on(&[]).unwrap_err().to_string().contains("no address"));
    }

    #[test]
    fn port_in_use_at_one_address_is_an_error_and_another_one_is_tried_only_where_it_is_free() {
        let ours = places(&listen_on(&loopbacks()).unwrap());
        let [first, second] = [ours[0], ours[1]].map(|address| with_port(address, 0));
        let holder = listen_on(&[second]).unwrap();
        let port = places(&holder)[0].port();
        let given = [with_port(first, port), with_port(second, port)];
        assert_eq!(listen_on(&given).unwrap_err().kind(), ErrorKind::AddrInUse);
        // Nothing of the attempt is left.
        assert!(listen_on(&given[..1]).is_ok());
        assert_ne!(places(&listen_on(&[first, second]).unwrap())[1].port(), port);
    }

    #[tokio::test]
    async fn connections_to_each_address_are_accepted_in_turn() {
        let sockets = listen_on(&loopbacks()).unwrap();
        let places = places(&sockets);
        let mut listener = Listener::new(sockets).unwrap();
        assert_eq!(listener.local_addrs().unwrap()[0], places[0]);
        // A crowd at the first address, and one at each of the others.
        let _crowd: Vec<_> = (0..20).map(|_| Client::connect(places[0]).unwrap()).collect();
        let _others: Vec<_> = places[1..].iter().map(|place| Client::connect(place).unwrap()).collect();
        let mut waiting = places[1..].to_vec();
        for _ in 0..2 * places.len() + 1 {
            let (stream, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
            waiting.retain(|place| *place != stream.local_addr().unwrap());
        }
        assert!(waiting.is_empty(), "{waiting:?} are still waiting");
    }

    #[tokio::test]
    async fn what_is_accepted_sends_small_messages_at_once_whoever_has_bound_the_listener() {
        let of_the_program = vec![net::TcpListener::bind("127.0.0.1:0").unwrap()];
        of_the_program[0].set_nonblocking(true).unwrap();
        for sockets in [listen_on(&loopbacks()[..1]).unwrap(), of_the_program] {
            let _client = Client::connect(places(&sockets)[0]).unwrap();
            let (stream, _) = timeout(PATIENCE, Listener::new(sockets).unwrap().accept()).await.unwrap().unwrap();
            assert!(stream.nodelay().unwrap());
        }
    }

    #[tokio::test]
    async fn waiting_for_a_connection_hears_of_one_at_any_address() {
        let sockets = listen_on(&loopbacks()).unwrap();
        let places = places(&sockets);
        let mut listener = Listener::new(sockets).unwrap();
        for place in places {
            let waiting = tokio::spawn(async move {
                let accepted = listener.accept().await.map(|(stream, _)| stream.local_addr().unwrap());
                (accepted, listener)
            });
            tokio::task::yield_now().await; // so that it waits before there is one
            let _client = tokio::net::TcpStream::connect(place).await.unwrap();
            let (accepted, again) = timeout(PATIENCE, waiting).await.unwrap().unwrap();
            assert_eq!(accepted.unwrap(), place);
            listener = again;
        }
    }
}
