//! How a message for many connections is compressed once.

use crate::{Frame, Tag, WsDatatype, outbox::OutboxFrame, protocol::deflate::Deflate, server::core::ServerCore};

impl<D: WsDatatype> ServerCore<D> {
    /// A message for all connections on a tag: compressed, here and once, if that is worthwhile for any of them. Holds no lock
    /// meanwhile.
    pub(crate) fn outgoing(&self, path: &Tag, frame: Frame) -> OutboxFrame {
        let agreed = self.policy.deflate.as_ref().map(Deflate::usual);
        let mut message = OutboxFrame::from(frame);
        if let Some(agreed) = agreed.filter(|agreed| message.is_to_be_compressed(agreed))
            && self.routes.has_compressing(path)
        {
            message.compress(&agreed);
        }
        message
    }
}

#[cfg(all(test, feature = "deflate"))]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use rxrust::prelude::*;

    use super::*;
    use crate::{ClientBuilder, RxWsClient, RxWsServer, WsStr};

    #[test]
    fn message_is_compressed_before_it_is_offered_as_long_as_a_link_on_its_tag_wants_that() {
        let deflate = Deflate::new();
        let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).compression(deflate.clone()).bind().unwrap();
        let core = &server.inner.core;
        let is_compressed = |tag: &str, len: usize| {
            core.outgoing(&tag.into(), Frame::from("x".repeat(len))).compressed(&deflate.usual()).is_some()
        };
        let tags = || ["/", "/room", "/other"].map(|tag| is_compressed(tag, 1000));
        assert_eq!(tags(), [false; 3]);
        let (sender, connections) = mpsc::channel();
        server.connections().subscribe(move |connection| sender.send(connection).unwrap());
        let client = |compression: Option<Deflate>| {
            let builder = RxWsClient::builder(format!("ws://{}/", server.local_addr()), WsStr);
            let builder = compression.into_iter().fold(builder, ClientBuilder::compression);
            (builder.connect().unwrap(), connections.recv_timeout(Duration::from_secs(10)).unwrap())
        };
        let (_plain, other) = client(None);
        other.join("/other").unwrap();
        let (client, connection) = client(Some(deflate.clone()));
        // The link begins behind `connections()`, and is there when a message has come over it.
        let (sender, heard) = mpsc::channel();
        connection.clone().subscribe(move |_| sender.send(()).unwrap());
        client.next("hello");
        heard.recv_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!(tags(), [true, false, false]);
        assert!(!is_compressed("/", 511));
        connection.join("/room").unwrap();
        assert_eq!(tags(), [true, true, false]);
        connection.leave("/room");
        assert_eq!(tags(), [true, false, false]);
        connection.join("/room").unwrap();
        client.complete();
        connection.wait_closed(Duration::from_secs(10)).unwrap();
        assert_eq!(tags(), [false; 3]);
    }
}
