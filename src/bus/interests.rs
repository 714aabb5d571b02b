//! [`Interests`]: which paths somebody in this process wants to hear, so that the broker sends no others.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    iter, mem,
    ops::Bound::{Included, Unbounded},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use crate::{
    Tag,
    bus::{presence::channel::Channel, subject_name},
    sparse,
};

/// How long an interest lives on after its last holder: clients that connect again must not make it flap.
pub(crate) const LINGER: Duration = Duration::from_secs(10);

/// A set of paths.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Scope {
    All,
    Path(Tag),
    /// The paths that begin with this, which ends with `/`.
    Under(Tag),
    /// No paths: what is told of connections.
    Presence(Channel),
}

impl Scope {
    /// The paths below `path`.
    pub(crate) fn under(path: &str) -> Self {
        match path.trim_end_matches('/') {
            "" => Self::All,
            path => Self::Under(format!("{path}/").into()),
        }
    }

    /// Whether it is what others answer this node.
    pub(crate) fn is_of_answers(&self) -> bool {
        matches!(self, Self::Presence(Channel::To(_)))
    }

    /// The subjects of its paths; `None` when they have none.
    pub(crate) fn pattern(&self, prefix: &str) -> Option<String> {
        match self {
            Self::All => Some(format!("{prefix}.>")),
            Self::Path(path) => subject_name::subject(prefix, path),
            Self::Under(path) => subject_name::subject(prefix, path.strip_suffix('/')?).map(|subject| subject + ".>"),
            Self::Presence(channel) => Some(channel.pattern(prefix)),
        }
    }
}

/// What the holders of an interest are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    /// A subscriber of the bus.
    Subscriber,
    /// A server with clients on the path.
    Server,
    /// One who wants to know who is there, or is asked for that.
    Watcher,
}

/// Who wants to hear the messages of a scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hearers {
    pub(crate) scope: Scope,
    pub(crate) has_subscribers: bool,
    pub(crate) has_servers: bool,
}

/// A change that the broker has to hear of.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Subscribe(u64, Scope),
    Unsubscribe(u64),
}

/// The interests of a bus.
#[derive(Default)]
pub(crate) struct Interests {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    wanted: HashMap<Scope, Want>,
    /// The subtrees among them.
    subtrees: Subtrees,
    scopes: HashMap<u64, Scope>,
    numbers: u64,
    /// How many there are of each kind of holder, over all scopes.
    holders: Holders,
    /// What the link has not been told of; `None` as long as there is no link.
    changes: Option<Vec<Change>>,
    /// The interests that have lost their last holder, and when, each at most once.
    idle: VecDeque<(Instant, u64)>,
}

/// The subtrees that somebody wants. In their order, so that those above a path are found without a look for each of its segments:
/// a client may send a path of thousands.
#[derive(Default)]
struct Subtrees(BTreeSet<Tag>);

impl Subtrees {
    fn insert(&mut self, scope: &Scope) {
        if let Scope::Under(subtree) = scope {
            self.0.insert(subtree.clone());
        }
    }

    fn remove(&mut self, scope: &Scope) {
        if let Scope::Under(subtree) = scope {
            self.0.remove(subtree);
        }
    }

    /// Those that a path belongs to, the deepest first.
    fn above<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a Tag> {
        let mut end = path;
        iter::from_fn(move || {
            loop {
                // What begins `path` and is no longer than `end` is not behind it.
                let last = self.0.range::<str, _>((Unbounded, Included(end))).next_back()?;
                let common = common_len(last, end);
                if common == last.len() {
                    end = &end[..common - 1];
                    return Some(last);
                }
                end = &end[..common];
            }
        })
    }
}

/// How many bytes two texts begin with alike, of whole characters.
fn common_len(one: &str, other: &str) -> usize {
    let both = one.char_indices().zip(other.chars());
    both.take_while(|((_, one), other)| one == other).last().map_or(0, |((at, one), _)| at + one.len_utf8())
}

/// How many there are of each kind of holder.
#[derive(Default)]
struct Holders([usize; 3]);

impl Holders {
    fn add(&mut self, holder: Holder) {
        self.0[holder as usize] += 1;
    }

    fn remove(&mut self, holder: Holder) {
        self.0[holder as usize] -= 1;
    }

    fn any(&self, holder: Holder) -> bool {
        self.0[holder as usize] > 0
    }

    fn is_empty(&self) -> bool {
        self.0 == [0; 3]
    }
}

struct Want {
    number: u64,
    holders: Holders,
    /// When the last holder left.
    idle_since: Option<Instant>,
    is_listed: bool,
}

/// A holder's part in an interest.
#[must_use]
pub(crate) struct Interest {
    interests: Arc<Interests>,
    scope: Scope,
    holder: Holder,
    pub(crate) number: u64,
}

impl Drop for Interest {
    fn drop(&mut self) {
        self.interests.leave(&self.scope, self.holder);
    }
}

impl Interests {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn join(self: &Arc<Self>, scope: Scope, holder: Holder) -> Interest {
        let mut state = self.lock();
        state.holders.add(holder);
        state.forget_idle(Instant::now());
        let number = state.want(&scope, holder);
        drop(state);
        self.changed.notify_one();
        Interest { interests: self.clone(), scope, holder, number }
    }

    fn leave(&self, scope: &Scope, holder: Holder) {
        let mut state = self.lock();
        state.holders.remove(holder);
        state.leave(scope, holder, Instant::now());
        drop(state);
        self.changed.notify_one();
    }

    /// Who hears the messages of an interest; `None` when it is over.
    pub(crate) fn hearers(&self, number: u64) -> Option<Hearers> {
        let state = self.lock();
        let scope = state.scopes.get(&number)?;
        let want = state.wanted.get(scope)?;
        let (has_subscribers, has_servers) = (want.holders.any(Holder::Subscriber), want.holders.any(Holder::Server));
        Some(Hearers { scope: scope.clone(), has_subscribers, has_servers })
    }

    /// Whether servers have clients on a path.
    pub(crate) fn has_servers(&self, path: &Tag) -> bool {
        let state = self.lock();
        state.holders.any(Holder::Server)
            && state.wanted.get(&Scope::Path(path.clone())).is_some_and(|want| want.holders.any(Holder::Server))
    }

    /// The numbers of the interests with subscribers that a path belongs to.
    pub(crate) fn subscribed(&self, path: &Tag) -> Vec<u64> {
        let state = self.lock();
        if !state.holders.any(Holder::Subscriber) {
            return Vec::new();
        }
        let above = state.subtrees.above(path).map(|subtree| Scope::Under(subtree.clone()));
        let scopes = [Scope::All, Scope::Path(path.clone())].into_iter().chain(above);
        let wanted =
            scopes.filter_map(|scope| state.wanted.get(&scope).filter(|want| want.holders.any(Holder::Subscriber)));
        wanted.map(|want| want.number).collect()
    }

    /// The number of the latest interest.
    pub(crate) fn latest(&self) -> u64 {
        self.lock().numbers
    }

    /// All interests, for a new link. Later changes follow by [`take_changes`](Self::take_changes).
    pub(crate) fn link(&self) -> Vec<(u64, Scope)> {
        let mut state = self.lock();
        state.changes = Some(Vec::new());
        state.scopes.iter().map(|(number, scope)| (*number, scope.clone())).collect()
    }

    /// Takes the changes that the broker has not been told of.
    pub(crate) fn take_changes(&self) -> Vec<Change> {
        let mut state = self.lock();
        state.forget_idle(Instant::now());
        state.changes.as_mut().map(mem::take).unwrap_or_default()
    }

    /// Notes that the link has ended.
    pub(crate) fn unlink(&self) {
        self.lock().changes = None;
    }

    /// Waits for a change.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// When the next interest ends, unless somebody wants it before.
    pub(crate) fn next_end(&self) -> Option<Instant> {
        self.lock().idle.front().map(|(since, _)| *since + LINGER)
    }
}

impl State {
    /// Counts a holder in. Returns the number of the interest.
    fn want(&mut self, scope: &Scope, holder: Holder) -> u64 {
        if let Some(want) = self.wanted.get_mut(scope) {
            want.holders.add(holder);
            want.idle_since = None;
            return want.number;
        }
        self.numbers += 1;
        let number = self.numbers;
        let mut want = Want { number, holders: Holders::default(), idle_since: None, is_listed: false };
        want.holders.add(holder);
        self.wanted.insert(scope.clone(), want);
        self.subtrees.insert(scope);
        self.scopes.insert(number, scope.clone());
        self.note(Change::Subscribe(number, scope.clone()));
        number
    }

    /// Counts a holder out.
    fn leave(&mut self, scope: &Scope, holder: Holder, now: Instant) {
        self.forget_idle(now);
        let Some(want) = self.wanted.get_mut(scope) else { return };
        want.holders.remove(holder);
        if want.holders.is_empty() {
            want.idle_since = Some(now);
            if !mem::replace(&mut want.is_listed, true) {
                self.idle.push_back((now, want.number));
            }
        }
    }

    /// Ends the interests that nobody has wanted for long enough.
    fn forget_idle(&mut self, now: Instant) {
        while let Some((since, number)) = self.idle.front().copied()
            && since + LINGER <= now
        {
            self.idle.pop_front();
            let Some(scope) = self.scopes.get(&number) else { continue };
            let Some(want) = self.wanted.get_mut(scope) else { continue };
            match want.idle_since {
                Some(latest) if latest == since => {
                    self.subtrees.remove(scope);
                    sparse::remove(&mut self.wanted, scope);
                    sparse::remove(&mut self.scopes, &number);
                    self.note(Change::Unsubscribe(number));
                }
                // Somebody has come and gone since.
                Some(latest) => self.idle.push_back((latest, number)),
                None => want.is_listed = false,
            }
        }
    }

    fn note(&mut self, change: Change) {
        if let Some(changes) = &mut self.changes {
            changes.push(change);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};
    use tokio::time::advance;

    use super::*;

    fn path(path: &str) -> Scope {
        Scope::Path(path.into())
    }

    #[test]
    fn scopes_have_patterns_that_match_their_paths_alone() {
        let pattern = |scope: Scope| scope.pattern("rx");
        assert_eq!(pattern(Scope::All).as_deref(), Some("rx.>"));
        assert_eq!(pattern(path("/a.b/c")).as_deref(), Some("rx.a=2Eb.c"));
        assert_eq!(pattern(Scope::under("/a/*")).as_deref(), Some("rx.a.=2A.>"));
        assert_eq!(Scope::under("/a/"), Scope::under("/a"));
        assert_eq!(Scope::under("/"), Scope::All);
        assert_eq!(pattern(path("a")), None);
    }

    #[tokio::test(start_paused = true)]
    async fn interest_ends_ten_seconds_after_its_last_holder() {
        let interests = Arc::<Interests>::default();
        assert_eq!(interests.link(), []);
        let first = interests.join(path("/a"), Holder::Server);
        let number = first.number;
        assert_eq!(interests.take_changes(), [Change::Subscribe(number, path("/a"))]);
        let second = interests.join(path("/a"), Holder::Subscriber);
        drop(first);
        drop(second);
        advance(LINGER / 2).await;
        // Within that time somebody comes, and goes.
        drop(interests.join(path("/a"), Holder::Server));
        advance(LINGER / 2).await;
        assert_eq!(interests.take_changes(), []);
        advance(LINGER).await;
        assert_eq!(interests.take_changes(), [Change::Unsubscribe(number)]);
        assert_eq!((interests.hearers(number), interests.next_end()), (None, None));
    }

    #[tokio::test(start_paused = true)]
    async fn interests_without_a_link_do_not_pile_up() {
        let interests = Arc::<Interests>::default();
        for n in 0..100 {
            drop(interests.join(path(&format!("/{n}")), Holder::Server));
            drop(interests.join(path(&format!("/{n}")), Holder::Server));
            advance(LINGER / 2).await;
        }
        assert!(interests.lock().wanted.len() <= 3);
        assert!(interests.lock().idle.len() <= 3);
        assert!(interests.link().len() <= 3);
    }

    #[test]
    fn path_is_heard_by_the_subscribers_of_each_scope_that_it_belongs_to() {
        let interests = Arc::<Interests>::default();
        let join = |scope| interests.join(scope, Holder::Subscriber);
        let held = [Scope::All, path("/a/b"), Scope::under("/a"), Scope::under("/a/b"), path("/a")].map(join);
        let _server = interests.join(path("/c"), Holder::Server);
        let mut heard = interests.subscribed(&"/a/b".into());
        heard.sort_unstable();
        assert_eq!(heard, [0, 1, 2].map(|at| held[at].number));
        assert_eq!(interests.subscribed(&"/c".into()), [held[0].number]);
        drop(held);
        assert!(interests.subscribed(&"/a/b".into()).is_empty());
    }

    proptest! {
        #[test]
        fn subtrees_above_a_path_are_those_that_it_begins_with(
            subtrees in vec("/([ab\u{e9}]{0,2}/){1,4}", 0..12),
            path in "(/[ab\u{e9}]{0,2}){0,6}",
        ) {
            let mut all = Subtrees::default();
            subtrees.iter().for_each(|subtree| all.insert(&Scope::Under(subtree.as_str().into())));
            let above: Vec<_> = all.above(&path).cloned().collect();
            let begin = |subtree: &&Tag| path.starts_with(subtree.as_str());
            prop_assert!(above.iter().eq(all.0.iter().rev().filter(begin)));
            subtrees.iter().for_each(|subtree| all.remove(&Scope::Under(subtree.as_str().into())));
            prop_assert!(all.0.is_empty());
        }
    }

    /// A client may send such a path, and each of its messages is looked up.
    #[test]
    fn path_of_thousands_of_segments_is_looked_up_once_for_each_subtree() {
        let interests = Arc::<Interests>::default();
        let join = |scope| interests.join(scope, Holder::Subscriber);
        let _held = [Scope::All, Scope::under("/a"), Scope::under("//"), Scope::under("/b")].map(join);
        let path: Tag = "/a".repeat(30_000).into();
        // Looking for each segment took hours.
        (0..100).for_each(|_| assert_eq!(interests.subscribed(&path).len(), 2));
    }
}
