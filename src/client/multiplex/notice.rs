//! [`Notice`]: a message that tells the server of a topic, on its way through the outbox.

use std::sync::atomic::{AtomicU8, Ordering};

use super::topics::WeakTopics;
use crate::{DeliveryStatus, DropReason, WsDatatype, fate::Fate};

const QUEUED: u8 = 0;
const WRITTEN: u8 = 1;
const ACKNOWLEDGED: u8 = 2;
const DROPPED: u8 = 3;

/// What the server is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Say {
    Subscribe,
    Unsubscribe,
}

/// A message that tells the server of a topic, on its way through the outbox.
pub(super) struct Notice<D: WsDatatype> {
    pub(super) say: Say,
    topic: u64,
    topics: WeakTopics<D>,
    /// It stays in the outbox until it is acknowledged.
    is_kept: bool,
    stage: AtomicU8,
}

impl<D: WsDatatype> Notice<D> {
    pub(super) fn new(topic: u64, say: Say, is_kept: bool, topics: WeakTopics<D>) -> Self {
        Self { say, topic, topics, is_kept, stage: AtomicU8::new(QUEUED) }
    }

    pub(super) fn is_dropped(&self, say: Say) -> bool {
        self.say == say && self.stage() == DROPPED
    }

    /// Whether the outbox may still have it.
    pub(super) fn may_wait(&self) -> bool {
        match self.stage() {
            QUEUED => true,
            WRITTEN => self.is_kept,
            _ => false,
        }
    }

    /// It does not come into the outbox.
    pub(super) fn give_up(&self) {
        self.stage.store(DROPPED, Ordering::Release);
        if let Some(topics) = self.topics.upgrade() {
            topics.settled(self.topic);
        }
    }

    fn stage(&self) -> u8 {
        self.stage.load(Ordering::Acquire)
    }
}

impl<D: WsDatatype> Fate for Notice<D> {
    fn queued(&self) {}

    fn written(&self) {
        self.stage.store(WRITTEN, Ordering::Release);
    }

    fn needs_pong(&self) -> bool {
        false
    }

    fn moved(&self, _: DeliveryStatus, to: DeliveryStatus) {
        let Some(topics) = self.topics.upgrade() else { return };
        match to {
            // Taken back, or on its way when the client ended.
            DeliveryStatus::Queued | DeliveryStatus::Dropped(DropReason::Greeting | DropReason::Closed) => {}
            DeliveryStatus::Written => topics.settled(self.topic),
            DeliveryStatus::Acknowledged => {
                self.stage.store(ACKNOWLEDGED, Ordering::Release);
                topics.settled(self.topic);
            }
            DeliveryStatus::Dropped(_) => {
                self.stage.store(DROPPED, Ordering::Release);
                topics.dropped(self.topic);
            }
        }
    }
}
