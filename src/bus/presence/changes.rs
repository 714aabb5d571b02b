//! A roster as nodes tell each other of it: in [changes](Change). No I/O, no clock.

use crate::{
    bus::presence::message::Change,
    presence::roster::{Here, Place, Roster, member_len},
};

impl Roster {
    pub(crate) fn is_empty(&self) -> bool {
        self.paths.is_empty()
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
        let places = self.paths.iter().flat_map(|(path, servers)| servers.names().map(move |server| (path, server)));
        places.map(|(path, server)| {
            let place = Place { path: path.clone(), server: server.clone() };
            let ids = self.at(&place).into_iter().flat_map(|here| here.members.keys().copied());
            self.change(&place, ids, Vec::new())
        })
    }

    fn at(&self, place: &Place) -> Option<&Here> {
        self.paths.get(&place.path)?.get(&place.server)
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Tag, presence::roster::presence};

    fn place(path: &str, server: &str) -> Place {
        Place { path: path.into(), server: server.into() }
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
