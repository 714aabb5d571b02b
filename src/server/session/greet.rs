//! The first words of a resumable link, on the server's side.

use std::sync::Arc;

use bytes::Bytes;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::{Claim, Door, Identity, Returned, Sessions};
use crate::{
    handshake::{Entrant, Refused, admission::Permit},
    link::{
        greeting::{Greeting, Unsettled},
        session::encode,
    },
    protocol::{close::TAKEN_OVER, deflate::Agreed},
    server::lane::Lane,
    session::{
        Token,
        verb::{MAX_NUMBER, Verb},
    },
    transport::Transport,
};

/// A client that has said what it wants.
pub(crate) enum Greeted {
    /// A session of its own. The answer that says so goes out before anything else.
    New { entrant: Entrant, door: Arc<Door> },
    /// The session it had.
    Back(Back),
}

/// A client with the session it had.
pub(crate) struct Back {
    door: Arc<Door>,
    stream: Transport,
    early_bytes: Bytes,
    deflate: Option<Agreed>,
    link: u64,
    /// The position that it has come to.
    received: u64,
}

impl Back {
    /// Hands the client, which came to this lane, over to the task of its session.
    pub(crate) fn hand_over(self, permit: Permit, lane: Arc<Lane>) {
        let Self { door, stream, early_bytes, deflate, link, received } = self;
        door.hand_over(Returned { stream, early_bytes, deflate, link, received, permit, lane });
    }
}

/// Tells a peer that it is let in, offers it a session, and hears what it wants. The caller bounds the time.
pub(crate) async fn greet(sessions: &Sessions, entrant: Entrant) -> Result<Greeted, Refused> {
    let Entrant { mut stream, early_bytes, answer, asked } = entrant;
    let identity = sessions.identify(&asked.request, asked.grant.as_ref());
    let identity = identity.map_err(|panic| Refused::unanswered(format!("the owner is unknown: {panic}")))?;
    let token = Token::random();
    let mut greeting = Greeting::new(&mut stream, Role::Server, asked.deflate, &early_bytes);
    let settled = settle(sessions, &mut greeting, answer, token, &identity).await.map_err(refused)?;
    let early_bytes = greeting.into_unread();
    Ok(match settled {
        Settled::New => {
            let answer = encode(&Verb::Ack(0), Role::Server);
            let door = sessions.open(token, identity);
            Greeted::New { entrant: Entrant { stream, early_bytes, answer, asked }, door }
        }
        Settled::Back { door, link, received } => {
            Greeted::Back(Back { door, stream, early_bytes, deflate: asked.deflate, link, received })
        }
    })
}

enum Settled {
    New,
    Back { door: Arc<Door>, link: u64, received: u64 },
}

async fn settle(
    sessions: &Sessions,
    greeting: &mut Greeting<&mut Transport>,
    mut answer: Vec<u8>,
    token: Token,
    identity: &Identity,
) -> Result<Settled, Unsettled> {
    let hello = Verb::Hello { token, seconds: sessions.resume.park.as_secs().min(MAX_NUMBER) };
    answer.extend(encode(&hello, Role::Server));
    greeting.write(&answer).await?;
    match greeting.hear().await? {
        Verb::New => return Ok(Settled::New),
        Verb::Resume { token, link, received } => match sessions.claim(token, identity, link) {
            Claim::Found(door) => return Ok(Settled::Back { door, link, received }),
            Claim::Stale => {
                greeting.close(TAKEN_OVER.into(), "another link has the session").await;
                return Err(Unsettled::Mistake("another link has the session".into()));
            }
            Claim::Lost(why, known) => greeting.say(&Verb::Lost { why, known }).await?,
        },
        _ => return Err(greeting.refuse("neither `new` nor `resume` answers `hello`").await),
    }
    match greeting.hear().await? {
        Verb::New => Ok(Settled::New),
        _ => Err(greeting.refuse("no `new` answers `lost`").await),
    }
}

fn refused(unsettled: Unsettled) -> Refused {
    Refused::unanswered(match unsettled {
        Unsettled::Broken(error) => error.to_string(),
        Unsettled::Closed { code, .. } => format!("the peer closed with {code} before its session was settled"),
        Unsettled::Mistake(reason) => reason,
    })
}
