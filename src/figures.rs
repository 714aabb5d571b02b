//! [`Figure`]: a count with a name, for exporters of metrics.

use crate::stats::{Dropped, GroupStats, Rejections, SendStats, ServerStats, Stats};

/// One count of an endpoint, as monitoring systems want it: `figures()` of [`ServerStats`], [`Stats`] and [`GroupStats`]
/// returns all of them.
///
/// ```
/// use rxplus::prelude::*;
///
/// let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr)?;
/// for Figure { name, value, .. } in server.stats().figures() {
///     println!("{} {value}", name.replace('.', "_"));
/// }
/// # Ok::<(), WsError>(())
/// ```
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figure {
    /// Its name, after the rules of OpenTelemetry, such as `rxplus.server.active_connections`. Names are stable.
    pub name: &'static str,
    /// Whether it only grows.
    pub kind: FigureKind,
    /// Its unit in UCUM, as OpenTelemetry has it: `By` for bytes, `{message}` for messages.
    pub unit: &'static str,
    /// Its value.
    pub value: u64,
}

/// How a [`Figure`] changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FigureKind {
    /// It grows, as long as the endpoint lives.
    Counter,
    /// It grows and shrinks.
    Gauge,
}

/// Figures of whole numbers: `"name" Kind "unit" value`.
macro_rules! counts {
    ($prefix:literal, $($name:literal $kind:ident $unit:literal $value:expr),+ $(,)?) => {
        [$(Figure { name: concat!($prefix, ".", $name), kind: FigureKind::$kind, unit: $unit, value: $value }),+]
    };
}

/// Figures of tallies: `"name" Kind tally`, each of which makes a figure of messages and one of bytes.
macro_rules! tallies {
    ($prefix:literal, $($name:literal $kind:ident $tally:expr),+ $(,)?) => {
        [$(
            Figure {
                name: concat!($prefix, ".messages.", $name),
                kind: FigureKind::$kind,
                unit: "{message}",
                value: $tally.messages,
            },
            Figure {
                name: concat!($prefix, ".bytes.", $name),
                kind: FigureKind::$kind,
                unit: "By",
                value: $tally.len,
            },
        )+]
    };
}

// No `..` below: a new field does not compile until it has a figure.

macro_rules! send_stats {
    ($prefix:literal, $stats:expr) => {{
        let SendStats {
            accepted,
            written,
            queued,
            dropped,
            acknowledged,
            retained,
            lost,
            resent,
            compressed,
            compressed_to,
        } = $stats;
        let Dropped { overflow, closed, cleared, greeting, undeliverable, replaced } = dropped;
        let mut figures = Vec::from(tallies!(
            $prefix,
            "accepted" Counter accepted,
            "sent" Counter written,
            "queued" Gauge queued,
            "dropped.overflow" Counter overflow,
            "dropped.closed" Counter closed,
            "dropped.cleared" Counter cleared,
            "dropped.greeting" Counter greeting,
            "dropped.undeliverable" Counter undeliverable,
            "dropped.replaced" Counter replaced,
            "compressed" Counter compressed,
        ));
        figures.extend(counts!(
            $prefix,
            "messages.acknowledged" Counter "{message}" acknowledged,
            "messages.retained" Gauge "{message}" retained,
            "messages.lost" Counter "{message}" lost,
            "messages.resent" Counter "{message}" resent,
            "bytes.compressed_to" Counter "By" compressed_to,
        ));
        figures
    }};
}

macro_rules! stats {
    ($prefix:literal, $stats:expr) => {{
        let Stats { sent, unencodable, received, undecodable, early_lost, reconnects } = $stats;
        let mut figures = send_stats!($prefix, sent);
        figures.extend(tallies!($prefix, "received" Counter received, "early_lost" Counter early_lost));
        figures.extend(counts!(
            $prefix,
            "messages.unencodable" Counter "{message}" unencodable,
            "messages.undecodable" Counter "{message}" undecodable,
            "reconnects" Counter "{connection}" reconnects,
        ));
        figures
    }};
}

fn rejections(rejections: Rejections) -> [Figure; 9] {
    let Rejections {
        unanswered,
        bad_request,
        unauthorized,
        forbidden,
        not_found,
        upgrade_required,
        too_many_requests,
        unavailable,
        other,
    } = rejections;
    counts!(
        "rxplus.server.rejected_connections",
        "unanswered" Counter "{connection}" unanswered,
        "bad_request" Counter "{connection}" bad_request,
        "unauthorized" Counter "{connection}" unauthorized,
        "forbidden" Counter "{connection}" forbidden,
        "not_found" Counter "{connection}" not_found,
        "upgrade_required" Counter "{connection}" upgrade_required,
        "too_many_requests" Counter "{connection}" too_many_requests,
        "unavailable" Counter "{connection}" unavailable,
        "other" Counter "{connection}" other,
    )
}

impl ServerStats {
    /// All of these counts with their names, which begin with `rxplus.server`.
    #[must_use]
    pub fn figures(&self) -> Vec<Figure> {
        let Self {
            connections,
            parked,
            accepted,
            rejected,
            pushed,
            unrouted,
            unencodable,
            sent,
            received,
            undecodable,
            early_lost,
        } = *self;
        let mut figures = Vec::from(counts!(
            "rxplus.server",
            "active_connections" Gauge "{connection}" connections as u64,
            "parked_connections" Gauge "{connection}" parked as u64,
            "accepted_connections" Counter "{connection}" accepted,
            "messages.pushed" Counter "{message}" pushed,
            "messages.unrouted" Counter "{message}" unrouted,
            "messages.unencodable" Counter "{message}" unencodable,
            "messages.undecodable" Counter "{message}" undecodable,
        ));
        figures.extend(rejections(rejected));
        figures.extend(send_stats!("rxplus.server", sent));
        figures.extend(tallies!("rxplus.server", "received" Counter received, "early_lost" Counter early_lost));
        figures
    }
}

impl Stats {
    /// All of these counts with their names, which begin with `rxplus.client`. Those of an accepted connection have the same
    /// names; the [`ServerStats`] are the sums over them.
    #[must_use]
    pub fn figures(&self) -> Vec<Figure> {
        stats!("rxplus.client", *self)
    }
}

impl GroupStats {
    /// All of these counts with their names, which begin with `rxplus.group`.
    #[must_use]
    pub fn figures(&self) -> Vec<Figure> {
        let Self { clients, refused, all } = *self;
        let mut figures = stats!("rxplus.group", all);
        figures.extend(counts!("rxplus.group", "active_clients" Gauge "{client}" clients as u64));
        figures.extend(tallies!("rxplus.group", "refused" Counter refused));
        figures
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::Tally;

    /// A tally of which nothing else is a multiple.
    fn tally(number: u64) -> Tally {
        Tally { messages: number, len: number + 1000 }
    }

    fn stats() -> Stats {
        let dropped = Dropped {
            overflow: tally(1),
            closed: tally(2),
            cleared: tally(3),
            greeting: tally(4),
            undeliverable: tally(5),
            replaced: tally(48),
        };
        let (acknowledged, retained, lost, resent, compressed_to) = (41, 42, 43, 44, 46);
        let (accepted, written, queued, compressed) = (tally(6), tally(7), tally(8), tally(47));
        let sent = SendStats {
            accepted,
            written,
            queued,
            dropped,
            acknowledged,
            retained,
            lost,
            resent,
            compressed,
            compressed_to,
        };
        Stats { sent, unencodable: 9, received: tally(10), undecodable: 11, early_lost: tally(12), reconnects: 13 }
    }

    /// Checks that names are well formed and of their own, and that the values are these.
    fn check(figures: &[Figure], prefix: &str, values: impl IntoIterator<Item = u64>) {
        let names: BTreeSet<_> = figures.iter().map(|figure| figure.name).collect();
        assert_eq!(names.len(), figures.len(), "{figures:?}");
        let is_plain = |name: &str| name.chars().all(|c| c.is_ascii_lowercase() || c == '.' || c == '_');
        assert!(names.iter().all(|name| name.starts_with(prefix) && is_plain(name)), "{names:?}");
        let shown: BTreeSet<_> = figures.iter().map(|figure| figure.value).collect();
        assert_eq!(shown, values.into_iter().collect());
    }

    #[test]
    fn each_field_of_the_stats_of_a_client_and_a_group_is_a_figure() {
        let tallies = (1..=8).chain([10, 12, 47, 48]).flat_map(|n| [n, n + 1000]);
        let values: Vec<_> = tallies.chain([9, 11, 13]).chain(41..=44).chain([46]).collect();
        check(&stats().figures(), "rxplus.client.", values.clone());
        let group = GroupStats { clients: 14, refused: tally(15), all: stats() };
        check(&group.figures(), "rxplus.group.", values.into_iter().chain([14, 15, 1015]));
    }

    #[test]
    fn each_field_of_the_stats_of_a_server_is_a_figure() {
        let rejected = Rejections {
            unanswered: 21,
            bad_request: 22,
            unauthorized: 23,
            forbidden: 24,
            not_found: 25,
            upgrade_required: 26,
            too_many_requests: 27,
            unavailable: 28,
            other: 29,
        };
        let server = ServerStats {
            connections: 14,
            parked: 45,
            accepted: 15,
            rejected,
            pushed: 16,
            unrouted: 17,
            unencodable: 18,
            sent: stats().sent,
            received: tally(19),
            undecodable: 20,
            early_lost: tally(30),
        };
        let tallies = (1..=8).chain([19, 30, 47, 48]).flat_map(|n| [n, n + 1000]);
        check(&server.figures(), "rxplus.server.", tallies.chain((14..=18).chain(20..=29).chain(41..=46)));
        assert_eq!(rejected.total(), (21..=29).sum::<u64>());
    }

    #[test]
    fn queue_and_connections_are_gauges_and_the_rest_are_counters() {
        let figures = [ServerStats::default().figures(), GroupStats::default().figures()].concat();
        let gauges: Vec<_> = figures.iter().filter(|f| f.kind == FigureKind::Gauge).map(|f| f.name).collect();
        let queue = ["messages.queued", "bytes.queued", "messages.retained"];
        let server = ["active_connections", "parked_connections"]
            .into_iter()
            .chain(queue)
            .map(|name| format!("rxplus.server.{name}"));
        let group = queue.into_iter().chain(["active_clients"]).map(|name| format!("rxplus.group.{name}"));
        assert_eq!(gauges, server.chain(group).collect::<Vec<_>>());
    }
}
