//! [`OutboxFrame`]: a message as outboxes hold it.

#[cfg(feature = "deflate")]
pub(crate) use with_deflate::OutboxFrame;
#[cfg(not(feature = "deflate"))]
pub(crate) use without_deflate::OutboxFrame;

#[cfg(feature = "deflate")]
mod with_deflate {
    use std::sync::{Arc, OnceLock};

    use bytes::Bytes;

    use crate::{
        Frame,
        protocol::deflate::{Agreed, Compressed},
        session::verb::DLE,
        stats::Tally,
    };

    /// A message as outboxes hold it. Cheaply cloned.
    #[derive(Clone, Debug)]
    pub(crate) enum OutboxFrame {
        Plain(Frame),
        /// One for many connections, or one that was compressed.
        Shared(Arc<Forms>),
    }

    const _: () = assert!(size_of::<OutboxFrame>() == size_of::<Frame>());

    /// A message in all forms: some connections may want it as it is, and others cannot look back as far as most.
    #[derive(Debug)]
    pub(crate) struct Forms {
        frame: Frame,
        compressed: Outcome,
        /// For all peers that [`compressed`](Self::compressed) does not suit, once one of them has wanted it: or each would have the
        /// message compressed for itself. `None` if it is not shorter.
        small: OnceLock<Option<Box<Compressed>>>,
    }

    /// What has come of compressing a message.
    #[derive(Debug)]
    enum Outcome {
        Untried,
        NotShorter,
        Shorter(Compressed),
    }

    impl From<Frame> for OutboxFrame {
        fn from(frame: Frame) -> Self {
            Self::Plain(frame)
        }
    }

    impl OutboxFrame {
        #[inline]
        pub(crate) fn frame(&self) -> &Frame {
            match self {
                Self::Plain(frame) => frame,
                Self::Shared(forms) => &forms.frame,
            }
        }

        #[inline]
        pub(crate) fn len(&self) -> usize {
            self.frame().len()
        }

        #[inline]
        pub(crate) fn tally(&self) -> Tally {
            Tally::of(self.frame())
        }

        /// For many connections: an `Arc` is cloned and dropped at less cost than a payload.
        pub(crate) fn shared(self) -> Self {
            match self {
                Self::Plain(frame) => Forms::shared(frame, Outcome::Untried),
                shared @ Self::Shared(_) => shared,
            }
        }

        /// Its payload in compressed form, if that is there and of use to a peer with this agreement.
        pub(crate) fn compressed(&self, agreed: &Agreed) -> Option<&Bytes> {
            match self {
                Self::Shared(forms) => forms.compressed(agreed),
                Self::Plain(_) => None,
            }
        }

        /// Whether it has still to be compressed for a peer with this agreement.
        pub(crate) fn is_to_be_compressed(&self, agreed: &Agreed) -> bool {
            let is_worthwhile = |frame: &Frame| agreed.is_worthwhile(frame.len()) && !is_like_control(frame);
            match self {
                Self::Plain(frame) => is_worthwhile(frame),
                Self::Shared(forms) => match &forms.compressed {
                    Outcome::Untried => is_worthwhile(&forms.frame),
                    Outcome::NotShorter => false,
                    Outcome::Shorter(form) => {
                        let lacks_form = !form.suits(agreed, forms.frame.len()) && forms.small.get().is_none();
                        lacks_form && is_worthwhile(&forms.frame)
                    }
                },
            }
        }

        /// Compresses it for a peer with this agreement, if that has to be done. The caller holds no lock that a push takes.
        pub(crate) fn compress(&mut self, agreed: &Agreed) {
            if !self.is_to_be_compressed(agreed) {
                return;
            }
            if let Self::Shared(forms) = self
                && let Outcome::Shorter(_) = forms.compressed
            {
                return forms.compress_small(agreed);
            }
            let frame = self.frame().clone();
            let compressed = agreed.compress(frame.as_bytes()).map_or(Outcome::NotShorter, Outcome::Shorter);
            *self = Forms::shared(frame, compressed);
        }

        /// Whether both are the same payload in the same memory.
        pub(crate) fn is_same(&self, other: &Self) -> bool {
            std::ptr::eq(self.frame().as_bytes(), other.frame().as_bytes())
        }
    }

    impl Forms {
        fn shared(frame: Frame, compressed: Outcome) -> OutboxFrame {
            OutboxFrame::Shared(Arc::new(Self { frame, compressed, small: OnceLock::new() }))
        }

        fn compressed(&self, agreed: &Agreed) -> Option<&Bytes> {
            let Outcome::Shorter(form) = &self.compressed else { return None };
            let suits = |form: &&Compressed| form.suits(agreed, self.frame.len());
            let form = Some(form).filter(suits).or_else(|| self.small.get()?.as_deref().filter(suits));
            form.map(|form| &form.bytes)
        }

        fn compress_small(&self, agreed: &Agreed) {
            let small = agreed.compress_small(self.frame.as_bytes()).map(Box::new);
            // Another thread may have done so meanwhile, to the same effect.
            let _ = self.small.set(small);
        }
    }

    /// Whether a text begins as a control message of the resumable mode does. It stays plain, since there it needs a byte before
    /// it.
    fn is_like_control(frame: &Frame) -> bool {
        frame.as_text().is_some_and(|text| text.as_bytes().first() == Some(&DLE))
    }
}

#[cfg(not(feature = "deflate"))]
mod without_deflate {
    use bytes::Bytes;

    use crate::{Frame, protocol::deflate::Agreed, stats::Tally};

    pub(crate) type OutboxFrame = Frame;

    impl Frame {
        #[inline]
        pub(crate) fn frame(&self) -> &Frame {
            self
        }

        #[inline]
        pub(crate) fn tally(&self) -> Tally {
            Tally::of(self)
        }

        #[inline]
        pub(crate) fn shared(self) -> Self {
            self
        }

        pub(crate) fn compressed(&self, agreed: &Agreed) -> Option<&Bytes> {
            match *agreed {}
        }

        pub(crate) fn is_to_be_compressed(&self, agreed: &Agreed) -> bool {
            match *agreed {}
        }

        pub(crate) fn compress(&mut self, agreed: &Agreed) {
            match *agreed {}
        }

        pub(crate) fn is_same(&self, _: &Self) -> bool {
            true
        }
    }
}
