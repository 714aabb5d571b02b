//! [`Broker`]: a link to what joins the buses, and what goes over it.

pub(crate) mod address;
pub(crate) mod local;
pub(crate) mod nats;

use std::{fmt, future::Future, sync::Arc};

use bytes::Bytes;

use crate::{WsError, bus::numbers::Stamp};

/// A link to a broker, from the moment that it is made to its end. A bus makes one after the other, by a [`Connect`].
///
/// All methods but [`next_event`](Self::next_event) return soon, also when the broker takes nothing.
pub(crate) trait Broker: Send {
    /// Sends a message to the other links.
    fn publish(&mut self, envelope: Envelope) -> impl Future<Output = Result<(), WsError>> + Send;

    /// Asks for the messages on these subjects, by the number of the interest.
    fn subscribe(&mut self, interest: u64, pattern: &str) -> impl Future<Output = Result<(), WsError>> + Send;

    fn unsubscribe(&mut self, interest: u64) -> impl Future<Output = Result<(), WsError>> + Send;

    /// Asks for [`Event::Flushed`], which comes once the broker has all that was published so far. Questions have numbers from 1
    /// on; one may stay without an answer.
    fn flush(&mut self, question: u64) -> impl Future<Output = Result<(), WsError>> + Send;

    /// The next event. Cancel safe. [`Event::Lost`] is the last one, behind all messages that have arrived.
    fn next_event(&mut self) -> impl Future<Output = Event> + Send;

    /// The broker, for people.
    fn name(&self) -> &str;

    /// How many bytes of payload the broker takes at present.
    fn max_len(&self) -> usize;

    /// How many messages have arrived, or have been taken by [`next_event`](Self::next_event), and wait no more.
    fn waiting(&self) -> u64;
}

/// Makes links to one broker.
pub(crate) trait Connect: Send + Sync + 'static {
    type Link: Broker;

    fn connect(&self) -> impl Future<Output = Result<Self::Link, WsError>> + Send;
}

/// What comes from a broker.
#[derive(Debug)]
pub(crate) enum Event {
    /// A message that another link has published, for the interest with this number.
    Arrived { interest: u64, envelope: Envelope },
    /// The broker has all that was published before the question with this number.
    Flushed(u64),
    /// The broker does not let this bus publish to, or hear, a subject.
    Denied { subject: String, why: String },
    /// The link is gone.
    Lost(WsError),
}

/// A message as a broker carries it.
#[derive(Clone, Debug)]
pub(crate) struct Envelope {
    pub(crate) subject: Arc<str>,
    /// `None` for a message of another program.
    pub(crate) mark: Option<Mark>,
    pub(crate) payload: Bytes,
}

/// What a message is, and where from. As text it is the header `Rx`, such as `t.7Qf3kZ0p.4711`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) kind: Kind,
    pub(crate) stamp: Stamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Binary,
    /// No message: its number is that of the last one.
    Beat,
    /// No message: it tells of connections.
    Presence,
}

/// Bytes of a publisher's name. Ours have 8, and a few more when the publisher has more paths than it remembers.
const MAX_PUBLISHER_LEN: usize = 64;

impl Mark {
    /// `None` when another program uses the header for something else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let kind = match parts.next()? {
            "t" => Kind::Text,
            "b" => Kind::Binary,
            "n" => Kind::Beat,
            "p" => Kind::Presence,
            _ => return None,
        };
        let publisher = parts.next().filter(|name| (1..=MAX_PUBLISHER_LEN).contains(&name.len()))?;
        let number = parts.next()?.parse().ok().filter(|number| *number > 0)?;
        let stamp = Stamp { publisher: publisher.into(), number };
        parts.next().is_none().then_some(Self { kind, stamp })
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Text => 't',
            Kind::Binary => 'b',
            Kind::Beat => 'n',
            Kind::Presence => 'p',
        };
        write!(f, "{kind}.{}.{}", self.stamp.publisher, self.stamp.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mark_is_read_as_it_was_written() {
        for (kind, text) in [
            (Kind::Text, "t.7Qf3kZ0p.1"),
            (Kind::Binary, "b.7Qf3kZ0p-2.4711"),
            (Kind::Beat, "n.a.9"),
            (Kind::Presence, "p.a.1"),
        ] {
            let mark = Mark::parse(text).unwrap();
            assert_eq!((mark.kind, mark.to_string().as_str()), (kind, text));
        }
    }

    #[test]
    fn header_of_another_program_is_no_mark() {
        let long = format!("t.{}.1", "a".repeat(65));
        for text in ["", "t", "t.a", "t..1", "t.a.0", "t.a.-1", "t.a.1.2", "x.a.1", "t.a.18446744073709551616", &long] {
            assert_eq!(Mark::parse(text), None, "{text}");
        }
    }
}
