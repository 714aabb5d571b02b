//! The task of a client: connects, serves the link, and connects again.

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::{
    ConnRequest, OnClose, WsDatatype, WsError,
    client::{
        core::{ClientCore, report_drops},
        retry::Verdict,
        serving::{self, Established, LinkEnd, Outcome},
        session::{self, Session},
        suspicion::{Fate, Suspicion},
    },
    endpoint::event::{ClientEvent, ConnectionState},
    handshake::{self, ConnectAsk, subprotocol},
    link::READ_AHEAD,
    outbox::Closing,
    protocol::{close::POLICY_VIOLATION, deflate::Offer},
    random,
    runtime::{UserValue, callback, debts, guard::isolated},
    subject::at_most,
    time::after,
};

/// How an attempt to connect ended, or the link that it made.
enum Exit {
    /// The client is to end, and there is no reason, or no time, to connect once more for it.
    Done,
    /// `reconnect()` was called.
    AskedToReconnect,
    /// The retry policy is to judge the error. `served` is how often `reconnect()` had been called when the attempt ended.
    Failed { error: Error, served: u64 },
}

/// What it holds may be an error of the program's, which its connector or a stream has returned.
type Error = UserValue<WsError>;

/// The attempts to connect since there was a good link.
struct Attempts<'a, D: WsDatatype> {
    client: &'a ClientCore<D>,
    /// How many have failed in a row.
    failed: u32,
    /// When the first of them began, or the good link ended.
    since: Instant,
    suspicion: Suspicion,
    session: Session,
}

/// Runs a client to its end.
pub(crate) async fn run<D: WsDatatype>(client: Arc<ClientCore<D>>) {
    let ended = keep_connected(&client).await;
    let ended = if client.outbox.has_overflown() { Err(overflow(&client)) } else { ended };
    if let Err(error) = ended
        && client.component.ask_to_end(Err(error.clone()))
    {
        client.component.events.next(ClientEvent::Failed { error });
    }
    let report = client.end_outbox();
    client.component.end(report, || client.last(report), vec![client.states.backlog()]).await;
}

/// Keeps a link up until the client is asked to end.
///
/// # Errors
///
/// When the retry policy allows no further attempt.
async fn keep_connected<D: WsDatatype>(client: &ClientCore<D>) -> Result<(), WsError> {
    let mut attempts = Attempts {
        client,
        failed: 0,
        since: Instant::now(),
        suspicion: Suspicion::default(),
        session: Session::default(),
    };
    loop {
        match attempts.make_one().await {
            Exit::Done => return Ok(()),
            // Nothing has failed that the policy had to judge.
            Exit::AskedToReconnect => {}
            Exit::Failed { error, served } => {
                if attempts.wait(error, served).await?.is_break() {
                    return Ok(());
                }
            }
        }
    }
}

impl<D: WsDatatype> Attempts<'_, D> {
    /// Connects, and serves the link to its end.
    async fn make_one(&mut self) -> Exit {
        let (client, attempt) = (self.client, self.failed);
        client.set_state(ConnectionState::Connecting);
        let Some(connected) = unless_done(client, try_to_connect(client, &mut self.session, attempt)).await else {
            return Exit::Done;
        };
        // Before the subscribers know how the attempt ended, and ask for another one.
        let served = client.note_served();
        let exit = match connected {
            Ok(established) => self.serve(established, served).await,
            Err(error) => {
                let error = UserValue::new(error);
                client.component.events.next(ClientEvent::ConnectFailed { attempt, error: WsError::clone(&error) });
                Exit::Failed { error, served }
            }
        };
        if is_done(client) { Exit::Done } else { exit }
    }

    async fn serve(&mut self, established: Established, served: u64) -> Exit {
        let LinkEnd { outcome, proven } = serving::serve(self.client, established, self.failed, served).await;
        if proven {
            (self.failed, self.since) = (0, Instant::now());
        }
        let error = match &outcome {
            Outcome::Cut => None,
            Outcome::Ended(error) => Some(&**error),
        };
        session::note_end(self.client, &mut self.session, error);
        match outcome {
            Outcome::Cut => Exit::AskedToReconnect,
            Outcome::Ended(error) => {
                self.give_up_what_ends_links(&error);
                Exit::Failed { error, served }
            }
        }
    }

    /// Waits for as long as the policy says, or until `reconnect()` was called more often than `served` times. Breaks when
    /// the client is done meanwhile.
    async fn wait(&mut self, error: Error, served: u64) -> Result<ControlFlow<()>, WsError> {
        let client = self.client;
        let delay = self.delay(&error);
        self.failed = self.failed.saturating_add(1);
        let attempt = self.failed;
        let Some(delay) = delay else {
            let endpoint = client.ask.endpoint.clone();
            return Err(WsError::RetriesExhausted {
                endpoint,
                attempts: attempt,
                source: Arc::new(error.into_inner()),
            });
        };
        client.set_state(ConnectionState::Reconnecting { attempt, delay });
        client.component.events.next(ClientEvent::Reconnecting { attempt, delay });
        let waited = unless_done(client, pause(delay, client.asked_again(served))).await;
        Ok(if waited.is_some() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    }

    fn delay(&self, error: &WsError) -> Option<Duration> {
        let retry_after = match error {
            WsError::Rejected { response, .. } => response.retry_after(),
            _ => None,
        };
        let verdict = Verdict { then: decide(self.client, error), retry_after };
        self.client.dialing.retry.delay(self.failed, self.since.elapsed(), verdict, random::fraction())
    }

    /// Drops the message at the head of the outbox if it makes links end, as the last one did with `error`.
    fn give_up_what_ends_links(&mut self, error: &WsError) {
        let (outbox, events) = (&self.client.outbox, &self.client.component.events);
        if outbox.keeps_written() {
            // The server says which message it does not have.
            return;
        }
        let code = match error {
            WsError::ClosedByPeer { code, .. } => Some(*code),
            _ => None,
        };
        if let Some(head) = outbox.head()
            && self.suspicion.note_end_of_link(head, code, Instant::now()) == Fate::GivenUp
            && outbox.try_drop_head(head)
        {
            let (len, links, error) = (head.len, self.suspicion.links, error.clone());
            events.next(ClientEvent::Undeliverable { len, links, error });
            report_drops(outbox, events);
        }
    }
}

/// As [`connect`]. An attempt that panics counts as failed: looking up a name panics when no thread can be started for it.
async fn try_to_connect<D: WsDatatype>(
    client: &ClientCore<D>,
    session: &mut Session,
    attempt: u32,
) -> Result<Established, WsError> {
    debts::paid().await;
    // Each attempt is an event: while no subscriber takes those, no more attempts are made.
    at_most(&*client.events, READ_AHEAD).await;
    at_most(&*client.states.backlog(), READ_AHEAD).await;
    let connecting = isolated("an attempt to connect", Box::pin(connect(client, session, attempt)));
    connecting.await.unwrap_or_else(|panic| {
        let what = format!("an attempt to connect to {}", client.ask.endpoint);
        Err(WsError::Panicked { what, panic: panic.into() })
    })
}

async fn connect<D: WsDatatype>(
    client: &ClientCore<D>,
    session: &mut Session,
    attempt: u32,
) -> Result<Established, WsError> {
    let mut ask = prepare(client, attempt)?;
    if client.dialing.resume.is_some() {
        ask.subprotocols = subprotocol::offers(&ask.subprotocols).into();
        // One decoder reads the greeting, and another one what follows.
        ask.compression.iter_mut().for_each(Offer::refuse_takeover);
    }
    let limit = client.dialing.connect_timeout;
    let deadline = after(Instant::now(), limit);
    let connecting = async {
        let mut connected = handshake::connect(&ask, &client.options.limits, deadline).await?;
        let beginning = session::settle(client, session, &mut connected.opened).await?;
        Ok(Established { connected, peer: ask.endpoint.to_string(), beginning })
    };
    let timed_out = |_| WsError::HandshakeTimedOut { endpoint: ask.endpoint.clone(), after: limit };
    timeout_at(deadline, connecting).await.map_err(timed_out)?
}

/// The request to connect, as the program changes it for this attempt.
fn prepare<D: WsDatatype>(client: &ClientCore<D>, attempt: u32) -> Result<ConnectAsk, WsError> {
    let Some(change) = &client.dialing.request else { return Ok(client.ask.clone()) };
    let mut changed = Err(WsError::application("the function given to request(..) panicked"));
    let request = ConnRequest::new(client.ask.clone(), attempt);
    callback::run(|| callback::isolate("a request function", || changed = change(request).into_ask()));
    changed
}

/// The reaction to `error`, if the policy's limits allow it.
fn decide<D: WsDatatype>(client: &ClientCore<D>, error: &WsError) -> OnClose {
    let dialing = &client.dialing;
    let mut decided = None;
    if let (WsError::ClosedByPeer { code, reason, .. }, Some(decide)) = (error, &dialing.on_close) {
        callback::run(|| callback::isolate("an on_close function", || decided = decide(*code, reason)));
    }
    decided.unwrap_or_else(|| if is_permanent(error) { dialing.retry.rejected() } else { OnClose::Retry })
}

/// Whether a retry cannot help unless somebody changes something.
fn is_permanent(error: &WsError) -> bool {
    match error {
        // "Request timeout", "too early" and "too many requests" (RFC 9110, 8470 and 6585) ask for patience.
        WsError::Rejected { status: 408 | 425 | 429, .. } => false,
        WsError::Rejected { status, .. } => (400..500).contains(status),
        WsError::ClosedByPeer { code, .. } => *code == POLICY_VIOLATION,
        WsError::CertificateName { .. } => true,
        _ => false,
    }
}

/// Whether the client is to end and there is no reason, or no time, to connect once more for it.
fn is_done<D: WsDatatype>(client: &ClientCore<D>) -> bool {
    let is_over = |closing: Closing| client.outbox.is_empty() || closing.deadline <= Instant::now();
    client.outbox.closing().is_some_and(is_over)
}

/// Runs `work`. `None` when the client is asked to end, before or meanwhile, and has nothing to send, or no time left for it.
async fn unless_done<D: WsDatatype, T>(client: &ClientCore<D>, work: impl Future<Output = T>) -> Option<T> {
    let done = async {
        let closing = client.outbox.until_closing().await;
        if !client.outbox.is_empty() {
            sleep_until(closing.deadline).await;
        }
    };
    if is_done(client) {
        return None;
    }
    tokio::select! {
        biased;
        // First: a connection that is made in the same moment is closed as any other, not dropped.
        result = work => Some(result),
        () = done => None,
    }
}

async fn pause(delay: Duration, cut_short: impl Future<Output = ()>) {
    tokio::select! {
        biased;
        () = sleep(delay) => {}
        () = cut_short => {}
    }
}

fn overflow<D: WsDatatype>(client: &ClientCore<D>) -> WsError {
    let dropped = client.outbox.stats().dropped.overflow;
    WsError::OutboxFull { name: client.component.name().to_string(), messages: dropped.messages, len: dropped.len }
}
