//! How a message for many connections is encoded once, compressed once, and offered to each.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use crate::{
    Frame, SendError, Tag, TaggedData, WsDatatype,
    endpoint::EndpointCore,
    fate::Fate,
    outbox::{Outbox, OutboxFrame, Refusal},
    protocol::deflate::Deflate,
    server::core::ServerCore,
};

impl<D: WsDatatype> ServerCore<D> {
    /// Encodes a message once and offers it to every connection on its tag, but for the one with the outbox left out.
    pub(crate) fn offer_except(
        &self,
        tagged: &TaggedData<D::Outgoing>,
        fate: Option<&Arc<dyn Fate>>,
        except: Option<&Outbox>,
    ) -> Result<(), SendError<()>> {
        if self.is_closing() {
            return Err(SendError::Closed(()));
        }
        let frame = self.codec.encode(&tagged.tag, &tagged.data, || self.is_closing())?;
        #[cfg(feature = "nats")]
        if let Some(bus) = &self.on_bus.bus {
            let there = bus.push(tagged, &frame);
            return with_bus(self.offer_here(tagged, frame, fate, except), there);
        }
        self.offer_here(tagged, frame, fate, except).map(drop)
    }

    fn offer_here(
        &self,
        tagged: &TaggedData<D::Outgoing>,
        frame: Frame,
        fate: Option<&Arc<dyn Fate>>,
        except: Option<&Outbox>,
    ) -> Result<Here, SendError<()>> {
        let message = self.outgoing(&tagged.tag, frame);
        let answer = match self.codec.key(&tagged.tag, &tagged.data) {
            None => self.routes.push(&tagged.tag, message, fate, except),
            Some(key) => self.routes.push_keyed(&tagged.tag, message, key, fate, except),
        };
        match answer {
            Some(Ok(())) => Ok(Here::Taken),
            Some(Err(Refusal::Full)) => Err(SendError::Full(())),
            // All of its connections are ending: as good as none.
            Some(Err(Refusal::Closed)) if !self.is_closing() => {
                self.missed.fetch_add(1, Relaxed);
                Ok(Here::Nobody)
            }
            Some(Err(Refusal::Closed)) => Err(SendError::Closed(())),
            None => Ok(Here::Nobody),
        }
    }

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

/// What became of a message that was offered to the server's own connections and to the bus. One that has taken it is enough.
#[cfg(feature = "nats")]
fn with_bus(here: Result<Here, SendError<()>>, there: Result<(), SendError<()>>) -> Result<(), SendError<()>> {
    match (here, there) {
        (Ok(Here::Taken), _) | (Ok(Here::Nobody) | Err(SendError::Full(())), Ok(())) => Ok(()),
        // A server whose bus has ended is one without a bus.
        (Ok(Here::Nobody), Err(SendError::Closed(()))) => Ok(()),
        (Err(error), _) | (Ok(Here::Nobody), Err(error)) => Err(error),
    }
}

/// What became of a message in the server itself.
enum Here {
    /// A connection has taken it.
    Taken,
    /// There was no connection.
    Nobody,
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
