//! [`OutboxSink`]: an endpoint as the end of a `futures` pipeline.

use std::{
    any::Any,
    fmt,
    future::poll_fn,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use futures_sink::Sink;

use super::{Outgoing, Outlet};
use crate::{
    CloseReport, DropReason, SendError, WsDatatype, WsError,
    fate::DeliveryStatus,
    outbox::{Flush, Key, Outbox, OutboxFrame, Turn},
};

/// A `futures::Sink` into a client or a connection, from [`sink`](crate::RxWsClient::sink). It counts as a handle.
pub struct OutboxSink<D: WsDatatype, T = <D as WsDatatype>::Outgoing> {
    target: Box<dyn Target<D::Outgoing>>,
    turn: Turn,
    /// An item that found no room, although there had been some: somebody else was faster, or it is too long.
    waiting: Option<OutboxFrame>,
    key: Option<Key>,
    /// The wait for what was queued and may not be written yet.
    flush: Option<Arc<Flush>>,
    /// Resolves at the end of the endpoint, which the sink has asked for.
    closing: Option<Closing>,
    item: PhantomData<fn(T)>,
}

type Closing = Pin<Box<dyn Future<Output = CloseReport> + Send>>;

/// An endpoint as a sink knows it.
trait Target<I>: Send + Sync {
    fn encode(&self, item: &I) -> Result<Outgoing, SendError<()>>;

    fn outbox(&self) -> &Outbox;

    /// The error of one whose endpoint has ended.
    fn ended(&self) -> WsError;

    fn name(&self) -> String;

    /// Asks the endpoint to end. What this returns resolves once it has.
    fn close(&self) -> Closing;
}

/// The state of an endpoint, and one of its handles, which keeps it from ending.
struct Held<C> {
    core: Arc<C>,
    _handle: Box<dyn Any + Send + Sync>,
}

impl<C: Outlet> Target<C::Item> for Held<C> {
    fn encode(&self, item: &C::Item) -> Result<Outgoing, SendError<()>> {
        self.core.encode(item)
    }

    fn outbox(&self) -> &Outbox {
        self.core.outbox()
    }

    fn ended(&self) -> WsError {
        self.core.component().terminal().unwrap_or_else(|| WsError::Closed(self.name()))
    }

    fn name(&self) -> String {
        self.core.component().name().to_string()
    }

    fn close(&self) -> Closing {
        self.core.finish(Ok(()));
        Box::pin(self.core.component().closed())
    }
}

impl<D: WsDatatype, T> OutboxSink<D, T> {
    pub(crate) fn new<C: Outlet<Item = D::Outgoing>>(core: &Arc<C>, handle: impl Any + Send + Sync) -> Self {
        let (turn, core) = (Turn::of_sink(core.outbox()), core.clone());
        Self {
            target: Box::new(Held { core, _handle: Box::new(handle) }),
            turn,
            waiting: None,
            key: None,
            flush: None,
            closing: None,
            item: PhantomData,
        }
    }

    /// Queues the item that waits, if there is one.
    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WsError>> {
        if self.waiting.is_some() {
            let answer = ready!(self.turn.poll_push_flushed(&mut self.waiting, self.key, &mut self.flush, cx));
            answer.map_err(|_| self.target.ended())?;
        }
        Poll::Ready(Ok(()))
    }

    /// Waits until everything that was queued is written.
    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WsError>> {
        ready!(self.poll_waiting(cx))?;
        let Some(flush) = &self.flush else { return Poll::Ready(Ok(())) };
        let end = ready!(flush.poll(cx));
        self.flush = None;
        let is_lost = end == DeliveryStatus::Dropped(DropReason::Closed) || self.target.outbox().has_overflown();
        Poll::Ready(if is_lost { Err(self.target.ended()) } else { Ok(()) })
    }
}

impl<D: WsDatatype, T: Into<D::Outgoing>> Sink<T> for OutboxSink<D, T> {
    type Error = WsError;

    /// Ready when there is room in the outbox, and all who came before have theirs.
    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), WsError>> {
        ready!(self.poll_waiting(cx))?;
        let answer = ready!(self.turn.poll_room(cx));
        Poll::Ready(answer.map_err(|_| self.target.ended()))
    }

    /// Queues an item. One that finds no room after all waits in the sink, and no other is taken before it has its place.
    fn start_send(mut self: Pin<&mut Self>, item: T) -> Result<(), WsError> {
        if self.waiting.is_some() {
            return Err(WsError::application("start_send of a sink was called before poll_ready was ready"));
        }
        let Outgoing { frame, key } = self.target.encode(&item.into()).map_err(|error| match error {
            SendError::Encode((), source) => WsError::Encode { name: self.target.name(), source },
            _ => self.target.ended(),
        })?;
        (self.waiting, self.key) = (Some(frame.into()), key);
        // Somebody else may have been faster: then it waits.
        match self.poll_waiting(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => answer,
            Poll::Pending => Ok(()),
        }
    }

    /// Ready when the operating system has taken all items, or the outbox has dropped them as its
    /// [`Overflow`](crate::Overflow) says.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), WsError>> {
        self.poll_written(cx)
    }

    /// Completes the endpoint, and is ready when that has ended.
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), WsError>> {
        ready!(self.poll_waiting(cx))?;
        if self.closing.is_none() {
            self.closing = Some(self.target.close());
        }
        ready!(self.poll_written(cx))?;
        if let Some(closing) = &mut self.closing {
            let report = ready!(closing.as_mut().poll(cx));
            // It may be polled again.
            *closing = Box::pin(poll_fn(move |_| Poll::Ready(report)));
        }
        Poll::Ready(Ok(()))
    }
}

impl<D: WsDatatype, T> Drop for OutboxSink<D, T> {
    /// An item that waits is counted as dropped, so that it is not lost without a word.
    fn drop(&mut self) {
        if let Some(flush) = self.flush.take() {
            self.target.outbox().forget_flush(&flush);
        }
        if let Some(message) = self.waiting.take() {
            self.target.outbox().give_up(message);
        }
    }
}

impl<D: WsDatatype, T> fmt::Debug for OutboxSink<D, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboxSink").field("endpoint", &self.target.name()).finish_non_exhaustive()
    }
}
