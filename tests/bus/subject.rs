//! The bus as a subject: who hears what is pushed, and how often.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
    mpsc,
};

use super::*;

over_both! {
    pushed_item_reaches_the_subscribers_of_every_handle_once,
    path_and_subtree_hear_their_own_and_no_others,
    nothing_in_a_path_reaches_another_path,
    completed_bus_sends_what_was_pushed_before,
    buses_with_other_prefixes_hear_nothing,
    path_without_a_subject_is_heard_here_and_told,
    buses_of_different_datatypes_skip_what_they_do_not_understand,
    last_handle_that_goes_ends_the_bus,
}

fn data(heard: &Recorder<TaggedData<WsText>>, count: usize) -> Vec<String> {
    (0..count).map(|_| heard.item().data.to_string()).collect()
}

fn tagged(path: &str, data: impl ToString) -> TaggedData<WsText> {
    TaggedData::new(path, data.to_string().into())
}

fn pushed_item_reaches_the_subscribers_of_every_handle_once(joint: &Joint) {
    let [here, there] = [joint.bus(), joint.bus()];
    let heard = [&here, &here, &there].map(|bus| Recorder::on(bus.clone()));
    there.wait_connected(PATIENCE).unwrap();
    here.wait_connected(PATIENCE).unwrap();
    for n in 0..100 {
        here.next(tagged("/a", n));
    }
    here.next(tagged("/b", "end"));
    for heard in &heard {
        let mut all = data(heard, 101);
        // Different paths have no order.
        all.retain(|data| data != "end");
        assert_eq!(all, texts(0..100));
    }
    here.complete();
    there.complete();
    assert!(heard.iter().all(|heard| heard.hear().is_complete()));
}

fn path_and_subtree_hear_their_own_and_no_others(joint: &Joint) {
    let [here, there] = [joint.bus(), joint.bus()];
    for bus in [&there, &here] {
        let [path, under, below] = [bus.path("/a"), bus.under("/a"), bus.under("/a/b")].map(Recorder::on);
        bus.wait_connected(PATIENCE).unwrap();
        for path in ["/", "/ab", "/a", "/a/", "/a/b", "/a/b/c", "/b/a"] {
            here.next(tagged(path, path));
        }
        let mut all = data(&under, 3);
        // Different paths have no order.
        all.sort();
        assert_eq!(all, ["/a/", "/a/b", "/a/b/c"]);
        assert_eq!((data(&path, 1), data(&below, 1)), (vec!["/a".into()], vec!["/a/b/c".into()]));
        bus.clone().complete();
        assert!([path, under, below].iter().all(|heard| heard.hear().is_complete()));
    }
}

fn nothing_in_a_path_reaches_another_path(joint: &Joint) {
    let [here, there] = [joint.bus(), joint.bus()];
    let (all, one) = (Recorder::on(there.clone()), Recorder::on(there.path("/a")));
    there.wait_connected(PATIENCE).unwrap();
    let paths = ["/*", "/>", "/a.b", "/ a", "/a\r\nPUB rx.a 1\r\nx", "/a b", "/=61", "/a/../a", "/ä", "/a\0", "/a"];
    for path in paths {
        here.next(tagged(path, path));
    }
    let mut heard: Vec<_> = (0..paths.len()).map(|_| all.item()).collect();
    assert!(heard.iter().all(|item| *item.tag == *item.data));
    heard.sort_by(|a, b| a.tag.cmp(&b.tag));
    let mut paths = paths;
    paths.sort_unstable();
    assert_eq!(heard.iter().map(|item| item.tag.as_str()).collect::<Vec<_>>(), paths);
    assert_eq!(one.item(), tagged("/a", "/a"));
}

fn completed_bus_sends_what_was_pushed_before(joint: &Joint) {
    let [here, there] = [joint.bus(), joint.bus()];
    let heard = Recorder::on(there.path("/a"));
    there.wait_connected(PATIENCE).unwrap();
    for n in 0..1_000 {
        here.send(tagged("/a", n)).unwrap();
    }
    here.clone().complete();
    assert!(matches!(here.send(tagged("/a", "late")), Err(SendError::Closed(_))));
    assert_eq!(here.wait_closed(PATIENCE).unwrap().unsent, 0);
    assert_eq!(data(&heard, 1_000), texts(0..1_000));
    let sent = here.stats().sent;
    assert_eq!((sent.accepted, sent.queued.messages), (sent.written, 0));
}

fn buses_with_other_prefixes_hear_nothing(joint: &Joint) {
    let [here, there] = ["one", "other"].map(|prefix| joint.builder(WsStr).prefix(prefix).connect().unwrap());
    let second = joint.builder(WsStr).prefix("one").connect().unwrap();
    let [heard, others] = [&second, &there].map(|bus| Recorder::on(bus.clone()));
    [&second, &there].into_iter().for_each(|bus| bus.wait_connected(PATIENCE).unwrap());
    here.next(tagged("/a", "x"));
    assert_eq!(heard.item(), tagged("/a", "x"));
    there.complete();
    assert!(others.hear().is_complete());
}

fn path_without_a_subject_is_heard_here_and_told(joint: &Joint) {
    let bus = joint.bus();
    let heard = Recorder::on(bus.clone());
    let told = bus_event(&bus, |event| match event {
        BusEvent::Unroutable { path, .. } => Some(path),
        _ => None,
    });
    let long = format!("/{}", ".".repeat(4096));
    bus.next(tagged(&long, "x"));
    assert_eq!((heard.item().data, told()), ("x".into(), long.as_str().into()));
    assert!(matches!(bus.send(tagged("no path", "y")), Err(SendError::Encode(..))));
}

fn buses_of_different_datatypes_skip_what_they_do_not_understand(joint: &Joint) {
    let [here, there] = [joint.bus(), joint.bus()];
    let [numbers, others] = [0, 1].map(|_| joint.builder(WsObject::<u32>::new()).connect().unwrap());
    let (texts_heard, numbers_heard) = (Recorder::on(there.path("/a")), Recorder::on(others.path("/a")));
    let counted = [skipped_by(&there), skipped_by(&others)];
    [&here, &there].into_iter().for_each(|bus| bus.wait_connected(PATIENCE).unwrap());
    [&numbers, &others].into_iter().for_each(|bus| bus.wait_connected(PATIENCE).unwrap());
    for n in 0..100 {
        here.next(tagged("/a", n));
        numbers.next(TaggedData::new("/a", n as u32));
    }
    assert_eq!(data(&texts_heard, 100), texts(0..100));
    assert_eq!(numbers_heard.items(100), (0..100_u32).map(|n| TaggedData::new("/a", n)).collect::<Vec<_>>());
    until("all that is of the others", || counted.iter().all(|counted| counted.load(Relaxed) == 100));
    assert_eq!((there.stats().undecodable, others.stats().undecodable), (100, 100));
}

/// How many messages of another bus, by its events, a bus does not understand.
fn skipped_by<D: WsDatatype>(bus: &RxBus<D>) -> Arc<AtomicU64> {
    let skipped = Arc::<AtomicU64>::default();
    let counting = skipped.clone();
    bus.events().subscribe(move |event| match event {
        BusEvent::Undecodable { path, from: Some(_), count, .. } if path == "/a" => {
            _ = counting.fetch_add(count, Relaxed)
        }
        _ => {}
    });
    skipped
}

fn last_handle_that_goes_ends_the_bus(joint: &Joint) {
    let bus = joint.bus();
    let (closed, server) = (bus.closed(), joint.server(&bus));
    let states = Recorder::on(bus.state());
    drop(bus);
    server.clone().complete();
    server.wait_closed(PATIENCE).unwrap();
    drop(server);
    states.find(|state| (state == ConnectionState::Closed).then_some(()));
    assert!(states.hear().is_complete());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, closed).await.unwrap() });
}

/// A payload with which the runtime of its bus ends.
struct Last {
    tokio: Option<tokio::runtime::Runtime>,
    bus: RxBus<WsBytes>,
}

impl AsRef<[u8]> for Last {
    fn as_ref(&self) -> &[u8] {
        b"last"
    }
}

impl Drop for Last {
    fn drop(&mut self) {
        self.tokio.take().unwrap().shutdown_background();
        self.bus.wait_closed(PATIENCE).unwrap();
    }
}

#[test]
fn message_that_is_dropped_in_the_moment_of_the_end_is_told_before_it() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let runtime = IoRuntime::from_tokio(tokio.handle().clone());
    let url = format!("nats://{}", silent.local_addr().unwrap());
    let bus = RxBus::builder(url, WsBytes).outbox(1, 1000, Overflow::DropOldest).runtime(&runtime).connect().unwrap();
    let events = Recorder::on(bus.events());
    let last = Last { tokio: Some(tokio), bus: bus.clone() };
    bus.next(TaggedData::new("/x", bytes::Bytes::from_owner(last)));
    bus.next(TaggedData::new("/x", "one more"));
    let told = events.to_the_end().0.into_iter().filter_map(|event| match event {
        BusEvent::Dropped { reason, dropped } => Some((reason, dropped)),
        _ => None,
    });
    assert_eq!(told.collect::<Vec<_>>(), [(DropReason::Overflow, tally(1, 4)), (DropReason::Closed, tally(1, 8))]);
}

/// An observer that another thread of the runtime is calling hears the end before a wait for it is over.
#[test]
fn waits_for_the_end_are_over_after_states_and_presence_are_delivered() {
    let (runtimes, _tokio) = each_runtime(2);
    for runtime in &runtimes {
        for of_presence in [false, true] {
            let bus = RxBus::builder(&LocalBroker::new(), WsStr).runtime(runtime).connect().unwrap();
            bus.wait_connected(PATIENCE).unwrap();
            // Others hear first what this one has heard.
            Recorder::on(bus.presence("/")).item();
            let ((begin, begun), (release, released)) = (mpsc::channel(), mpsc::channel::<()>());
            let hold = move || {
                begin.send(()).unwrap_or(());
                released.recv().unwrap_or(());
            };
            let heard = match of_presence {
                false => Recorder::on(bus.state().map(move |_| hold())),
                true => Recorder::on(bus.presence("/").map(move |_| hold())),
            };
            begun.recv_timeout(PATIENCE).unwrap();
            bus.clone().complete();
            assert!(matches!(bus.wait_closed(Duration::from_millis(50)), Err(WsError::TimedOut { .. })));
            drop(release);
            bus.wait_closed(PATIENCE).unwrap();
            assert!(heard.rest().last().is_some_and(Heard::is_complete));
        }
    }
}
