//! One link to a broker, from its beginning to its end.

use std::{
    io,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use futures_util::FutureExt;
use tokio::time::{Instant, sleep_until, timeout};

use crate::{
    ConnectionState, WsDatatype, WsError,
    bus::{
        broker::{Broker, Event},
        core::{BusCore, Told},
        event::BusEvent,
        interests::Change,
        outbox::Taken,
    },
    link::READ_AHEAD,
    runtime::{debts, guard::isolated},
    subject::at_most,
};

/// How many messages are published between two looks at what has arrived.
const PUBLISHED_PER_TURN: usize = 64;

/// How many events are taken in a turn.
const TAKEN_PER_TURN: usize = 64;

/// How long published messages wait for more before the broker is asked to confirm them: a question is as dear as a message.
const FLUSH_INTERVAL: Duration = Duration::from_millis(10);

/// How long the broker may take to confirm before it is asked again: one that has just started may not answer. After as many
/// attempts the link is given up. Time in which this side did not look counts as one at most.
const FLUSH_PATIENCE: Duration = Duration::from_secs(2);
const FLUSH_ATTEMPTS: u32 = 5;

/// How long the messages that arrived on a link may take to be emitted once it is gone, as those of a client.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// How soon a loss is noticed that no message follows, and how often the broker is asked something at least.
const BEAT_INTERVAL: Duration = Duration::from_secs(5);

/// How many messages may wait before this is an event. The library drops from 65,536 on, per subscription.
const LAGGING: u64 = 32_768;

/// How a link begins.
pub(crate) struct Beginning {
    /// How many attempts failed before it.
    pub(crate) attempt: u32,
    /// How long nothing is published, unless the bus is to end.
    pub(crate) settling: Duration,
}

/// How a link ended.
pub(crate) struct LinkEnd {
    /// Why; `None` when the bus is to end and everything is confirmed, or the time for that is over.
    pub(crate) error: Option<WsError>,
    pub(crate) lasted: Duration,
}

/// Serves a link to its end.
pub(crate) async fn serve<D: WsDatatype, B: Broker>(bus: &BusCore<D>, link: B, beginning: Beginning) -> LinkEnd {
    let (Beginning { attempt, settling }, began) = (beginning, Instant::now());
    bus.links.fetch_add(1, Relaxed);
    let mut serving = Serving {
        bus,
        link,
        attempt,
        settling: (!settling.is_zero()).then(|| began + settling),
        published: 0,
        told: Told::Nothing,
        flush: None,
        questions: 0,
        flush_at: began,
        beat_at: began + BEAT_INTERVAL,
        knows_of_closing: false,
        is_lagging: false,
    };
    let served = isolated("a link to a broker", Box::pin(serving.run())).await;
    let error = match served {
        Ok(served) => served.err(),
        Err(panic) => {
            let what = format!("the link of {}", bus.component.name());
            Some(WsError::Panicked { what, panic: panic.into() })
        }
    };
    // Before subscribers are waited for, so that it does not outlive its end.
    drop(serving);
    let lasted = began.elapsed();
    end(bus, error.clone(), lasted).await;
    LinkEnd { error, lasted }
}

/// Emits the end of a link, after everything that arrived on it.
async fn end<D: WsDatatype>(bus: &BusCore<D>, error: Option<WsError>, lasted: Duration) {
    bus.interests.unlink();
    bus.presence.unlink();
    bus.told.send_replace(if error.is_some() { Told::Nothing } else { Told::Ending });
    let unconfirmed = bus.outbox.rewind();
    // With several threads another one may still be delivering messages of this link.
    bus.component.inbound.delivered().await;
    bus.states.next(ConnectionState::Disconnected);
    bus.component.events.next(BusEvent::Disconnected { error, unconfirmed, lasted });
}

/// The next event of a link. Nothing is taken for subscribers that do not keep up. Cancel safe.
async fn next_event<D: WsDatatype>(bus: &BusCore<D>, link: &mut impl Broker) -> Event {
    at_most(&*bus.component.inbound.backlog(), READ_AHEAD).await;
    at_most(&*bus.component.events.subject().backlog(), READ_AHEAD).await;
    link.next_event().await
}

/// Waits until the others had the time to come back as well, or the bus is to end. What is told of connections does not wait: who
/// misses it asks.
async fn settle<D: WsDatatype>(bus: &BusCore<D>, at: Option<Instant>) -> Turn {
    tokio::select! {
        () = sleep_until(at.unwrap_or_else(Instant::now)) => Turn::Settled,
        notes = bus.outbox.until_notes() => if notes > 0 { Turn::Publish(notes) } else { Turn::Settled },
    }
}

/// A link while it lasts.
struct Serving<'a, D: WsDatatype, B> {
    bus: &'a BusCore<D>,
    link: B,
    /// How many attempts failed before this one.
    attempt: u32,
    /// Until when nothing is published; `None` when that is over.
    settling: Option<Instant>,
    /// How many messages were published and are not confirmed.
    published: usize,
    /// The interests that the link was told of.
    told: Told,
    flush: Option<Flush>,
    /// How many questions there were.
    questions: u64,
    /// Not before this the broker is asked to confirm again.
    flush_at: Instant,
    beat_at: Instant,
    knows_of_closing: bool,
    is_lagging: bool,
}

/// A question to the broker that it has not answered.
struct Flush {
    /// The number of the question when it was asked first.
    question: u64,
    /// What the answer confirms.
    published: usize,
    told: Told,
    /// When the question is asked again.
    again_at: Instant,
    /// How often it may still be asked again.
    left: u32,
}

/// What a link has to do next.
enum Turn {
    Take(Event),
    Settled,
    /// So many messages at most.
    Publish(usize),
    Tell,
    Time,
}

impl<D: WsDatatype, B: Broker> Serving<'_, D, B> {
    /// Serves until the bus has ended.
    ///
    /// # Errors
    ///
    /// Why the link broke.
    async fn run(&mut self) -> Result<(), WsError> {
        let ended = self.serve().await;
        if ended.is_err() {
            // What has arrived by then is heard, whoever noticed the end first.
            let _ = timeout(DRAIN_TIMEOUT, self.drain()).await;
        }
        ended
    }

    async fn serve(&mut self) -> Result<(), WsError> {
        let interests = self.bus.interests.link();
        let hears_answers = interests.iter().any(|(_, scope)| scope.is_of_answers());
        self.told = Told::UpTo(0);
        for (number, scope) in interests {
            self.tell(Change::Subscribe(number, scope)).await?;
        }
        self.bus.max_len.store(self.link.max_len(), Relaxed);
        if let Some(farewell) = self.bus.presence.link(hears_answers) {
            self.bus.outbox.note(farewell);
        }
        self.ask().await?;
        while !self.is_done() {
            self.bus.max_len.store(self.link.max_len(), Relaxed);
            debts::paid().await;
            match self.next_turn().await {
                Turn::Take(event) => self.take_all(event)?,
                Turn::Settled => self.settling = None,
                Turn::Publish(most) => self.publish(most).await?,
                Turn::Tell => self.tell_changes().await?,
                Turn::Time => self.keep_time().await?,
            }
        }
        Ok(())
    }

    /// Takes what has arrived before the end of the link.
    async fn drain(&mut self) {
        loop {
            debts::paid().await;
            let event = next_event(self.bus, &mut self.link).await;
            if self.take(event).is_err() {
                return;
            }
        }
    }

    async fn next_turn(&mut self) -> Turn {
        let time = self.next_time();
        let (bus, link) = (self.bus, &mut self.link);
        tokio::select! {
            event = next_event(bus, link) => Turn::Take(event),
            turn = settle(bus, self.settling), if self.settling.is_some() => turn,
            () = bus.outbox.until_takable(self.knows_of_closing), if self.settling.is_none() => {
                Turn::Publish(PUBLISHED_PER_TURN)
            }
            () = bus.interests.changed() => Turn::Tell,
            () = sleep_until(time) => Turn::Time,
        }
    }

    fn is_done(&self) -> bool {
        self.bus.outbox.closing().is_some_and(|deadline| self.bus.outbox.is_empty() || deadline <= Instant::now())
    }

    /// Whether the broker has to be asked once more.
    fn has_questions(&self) -> bool {
        self.published > 0 || self.told != *self.bus.told.borrow()
    }

    /// When there is something to do without any event.
    fn next_time(&self) -> Instant {
        let asking = match &self.flush {
            Some(flush) => Some(flush.again_at),
            None => self.has_questions().then_some(self.flush_at),
        };
        let times = [asking, self.bus.interests.next_end(), self.bus.outbox.closing()];
        times.into_iter().flatten().fold(self.beat_at, Instant::min)
    }

    /// Takes an event, and what is there already behind it: a turn costs more than a message.
    fn take_all(&mut self, first: Event) -> Result<(), WsError> {
        self.note_lag();
        self.take(first)?;
        for _ in 1..TAKEN_PER_TURN {
            match self.link.next_event().now_or_never() {
                Some(event) => self.take(event)?,
                None => break,
            }
        }
        Ok(())
    }

    fn take(&mut self, event: Event) -> Result<(), WsError> {
        match event {
            Event::Arrived { interest, envelope } => self.bus.receive(interest, envelope),
            Event::Flushed(question) => self.note_flushed(question),
            Event::Denied { subject, why } => self.bus.report_denied(&subject, &why),
            Event::Lost(error) => return Err(error),
        }
        Ok(())
    }

    fn note_lag(&mut self) {
        let queued = self.link.waiting();
        if queued > LAGGING && !self.is_lagging {
            self.bus.component.events.next(BusEvent::Lagging { queued });
        }
        self.is_lagging = queued > if self.is_lagging { LAGGING / 2 } else { LAGGING };
    }

    fn note_flushed(&mut self, question: u64) {
        // The answer to an earlier question says nothing of this one.
        let Some(Flush { published, told, .. }) = self.flush.take_if(|flush| question >= flush.question) else {
            return;
        };
        self.flush_at = Instant::now() + FLUSH_INTERVAL;
        self.published -= published;
        self.bus.outbox.confirm(published);
        if *self.bus.told.borrow() == Told::Nothing {
            let server = Arc::from(self.link.name());
            self.bus.states.next(ConnectionState::Connected);
            self.bus.component.events.next(BusEvent::Connected { server, attempt: self.attempt });
        }
        // Afterwards: who has waited for the link finds that state.
        self.bus.told.send_replace(told);
    }

    async fn publish(&mut self, most: usize) -> Result<(), WsError> {
        self.knows_of_closing = self.bus.outbox.is_closing();
        let Taken { messages, too_long } = self.bus.outbox.take(most, self.link.max_len());
        for long in too_long {
            self.bus.report_too_long(long.path, long.envelope.payload.len());
        }
        for message in messages {
            self.published += 1;
            self.link.publish(message.envelope).await?;
        }
        Ok(())
    }

    async fn tell_changes(&mut self) -> Result<(), WsError> {
        for change in self.bus.interests.take_changes() {
            self.tell(change).await?;
        }
        Ok(())
    }

    async fn tell(&mut self, change: Change) -> Result<(), WsError> {
        let (number, scope) = match change {
            Change::Unsubscribe(number) => return self.link.unsubscribe(number).await,
            Change::Subscribe(number, scope) => (number, scope),
        };
        if let Told::UpTo(told) = &mut self.told {
            *told = number.max(*told);
        }
        let Some(pattern) = scope.pattern(self.bus.prefix()) else {
            self.bus.report_without_subject(scope);
            return Ok(());
        };
        self.link.subscribe(number, &pattern).await?;
        if scope.is_of_answers() {
            self.bus.presence.ask_all();
        }
        Ok(())
    }

    async fn keep_time(&mut self) -> Result<(), WsError> {
        let now = Instant::now();
        match &mut self.flush {
            Some(flush) if flush.again_at > now => {}
            Some(Flush { left: 0, .. }) => return Err(self.silent()),
            Some(flush) => {
                (flush.again_at, flush.left) = (now + FLUSH_PATIENCE, flush.left - 1);
                self.question().await?;
            }
            None => self.ask_in_time(now).await?,
        }
        if self.beat_at <= now {
            self.beat(now).await?;
        }
        self.tell_changes().await
    }

    async fn beat(&mut self, now: Instant) -> Result<(), WsError> {
        self.beat_at = now + BEAT_INTERVAL;
        self.bus.outbox.beat();
        // Also when there is nothing to confirm: who only listens has to notice that nobody speaks any more.
        if self.flush.is_none() { self.ask().await } else { Ok(()) }
    }

    async fn ask_in_time(&mut self, now: Instant) -> Result<(), WsError> {
        if self.flush_at <= now && self.has_questions() { self.ask().await } else { Ok(()) }
    }

    /// Asks the broker to confirm what was published.
    async fn ask(&mut self) -> Result<(), WsError> {
        let (question, again_at) = (self.questions + 1, Instant::now() + FLUSH_PATIENCE);
        let (published, told) = (self.published, self.told);
        self.flush = Some(Flush { question, published, told, again_at, left: FLUSH_ATTEMPTS - 1 });
        self.question().await
    }

    async fn question(&mut self) -> Result<(), WsError> {
        self.questions += 1;
        self.link.flush(self.questions).await
    }

    fn silent(&self) -> WsError {
        let error = io::Error::new(
            io::ErrorKind::TimedOut,
            format!("it has confirmed nothing for {:?}", FLUSH_PATIENCE * FLUSH_ATTEMPTS),
        );
        WsError::Broker { server: self.link.name().to_owned(), source: Arc::new(error) }
    }
}
