//! [`Roster`]: the connections of one node, by path and server. No I/O, no clock.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::{Member, Presence, Tag, bus::presence::message::Change, sparse};

/// Bytes of memory of a place and of a member, beside their texts, more or less.
const PLACE_LEN: usize = 256;
const MEMBER_LEN: usize = 64;

/// The connections of one node.
#[derive(Default)]
pub(crate) struct Roster {
    paths: HashMap<Tag, BTreeMap<Arc<str>, Here>>,
    /// Bytes of memory, more or less.
    pub(crate) len: usize,
}

/// The connections on one path of one server.
#[derive(Default)]
struct Here {
    connections: u64,
    members: BTreeMap<u64, Arc<str>>,
}

/// A path of a server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) path: Tag,
    pub(crate) server: Arc<str>,
}

impl Place {
    fn len(&self) -> usize {
        PLACE_LEN + self.path.len() + self.server.len()
    }
}

fn member_len(name: &str) -> usize {
    MEMBER_LEN + name.len()
}

impl Roster {
    pub(crate) fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    pub(crate) fn join(&mut self, place: &Place, id: u64, name: Option<Arc<str>>) {
        let here = self.here(place);
        here.connections += 1;
        self.add_member(place, id, name);
    }

    pub(crate) fn leave(&mut self, place: &Place, id: u64) {
        let here = self.here(place);
        here.connections = here.connections.saturating_sub(1);
        self.remove_member(place, id);
        self.tidy(place);
    }

    /// Takes a change of another node's. Members and places for which it would need more than `most` bytes are left out.
    pub(crate) fn apply(&mut self, change: Change, most: usize) {
        let Change { path, server, connections, joined, left } = change;
        let place = Place { path: path.into(), server: server.into() };
        if self.len + place.len() > most && self.at(&place).is_none() {
            return;
        }
        self.here(&place).connections = connections;
        for (id, name) in joined {
            let has_room = self.len + member_len(&name) <= most;
            self.add_member(&place, id, Some(name.into()).filter(|_| has_room));
        }
        left.into_iter().for_each(|id| self.remove_member(&place, id));
        self.tidy(&place);
    }

    /// Everything, as changes of an empty roster.
    pub(crate) fn all(&self) -> impl Iterator<Item = Change> {
        let places = self.paths.iter().flat_map(|(path, servers)| servers.keys().map(move |server| (path, server)));
        places.map(|(path, server)| {
            let place = Place { path: path.clone(), server: server.clone() };
            let ids = self.at(&place).into_iter().flat_map(|here| here.members.keys().copied());
            self.change(&place, ids, Vec::new())
        })
    }

    /// The present state of a place, with these members.
    pub(crate) fn change(&self, place: &Place, joined: impl IntoIterator<Item = u64>, left: Vec<u64>) -> Change {
        let here = self.at(place);
        let name = |id: u64| Some((id, here?.members.get(&id)?.to_string()));
        Change {
            path: place.path.as_str().to_owned(),
            server: place.server.to_string(),
            connections: here.map_or(0, |here| here.connections),
            joined: joined.into_iter().filter_map(name).collect(),
            left,
        }
    }

    fn at(&self, place: &Place) -> Option<&Here> {
        self.paths.get(&place.path)?.get(&place.server)
    }

    fn here(&mut self, place: &Place) -> &mut Here {
        let servers = self.paths.entry(place.path.clone()).or_default();
        servers.entry(place.server.clone()).or_insert_with(|| {
            self.len += place.len();
            Here::default()
        })
    }

    fn add_member(&mut self, place: &Place, id: u64, name: Option<Arc<str>>) {
        let Some(name) = name else { return };
        self.len += member_len(&name);
        if let Some(before) = self.here(place).members.insert(id, name) {
            self.len -= member_len(&before);
        }
    }

    fn remove_member(&mut self, place: &Place, id: u64) {
        if let Some(name) = self.here(place).members.remove(&id) {
            self.len -= member_len(&name);
        }
    }

    /// Forgets a place without connections.
    fn tidy(&mut self, place: &Place) {
        let Some(servers) = self.paths.get_mut(&place.path) else { return };
        if let Some(here) = servers.get(&place.server)
            && here.connections == 0
        {
            self.len -= place.len() + here.members.values().map(|name| member_len(name)).sum::<usize>();
            servers.remove(&place.server);
        }
        if servers.is_empty() {
            sparse::remove(&mut self.paths, &place.path);
        }
    }
}

/// Who is on a path, of all these nodes.
pub(crate) fn presence<'a>(rosters: impl Iterator<Item = &'a Roster>, path: &Tag) -> Presence {
    let here: BTreeMap<&Arc<str>, &Here> = rosters.filter_map(|roster| roster.paths.get(path)).flatten().collect();
    let members = here.iter().flat_map(|(server, here)| {
        here.members.iter().map(|(id, name)| Member { server: Arc::clone(server), id: *id, name: name.clone() })
    });
    Presence {
        // A number of the wire may be any.
        connections: here.values().fold(0, |sum, here| sum.saturating_add(here.connections)),
        members: members.collect(),
        servers: here.keys().map(|server| Arc::clone(server)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: &str, server: &str) -> Place {
        Place { path: path.into(), server: server.into() }
    }

    fn names(presence: &Presence) -> Vec<(&str, u64, &str)> {
        presence.members.iter().map(|member| (&*member.server, member.id, &*member.name)).collect()
    }

    #[test]
    fn presence_is_that_of_all_nodes_together() {
        let [mut one, mut other] = [Roster::default(), Roster::default()];
        one.join(&place("/a", "x"), 1, Some("Ali".into()));
        one.join(&place("/a", "x"), 2, None);
        one.join(&place("/b", "x"), 3, None);
        other.join(&place("/a", "y"), 1, Some("Ali".into()));
        let both = presence([&one, &other].into_iter(), &"/a".into());
        assert_eq!((both.connections, both.servers.len()), (3, 2));
        assert_eq!(names(&both), [("x", 1, "Ali"), ("y", 1, "Ali")]);
        assert_eq!(both.names().len(), 1);
        one.leave(&place("/a", "x"), 1);
        one.leave(&place("/a", "x"), 2);
        let rest = presence([&one, &other].into_iter(), &"/a".into());
        assert_eq!((rest.connections, names(&rest)), (1, vec![("y", 1, "Ali")]));
    }

    #[test]
    fn roster_that_takes_all_of_another_is_the_same() {
        let mut one = Roster::default();
        for id in 0..10 {
            let name = (id % 2 == 0).then(|| format!("n{id}").into());
            one.join(&place(&format!("/{}", id % 3), "x"), id, name);
        }
        let mut other = Roster::default();
        one.all().for_each(|change| other.apply(change, usize::MAX));
        for path in ["/0", "/1", "/2"].map(Tag::from) {
            assert_eq!(presence([&one].into_iter(), &path), presence([&other].into_iter(), &path));
        }
        assert_eq!(one.len, other.len);
    }

    #[test]
    fn nothing_is_left_of_a_place_without_connections() {
        let mut roster = Roster::default();
        roster.join(&place("/a", "x"), 1, Some("Ali".into()));
        roster.leave(&place("/a", "x"), 1);
        let joined = vec![(7, "Zoe".into())];
        roster.apply(Change { path: "/b".into(), server: "x".into(), joined, ..Change::default() }, usize::MAX);
        assert!(roster.is_empty());
        assert_eq!(roster.len, 0);
    }

    #[test]
    fn no_more_is_taken_than_there_is_room_for() {
        let mut roster = Roster::default();
        for (path, len) in [("/a", 10), ("/b", 3_000), ("/c", 10), ("/c", 900)] {
            let joined = (0..10).map(|id| (id, "x".repeat(len))).collect();
            let change = Change { path: path.into(), server: "x".into(), connections: 10, joined, left: Vec::new() };
            roster.apply(change, 2_500);
        }
        assert!((2_000..=2_500).contains(&roster.len), "{}", roster.len);
        assert_eq!(presence([&roster].into_iter(), &"/a".into()).members.len(), 10);
    }
}
