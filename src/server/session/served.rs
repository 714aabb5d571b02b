//! [`Served`]: a session as its connection's task serves it, over one link after the other.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::tungstenite::protocol::{Role, frame::coding::CloseCode};

use super::{
    Door, Returned, Sessions,
    door::Knocked,
    parked::{Absent, Place},
};
use crate::{
    SessionLoss, WsError,
    link::{Ending, greeting::Greeting},
    outbox::Outbox,
    protocol::close::TAKEN_OVER,
    session::verb::{Known, Verb},
    time::after,
};

/// How many links in a row may break without any of what waits for the client arriving.
const FRUITLESS_LINKS: u32 = 8;

/// How long a link begins at the earliest after one before it has broken like that: each makes this server send the whole window
/// again. Twice as long after each further one.
fn pause(fruitless: u32) -> Duration {
    match fruitless {
        0 => Duration::ZERO,
        count => Duration::from_millis(50) * 2_u32.pow(count),
    }
}

/// For how long a client that is refused may keep the task of its session.
const REFUSAL_TIME: Duration = Duration::from_secs(1);

/// Tells a client that its position cannot be right. One that takes nothing is left without a word.
async fn refuse(mut returned: Returned, outbox: &Outbox) {
    let mut greeting = Greeting::new(&mut returned.stream, Role::Server, None, &[]);
    let closing = greeting.close(CloseCode::Protocol, "`resume` is beyond what was sent");
    tokio::select! {
        _ = timeout(REFUSAL_TIME, closing) => {}
        _ = outbox.until_closing() => {}
    }
}

/// The session of a connection.
pub(crate) struct Served {
    pub(crate) door: Arc<Door>,
    /// The position that the client had come to when its latest link began.
    position: u64,
    /// How many links in a row had ended there before it.
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
        Self { door, position: 0, fruitless: 0 }
    }

    /// Resolves when another link wants to go on with the session.
    pub(super) fn knocked(&self) -> Knocked<'_> {
        self.door.knocked()
    }

    /// Whether the session goes on after a link that ended like this: it does unless somebody has closed it. A client also gives
    /// up a link for the next one, as a browser does in which it can only close it.
    pub(crate) fn outlives(ending: &Ending, outbox: &Outbox) -> Result<(), Over> {
        let leaves_session = match &ending.error {
            Some(error) => !matches!(error, WsError::Protocol { .. }),
            None => ending.code == TAKEN_OVER,
        };
        match leaves_session {
            _ if outbox.has_overflown() => Err(Over(SessionLoss::Overflow)),
            true if !outbox.is_closing() => Ok(()),
            _ => Err(Over(SessionLoss::Ended)),
        }
    }

    /// Waits for the next link. Until it knocks the session is parked.
    pub(crate) async fn next<'a>(
        &mut self,
        sessions: &Sessions,
        outbox: &Outbox,
        mut park: impl FnMut() -> Place<'a>,
    ) -> Result<Next, Over> {
        let ended = Instant::now();
        let deadline = after(ended, sessions.resume.park);
        let mut place = None;
        loop {
            let mut returned = match self.door.take() {
                Some(returned) => returned,
                None => self.wait(place.get_or_insert_with(&mut park), outbox, deadline).await?,
            };
            let Ok(next) = outbox.rewind(returned.received) else {
                refuse(returned, outbox).await;
                continue;
            };
            let fruitless = self.fruitless_before(returned.received, outbox)?;
            if self.stays(&mut returned, ended + pause(fruitless), outbox).await {
                (self.fruitless, self.position) = (fruitless, self.position.max(returned.received));
                return Ok(self.go_on(returned, next, outbox));
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

    /// How many links in a row have broken before any of what waits has arrived, when the client has come to `received`. Too
    /// many end the session, as the first message may be the reason.
    fn fruitless_before(&self, received: u64, outbox: &Outbox) -> Result<u32, Over> {
        let is_fruitless = received <= self.position && outbox.stats().retained > 0;
        match if is_fruitless { self.fruitless + 1 } else { 0 } {
            FRUITLESS_LINKS.. => Err(Over(SessionLoss::Stuck)),
            count => Ok(count),
        }
    }

    /// Lets a link wait. Returns whether it is still there afterwards, and no newer one is: what breaks while it waits has tried
    /// nothing.
    async fn stays(&self, returned: &mut Returned, until: Instant, outbox: &Outbox) -> bool {
        if until <= Instant::now() {
            return true;
        }
        tokio::select! {
            biased;
            () = self.door.knocked() => false,
            _ = outbox.until_closing() => true,
            () = returned.ended() => false,
            () = sleep_until(until) => true,
        }
    }

    fn go_on(&self, returned: Returned, next: u64, outbox: &Outbox) -> Next {
        let answer = Verb::Resumed { received: outbox.received(), next };
        Next { returned, answer, resent: outbox.stats().retained }
    }

    /// What is known of the session at its end.
    pub(crate) fn known(&self, outbox: &Outbox) -> Known {
        Known { received: outbox.received(), end: outbox.end_position() }
    }
}
