//! The sessions of a resumable server: who has one, and how a link finds the one that it belongs to.
//!
//! ```text
//!  a peer's task                         Sessions                      the session's task
//!  greet: `resume`, by token ---------> claim: Door ---- Returned ---> Served: the link before has ended, the next begins
//!         `new` ----------------------> open: Door                     parks without a link, until one comes
//!         `lost`, with what is known <- tombstones <------------------ bury: the session is over
//! ```
//!
//! A link is handed to the session's task, which serves one link after the other. So what a link has counted is final before
//! the next one is told of it.

mod door;
mod greet;
mod parked;
mod parking;
mod serve;
mod served;

use std::{
    borrow::Borrow,
    collections::HashSet,
    hash::{Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use http::header::ORIGIN;
use tokio::{sync::Notify, time::Instant};

pub(crate) use door::{Door, Returned};
pub(crate) use greet::{Back, Greeted, greet};
pub(crate) use served::Served;

use parking::Parking;

use crate::{
    Limits, Resume, SessionLoss, Tag, UpgradeRequest,
    handshake::Granted,
    runtime::callback,
    session::{Token, tombstones::Tombstones, verb::Known},
};

/// The sessions of a server.
pub(crate) struct Sessions {
    pub(crate) resume: Resume,
    limits: Arc<Limits>,
    state: Mutex<State>,
}

struct State {
    open: HashSet<ByToken>,
    tombstones: Tombstones<Identity>,
    /// Each with what tells its session to give up waiting for its client.
    parked: Parking<Arc<Notify>>,
}

/// An open session, found by its token, which is in its door already.
struct ByToken(Arc<Door>);

impl Borrow<Token> for ByToken {
    fn borrow(&self) -> &Token {
        &self.0.token
    }
}

impl Hash for ByToken {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.token.hash(state);
    }
}

impl PartialEq for ByToken {
    fn eq(&self, other: &Self) -> bool {
        self.0.token == other.0.token
    }
}

impl Eq for ByToken {}

/// Who may have a session back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    path: Tag,
    /// In a box, as most clients are no browsers, and few servers name owners.
    who: Option<Box<Who>>,
}

/// What tells the clients of a path apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Who {
    origin: Option<Box<[u8]>>,
    owner: Option<Box<str>>,
}

/// What a server says to a client that wants its session back.
pub(crate) enum Claim {
    Found(Arc<Door>),
    /// Another link has it, with a higher number.
    Stale,
    Lost(SessionLoss, Option<Known>),
}

impl Sessions {
    pub(crate) fn new(resume: Resume, limits: Arc<Limits>) -> Self {
        let state = State { open: HashSet::new(), tombstones: Tombstones::new(), parked: Parking::new() };
        Self { resume, limits, state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The identity of a client. `Err` with the message of a panic of the program's function.
    pub(crate) fn identify(&self, request: &UpgradeRequest, grant: Option<&Granted>) -> Result<Identity, String> {
        let owner = self.resume.owner.as_ref().map(|owner| {
            let name = || owner(request, grant.map(|grant| &***grant as _));
            callback::run(|| callback::attempt("the function given to owner(..)", name))
        });
        let origin = request.packed_header(&ORIGIN).map(Box::from);
        let who = Who { origin, owner: owner.transpose()?.map(String::into) };
        Ok(Identity { path: request.tag().clone(), who: (who != Who::default()).then(|| who.into()) })
    }

    /// Opens a session.
    pub(crate) fn open(&self, token: Token, identity: Identity) -> Arc<Door> {
        let door = Arc::new(Door::new(token, identity));
        self.lock().open.insert(ByToken(door.clone()));
        door
    }

    /// Finds the session that a client wants back, for its `link`-th link.
    pub(crate) fn claim(&self, token: Token, identity: &Identity, link: u64) -> Claim {
        let mut state = self.lock();
        match state.open.get(&token).map(|open| &open.0).filter(|door| door.identity == *identity) {
            Some(door) if door.take_number(link) => Claim::Found(door.clone()),
            Some(_) => Claim::Stale,
            None => match state.tombstones.find(Instant::now(), token, identity) {
                Some((why, known)) => Claim::Lost(why, Some(known)),
                None => Claim::Lost(SessionLoss::Unknown, None),
            },
        }
    }

    /// Notes that a session is over, and what is known of it.
    pub(crate) fn bury(&self, door: &Door, why: SessionLoss, known: Known) {
        let mut state = self.lock();
        if state.open.remove(&door.token) {
            state.tombstones.insert(Instant::now(), door.token, door.identity.clone(), why, known);
        }
        drop(state);
        drop(door.close());
    }

    /// How many sessions have no link.
    pub(crate) fn parked(&self) -> usize {
        self.lock().parked.count()
    }
}
