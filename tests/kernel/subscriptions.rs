//! Subscribing and unsubscribing at any moment, from any thread, and what observers hold.

use super::*;

#[test]
fn four_threads_subscribe_and_unsubscribe_while_a_fifth_pushes() {
    const PUSHES: usize = 30_000;
    let subject = Numbers::new();
    let (begun, over, held) = (AtomicUsize::new(0), AtomicBool::new(false), Arc::new(()));

    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !over.load(SeqCst) {
                    come_and_go(&subject, &begun, &over, held.clone());
                }
            });
        }
        scope.spawn(|| {
            for n in 0..PUSHES {
                begun.store(n + 1, SeqCst);
                subject.next(n);
            }
            over.store(true, SeqCst);
        });
    });

    assert_eq!(Arc::strong_count(&held), 1, "an observer outlived its subscription");
}

/// Subscribes, hears at least one item, unsubscribes; checks that it heard what the contract promises.
fn come_and_go(subject: &Numbers, begun: &AtomicUsize, over: &AtomicBool, held: Arc<()>) {
    #[derive(Default)]
    struct Visit {
        heard: Mutex<Vec<usize>>,
        gone: AtomicBool,
        late: AtomicUsize,
    }
    let visit = Arc::new(Visit::default());
    let noted = visit.clone();
    let subscription = Io::new(subject.clone()).subscribe(move |n| {
        hold(&held);
        if noted.gone.load(SeqCst) {
            noted.late.fetch_add(1, SeqCst);
        }
        noted.heard.lock().unwrap().push(n);
    });
    let begun_before = begun.load(SeqCst);
    while visit.heard.lock().unwrap().is_empty() && !over.load(SeqCst) {
        thread::yield_now();
    }
    subscription.unsubscribe();
    visit.gone.store(true, SeqCst);

    let heard = visit.heard.lock().unwrap().clone();
    assert!(heard.first().is_none_or(|first| *first <= begun_before), "missed an item pushed after subscribe returned");
    assert!(heard.windows(2).all(|pair| pair[0] + 1 == pair[1]), "missed an item in between");
    assert!(visit.late.load(SeqCst) <= 1, "a delivery began after unsubscribe had returned");
}

#[test]
fn subscribing_and_unsubscribing_during_the_emission_of_another_thread_needs_no_tokio_runtime() {
    let subject = Numbers::new();
    let (stays, leaves, comes) = (Log::new(), Log::new(), Log::new());
    let pause = Pause::in_observer_of(&subject, &stays);
    let leaving = leaves.subscribe_to(&subject);

    let emitter = pause.emit(&subject, 0);
    leaving.clone().unsubscribe();
    comes.subscribe_to(&subject);
    assert!(leaving.is_closed());
    pause.end();
    emitter.join().unwrap();
    subject.next(1);

    assert_eq!(stays.items(), [0, 1]);
    assert!(leaves.items().is_empty());
    assert_eq!(comes.items(), [1]);
}

#[test]
fn unsubscribing_from_another_thread_while_a_thousand_items_wait_lets_only_the_current_one_through() {
    let subject = Numbers::new();
    let heard = Log::new();
    let pause = Pause::in_observer_of(&subject, &heard);

    let emitter = pause.emit(&subject, 0);
    (1..=1_000).for_each(|n| subject.next(n)); // they wait: another thread is emitting
    pause.subscription.clone().unsubscribe();
    pause.end();
    emitter.join().unwrap();

    assert_eq!(heard.items(), [0]);
}

#[test]
fn unsubscribing_at_any_moment_lets_at_most_one_more_item_through() {
    for round in 0..300 {
        let subject = Numbers::new();
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        let subscription = Io::new(subject.clone()).subscribe(move |_| {
            counted.fetch_add(1, SeqCst);
        });
        let emitter = thread::spawn(move || (0..1_000).for_each(|n| subject.next(n)));
        while count.load(SeqCst) < round {
            thread::yield_now();
        }
        subscription.unsubscribe();
        let at_return = count.load(SeqCst);
        emitter.join().unwrap();
        assert!(count.load(SeqCst) <= at_return + 1);
    }
}

#[test]
fn subscriber_that_comes_inside_a_callback_hears_all_six_items_pushed_in_it() {
    let subject = Numbers::new();
    let newcomer = Log::new();
    let (pushed, joining) = (subject.clone(), newcomer.clone());
    Io::new(subject.clone()).filter(|n| *n == 0).subscribe(move |_| {
        (1..=3).for_each(|n| pushed.next(n));
        joining.subscribe_to(&pushed);
        (4..=6).for_each(|n| pushed.next(n));
    });
    subject.next(0);
    assert_eq!(newcomer.items(), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn subscriber_that_comes_inside_a_callback_of_one_subject_hears_what_was_pushed_there_into_another() {
    let (first, second) = (Numbers::new(), Numbers::new());
    let newcomer = Log::new();
    let (pushed, joining) = (second.clone(), newcomer.clone());
    Io::new(first.clone()).subscribe(move |_| {
        (1..=6).for_each(|n| pushed.next(n));
        joining.subscribe_to(&pushed);
    });
    first.next(0);
    assert_eq!(newcomer.items(), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn subscriber_may_unsubscribe_itself_and_others_inside_its_callback() {
    let subject = Numbers::new();
    let own = Arc::new(OnceLock::<SerializedSubscription>::new());
    let others = Arc::new(OnceLock::<SerializedSubscription>::new());
    let (heard, other_heard) = (Log::new(), Log::new());
    let (noted, own_handle, others_handle) = (heard.clone(), own.clone(), others.clone());
    let subscription = Io::new(subject.clone()).subscribe(move |n| {
        noted.note(n);
        own_handle.get().unwrap().clone().unsubscribe();
        others_handle.get().unwrap().clone().unsubscribe();
    });
    own.set(subscription).unwrap();
    others.set(other_heard.subscribe_to(&subject)).unwrap();

    (0..3).for_each(|n| subject.next(n));

    assert_eq!(heard.items(), [0]);
    assert!(other_heard.items().is_empty());
}

#[test]
fn is_closed_may_be_asked_inside_the_callback() {
    within_patience(|| {
        let (a, b) = (Numbers::new(), Numbers::new());
        let plain = Arc::new(OnceLock::<SerializedSubscription>::new());
        let (asked, answers) = (plain.clone(), Log::new());
        let noted = answers.clone();
        let (of_subject, merged_with) = (a.clone(), b.clone());
        let subscription = Io::new(a.clone()).merge(Io::new(b)).subscribe(move |_| {
            noted.note(asked.get().unwrap().is_closed());
            noted.note(Observer::is_closed(&of_subject));
            noted.note(Observer::is_closed(&merged_with));
        });
        plain.set(Log::new().subscribe_to(&a)).unwrap();
        a.next(0);
        assert_eq!(answers.items(), [false; 3]);
        assert!(!subscription.is_closed());
        subscription.unsubscribe();
    });
}

#[test]
fn subscription_does_not_wait_for_an_emission_to_tell_whether_it_is_closed() {
    let subject = Numbers::new();
    let heard = Log::new();
    let pause = Pause::in_observer_of(&subject, &heard);
    let emitter = pause.emit(&subject, 0);
    assert!(!pause.subscription.is_closed());
    assert!(!Observer::is_closed(&subject));
    pause.end();
    emitter.join().unwrap();
}

#[test]
fn unsubscribed_observer_is_dropped_without_a_further_item() {
    let subject = Numbers::new();
    let held = Arc::new(());
    let subscription = subscribe_holding(&subject, &held);
    assert_eq!(Arc::strong_count(&held), 2);
    subscription.unsubscribe();
    assert_eq!(Arc::strong_count(&held), 1);
}

#[test]
fn observer_unsubscribed_while_another_thread_emits_is_dropped_when_that_emission_is_over() {
    let subject = Numbers::new();
    let held = Arc::new(());
    let pause = Pause::in_observer_of(&subject, &Log::new());
    let subscription = subscribe_holding(&subject, &held);
    let emitter = pause.emit(&subject, 0);
    subscription.unsubscribe();
    pause.end();
    emitter.join().unwrap();
    assert_eq!(Arc::strong_count(&held), 1);
}

#[test]
fn observer_is_dropped_whichever_way_unsubscribe_races_with_an_emission() {
    let subject = Numbers::new();
    let held = Arc::new(());
    let meet = Barrier::new(2);
    const ROUNDS: usize = 5_000;
    thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..ROUNDS {
                meet.wait();
                subject.next(n);
                meet.wait();
            }
        });
        for _ in 0..ROUNDS {
            let subscription = subscribe_holding(&subject, &held);
            meet.wait();
            subscription.unsubscribe();
            meet.wait();
            assert_eq!(Arc::strong_count(&held), 1);
        }
    });
}

#[test]
fn observer_of_take_3_is_dropped_after_its_third_item() {
    let subject = Numbers::new();
    let held = Arc::new(());
    let (heard, captured) = (Log::new(), held.clone());
    let noted = heard.clone();
    let subscription = Io::new(subject.clone()).take(3).subscribe(move |n| {
        hold(&captured);
        noted.note(n);
    });
    subject.next(0);
    subject.next(1);
    assert_eq!(Arc::strong_count(&held), 2);
    subject.next(2);
    assert_eq!(Arc::strong_count(&held), 1);
    subject.next(3);
    assert_eq!(heard.items(), [0, 1, 2]);
    assert!(subscription.is_closed());
}

#[test]
fn terminal_event_drops_the_observers() {
    let held = Arc::new(());
    let subject = Fallible::new();
    subscribe_fallible(&subject, held.clone());
    subject.clone().error("over");
    assert_eq!(Arc::strong_count(&held), 1);
}

#[test]
fn dropping_the_last_handle_drops_the_observers() {
    let held = Arc::new(());
    let subject = Numbers::new();
    let subscription = subscribe_holding(&subject, &held);
    drop(subject);
    assert_eq!(Arc::strong_count(&held), 1);
    subscription.unsubscribe();
}

#[test]
fn dropping_the_last_handle_inside_a_callback_drops_the_observers() {
    let held = Arc::new(());
    let (outer, inner) = (Numbers::new(), Numbers::new());
    subscribe_holding(&inner, &held);
    let mut last = Some(inner);
    Io::new(outer.clone()).subscribe(move |n| {
        if let Some(inner) = last.take() {
            inner.next(n); // still waits for this callback to return
        }
    });
    outer.next(0);
    assert_eq!(Arc::strong_count(&held), 1);
}

#[test]
fn items_and_handles_do_not_pile_up_behind_a_scheduler() {
    let subject = SerializedSubject::<Arc<()>>::new();
    let (item, (sentinel, dropped)) = (Arc::new(()), sentinel());
    Io::new(subject.clone()).observe_on(IoScheduler::default()).subscribe(move |_| hold(&sentinel));
    (0..20_000).for_each(|_| subject.next(item.clone()));
    subject.complete();
    dropped.recv_timeout(PATIENCE).unwrap();
    assert_eq!(Arc::strong_count(&item), 1);
}
