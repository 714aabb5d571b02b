//! [`Roster`]: the connections of a server, or of all servers of one node of a bus, by tag and server. No I/O, no clock.

use std::{
    collections::{
        BTreeMap, HashMap,
        hash_map::{Entry, OccupiedEntry},
    },
    sync::Arc,
};

use crate::{Member, Presence, Tag, sparse};

/// Bytes of memory of a place and of a member, beside their texts, more or less.
const PLACE_LEN: usize = 256;
const MEMBER_LEN: usize = 64;

/// The connections of one node.
#[derive(Default)]
pub(crate) struct Roster {
    pub(crate) paths: HashMap<Tag, Servers>,
    /// Bytes of memory, more or less.
    pub(crate) len: usize,
}

/// The servers of a node that have connections on a path, by name. A node has one as a rule, or a few: in a tree the only entry of
/// most paths would take ten times its own memory.
#[derive(Default)]
pub(crate) struct Servers(Vec<(Arc<str>, Here)>);

/// The connections on one path of one server.
#[derive(Default)]
pub(crate) struct Here {
    pub(crate) connections: u64,
    pub(crate) members: BTreeMap<u64, Arc<str>>,
}

/// A path of a server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) path: Tag,
    pub(crate) server: Arc<str>,
}

impl Place {
    pub(crate) fn len(&self) -> usize {
        PLACE_LEN + self.path.len() + self.server.len()
    }
}

pub(crate) fn member_len(name: &str) -> usize {
    MEMBER_LEN + name.len()
}

impl Roster {
    pub(crate) fn join(&mut self, place: &Place, id: u64, name: Option<Arc<str>>) {
        let here = self.here(place);
        here.connections += 1;
        self.add_member(place, id, name);
    }

    pub(crate) fn leave(&mut self, place: &Place, id: u64) {
        let Entry::Occupied(mut servers) = self.paths.entry(place.path.clone()) else { return };
        let Some(here) = servers.get_mut().get_mut(&place.server) else { return };
        here.connections = here.connections.saturating_sub(1);
        let member = here.members.remove(&id);
        self.len -= member.map_or(0, |name| member_len(&name)) + tidy(servers, place);
        sparse::give_back(&mut self.paths);
    }

    /// The tags on which somebody is.
    pub(crate) fn tags(&self) -> impl Iterator<Item = &Tag> {
        self.paths.keys()
    }

    pub(crate) fn here(&mut self, place: &Place) -> &mut Here {
        let servers = self.paths.entry(place.path.clone()).or_default();
        servers.get_or_insert_with(&place.server, || {
            self.len += place.len();
            Here::default()
        })
    }

    pub(crate) fn add_member(&mut self, place: &Place, id: u64, name: Option<Arc<str>>) {
        let Some(name) = name else { return };
        self.len += member_len(&name);
        if let Some(before) = self.here(place).members.insert(id, name) {
            self.len -= member_len(&before);
        }
    }

    #[cfg(feature = "nats")]
    pub(crate) fn remove_member(&mut self, place: &Place, id: u64) {
        if let Some(name) = self.here(place).members.remove(&id) {
            self.len -= member_len(&name);
        }
    }

    /// Forgets a place without connections.
    #[cfg(feature = "nats")]
    pub(crate) fn tidy(&mut self, place: &Place) {
        if let Entry::Occupied(servers) = self.paths.entry(place.path.clone()) {
            self.len -= tidy(servers, place);
            sparse::give_back(&mut self.paths);
        }
    }
}

/// Forgets a place without connections. Returns the memory that it has taken.
fn tidy(mut servers: OccupiedEntry<'_, Tag, Servers>, place: &Place) -> usize {
    let removed = servers.get_mut().remove_empty(&place.server);
    if servers.get().0.is_empty() {
        servers.remove();
    }
    removed.map_or(0, |here| place.len() + here.members.values().map(|name| member_len(name)).sum::<usize>())
}

impl Servers {
    fn find(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(own, _)| (**own).cmp(name))
    }

    #[cfg(feature = "nats")]
    pub(crate) fn get(&self, name: &str) -> Option<&Here> {
        self.find(name).ok().map(|at| &self.0[at].1)
    }

    fn get_or_insert_with(&mut self, name: &Arc<str>, new: impl FnOnce() -> Here) -> &mut Here {
        let at = self.find(name).unwrap_or_else(|at| {
            sparse::expect_one(&mut self.0);
            self.0.insert(at, (name.clone(), new()));
            at
        });
        &mut self.0[at].1
    }

    fn get_mut(&mut self, name: &str) -> Option<&mut Here> {
        self.find(name).ok().map(|at| &mut self.0[at].1)
    }

    /// Removes a server without connections.
    fn remove_empty(&mut self, name: &str) -> Option<Here> {
        let at = self.find(name).ok().filter(|at| self.0[*at].1.connections == 0)?;
        Some(self.0.remove(at).1)
    }

    #[cfg(feature = "nats")]
    pub(crate) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.0.iter().map(|(name, _)| name)
    }
}

/// Who is on a path, of all these nodes.
pub(crate) fn presence<'a>(rosters: impl Iterator<Item = &'a Roster>, path: &Tag) -> Presence {
    // By name. Sorted as they come: the servers of a node are in order, and a path has servers of few nodes.
    let mut all: Vec<(&Arc<str>, &Here)> = Vec::new();
    for servers in rosters.filter_map(|roster| roster.paths.get(path)) {
        for (server, here) in &servers.0 {
            match all.binary_search_by_key(&server, |(server, _)| server) {
                Ok(at) => all[at].1 = here,
                Err(at) => all.insert(at, (server, here)),
            }
        }
    }
    let (mut connections, mut members, mut servers) = (0_u64, Vec::new(), Vec::new());
    for (server, here) in all {
        // A number of the wire may be any.
        connections = connections.saturating_add(here.connections);
        for (id, name) in &here.members {
            members.push(Member { server: server.clone(), id: *id, name: name.clone() });
        }
        servers.push(server.clone());
    }
    Presence { connections, members: members.into(), servers: servers.into() }
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
    fn nothing_is_left_of_a_place_without_connections() {
        let mut roster = Roster::default();
        roster.join(&place("/a", "x"), 1, Some("Ali".into()));
        roster.leave(&place("/a", "x"), 1);
        roster.join(&place("/b", "x"), 7, Some("Zoe".into()));
        roster.leave(&place("/b", "x"), 7);
        assert!(roster.paths.is_empty());
        assert_eq!(roster.len, 0);
    }
}
