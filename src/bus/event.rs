//! [`BusEvent`]: everything that happens to a bus beside the data.

use std::{error::Error, sync::Arc, time::Duration};

use crate::{
    CloseReport, DatatypeError, DropReason, Tag, Tally, WsError,
    endpoint::event::EndpointEvent,
    one_line::OneLine,
    subject::{Merge, Merged},
};

/// The target of a bus's events for `tracing`.
const BUS: &str = "rxplus::bus";

/// An event of a bus, outside its data stream.
///
/// An event may stand for several of its kind that came while it waited for its subscribers: then it has a count that is
/// exact over all of them.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub enum BusEvent {
    /// There is a link to a broker. After an outage nothing is published on it before the other buses have had time to come back:
    /// see [`BusBuilder::retry`](crate::BusBuilder::retry).
    Connected {
        /// Its address.
        server: Arc<str>,
        /// How many attempts failed before this one.
        attempt: u32,
    },
    /// An attempt to connect failed.
    ConnectFailed {
        /// How many attempts failed before this one.
        attempt: u32,
        /// Why.
        error: WsError,
    },
    /// The link is gone. All messages that had arrived on it were emitted before.
    Disconnected {
        /// Why; `None` when the bus was completed.
        error: Option<WsError>,
        /// How many messages the broker has been given without confirming them. The next link gives it these again, and
        /// those who have them already drop them.
        unconfirmed: u64,
        /// How long it lasted.
        lasted: Duration,
    },
    /// The next attempt will be made after a wait.
    Reconnecting {
        /// How many attempts have failed in a row. A link counts as another one unless it has lasted 5 s.
        attempt: u32,
        /// How long the wait is.
        delay: Duration,
    },
    /// Messages that another bus has published are missing here, exactly so many. If a later message shows it, this comes
    /// before that message. Where two subscriptions overlap, such as one to a path and one to all, each has its own events.
    Gap {
        /// Their path.
        path: Tag,
        /// The bus that published them.
        from: Arc<str>,
        /// How many.
        missed: u64,
    },
    /// Messages that were accepted will not reach the broker.
    Dropped {
        /// Why.
        reason: DropReason,
        /// How many, since the previous event of this kind.
        dropped: Tally,
    },
    /// A path is not on the bus: it is too long for a subject, does not begin with `/`, or the broker does not let this bus
    /// use it. What is pushed for it reaches the subscribers and the servers of this process only.
    Unroutable {
        /// The path.
        path: Tag,
        /// Why.
        why: Arc<str>,
        /// How many this event stands for.
        count: u64,
    },
    /// A message arrived that the datatype cannot decode. It was skipped.
    Undecodable {
        /// Its path.
        path: Tag,
        /// The bus that published it; `None` if it was another program.
        from: Option<Arc<str>>,
        /// Why.
        error: DatatypeError,
        /// The bytes of its payload.
        len: usize,
        /// How many this event stands for. It describes the first.
        count: u64,
    },
    /// A message could not be encoded, or is longer than the broker allows. It was not sent.
    Unencodable {
        /// Its path.
        path: Tag,
        /// Why.
        error: DatatypeError,
        /// How many this event stands for. It describes the first.
        count: u64,
    },
    /// Messages arrive faster than they are taken: so many wait. If that goes on, the broker or its library drops some, and the gaps are
    /// announced.
    Lagging {
        /// How many messages wait.
        queued: u64,
    },
    /// A subscriber panicked and was removed.
    SubscriberPanicked,
    /// The bus cannot go on, and its subject errors with this.
    Failed {
        /// Why.
        error: WsError,
    },
    /// The bus is closed; the last event.
    Closed(CloseReport),
}

macro_rules! bus {
    ($level:ident, $name:expr, $($rest:tt)+) => { tracing::$level!(target: BUS, bus = %OneLine($name), $($rest)+) };
}

fn cause<E: Error + 'static>(error: &E) -> &(dyn Error + 'static) {
    error
}

impl EndpointEvent for BusEvent {
    fn subscriber_panicked() -> Self {
        Self::SubscriberPanicked
    }

    fn failed(error: WsError) -> Self {
        Self::Failed { error }
    }

    fn trace(&self, name: &str) {
        match self {
            Self::Gap { path, from, missed } => {
                bus!(warn, name, path = %OneLine(path), from = %OneLine(from), missed, "gap");
            }
            Self::Dropped { reason, dropped } => {
                bus!(warn, name, ?reason, messages = dropped.messages, len = dropped.len, "dropped");
            }
            Self::Unroutable { path, why, count } => {
                bus!(warn, name, path = %OneLine(path), why = %OneLine(why), count, "unroutable");
            }
            Self::Unencodable { path, error, count } => {
                bus!(warn, name, path = %OneLine(path), error = cause(error), count, "unencodable");
            }
            Self::Lagging { queued } => bus!(warn, name, queued, "lagging"),
            Self::SubscriberPanicked => bus!(error, name, "subscriber panicked"),
            Self::Failed { error } => bus!(error, name, error = cause(error), "failed"),
            other => other.trace_course(name),
        }
    }
}

impl BusEvent {
    /// The events that lose nothing.
    fn trace_course(&self, name: &str) {
        match self {
            Self::Connected { server, attempt } => bus!(debug, name, server = %OneLine(server), attempt, "connected"),
            Self::ConnectFailed { attempt, error } => {
                bus!(debug, name, attempt, error = cause(error), "connect failed");
            }
            Self::Disconnected { error, unconfirmed, lasted } => {
                bus!(debug, name, error = error.as_ref().map(cause), unconfirmed, ?lasted, "disconnected");
            }
            Self::Reconnecting { attempt, delay } => bus!(debug, name, attempt, ?delay, "reconnecting"),
            Self::Undecodable { path, from, error, len, count } => {
                let from = from.as_deref().map(|from| tracing::field::display(OneLine(from)));
                bus!(debug, name, path = %OneLine(path), from, error = cause(error), len, count, "undecodable");
            }
            Self::Closed(report) => bus!(debug, name, unsent = report.unsent, len = report.unsent_len, "closed"),
            // Those of `trace`.
            _ => {}
        }
    }
}

/// This bounds the events that wait for their subscribers.
impl Merge for BusEvent {
    fn merge(&mut self, later: &Self) -> Merged {
        match (self, later) {
            (Self::Gap { path, from, missed }, Self::Gap { path: other, from: whose, missed: more })
                if path == other && from == whose =>
            {
                // A number of the wire may be any.
                *missed = missed.saturating_add(*more);
            }
            (Self::Dropped { reason, dropped }, Self::Dropped { reason: other, dropped: more }) if reason == other => {
                *dropped += *more;
            }
            (Self::Unroutable { path, count, .. }, Self::Unroutable { path: other, count: more, .. })
                if path == other =>
            {
                *count += more;
            }
            (Self::Undecodable { path, count, .. }, Self::Undecodable { path: other, count: more, .. })
            | (Self::Unencodable { path, count, .. }, Self::Unencodable { path: other, count: more, .. })
                if path == other =>
            {
                *count += more;
            }
            (Self::Lagging { queued }, Self::Lagging { queued: later }) => *queued = *later,
            _ => return Merged::NotHere,
        }
        Merged::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gap(path: &str, from: &str, missed: u64) -> BusEvent {
        BusEvent::Gap { path: path.into(), from: from.into(), missed }
    }

    #[test]
    fn gaps_add_up_by_path_and_publisher() {
        let mut first = gap("/a", "x", 1);
        assert_eq!([gap("/b", "x", 1), gap("/a", "y", 1)].map(|other| first.merge(&other)), [Merged::NotHere; 2]);
        assert_eq!(first.merge(&gap("/a", "x", 2)), Merged::Done);
        let BusEvent::Gap { missed: 3, .. } = first else { panic!("{first:?}") };
    }
}
