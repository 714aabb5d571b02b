//! RxRust's operators on a server, a client, a group and a connection, with messages that cross a socket both ways.

mod support;

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use futures::{StreamExt, executor::block_on};
use rxplus::prelude::*;
use support::{PATIENCE, Pen, Recorder, connected, url};

const PATH: &str = "/a";

/// Longer than it takes to deliver a burst, which the I/O thread does without looking at its timers.
const WINDOW: Duration = Duration::from_millis(50);

/// One test for each kind of endpoint, in a module that says what they show.
///
/// The body sees each of its [`Link`]s anew. What it makes of `link.endpoint()` goes back into the endpoint, and so to
/// the peer, who hears the result.
macro_rules! on_every_endpoint {
    ($behaviour:ident, |$($link:ident),+| $body:block) => {
        mod $behaviour {
            use super::*;

            #[test]
            fn of_a_server() {
                $(let $link = Link::server();)+
                $body
            }

            #[test]
            fn of_a_client() {
                $(let $link = Link::client();)+
                $body
            }

            #[test]
            fn of_a_group() {
                $(let $link = Link::group();)+
                $body
            }

            #[test]
            fn of_a_connection() {
                $(let $link = Link::connection();)+
                $body
            }
        }
    };
}

on_every_endpoint!(map_rewrites_each_message, |link| {
    link.endpoint().map(|message| message.rewrite(str::to_uppercase)).subscribe_with(link.endpoint());
    link.say(["a", "b"]);
    assert_eq!(link.hear(2), ["A", "B"]);
});

on_every_endpoint!(filter_drops_some_messages, |link| {
    link.endpoint().filter(|message| message.text() != "b").subscribe_with(link.endpoint());
    link.say(["a", "b", "c"]);
    assert_eq!(link.hear(2), ["a", "c"]);
});

on_every_endpoint!(scan_accumulates_the_messages, |link| {
    link.endpoint().scan(Message::new(""), joined).subscribe_with(link.endpoint());
    link.say(["a", "b", "c"]);
    assert_eq!(link.hear(3), ["a", "ab", "abc"]);
});

on_every_endpoint!(merge_joins_the_messages_with_those_of_another, |link, other| {
    link.endpoint().merge(other.endpoint()).subscribe_with(link.endpoint());
    link.say(["a"]);
    assert_eq!(link.hear(1), ["a"]);
    other.say(["b"]);
    assert_eq!(link.hear(1), ["b"]);
});

on_every_endpoint!(zip_pairs_the_messages_with_those_of_another, |link, other| {
    link.endpoint().zip(other.endpoint()).map(|(left, right)| joined(left, right)).subscribe_with(link.endpoint());
    link.say(["a", "b"]);
    other.say(["1", "2"]);
    assert_eq!(link.hear(2), ["a1", "b2"]);
});

on_every_endpoint!(take_until_ends_what_it_feeds_at_a_message_of_another, |link, other| {
    link.endpoint().take_until(other.endpoint()).subscribe_with(link.endpoint());
    link.say(["a"]);
    assert_eq!(link.hear(1), ["a"]);
    other.say(["enough"]);
    link.endpoint().wait_closed(PATIENCE).unwrap();
});

on_every_endpoint!(switch_map_follows_another_anew_at_each_message, |link, other| {
    let followed = other.endpoint();
    let follow = move |leader: _| {
        let prefix = Message::text(&leader).to_owned();
        let prefixed = followed.clone().map(move |message| message.rewrite(|text| format!("{prefix}{text}")));
        prefixed.start_with(vec![leader]) // heard after the callback, when the subscription is made
    };
    link.endpoint().switch_map(follow).subscribe_with(link.endpoint());
    for leader in ["a", "b"] {
        link.say([leader]);
        assert_eq!(link.hear(1), [leader]);
        other.say(["1"]);
        assert_eq!(link.hear(1), [format!("{leader}1")]);
    }
});

on_every_endpoint!(group_by_splits_the_messages_by_key, |link| {
    link.endpoint()
        .group_by(|message| message.text().len())
        .flat_map(|group| {
            let (key, mut count) = (group.inner.key, 0);
            group.map(move |message| {
                count += 1;
                message.rewrite(|text| format!("{text}: {count} of length {key}"))
            })
        })
        .subscribe_with(link.endpoint());
    link.say(["a", "bb", "c"]);
    assert_eq!(link.hear(3), ["a: 1 of length 1", "bb: 1 of length 2", "c: 2 of length 1"]);
});

on_every_endpoint!(debounce_lets_the_last_of_a_burst_through, |link| {
    link.endpoint().debounce(WINDOW).subscribe_with(link.endpoint());
    link.say(["a", "b", "c"]);
    assert_eq!(link.hear(1), ["c"]);
    link.say(["d", "e"]);
    assert_eq!(link.hear(1), ["e"]);
});

on_every_endpoint!(throttle_time_lets_the_first_and_the_last_of_a_burst_through, |link| {
    link.endpoint().log_errors().throttle_time(WINDOW, ThrottleEdge::all()).subscribe_with(link.endpoint());
    link.say(["a", "b", "c"]);
    assert_eq!(link.hear(2), ["a", "c"]);
});

on_every_endpoint!(buffer_time_gathers_a_burst, |link| {
    let all_joined = |burst: Vec<_>| burst.into_iter().reduce(joined).unwrap();
    link.endpoint().buffer_time(WINDOW).map(all_joined).subscribe_with(link.endpoint());
    link.say(["a", "b", "c"]);
    assert_eq!(link.hear(1), ["abc"]);
});

on_every_endpoint!(retry_hears_on_after_the_pipeline_failed, |link| {
    let endpoint = link.endpoint();
    let pipeline = Io::defer(move || {
        // Merged after the endpoint, so heard once that is subscribed to.
        let ready = Io::of(Message::new("ready")).with_err();
        endpoint.clone().switch_map(checked).box_it().merge(ready)
    });
    pipeline.retry(1).subscribe_with(link.endpoint());
    assert_eq!(link.hear(1), ["ready"]);
    link.say(["a", "bad"]);
    assert_eq!(link.hear(2), ["a", "ready"]);
    link.say(["b"]);
    assert_eq!(link.hear(1), ["b"]);
});

on_every_endpoint!(share_runs_what_is_before_it_once_for_all, |link| {
    let (runs, counted) = counter();
    let shared = link.endpoint().tap(move |_| counted()).share();
    let shouted = shared.clone().map(|message| message.rewrite(str::to_uppercase));
    shared.subscribe_with(link.endpoint());
    shouted.subscribe_with(link.endpoint());
    link.say(["a", "b"]);
    assert_eq!(link.hear(4), ["a", "A", "b", "B"]);
    assert_eq!(runs.load(SeqCst), 2);
});

on_every_endpoint!(publish_runs_what_is_before_it_once_for_all, |link| {
    let (runs, counted) = counter();
    let published = link.endpoint().tap(move |_| counted()).publish();
    published.fork().subscribe_with(link.endpoint());
    published.fork().map(|message| message.rewrite(str::to_uppercase)).subscribe_with(link.endpoint());
    published.connect();
    link.say(["a", "b"]);
    assert_eq!(link.hear(4), ["a", "A", "b", "B"]);
    assert_eq!(runs.load(SeqCst), 2);
});

on_every_endpoint!(box_it_gives_pipelines_one_type, |link| {
    let pipelines = [
        link.endpoint().filter(|message| message.text() == "a").box_it(),
        link.endpoint().map(|message| message.rewrite(str::to_uppercase)).box_it(),
        link.endpoint().box_it(),
    ];
    for pipeline in pipelines {
        pipeline.subscribe_with(link.endpoint());
    }
    link.say(["a", "b"]);
    assert_eq!(link.hear(5), ["a", "A", "a", "B", "b"]);
});

on_every_endpoint!(into_stream_hands_the_messages_to_futures, |link| {
    let stream = link.endpoint().into_stream();
    link.say(["a", "b", "c"]);
    let heard = block_on(stream.take(3).map(|message| message.unwrap().text().to_owned()).collect::<Vec<_>>());
    assert_eq!(heard, ["a", "b", "c"]);
});

/// An endpoint under test, and the peer at the other end of its connection.
struct Link<E> {
    endpoint: E,
    peer: Peer,
}

struct Peer {
    say: Box<dyn Fn(Vec<&'static str>)>,
    heard: Recorder<WsText>,
    /// One end of every connection is a server's.
    _server: RxWsServer<WsStr>,
}

impl Link<RxWsServer<WsStr>> {
    fn server() -> Self {
        let server = server();
        let client = connected(&server, PATH, WsStr);
        Recorder::on(server.connections()).item(); // the server knows it too
        Self { endpoint: server.clone(), peer: Peer::new(client, server) }
    }
}

impl Link<RxWsClient<WsStr>> {
    fn client() -> Self {
        let server = server();
        let endpoint = connected(&server, PATH, WsStr);
        Self { endpoint, peer: Peer::accepted_by(server) }
    }
}

impl Link<RxWsClientGroup<WsStr>> {
    fn group() -> Self {
        let server = server();
        let endpoint = RxWsClientGroup::new(url(&server, ""), WsStr).unwrap();
        endpoint.open(PATH).unwrap().wait_connected(PATIENCE).unwrap();
        Self { endpoint, peer: Peer::accepted_by(server) }
    }
}

impl Link<Connection<WsStr>> {
    fn connection() -> Self {
        let server = server();
        let client = connected(&server, PATH, WsStr);
        let endpoint = Recorder::on(server.connections()).item();
        Self { endpoint, peer: Peer::new(client, server) }
    }
}

impl<E: Clone> Link<E> {
    fn endpoint(&self) -> E {
        self.endpoint.clone()
    }

    /// The peer sends a burst, which arrives in one piece.
    fn say<const N: usize>(&self, burst: [&'static str; N]) {
        (self.peer.say)(burst.into());
    }

    /// What the peer hears next.
    fn hear(&self, count: usize) -> Vec<WsText> {
        self.peer.heard.items(count)
    }
}

impl Peer {
    fn new<P>(peer: P, server: RxWsServer<WsStr>) -> Self
    where
        P: Observable<Scheduler = IoScheduler> + Observer<&'static str, Infallible> + Clone + Send + 'static,
        P::Inner: CoreObservable<P::With<Pen<WsText>>>,
    {
        let heard = Recorder::on(peer.clone());
        // In one task of the I/O thread, which writes when that is over.
        let say = move |burst: Vec<_>| {
            let on_thread = Io::from_iter(burst).subscribe_on(peer.scheduler().clone());
            on_thread.merge_into(&peer);
        };
        Self { say: Box::new(say), heard, _server: server }
    }

    /// The one connection of a server.
    fn accepted_by(server: RxWsServer<WsStr>) -> Self {
        Self::new(Recorder::on(server.connections()).item(), server)
    }
}

fn server() -> RxWsServer<WsStr> {
    RxWsServer::bind("ws://127.0.0.1:0", WsStr).unwrap()
}

fn joined<M: Message>(left: M, right: M) -> M {
    left.rewrite(|text| format!("{text}{}", right.text()))
}

/// Fails at a message that says "bad".
fn checked<M: Message>(message: M) -> IoBoxedObservable<'static, M, WsError> {
    if message.text() == "bad" {
        Io::<()>::throw_err(WsError::application("bad")).map(move |()| message.clone()).box_it()
    } else {
        Io::of(message).with_err().box_it()
    }
}

/// A count, and what increments it.
fn counter() -> (Arc<AtomicUsize>, impl Fn() + Clone + Send + 'static) {
    let count = Arc::new(AtomicUsize::new(0));
    (count.clone(), move || {
        count.fetch_add(1, SeqCst);
    })
}

/// What an endpoint emits: text, with a tag or without.
trait Message: Clone + Send + 'static {
    fn new(text: &str) -> Self;

    fn text(&self) -> &str;

    fn rewrite(self, f: impl FnOnce(&str) -> String) -> Self;
}

impl Message for WsText {
    fn new(text: &str) -> Self {
        text.into()
    }

    fn text(&self) -> &str {
        self
    }

    fn rewrite(self, f: impl FnOnce(&str) -> String) -> Self {
        f(&self).into()
    }
}

impl Message for TaggedData<WsText> {
    fn new(text: &str) -> Self {
        Self::new(PATH, text.into())
    }

    fn text(&self) -> &str {
        &self.data
    }

    fn rewrite(self, f: impl FnOnce(&str) -> String) -> Self {
        self.map(|text| text.rewrite(f))
    }
}
