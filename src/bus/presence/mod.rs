//! Who is where: each bus tells the others of the connections of its servers, and nobody else changes what it has told.
//!
//! ```text
//! connections of servers -> Own ----- told, each 0.2 s at most ---> the outbox of the bus -> other buses
//!                          Others <- messages of other buses
//!                          Own + Others -> presence of the paths that somebody watches, each 0.2 s at most
//! ```
//!
//! Messages have numbers. Who sees a hole, or has just come, asks that node for everything; so what is lost on the way is made
//! good, and who is silent for 15 s is gone.
//!
//! | file | contents |
//! |---|---|
//! | here | what servers, observers and the task of the bus share |
//! | `state` | what is done, and when |
//! | `channel` | the subjects |
//! | `message` | what is told |
//! | `own`, `others` | what this node tells, and has heard |
//! | `changes` | the connections of a node, as nodes tell each other of them |
//! | `watched`, `feed` | the paths that somebody watches; the observable |

mod changes;
pub(crate) mod channel;
pub(crate) mod feed;
mod message;
mod others;
mod own;
mod state;
mod watched;

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed},
};

use bytes::Bytes;
use tokio::{sync::Notify, time::Instant};

use crate::{
    IoScheduler, Presence, SerializedSubject, Tag, TaggedData, WsDatatype,
    bus::{
        broker::{Envelope, Kind, Mark},
        core::BusCore,
        interests::{Holder, Interest, Interests, Scope},
        numbers::Stamp,
        presence::{channel::Channel, message::Message, own::Numbered, state::State},
    },
    presence::{
        Held, Unwatch,
        register::{subject_of_all, until},
        roster::Place,
        watchers::Emission,
    },
    runtime::debts,
    subject::{Backlog, PanicHook, replay::Replay},
};

/// The connections of this node and of the others.
pub(crate) struct Tracker {
    /// The name of this node.
    node: Arc<str>,
    /// Where observers are called, and what happens when one panics.
    home: IoScheduler,
    on_panic: Option<PanicHook>,
    state: Mutex<State>,
    changed: Notify,
}

/// A message for other nodes.
pub(crate) struct Note {
    pub(crate) channel: Channel,
    pub(crate) mark: Mark,
    pub(crate) payload: Bytes,
}

impl Tracker {
    pub(crate) fn new(node: Arc<str>, home: IoScheduler, on_panic: Option<PanicHook>) -> Arc<Self> {
        Arc::new(Self { node, home, on_panic, state: Mutex::new(State::new(Instant::now())), changed: Notify::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The name that a server has on the bus.
    pub(crate) fn server(&self, name: &str, number: u64) -> Arc<str> {
        format!("{name}@{}.{number}", self.node).into()
    }

    /// Counts a connection in. Returns whether the tracker is to be [woken](Self::wake) for that. Calls nobody.
    pub(crate) fn join(&self, place: &Place, id: u64, name: Option<Arc<str>>) -> bool {
        self.lock().change(&place.path, |own| own.join(place, id, name))
    }

    /// As [`join`](Self::join), out again.
    pub(crate) fn leave(&self, place: &Place, id: u64, name: Option<&Arc<str>>) -> bool {
        self.lock().change(&place.path, |own| own.leave(place, id, name))
    }

    pub(crate) fn wake(&self) {
        self.changed.notify_one();
    }

    /// Counts an observer of a path in, and returns what it observes.
    fn watch(self: &Arc<Self>, path: &Tag) -> (SerializedSubject<Presence>, Held) {
        let subject = || SerializedSubject::merging(self.home.clone(), Replay::last(), self.on_panic.clone());
        let mut state = self.lock();
        let (subject, is_over) = (state.watch(path, Instant::now(), subject), state.is_over);
        drop(state);
        // Now there is somebody to ask the others for, and to tell.
        self.changed.notify_one();
        if is_over {
            subject.clone().complete();
        }
        let (same, path) = (self.clone(), path.clone());
        let watching = Unwatch(move || {
            let unwatched = same.lock().unwatch(&path);
            drop(unwatched);
        });
        (subject, Box::new(watching))
    }

    /// As [`watch`](Self::watch), for all paths. The server of this number ends those who have asked it.
    pub(crate) fn watch_all(self: &Arc<Self>, server: u64) -> (SerializedSubject<TaggedData<Presence>>, Held) {
        let subject = || subject_of_all(&self.home, self.on_panic.as_ref());
        let mut state = self.lock();
        let (subject, is_over) = (state.watch_all(server, Instant::now(), subject), state.is_over);
        drop(state);
        self.changed.notify_one();
        if is_over {
            subject.clone().complete();
        }
        let same = self.clone();
        let watching = Unwatch(move || {
            let unwatched = same.lock().unwatch_all(server);
            drop(unwatched);
        });
        (subject, Box::new(watching))
    }

    /// Ends the observers that have asked this server. They hear the present state before.
    pub(crate) fn end_all(&self, server: u64) -> Vec<Arc<dyn Backlog>> {
        let due = self.lock().end_all(server);
        Emission::emit_all(due)
    }

    /// What makes the broker send what the others tell, as long as it lives.
    pub(crate) fn hears(&self, interests: &Arc<Interests>) -> [Interest; 2] {
        let scopes = [Channel::All, Channel::To(self.node.clone())].map(Scope::Presence);
        scopes.map(|scope| interests.join(scope, Holder::Watcher))
    }

    /// Takes a message from the broker.
    pub(crate) fn receive(&self, envelope: &Envelope) {
        let Some(Mark { kind: Kind::Presence, stamp }) = &envelope.mark else { return };
        let Some(message) = Message::decode(&envelope.payload) else { return };
        self.lock().hear(&self.node, stamp, message, Instant::now());
        self.changed.notify_one();
    }

    /// Notes that a link has begun, and knows the interests, and whether that in answers is among them. Returns what the others
    /// have to hear when this node ends with it.
    pub(crate) fn link(&self, hears_answers: bool) -> Option<Note> {
        let farewell = self.lock().link(hears_answers, Instant::now());
        self.changed.notify_one();
        Some(self.note(Channel::All, farewell?))
    }

    /// Notes that the link has ended.
    pub(crate) fn unlink(&self) {
        self.lock().unlink();
    }

    /// Notes that the broker does not allow a subject. A node that may not tell, or hear who asks, is as good as one without a
    /// link, or it would be refused with each beat.
    pub(crate) fn note_denied(&self, prefix: &str, subject: &str) {
        if [Channel::All, Channel::Asks].iter().any(|channel| channel.subject(prefix, &self.node) == subject) {
            self.unlink();
        }
    }

    /// Asks the others for everything: from now on their messages are heard.
    pub(crate) fn ask_all(&self) {
        self.lock().ask_all();
        self.changed.notify_one();
    }

    /// What the others have to hear when this node ends, if they know of it. After that they are told nothing more.
    pub(crate) fn farewell(&self) -> Option<Note> {
        let farewell = self.lock().farewell()?;
        Some(self.note(Channel::All, farewell))
    }

    /// Ends the observers. Returns what they have still to hear.
    pub(crate) fn end(&self) -> Vec<Arc<dyn Backlog>> {
        let (of_paths, of_all) = self.lock().end();
        let mut ended = Emission::emit_all(of_all);
        for subject in of_paths {
            ended.push(subject.backlog());
            subject.complete();
        }
        ended
    }

    fn note(&self, channel: Channel, Numbered { number, message }: Numbered) -> Note {
        let stamp = Stamp { publisher: self.node.clone(), number };
        Note { channel, mark: Mark { kind: Kind::Presence, stamp }, payload: message.encode() }
    }
}

/// Does what is to be done about presence, for as long as the bus lives.
pub(crate) async fn keep<D: WsDatatype>(bus: &BusCore<D>) -> Infallible {
    let tracker = &bus.presence;
    loop {
        debts::paid().await;
        let (may_tell, max_len) = (bus.outbox.has_room_for_notes(), bus.max_len.load(Relaxed));
        let turn = tracker.lock().turn(Instant::now(), may_tell, max_len);
        for (channel, told) in turn.told {
            bus.outbox.note(tracker.note(channel, told));
        }
        turn.emitted.into_iter().for_each(|(subject, presence)| subject.next(presence));
        turn.emitted_of_all.into_iter().for_each(Emission::emit);
        tokio::select! {
            () = tracker.changed.notified() => {}
            () = until(turn.next) => {}
        }
    }
}
