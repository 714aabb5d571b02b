//! [`Served`]: a session as its connection's task serves it, over one link after the other.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, sleep_until};
use tokio_tungstenite::tungstenite::protocol::{Role, frame::coding::CloseCode};

use super::{
    Door, Returned, Sessions,
    parked::{Absent, Place},
};
use crate::{
    SessionLoss, WsError,
    link::{Ending, greeting::Greeting, session::Received},
    outbox::Outbox,
    protocol::close::TAKEN_OVER,
    session::verb::{Known, Verb},
    time::after,
};

/// How many links in a row may break without any of what waits for the client arriving.
const FRUITLESS_LINKS: u32 = 8;

/// Half of how long the first of them is made to wait; each further one waits twice as long.
const FRUITLESS_PAUSE: Duration = Duration::from_millis(50);

/// The session of a connection.
pub(crate) struct Served {
    pub(crate) door: Arc<Door>,
    pub(crate) received: Received,
    /// The position that the client had come to when its latest link began.
    position: u64,
    /// How many links in a row have ended there.
    fruitless: u32,
}

/// A session is over.
pub(crate) struct Over(pub(crate) SessionLoss);

/// A link that goes on with the session.
pub(crate) struct Next {
    pub(crate) returned: Returned,
    /// Says where the server goes on.
    pub(crate) answer: Verb,
    pub(crate) resent: u64,
}

impl Served {
    pub(crate) fn new(door: Arc<Door>) -> Self {
        Self { door, received: Received::default(), position: 0, fruitless: 0 }
    }

    /// Whether another link wants to go on with the session.
    pub(super) fn is_wanted(&self) -> bool {
        self.door.has_waiting()
    }

    /// Resolves when another link wants to go on with the session.
    pub(crate) fn knocked(&self) -> impl Future<Output = ()> + Send + use<> {
        let door = self.door.clone();
        async move { door.knocked().await }
    }

    /// Whether the session goes on after a link that ended like this: it does unless somebody has closed it. A client also gives
    /// up a link for the next one, as a browser does in which it can only close it.
    pub(crate) fn outlives(ending: &Ending, outbox: &Outbox) -> Result<(), Over> {
        let leaves_session = match &ending.error {
            Some(error) => !matches!(error, WsError::Protocol { .. }),
            None => ending.code == TAKEN_OVER,
        };
        match leaves_session {
            true if outbox.has_overflown() => Err(Over(SessionLoss::Overflow)),
            true if !outbox.is_closing() => Ok(()),
            _ => Err(Over(SessionLoss::Ended)),
        }
    }

    /// Waits for the next link, in a `place` among those who wait.
    pub(crate) async fn next<'a>(
        &mut self,
        sessions: &'a Sessions,
        mut place: Option<Place<'a>>,
        outbox: &Outbox,
    ) -> Result<Next, Over> {
        let deadline = after(Instant::now(), sessions.resume.park);
        loop {
            let returned = match self.door.take() {
                Some(returned) => returned,
                None => {
                    let place = place.get_or_insert_with(|| sessions.park(&self.door));
                    self.wait(place, outbox, deadline).await?
                }
            };
            if let Some(next) = self.go_on(returned, outbox).await? {
                return Ok(next);
            }
        }
    }

    async fn wait(&self, place: &Place<'_>, outbox: &Outbox, deadline: Instant) -> Result<Returned, Over> {
        let absent = Absent::new(outbox);
        loop {
            place.note_len(absent.len());
            tokio::select! {
                biased;
                () = self.door.knocked() => {
                    if let Some(returned) = self.door.take() {
                        return Ok(returned);
                    }
                }
                _ = outbox.until_closing() => {
                    let why = if outbox.has_overflown() { SessionLoss::Overflow } else { SessionLoss::Ended };
                    return Err(Over(why));
                }
                () = place.lost() => return Err(Over(SessionLoss::Evicted)),
                () = sleep_until(deadline) => return Err(Over(SessionLoss::Expired)),
                () = absent.pushed() => {}
            }
        }
    }

    /// Goes on over a link, if its client's position can be right.
    async fn go_on(&mut self, mut returned: Returned, outbox: &Outbox) -> Result<Option<Next>, Over> {
        let Ok(next) = outbox.rewind(returned.received) else {
            let mut greeting = Greeting::new(&mut returned.stream, Role::Server, &[]);
            greeting.close(CloseCode::Protocol, "`resume` is beyond what was sent").await;
            return Ok(None);
        };
        self.note_progress(returned.received, outbox).await?;
        let mut receiving = self.received.get();
        let answer = Verb::Resumed { received: receiving.told(), next };
        self.received.set(receiving);
        Ok(Some(Next { returned, answer, resent: outbox.stats().retained }))
    }

    /// Ends a session whose links break before any of what waits has arrived, as the first message may be the reason; and makes
    /// its links rarer before: each makes this server send the whole window again.
    async fn note_progress(&mut self, received: u64, outbox: &Outbox) -> Result<(), Over> {
        let is_fruitless = received <= self.position && outbox.stats().retained > 0;
        self.fruitless = if is_fruitless { self.fruitless + 1 } else { 0 };
        self.position = self.position.max(received);
        match self.fruitless {
            0 => Ok(()),
            FRUITLESS_LINKS.. => Err(Over(SessionLoss::Stuck)),
            count => {
                let pause = FRUITLESS_PAUSE * 2_u32.pow(count);
                tokio::select! {
                    () = sleep(pause) => {}
                    _ = outbox.until_closing() => {}
                }
                Ok(())
            }
        }
    }

    /// What is known of the session at its end.
    pub(crate) fn known(&self, outbox: &Outbox) -> Known {
        Known { received: self.received.get().received(), end: outbox.end_position() }
    }
}
