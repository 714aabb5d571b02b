//! Who is there: what a server tells of its connections, on paths and in rooms.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// A server whose connections are named by their query.
fn named_server() -> RxWsServer<WsStr> {
    let builder = RxWsServer::builder("ws://127.0.0.1:0", WsStr).name("chat");
    builder.member(|connection| connection.query().map(str::to_owned)).bind().unwrap()
}

/// The presence as it was emitted last, by tag.
struct Seen(Arc<Mutex<BTreeMap<Tag, Presence>>>);

impl Seen {
    fn by(server: &RxWsServer<WsStr>) -> Self {
        let seen = Arc::<Mutex<BTreeMap<_, _>>>::default();
        let latest = seen.clone();
        server.presence().subscribe(move |TaggedData { tag, data, .. }| {
            let mut latest = latest.lock().unwrap();
            match data.connections {
                // An empty one is told of those alone who were there.
                0 => assert!(latest.remove(&tag).is_some()),
                _ => _ = latest.insert(tag, data),
            }
        });
        Self(seen)
    }

    fn names(&self) -> BTreeMap<String, Vec<String>> {
        let names = |presence: &Presence| {
            let mut names: Vec<_> = presence.members.iter().map(|member| member.name.to_string()).collect();
            assert_eq!(presence.connections, names.len() as u64);
            names.sort_unstable();
            names
        };
        self.0.lock().unwrap().iter().map(|(tag, presence)| (tag.to_string(), names(presence))).collect()
    }

    fn until(&self, expected: &BTreeMap<String, Vec<String>>) {
        let deadline = Instant::now() + PATIENCE;
        while self.names() != *expected {
            assert!(Instant::now() < deadline, "{expected:?} instead of {:?}", self.names());
            thread::sleep(Duration::from_millis(5));
        }
    }
}

fn on(tags: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    tags.iter().map(|(tag, here)| ((*tag).to_owned(), names(here))).collect()
}

#[test]
fn observer_hears_who_is_there_and_then_who_comes_and_goes() {
    let server = named_server();
    let connections = Recorder::on(server.connections());
    let early = Seen::by(&server);
    let (ali, zoe) = (connected(&server, "/chat?Ali", WsStr), connected(&server, "/news?Zoe", WsStr));
    connections.item().join("/room").unwrap();
    connections.item().join("/room").unwrap();
    let everybody = on(&[("/chat", &["Ali"]), ("/news", &["Zoe"]), ("/room", &["Ali", "Zoe"])]);
    early.until(&everybody);
    let late = Recorder::on(server.presence());
    let first = late.items(3).into_iter().map(|td| (td.tag.to_string(), td.data.connections));
    assert_eq!(
        BTreeSet::from_iter(first),
        BTreeSet::from([("/chat".into(), 1), ("/news".into(), 1), ("/room".into(), 2)])
    );
    ali.complete();
    late.find(|td| (td == TaggedData::new("/chat", Presence::default())).then_some(()));
    early.until(&on(&[("/news", &["Zoe"]), ("/room", &["Zoe"])]));
    zoe.complete();
    early.until(&on(&[]));
    // Nobody is there: nothing is the first that is heard.
    let last = Recorder::on(server.presence());
    let _ida = connected(&server, "/chat?Ida", WsStr);
    let here = last.item();
    assert_eq!((here.tag, here.data.names().into_iter().collect::<Vec<_>>()), ("/chat".into(), vec!["Ida"]));
    assert_eq!((&*here.data.members[0].server, here.data.members[0].id), ("chat", 3));
}

#[test]
fn operators_choose_the_tag() {
    let server = named_server();
    // Before there is anything to hear: what nobody wants is not kept by a router.
    let routed = server.presence().route_by_tag();
    let heard = [Recorder::on(routed.tag("/b")), Recorder::on(server.presence().tag_filter("/b").untag())];
    let _clients = ["/a?Ali", "/b?Zoe"].map(|path| connected(&server, path, WsStr));
    for heard in heard {
        assert_eq!(heard.item().names().into_iter().collect::<Vec<_>>(), ["Zoe"]);
    }
}

#[test]
fn second_login_of_a_name_stays_when_the_first_ends() {
    let server = named_server();
    let seen = Seen::by(&server);
    let [first, second] = [(); 2].map(|()| connected(&server, "/chat?Ali", WsStr));
    seen.until(&on(&[("/chat", &["Ali", "Ali"])]));
    first.complete();
    seen.until(&on(&[("/chat", &["Ali"])]));
    second.complete();
    seen.until(&on(&[]));
}

#[test]
fn connections_without_a_name_are_counted_and_a_panic_in_it_harms_nobody() {
    let name = |connection: &Connection<WsStr>| match connection.query() {
        Some("bad") => panic!("no name for this one"),
        name => name.map(str::to_owned),
    };
    let server = RxWsServer::builder("ws://127.0.0.1:0", WsStr).member(name).bind().unwrap();
    let events = Recorder::on(server.events());
    let heard = Recorder::on(server.presence());
    let _clients = ["/chat?Ali", "/chat?bad", "/chat"].map(|path| connected(&server, path, WsStr));
    let here = heard.find(|td| (td.data.connections == 3).then_some(td.data));
    assert_eq!(here.names().into_iter().collect::<Vec<_>>(), ["Ali"]);
    events.find(|event| matches!(event, ServerEvent::SubscriberPanicked).then_some(()));
}

#[test]
fn panic_in_an_observer_ends_that_one_alone() {
    let server = named_server();
    let events = Recorder::on(server.events());
    server.presence().subscribe(|_| panic!("as the test wants it"));
    let seen = Seen::by(&server);
    let _client = connected(&server, "/chat?Ali", WsStr);
    seen.until(&on(&[("/chat", &["Ali"])]));
    events.find(|event| matches!(event, ServerEvent::SubscriberPanicked).then_some(()));
}

#[test]
fn observers_hear_that_all_have_left_before_the_server_ends() {
    let server = named_server();
    let heard = Recorder::on(server.presence());
    let _clients = ["/a?Ali", "/b?Zoe"].map(|path| connected(&server, path, WsStr));
    heard.items(2);
    server.clone().complete();
    let (left, end) = heard.to_the_end();
    let empty = |tag: &str| TaggedData::new(tag, Presence::default());
    assert!(left.len() == 2 && left.contains(&empty("/a")) && left.contains(&empty("/b")), "{left:?}");
    assert!(end.is_complete());
    assert!(Recorder::on(server.presence()).to_the_end().0.is_empty(), "who comes too late hears the end");
}

#[test]
fn observer_that_unsubscribes_hears_no_more() {
    let server = named_server();
    let (sender, heard) = mpsc::channel();
    let subscription = server.presence().subscribe(move |td| sender.send(td.tag).unwrap());
    let seen = Seen::by(&server);
    let _ali = connected(&server, "/a?Ali", WsStr);
    seen.until(&on(&[("/a", &["Ali"])]));
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), "/a");
    subscription.unsubscribe();
    let _zoe = connected(&server, "/b?Zoe", WsStr);
    seen.until(&on(&[("/a", &["Ali"]), ("/b", &["Zoe"])]));
    assert!(heard.recv().is_err(), "it is dropped");
}

/// Numbers that look random, and are the same in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }
}

/// A connection, its client, and the tags that it is to be on.
struct Guest {
    name: String,
    peer: Foreign,
    connection: Connection<WsStr>,
    tags: BTreeSet<&'static str>,
}

impl Guest {
    fn change_room(&mut self, room: &'static str) {
        if self.tags.insert(room) {
            assert!(self.connection.join(room).unwrap());
        } else {
            assert!(self.tags.remove(room) && self.connection.leave(room));
        }
    }

    fn go(self, dice: &mut Dice) {
        match dice.roll(2) {
            0 => close(self.peer, 1000),
            _ => socket2::SockRef::from(self.peer.get_ref()).set_linger(Some(Duration::ZERO)).unwrap(),
        }
    }
}

#[test]
fn presence_equals_the_truth_after_a_thousand_joins_leaves_and_resets() {
    const PATHS: [&str; 3] = ["/a", "/b", "/c"];
    const ROOMS: [&str; 3] = ["/x", "/y", "/z"];
    let server = named_server();
    let (seen, connections) = (Seen::by(&server), Recorder::on(server.connections()));
    let (mut dice, mut guests) = (Dice(7), Vec::<Guest>::new());
    for step in 1..=1_000 {
        let (name, at) = (format!("{step:04}"), dice.roll(guests.len().max(1)));
        match dice.roll(4) {
            2 if guests.len() > 10 => guests.swap_remove(at).go(&mut dice),
            0 if guests.len() < 40 => {
                let path = PATHS[dice.roll(3)];
                let peer = foreign_client(server.local_addr(), &format!("{path}?{name}"));
                guests.push(Guest { name, peer, connection: connections.item(), tags: BTreeSet::from([path]) });
            }
            _ if guests.is_empty() => {}
            _ => guests[at].change_room(ROOMS[dice.roll(3)]),
        }
        if step % 50 == 0 {
            let mut truth = BTreeMap::<String, Vec<String>>::new();
            for guest in &guests {
                guest.tags.iter().for_each(|tag| truth.entry((*tag).to_owned()).or_default().push(guest.name.clone()));
            }
            truth.values_mut().for_each(|names| names.sort_unstable());
            seen.until(&truth);
            Seen::by(&server).until(&truth);
        }
    }
}
