//! Backpressure for those who push into an endpoint with one outbox, a client or a connection: to wait for room instead of
//! being refused.

mod sink;

use std::{future::poll_fn, sync::Arc, time::Duration};

use crate::{
    Frame, SendError,
    datatype::Moved,
    endpoint::{EndpointCore, give_back},
    fate::Fate,
    outbox::{Key, Outbox, Refusal, Turn},
    time,
};

pub use sink::OutboxSink;

/// An endpoint with one outbox.
pub(crate) trait Outlet: EndpointCore {
    fn outbox(&self) -> &Outbox;

    /// Encodes an item, or returns the reason why not. A panic of the datatype is one, too.
    fn encode(&self, item: &Self::Item) -> Result<Outgoing, SendError<()>>;

    /// The message that an item is already, or the item again if it has to be encoded.
    fn take_as_frame(&self, item: Self::Item) -> Result<Moved<Self::Item>, Self::Item>;
}

/// A message on its way to an outbox.
pub(crate) struct Outgoing {
    pub(crate) frame: Frame,
    /// By which a newer one replaces it.
    pub(crate) key: Option<Key>,
}

/// Queues an item, or gives it back with the reason why not. Tells `fate`, if there is one, what becomes of it.
pub(crate) fn send<C: Outlet>(
    core: &Arc<C>,
    item: C::Item,
    fate: Option<&Arc<dyn Fate>>,
) -> Result<(), SendError<C::Item>> {
    match core.take_as_frame(item) {
        Ok(Moved { frame, back }) => {
            let answer = core.outbox().push_or_return(frame, fate);
            answer.map_err(|(refusal, frame)| refusal.of(back(frame)))
        }
        Err(item) => give_back(core.offer(&item, fate), item),
    }
}

/// Queues an item once there is room for it.
pub(crate) async fn send_when_ready<C: Outlet>(core: &Arc<C>, item: C::Item) -> Result<(), SendError<C::Item>> {
    match core.encode(&item) {
        Ok(message) => push(core.outbox(), message).await.map_err(|refusal| refusal.of(item)),
        Err(error) => Err(error.map(|()| item)),
    }
}

/// As [`send_when_ready`], blocking, for at most `timeout`.
pub(crate) fn send_timeout<C: Outlet>(
    core: &Arc<C>,
    item: C::Item,
    timeout: Duration,
) -> Result<(), SendError<C::Item>> {
    if core.component().home.waits_for() {
        return Err(SendError::WouldDeadlock(item));
    }
    match core.encode(&item) {
        Ok(message) => {
            let answer = time::block_on(push(core.outbox(), message), timeout);
            answer.unwrap_or(Err(Refusal::Full)).map_err(|refusal| refusal.of(item))
        }
        Err(error) => Err(error.map(|()| item)),
    }
}

async fn push(outbox: &Outbox, Outgoing { frame, key }: Outgoing) -> Result<(), Refusal> {
    let (mut turn, mut message) = (Turn::of_future(outbox), Some(frame.into()));
    poll_fn(|cx| turn.poll_push(&mut message, key, cx)).await
}

/// The words of an endpoint for those who push as fast as it sends.
macro_rules! backpressure {
    ($Type:ident, on $thread:literal) => {
        impl<D: WsDatatype> $Type<D> {
            /// Queues `item` once there is room for it: a [`send`](Self::send) that waits while the outbox is full, instead of
            /// having the item or the peer dropped. Runs on any executor.
            ///
            /// `Ok` is a place in the outbox, not delivery. Those who wait are served in the order in which they were first
            /// polled, and a long item is not passed by a short one; so one that is no longer polled, and not dropped, holds
            /// up those behind it. `next` and `send` do not wait and may take a place before them. An item that is longer
            /// than the whole outbox waits until that is empty.
            ///
            /// ```no_run
            /// # async fn program() -> Result<(), Box<dyn std::error::Error>> {
            /// use rxplus::prelude::*;
            ///
            /// let client = RxWsClient::builder("ws://127.0.0.1:8765/upload", WsStr)
            ///     .outbox(64, 1 << 20, Overflow::DropLatest)
            ///     .connect()?;
            /// for line in std::fs::read_to_string("log.txt")?.lines() {
            ///     client.send_when_ready(line).await?; // as fast as the server reads
            /// }
            /// # Ok(())
            /// # }
            /// ```
            ///
            /// # Errors
            ///
            /// - [`SendError::Closed`] after a terminal event, whether it came before or while this waits.
            /// - [`SendError::Encode`] when the datatype cannot encode the item.
            ///
            /// # Cancel safety
            ///
            /// Cancel safe: a future that is dropped has not sent the item, and the next in the line moves up.
            pub fn send_when_ready<T: Into<D::Outgoing>>(
                &self,
                item: T,
            ) -> impl Future<Output = Result<(), SendError<D::Outgoing>>> + Send + use<D, T> {
                let (endpoint, item) = (self.clone(), item.into());
                async move {
                    // The whole handle, so that the endpoint does not end for want of one while this waits.
                    let endpoint = endpoint;
                    $crate::sending::send_when_ready(&endpoint.inner.core, item).await
                }
            }

            /// As [`send_when_ready`](Self::send_when_ready), and blocks, for at most `timeout`. `Duration::MAX` means no limit.
            ///
            /// # Errors
            ///
            /// - [`SendError::Full`] when there was no room within `timeout`. The item is not counted as dropped.
            /// - [`SendError::Closed`] after a terminal event, whether it came before or while this waits.
            /// - [`SendError::Encode`] when the datatype cannot encode the item.
            #[doc = concat!(
                                                "- [`SendError::WouldDeadlock`] on the ", $thread,
                                                " own I/O thread, or the only one of its tokio runtime, at once."
                                            )]
            pub fn send_timeout<T: Into<D::Outgoing>>(
                &self,
                item: T,
                timeout: Duration,
            ) -> Result<(), SendError<D::Outgoing>> {
                $crate::sending::send_timeout(&self.inner.core, item.into(), timeout)
            }

            /// A `futures` sink, which waits for room in the outbox: `stream.forward(client.sink())` sends a stream as fast as the
            /// peer reads. It counts as a handle.
            ///
            /// It is ready when there is room, and those who came before have theirs. If somebody else is faster then, or the
            /// item is too long for the room that there is, the item waits in the sink, and the next `poll_ready`, `poll_flush`
            /// or `poll_close` waits for it: the outbox never holds more than its bounds say. An item that still waits when
            /// the sink is dropped is counted as dropped, as [`DropReason::Overflow`](crate::DropReason::Overflow).
            ///
            /// A sink that was not ready keeps its place among those who wait. Once there is room it is woken, and holds up nobody
            /// from then on, whether it is polled again or not.
            ///
            /// A flush is over when the operating system has taken what was sent through this sink. To close it
            /// [completes](Self::complete) the endpoint and waits until that has ended; `forward` does so at the end of its
            /// stream, and `send_all` does not.
            ///
            /// ```no_run
            /// # async fn program() -> Result<(), rxplus::WsError> {
            /// use futures::StreamExt;
            /// use rxplus::prelude::*;
            ///
            /// let prices = RxWsClient::connect("ws://10.0.0.9:9000/prices", WsStr)?;
            /// let archive = RxWsClient::connect("ws://10.0.0.7:9000/archive", WsStr)?;
            /// prices.into_bounded_stream(1024, Lossy::DropOldest).forward(archive.sink()).await?;
            /// # Ok(())
            /// # }
            /// ```
            ///
            /// # Errors
            ///
            /// - The error that ended the endpoint, or [`WsError::Closed`]: also of a flush, if the endpoint ended before all was
            ///   written.
            /// - [`WsError::Encode`] when the datatype cannot encode an item. The sink can be used on.
            #[must_use]
            pub fn sink<T: Into<D::Outgoing>>(&self) -> $crate::ops::OutboxSink<D, T> {
                $crate::ops::OutboxSink::new(&self.inner.core, self.clone())
            }

            /// How full the outbox is: the present [`Pressure`](crate::Pressure) first, and then each change. It becomes high at
            /// three quarters of either bound, of messages or of bytes, and low again at a quarter of both. Completes with the
            /// endpoint.
            ///
            /// A pipeline that leaves something out while the pressure is high seldom fills the outbox. It can all the same: `High`
            /// is emitted on the I/O thread, a moment after the push that caused it, and a callback or a thread that pushes
            /// faster than that can fill the last quarter. What it pushes then is refused or dropped as the
            /// [`Overflow`](crate::Overflow) says. Such a producer waits with [`send_when_ready`](Self::send_when_ready), or looks
            /// at what [`send`](Self::send) returns.
            ///
            /// The present pressure comes a moment after `subscribe` as well, and `with_latest_from` drops what comes before it; so
            /// begin with a `start_with`, as here:
            ///
            /// ```no_run
            /// use rxplus::prelude::*;
            ///
            /// let camera = RxWsClient::connect("ws://10.0.0.7:9000/camera", WsBytes)?;
            /// let viewer = RxWsClient::connect("ws://10.0.0.9:9000/view", WsBytes)?;
            /// let pressure = viewer.pressure().start_with(vec![Pressure::Low]).with_err();
            /// camera
            ///     .with_latest_from(pressure) // of each frame, whether there is room for it
            ///     .filter(|(_, pressure)| *pressure == Pressure::Low)
            ///     .map(|(frame, _)| frame)
            ///     .merge_into(&viewer);
            /// # Ok::<(), WsError>(())
            /// ```
            ///
            /// # Emission
            ///
            #[doc = concat!("On the ", $thread, " I/O thread, whichever thread has pushed; the push does not wait for it. While that")]
            /// thread is busy changes do not queue up: one that is undone before it was emitted is left out.
            #[must_use]
            pub fn pressure(&self) -> $crate::Io<$crate::endpoint::Feed<$crate::Pressure>> {
                let core = &self.inner.core;
                let subject = core.outbox.pressure(&self.scheduler, Some(core.component.events.on_panic()));
                $crate::endpoint::Feed::of(&subject, &self.scheduler)
            }
        }
    };
}
pub(crate) use backpressure;
