//! Rule 13: what an endpoint has accepted, written, queued and dropped.

use rxplus::prelude::*;

pub(crate) const fn tally(messages: u64, len: u64) -> Tally {
    Tally { messages, len }
}

/// Rule 13: every accepted message was written, waits, or was dropped.
pub(crate) fn assert_accounted(sent: SendStats) {
    let mut sum = sent.written;
    for part in [sent.queued, sent.dropped.total()] {
        sum.messages += part.messages;
        sum.len += part.len;
    }
    assert_eq!(sent.accepted, sum, "{sent:?}");
}

/// The sum of what the events say was lost: dropped, and written but not confirmed.
pub(crate) fn announced_by_client<'a>(events: impl IntoIterator<Item = &'a ClientEvent>) -> (Tally, u64) {
    let (mut all, mut unconfirmed_sum) = (Tally::default(), 0);
    for event in events {
        match event {
            ClientEvent::Dropped { dropped, .. } => add(&mut all, *dropped),
            ClientEvent::Disconnected { unconfirmed, .. } => unconfirmed_sum += unconfirmed,
            _ => {}
        }
    }
    (all, unconfirmed_sum)
}

/// As [`announced_by_client`].
pub(crate) fn announced_by_server<'a>(events: impl IntoIterator<Item = &'a ServerEvent>) -> (Tally, u64) {
    let (mut all, mut unconfirmed_sum) = (Tally::default(), 0);
    for event in events {
        match event {
            ServerEvent::Dropped { dropped, .. } => add(&mut all, *dropped),
            ServerEvent::Disconnected { unconfirmed, .. } => unconfirmed_sum += unconfirmed,
            _ => {}
        }
    }
    (all, unconfirmed_sum)
}

pub(crate) fn add(sum: &mut Tally, tally: Tally) {
    sum.messages += tally.messages;
    sum.len += tally.len;
}
