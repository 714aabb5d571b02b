//! How a message for many connections is compressed once.

use crate::{
    Connection, Frame, Tag, WsDatatype, endpoint::routing_table::Compressing, outbox::OutboxFrame,
    protocol::deflate::Deflate, server::core::ServerCore,
};

impl<D: WsDatatype> ServerCore<D> {
    /// A message for all connections on a path: compressed, here and once, if that is worthwhile for any of them. Holds no lock
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

    /// Notes that the link of a connection compresses, if it does, until the result is dropped. In a box, as most do not.
    pub(crate) fn note_compressing(&self, connection: &Connection<D>) -> Option<Box<Compressing<'_>>> {
        connection.is_compressed().then(|| Box::new(self.routes.note_compressing(connection.path().clone())))
    }
}

#[cfg(all(test, feature = "deflate"))]
mod tests {
    use super::*;
    use crate::{RxWsServer, WsStr};

    #[test]
    fn message_is_compressed_before_it_is_offered_as_long_as_a_link_on_its_path_wants_that() {
        let deflate = Deflate::new();
        let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).compression(deflate.clone()).bind().unwrap();
        let core = &server.inner.core;
        let is_compressed = |path: &str, len: usize| {
            core.outgoing(&path.into(), Frame::from("x".repeat(len))).compressed(&deflate.usual()).is_some()
        };
        assert!(!is_compressed("/", 1000));
        let link = core.routes.note_compressing("/".into());
        assert!(is_compressed("/", 1000) && !is_compressed("/other", 1000) && !is_compressed("/", 511));
        drop(link);
        assert!(!is_compressed("/", 1000));
    }
}
