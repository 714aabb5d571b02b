//! A task inside its `tracing` span.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use tracing::Span;

/// A future that is polled, and dropped, inside a span. Unlike [`tracing::Instrument`] it takes only two words when the span
/// is disabled: each connection has one.
pub(crate) struct InSpan<F> {
    /// `None` once it has been dropped.
    work: Option<Pin<Box<F>>>,
    /// `None` if it is disabled.
    span: Option<Box<Span>>,
}

impl<F: Future> InSpan<F> {
    pub(crate) fn new(span: Span, work: F) -> Self {
        let span = (!span.is_disabled()).then(|| Box::new(span));
        Self { work: Some(Box::pin(work)), span }
    }
}

impl<F: Future> Future for InSpan<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Self { work, span } = &mut *self;
        let _entered = span.as_ref().map(|span| span.enter());
        work.as_mut().expect("only a drop takes it out").as_mut().poll(cx)
    }
}

impl<F> Drop for InSpan<F> {
    fn drop(&mut self) {
        let _entered = self.span.as_ref().map(|span| span.enter());
        self.work = None;
    }
}
