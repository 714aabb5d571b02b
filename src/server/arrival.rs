//! [`Arrival`]: a peer on its way to being a connection.

use bytes::Bytes;
use tokio::net::TcpStream;

use crate::{
    Addr, Tag, UpgradeRequest,
    handshake::{Asked, Entrant, Granted, Refused, admission::Permit},
    transport::raw::Given,
};

/// A peer, with its place in the server.
pub(crate) struct Arrival {
    pub(crate) addr: Addr,
    pub(crate) permit: Permit,
    pub(crate) opening: Opening,
}

/// How far a peer's opening handshake is.
pub(crate) enum Opening {
    /// It is still to be made, with a peer of the server's own listener.
    Accepted(TcpStream),
    /// It is still to be made, over a stream of the program's.
    Given(Given),
    /// The program has made it.
    Made(Box<Made>),
    /// Another HTTP server has read the request, and writes the answer.
    #[cfg(feature = "mount")]
    Mounted(Box<crate::handshake::Mounted>),
}

/// A stream whose opening handshake the program has made, and what came of it.
pub(crate) struct Made {
    pub(crate) stream: Given,
    pub(crate) path: Tag,
    /// The bytes that came behind the handshake.
    pub(crate) early_bytes: Bytes,
    pub(crate) subprotocol: Option<String>,
    pub(crate) grant: Option<Granted>,
}

impl Made {
    /// Lets the peer in, as far as the limits allow it. On the runtime of the server.
    pub(crate) fn enter(self, addr: Addr, permit: &mut Permit) -> Result<Entrant, Refused> {
        let Self { stream, path, early_bytes, subprotocol, grant } = self;
        permit.enter(&path).map_err(Refused::unanswered)?;
        let stream = stream.into_raw().map_err(|error| Refused::unanswered(error.to_string()))?.into();
        let request = UpgradeRequest::made_elsewhere(path, addr);
        let asked = Asked { request, subprotocol, deflate: None, grant };
        Ok(Entrant { stream, early_bytes, answer: Vec::new(), asked })
    }
}
