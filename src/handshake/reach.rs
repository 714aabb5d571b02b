//! Reaching a host that has several addresses, one of which may not answer (RFC 8305).

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    net::{TcpStream, lookup_host},
    task::JoinSet,
    time::sleep,
};

/// How long an address is tried alone before the next one is tried beside it (RFC 8305, section 8).
const HEAD_START: Duration = Duration::from_millis(250);

/// Connects to the address of `host` that answers first.
pub(super) async fn reach(host: &str, port: u16) -> io::Result<TcpStream> {
    let addresses = lookup_host((host, port)).await?;
    first_to_connect(interleaved(addresses.collect())).await
}

/// Tries `addresses` in their order: the next one starts when one has failed or had its head start. The others are dropped
/// once one is connected.
async fn first_to_connect(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut waiting = addresses.into_iter();
    let mut attempts = JoinSet::new();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    loop {
        if let Some(address) = waiting.next() {
            attempts.spawn(TcpStream::connect(address));
        }
        let attempt = tokio::select! {
            biased;
            attempt = attempts.join_next() => attempt,
            () = sleep(HEAD_START), if !waiting.as_slice().is_empty() => continue,
        };
        match attempt {
            Some(Ok(Ok(stream))) => return Ok(stream),
            Some(Ok(Err(error))) => failure = error,
            Some(Err(error)) => failure = error.into(),
            None => return Err(failure),
        }
    }
}

/// Addresses of each family in turn, beginning with the family that the system prefers, so that a family without a way out
/// costs one head start (RFC 8305, section 4).
fn interleaved(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let prefers_ipv6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let of_preferred = |address: &SocketAddr| address.is_ipv6() == prefers_ipv6;
    let (preferred, others): (Vec<_>, Vec<_>) = addresses.into_iter().partition(of_preferred);
    let mut others = others.into_iter();
    let mut interleaved: Vec<_> =
        preferred.into_iter().flat_map(|address| [Some(address), others.next()]).flatten().collect();
    interleaved.extend(others);
    interleaved
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use socket2::{Domain, Socket, Type};
    use tokio::time::timeout;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// An address that never answers: the queue of its listener is full, so the system drops the connection attempts.
    struct Hole {
        address: SocketAddr,
        _listener: Socket,
        _queue: Vec<Socket>,
    }

    impl Hole {
        fn new() -> Self {
            let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
            listener.listen(0).unwrap();
            let address = listener.local_addr().unwrap().as_socket().unwrap();
            let queue = (0..4).map(|_| {
                let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
                socket.set_nonblocking(true).unwrap();
                let _ = socket.connect(&address.into());
                socket
            });
            Self { address, _queue: queue.collect(), _listener: listener }
        }
    }

    fn alive() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    fn dead() -> SocketAddr {
        alive().1
    }

    async fn connected(addresses: Vec<SocketAddr>) -> io::Result<SocketAddr> {
        first_to_connect(addresses).await?.peer_addr()
    }

    #[tokio::test]
    async fn address_that_swallows_does_not_keep_one_that_is_alive_from_being_reached() {
        let hole = Hole::new();
        let alone = timeout(2 * HEAD_START, connected(vec![hole.address])).await;
        assert!(alone.is_err(), "{alone:?} without an answer");
        let (_listener, address) = alive();
        let addresses = vec![hole.address, dead(), hole.address, address];
        let reached = timeout(PATIENCE, connected(addresses)).await.unwrap();
        assert_eq!(reached.unwrap(), address);
    }

    #[tokio::test]
    async fn first_address_is_taken_if_it_answers() {
        let ((_first, first), (_second, second)) = (alive(), alive());
        assert_eq!(connected(vec![first, second]).await.unwrap(), first);
    }

    #[tokio::test]
    async fn host_of_which_no_address_answers_is_an_error() {
        let error = connected(vec![dead(), dead()]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(connected(vec![]).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn families_take_turns_and_the_systems_order_is_kept() {
        let order = |addresses: &[&str]| {
            let addresses = addresses.iter().map(|address| format!("{address}:1").parse().unwrap());
            interleaved(addresses.collect()).into_iter().map(|address| address.ip().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(
            order(&["[::1]", "[::2]", "[::3]", "1.1.1.1", "1.1.1.2"]),
            ["::1", "1.1.1.1", "::2", "1.1.1.2", "::3"]
        );
        assert_eq!(order(&["1.1.1.1", "[::1]", "[::2]", "[::3]"]), ["1.1.1.1", "::1", "::2", "::3"]);
        assert_eq!(order(&[]), Vec::<String>::new());
    }
}
