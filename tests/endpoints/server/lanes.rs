//! A server on several threads, each of which has connections of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use super::*;

const THREADS: usize = 3;

fn on_threads(name: &str) -> ServerBuilder<WsStr> {
    RxWsServer::builder("ws://127.0.0.1:0", WsStr).name(name).threads(THREADS)
}

/// Its clients, on paths of their own.
fn clients(server: &RxWsServer<WsStr>, count: usize) -> Vec<RxWsClient<WsStr>> {
    (0..count).map(|n| connected(server, &format!("/{n}"), WsStr)).collect()
}

/// A connection of each thread, by the thread's name, of a server that has had none.
fn one_on_each_thread(server: &RxWsServer<WsStr>) -> BTreeMap<String, (RxWsClient<WsStr>, Connection<WsStr>)> {
    let (heard, threads) = mpsc::channel();
    let subscription = server.connections().subscribe(move |connection| {
        let (heard, same) = (heard.clone(), connection.clone());
        connection.log_errors().take(1).subscribe(move |_| heard.send((thread_name(), same.clone())).unwrap());
    });
    let join = |client: RxWsClient<WsStr>| {
        client.next("hello");
        let (thread, connection) = threads.recv_timeout(PATIENCE).unwrap();
        (thread, (client, connection))
    };
    let all: BTreeMap<_, _> = clients(server, THREADS).into_iter().map(join).collect();
    subscription.unsubscribe();
    assert_eq!(all.len(), THREADS);
    all
}

/// Counts the calls that come while another one lasts.
#[derive(Clone, Default)]
struct Alone {
    is_inside: Arc<AtomicBool>,
    together: Arc<AtomicUsize>,
}

impl Alone {
    fn call<R>(&self, f: impl FnOnce() -> R) -> R {
        if self.is_inside.swap(true, SeqCst) {
            self.together.fetch_add(1, SeqCst);
        }
        thread::yield_now();
        let result = f();
        self.is_inside.store(false, SeqCst);
        result
    }

    fn on<T, R: Send + 'static>(self, f: impl Fn(T) -> R) -> (impl Fn(T), Receiver<R>) {
        answers(move |item| self.call(|| f(item)))
    }
}

#[test]
fn connections_are_spread_evenly_and_each_stays_on_its_thread() {
    let server = on_threads("spread").bind().unwrap();
    let (heard, threads) = mpsc::channel();
    server.connections().subscribe(move |connection| {
        let (id, heard) = (connection.id(), heard.clone());
        connection.log_errors().subscribe(move |_| heard.send((id, thread_name())).unwrap());
    });
    let clients = clients(&server, 3 * THREADS);
    for _ in 0..20 {
        clients.iter().for_each(|client| client.next("hello"));
    }
    let mut threads_of = BTreeMap::<_, BTreeSet<_>>::new();
    for _ in 0..20 * clients.len() {
        let (id, thread) = threads.recv_timeout(PATIENCE).unwrap();
        threads_of.entry(id).or_default().insert(thread);
    }
    let mut counts = BTreeMap::<_, usize>::new();
    for threads in threads_of.into_values() {
        assert_eq!(threads.len(), 1);
        *counts.entry(threads.into_iter().collect()).or_default() += 1;
    }
    let expected = ["rxplus-spread", "rxplus-spread-2", "rxplus-spread-3"].map(|name| (name.to_owned(), 3));
    assert_eq!(counts, BTreeMap::from(expected));
}

#[test]
fn new_connection_comes_to_the_thread_that_has_the_fewest() {
    let server = on_threads("fewest").bind().unwrap();
    let mut first = one_on_each_thread(&server);
    let _more = clients(&server, THREADS);
    let (_, (client, connection)) = first.pop_last().unwrap();
    client.complete();
    connection.wait_closed(PATIENCE).unwrap();
    // Its task ends behind that.
    until_settled("the end of the connection", &connection, |_| server.connection_count() == 2 * THREADS - 1);
    let (on_message, threads) = answers(|_: WsText| thread_name());
    let connections = Recorder::on(server.connections());
    connections.items(server.connection_count());
    let client = connected(&server, "/", WsStr);
    connections.item().log_errors().subscribe(on_message);
    client.next("hello");
    assert_eq!(threads.recv_timeout(PATIENCE).unwrap(), "rxplus-fewest-3");
}

#[test]
fn servers_own_subjects_call_one_at_a_time_and_each_connections_messages_in_order() {
    const CLIENTS: usize = 2 * THREADS;
    const MESSAGES: usize = 1000;
    let server = on_threads("alone").bind().unwrap();
    let [of_messages, of_events, of_connections] = [(); 3].map(|()| Alone::default());
    let (on_message, messages) = of_messages.clone().on(|tagged: TaggedData<WsText>| (tagged, thread_name()));
    let (on_event, events) = of_events.clone().on(|event: ServerEvent| event);
    let (on_connection, connections) = of_connections.clone().on(|connection: Connection<WsStr>| {
        let own = Recorder::on(connection.clone());
        (connection.path().clone(), own)
    });
    server.clone().log_errors().subscribe(on_message);
    server.events().subscribe(on_event);
    server.connections().subscribe(on_connection);
    thread::scope(|scope| {
        for n in 0..CLIENTS {
            let server = &server;
            scope.spawn(move || {
                let client = connected(server, &format!("/{n}"), WsStr);
                texts(0..MESSAGES).into_iter().for_each(|text| client.next(text));
                client.clone().complete();
                client.wait_closed(PATIENCE).unwrap();
            });
        }
    });
    let mut by_path = BTreeMap::<_, Vec<_>>::new();
    let mut threads = BTreeSet::new();
    for _ in 0..CLIENTS * MESSAGES {
        let (TaggedData { tag, data, .. }, thread) = messages.recv_timeout(PATIENCE).unwrap();
        by_path.entry(tag).or_default().push(data.to_string());
        threads.insert(thread);
    }
    assert!(threads.iter().all(|thread| thread.starts_with("rxplus-alone")), "{threads:?}");
    assert_eq!(by_path.len(), CLIENTS);
    for _ in 0..CLIENTS {
        let (path, own) = connections.recv_timeout(PATIENCE).unwrap();
        assert_eq!(by_path[&path], texts(0..MESSAGES));
        assert_eq!(own.items(MESSAGES), texts(0..MESSAGES));
    }
    server.clone().complete();
    server.wait_closed(PATIENCE).unwrap();
    let events: Vec<_> = events.iter().collect();
    for n in 1..=CLIENTS as u64 {
        let of_peer: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                ServerEvent::Connected { peer, .. } => (peer.id == n).then_some("comes"),
                ServerEvent::Disconnected { peer, .. } => (peer.id == n).then_some("goes"),
                _ => None,
            })
            .collect();
        assert_eq!(of_peer, ["comes", "goes"]);
    }
    assert!(matches!(events.last(), Some(ServerEvent::Closed(_))));
    let together = [of_messages, of_events, of_connections].map(|alone| alone.together.load(SeqCst));
    assert_eq!(together, [0; 3]);
}

#[test]
fn push_from_any_thread_reaches_the_connections_of_all_in_order() {
    const MESSAGES: usize = 1000;
    let server = on_threads("pushes").bind().unwrap();
    let connections = Recorder::on(server.connections());
    let listeners: Vec<_> = (0..2 * THREADS).map(|_| connected(&server, "/all", WsStr)).collect();
    let heard: Vec<_> = listeners.iter().map(|client| Recorder::on(client.clone())).collect();
    let push = |server: &RxWsServer<WsStr>, name: &str| {
        (0..MESSAGES).for_each(|n| server.next(TaggedData::new("/all", format!("{name} {n}"))));
    };
    for connection in connections.items(listeners.len()) {
        let server = server.clone();
        connection.log_errors().subscribe(move |name| push(&server, &name));
    }
    // Some on threads of the server's push, and two threads of the program's.
    thread::scope(|scope| {
        let server = &server;
        ["a", "b"].into_iter().for_each(|name| _ = scope.spawn(move || push(server, name)));
        ["x", "y", "z"].into_iter().zip(&listeners).for_each(|(name, client)| client.next(name));
    });
    for heard in heard {
        let mut by_name = BTreeMap::<String, Vec<String>>::new();
        for text in heard.items((THREADS + 2) * MESSAGES) {
            let (name, n) = text.split_once(' ').unwrap();
            by_name.entry(name.to_owned()).or_default().push(n.to_owned());
        }
        assert_eq!(by_name.len(), THREADS + 2);
        assert!(by_name.into_values().all(|of_one| of_one == texts(0..MESSAGES)));
    }
    assert_eq!(server.stats().sent.dropped, Default::default());
}

#[test]
fn pushes_by_the_server_and_by_a_connection_keep_their_order_on_every_thread() {
    const ROUNDS: usize = 1000;
    let server = on_threads("both").bind().unwrap();
    let all = one_on_each_thread(&server);
    let push = |server: &RxWsServer<WsStr>, connection: &Connection<WsStr>| {
        for n in 0..ROUNDS {
            server.next(TaggedData::new(connection.path().clone(), format!("{} server", n)));
            connection.next(format!("{n} connection"));
        }
    };
    let expected: Vec<_> = (0..ROUNDS).flat_map(|n| [format!("{n} server"), format!("{n} connection")]).collect();
    let heard: Vec<_> = all.values().map(|(client, _)| Recorder::on(client.clone())).collect();
    thread::scope(|scope| {
        all.values().for_each(|(_, connection)| _ = scope.spawn(|| push(&server, connection)));
    });
    heard.iter().for_each(|heard| assert_eq!(heard.items(2 * ROUNDS), expected));
    // And from their own callbacks.
    for (client, connection) in all.values() {
        let (server, same) = (server.clone(), connection.clone());
        connection.clone().log_errors().take(1).subscribe(move |_| push(&server, &same));
        client.next("push");
    }
    heard.iter().for_each(|heard| assert_eq!(heard.items(2 * ROUNDS), expected));
}

#[test]
fn callback_that_blocks_holds_up_the_connections_of_its_thread_alone() {
    let server = on_threads("blocks").bind().unwrap();
    let mut all = one_on_each_thread(&server);
    all.values().for_each(|(_, connection)| _ = connection.clone().subscribe_with(connection.clone()));
    let neighbour = clients(&server, THREADS).remove(1);
    let (blocking, connection) = all.remove("rxplus-blocks-2").unwrap();
    let ((enter, inside), (release, held)) = (mpsc::channel(), mpsc::channel::<()>());
    let held = Mutex::new(held);
    connection.log_errors().subscribe(move |_| {
        enter.send(()).unwrap();
        _ = held.lock().unwrap().recv_timeout(PATIENCE);
    });
    blocking.next("block");
    inside.recv_timeout(PATIENCE).unwrap();
    for (client, _) in all.values() {
        let heard = Recorder::on(client.clone());
        texts(0..100).into_iter().for_each(|text| client.next(text));
        assert_eq!(heard.items(100), texts(0..100));
    }
    let by_server = Recorder::on(server.clone());
    let heard = Recorder::on(neighbour.clone());
    server.next(TaggedData::new("/1", "later"));
    neighbour.next("hello");
    let (other, _) = all.values().next().unwrap();
    other.next("hello");
    assert_eq!(by_server.item().data, "hello");
    assert_eq!((by_server.rest(), heard.rest()), (vec![], vec![]));
    drop(release);
    assert_eq!(by_server.item(), TaggedData::new("/1", "hello".into()));
    assert_eq!(heard.item(), "later");
}

#[test]
fn event_that_a_blocked_thread_was_to_tell_is_told_by_another() {
    let builder = RxWsServer::builder("ws://127.0.0.1:0", WsByPath::new(|_| WsKind::Str));
    let server = builder.name("told").threads(2).bind().unwrap();
    let (connections, events) = (Recorder::on(server.connections()), Recorder::on(server.events()));
    let clients = ["/first", "/second"].map(|path| connected(&server, path, WsStr));
    let second = connections.find(|connection| (connection.path() == "/second").then_some(connection));
    let ((enter, inside), (release, held)) = (mpsc::channel(), mpsc::channel::<()>());
    let (same, held) = (server.clone(), Mutex::new(held));
    let unencodable = |path| TaggedData::new(path, Payload::from(vec![1u8]));
    second.log_errors().subscribe(move |_| {
        same.next(unencodable("/here"));
        enter.send(thread_name()).unwrap();
        _ = held.lock().unwrap().recv_timeout(2 * PATIENCE);
    });
    clients[1].next("block");
    assert_eq!(inside.recv_timeout(PATIENCE).unwrap(), "rxplus-told-2");
    server.next(unencodable("/there"));
    events.find(|event| matches!(event, ServerEvent::Unencodable { .. }).then_some(()));
    drop(release);
}

#[test]
fn panic_in_a_callback_of_one_thread_ends_that_subscriber_and_nothing_else() {
    let server = on_threads("panics").bind().unwrap();
    let all = one_on_each_thread(&server);
    server.clone().log_errors().subscribe(|_| panic!("a bug of the program's"));
    let by_server = Recorder::on(server.clone());
    for (client, connection) in all.values() {
        let (heard, events) = (Recorder::on(client.clone()), Recorder::on(connection.events()));
        connection.clone().log_errors().subscribe(|_| panic!("another bug"));
        connection.clone().subscribe_with(connection.clone());
        texts(0..10).into_iter().for_each(|text| client.next(text));
        assert_eq!(heard.items(10), texts(0..10));
        assert_eq!(by_server.items(10).into_iter().map(|tagged| tagged.data).collect::<Vec<_>>(), texts(0..10));
        events.find(|event| matches!(event, ServerEvent::SubscriberPanicked).then_some(()));
    }
}

#[test]
fn wait_that_could_never_end_is_an_error_on_each_of_the_threads() {
    let server = on_threads("waits").bind().unwrap();
    let all = one_on_each_thread(&server);
    for (client, connection) in all.values() {
        let server = server.clone();
        let others: Vec<_> = all.values().map(|(_, connection)| connection.clone()).collect();
        let (wait, waited) = answers(move |_: WsText| {
            let is_refused = |waited| matches!(waited, Err(WsError::WouldDeadlock(_)));
            is_refused(server.wait_closed(PATIENCE))
                && others.iter().all(|connection| is_refused(connection.wait_closed(PATIENCE)))
        });
        connection.clone().log_errors().subscribe(wait);
        client.next("wait");
        assert!(waited.recv_timeout(PATIENCE).unwrap());
    }
}

#[test]
fn last_choice_of_threads_counts() {
    let runtime = IoRuntime::new("of-program").unwrap();
    let threads_of = |builder: ServerBuilder<WsStr>| {
        let server = builder.name("last").bind().unwrap();
        let (heard, threads) = mpsc::channel();
        server.connections().subscribe(move |connection| {
            let heard = heard.clone();
            connection.log_errors().subscribe(move |_| heard.send(thread_name()).unwrap());
        });
        let clients = clients(&server, 2);
        clients.iter().for_each(|client| client.next("hello"));
        [(); 2].map(|()| threads.recv_timeout(PATIENCE).unwrap()).into_iter().collect::<BTreeSet<_>>()
    };
    let builder = || RxWsServer::builder("ws://127.0.0.1:0", WsStr);
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(threads_of(builder().threads(2).runtime(&runtime)), names(&["of-program"]));
    assert_eq!(threads_of(builder().runtime(&runtime).threads(2)), names(&["rxplus-last", "rxplus-last-2"]));
    assert_eq!(threads_of(builder().threads(2).threads(1)), names(&["rxplus-last"]));
}

#[test]
#[should_panic(expected = "at least one thread")]
fn server_without_threads_is_refused() {
    drop(on_threads("none").threads(0));
}

#[test]
fn rooms_presence_grants_and_calls_reach_over_all_threads() {
    const CLIENTS: usize = 2 * THREADS;
    let builder = on_threads("rooms").member(|connection| connection.grant::<String>().cloned());
    let builder = builder.authorize(|request| async move { Ok(request.query().unwrap_or_default().to_owned()) });
    let server = builder.bind().unwrap();
    let connections = Recorder::on(server.connections());
    let presence = Recorder::on(server.presence());
    let joined: Vec<_> = (0..CLIENTS)
        .map(|n| {
            let client = connected(&server, &format!("/chat?{n}"), WsStr);
            client.clone().subscribe_with(client.clone());
            (Recorder::on(client.clone()), connections.item(), client)
        })
        .collect();
    let all_there = |tag: &str| {
        presence.find(|TaggedData { tag: of, data, .. }: TaggedData<Presence>| {
            let names: Vec<_> = data.members.iter().map(|member| member.name.to_string()).collect();
            (of == tag && names == texts(0..CLIENTS)).then_some(())
        });
    };
    all_there("/chat");
    // Each calls its client, on its thread; once that has answered, all are in the room.
    for (_, connection, client) in &joined {
        let calls = connection.calls(|text: &WsText| text.split_once(' ')?.0.parse::<u64>().ok()).timeout(PATIENCE);
        let same = connection.clone();
        let (answered, answer) = mpsc::channel();
        connection.clone().log_errors().take(1).subscribe(move |_| {
            let (same, answered) = (same.clone(), answered.clone());
            calls
                .call(|id| format!("{id} ready?"))
                .log_errors()
                .subscribe(move |_| answered.send(same.join("/room")).unwrap());
        });
        client.next("go on");
        assert!(answer.recv_timeout(PATIENCE).unwrap().unwrap());
    }
    all_there("/room");
    for (n, (_, connection, client)) in joined.iter().enumerate() {
        let (server, same) = (server.clone(), connection.clone());
        connection.clone().log_errors().filter(|text| text == "tell").take(1).subscribe(move |_| {
            server.next_except(TaggedData::new("/room", format!("told by {n}")), &same);
        });
        client.next("tell");
    }
    for (n, (heard, ..)) in joined.iter().enumerate() {
        let told: BTreeSet<_> =
            (1..CLIENTS).map(|_| heard.find(|text| text.strip_prefix("told by ").map(str::to_owned))).collect();
        assert_eq!(told, texts(0..CLIENTS).into_iter().filter(|other| *other != n.to_string()).collect());
    }
}
