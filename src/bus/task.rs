//! The task of a bus: connects, serves the link, and connects again.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    CloseReport, ConnectionState, OnClose, RetryPolicy, WsDatatype, WsError,
    bus::{
        broker::Connect,
        core::BusCore,
        event::BusEvent,
        link::{self, Beginning, LinkEnd},
        presence,
    },
    client::retry::Verdict,
    link::READ_AHEAD,
    random,
    runtime::{debts, guard::isolated},
    subject::at_most,
};

/// How long a bus that has come back waits at most for the others. With the default policy nobody waits longer for an attempt.
const SETTLING: Duration = Duration::from_secs(2);

/// How long links that break meanwhile may have waited like that, together: a bus that has no others would never publish.
const UNSETTLED: Duration = Duration::from_secs(10);

/// How long a link must last to start the count of attempts afresh, as that of a client.
const PROVING_UPTIME: Duration = Duration::from_secs(5);

/// How long an attempt may take in a rush of them, on a busy machine. With ten times as many processes at work as there were cores,
/// and attempts every 5 to 25 ms, a bus came too late after 1 of 100 kills of the broker; with 100 ms after 4.
const CONNECTING: Duration = Duration::from_millis(250);

/// How a bus reaches its broker.
pub(crate) struct Settings<C> {
    pub(crate) connector: C,
    pub(crate) retry: RetryPolicy,
}

/// Runs a bus to its end.
pub(crate) async fn run<D: WsDatatype, C: Connect>(bus: Arc<BusCore<D>>, settings: Settings<C>) {
    let ended = tokio::select! {
        ended = keep_connected(&bus, &settings) => ended,
        never = presence::keep(&bus) => match never {},
    };
    let ended = if bus.outbox.has_overflown() { Err(overflow(&bus)) } else { ended };
    if let Err(error) = ended
        && bus.component.ask_to_end(Err(error.clone()))
    {
        bus.component.events.next(BusEvent::Failed { error });
    }
    let report = CloseReport::from(bus.outbox.end());
    let mut others = bus.presence.end();
    others.push(bus.states.backlog());
    bus.component.end(report, || bus.last(report), others).await;
}

/// Keeps a link up until the bus is asked to end.
///
/// # Errors
///
/// When the retry policy allows no further attempt: why the last one failed.
async fn keep_connected<D: WsDatatype, C: Connect>(bus: &BusCore<D>, settings: &Settings<C>) -> Result<(), WsError> {
    let (mut failed, mut since) = (0, Instant::now());
    // How long the links since the last one that has published have waited for the others.
    let mut waited = Duration::ZERO;
    loop {
        bus.states.next(ConnectionState::Connecting);
        let Some(connected) = unless_done(bus, try_to_connect(bus, &settings.connector)).await else { return Ok(()) };
        let error = match connected {
            Ok(link) => {
                let settling = settling(&settings.retry, failed);
                let beginning = Beginning { attempt: failed, settling: settling.min(UNSETTLED.saturating_sub(waited)) };
                let LinkEnd { error, lasted } = link::serve(bus, link, beginning).await;
                waited = if lasted < settling { waited.saturating_add(lasted) } else { Duration::ZERO };
                if lasted >= PROVING_UPTIME {
                    (failed, since) = (0, Instant::now());
                }
                error
            }
            Err(error) => {
                bus.component.events.next(BusEvent::ConnectFailed { attempt: failed, error: error.clone() });
                Some(error)
            }
        };
        let Some(error) = error.filter(|_| !is_done(bus)) else { return Ok(()) };
        let verdict = Verdict { then: reaction(&settings.retry, &error), retry_after: None };
        let delay = settings.retry.delay(failed, since.elapsed(), verdict, random::fraction()).ok_or(error)?;
        failed += 1;
        bus.states.next(ConnectionState::Reconnecting { attempt: failed, delay });
        bus.component.events.next(BusEvent::Reconnecting { attempt: failed, delay });
        if unless_done(bus, sleep(delay)).await.is_none() {
            return Ok(());
        }
    }
}

/// An attempt that panics counts as failed: looking up a name panics when no thread can be started for it.
async fn try_to_connect<D: WsDatatype, C: Connect>(bus: &BusCore<D>, connector: &C) -> Result<C::Link, WsError> {
    debts::paid().await;
    // Each attempt is an event: while no subscriber takes those, no more attempts are made.
    at_most(&*bus.component.events.subject().backlog(), READ_AHEAD).await;
    at_most(&*bus.states.backlog(), READ_AHEAD).await;
    let connecting = isolated("an attempt to connect", Box::pin(connector.connect()));
    connecting.await.unwrap_or_else(|panic| {
        let what = format!("an attempt to connect of {}", bus.component.name());
        Err(WsError::Panicked { what, panic: panic.into() })
    })
}

/// How long a bus keeps what it has, after so many attempts that failed: until the others, which have lost their links with it
/// and wait at most that long for their next attempt, can hear it.
fn settling(retry: &RetryPolicy, failed: u32) -> Duration {
    if failed == 0 { Duration::ZERO } else { retry.longest_delay(failed).min(SETTLING) + CONNECTING }
}

fn reaction(retry: &RetryPolicy, error: &WsError) -> OnClose {
    if matches!(error, WsError::BrokerRefused(_)) { retry.rejected() } else { OnClose::Retry }
}

/// Whether the bus is to end and there is no reason, or no time, to connect once more for it.
fn is_done<D: WsDatatype>(bus: &BusCore<D>) -> bool {
    bus.outbox.closing().is_some_and(|deadline| !bus.outbox.has_messages() || deadline <= Instant::now())
}

/// Runs `work`. `None` when the bus is asked to end, before or meanwhile, and has nothing to send, or no time left for it.
async fn unless_done<D: WsDatatype, T>(bus: &BusCore<D>, work: impl Future<Output = T>) -> Option<T> {
    let done = async {
        let deadline = bus.outbox.until_closing().await;
        if bus.outbox.has_messages() {
            sleep_until(deadline).await;
        }
    };
    if is_done(bus) {
        return None;
    }
    tokio::select! {
        biased;
        result = work => Some(result),
        () = done => None,
    }
}

fn overflow<D: WsDatatype>(bus: &BusCore<D>) -> WsError {
    let dropped = bus.outbox.stats().dropped.overflow;
    WsError::OutboxFull { name: bus.component.name().to_string(), messages: dropped.messages, len: dropped.len }
}
