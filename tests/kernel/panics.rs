//! User code that panics: in a callback, in a clone, in a destructor.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;

#[test]
fn subscriber_that_panics_is_removed_and_the_others_go_on() {
    let subject = Numbers::new();
    let (before, after, held) = (Log::new(), Log::new(), Arc::new(()));
    before.subscribe_to(&subject);
    let captured = held.clone();
    let panicking = Io::new(subject.clone()).subscribe(move |n| {
        hold(&captured);
        assert_ne!(n, 1, "a bug of the subscriber's");
    });
    after.subscribe_to(&subject);

    (0..4).for_each(|n| subject.next(n));

    assert_eq!(before.items(), [0, 1, 2, 3]);
    assert_eq!(after.items(), [0, 1, 2, 3]);
    assert!(panicking.is_closed());
    assert_eq!(Arc::strong_count(&held), 1);
}

#[test]
fn observer_that_panics_and_whose_captured_value_panics_in_drop_harms_nobody() {
    let subject = Numbers::new();
    let heard = Log::new();
    let bomb = Bomb;
    Io::new(subject.clone()).subscribe(move |_| {
        hold(&bomb);
        panic!("a bug of the subscriber's");
    });
    heard.subscribe_to(&subject);
    (0..3).for_each(|n| subject.next(n));
    assert_eq!(heard.items(), [0, 1, 2]);
}

#[test]
fn captured_value_that_panics_in_drop_when_unsubscribed_harms_nobody() {
    let subject = Numbers::new();
    let (heard, bomb) = (Log::new(), Bomb);
    let subscription = Io::new(subject.clone()).subscribe(move |_| hold(&bomb));
    heard.subscribe_to(&subject);
    subscription.unsubscribe();
    subject.next(0);
    assert_eq!(heard.items(), [0]);
}

#[test]
fn panic_whose_message_panics_in_drop_harms_nobody() {
    let subject = Numbers::new();
    let heard = Log::new();
    Io::new(subject.clone()).subscribe(|_| std::panic::panic_any(Bomb));
    heard.subscribe_to(&subject);
    subject.next(0);
    assert_eq!(heard.items(), [0]);
}

#[test]
fn subscriber_that_panics_in_its_terminal_event_does_not_keep_it_from_the_others() {
    let subject = Fallible::new();
    let heard = Log::new();
    Io::new(subject.clone()).on_error(|_| panic!("a bug of the subscriber's")).subscribe(|_| {});
    heard.subscribe_to_all_of(&subject);
    subject.clone().error("over");
    assert_eq!(heard.items(), [Heard::Error("over".into())]);
}

#[test]
fn late_subscriber_that_panics_in_its_terminal_event_does_not_harm_the_thread() {
    let (ended, subject) = (Fallible::new(), Numbers::new());
    let heard = Log::new();
    heard.subscribe_to(&subject);
    ended.clone().error("over");
    Io::new(ended).on_error(|_| panic!("a bug of the subscriber's")).subscribe(|_| {});
    subject.next(0);
    assert_eq!(heard.items(), [0]);
}

#[test]
fn panic_inside_a_merge_ends_that_pipeline_and_nothing_else() {
    within_patience(|| {
        let (a, b) = (Numbers::new(), Numbers::new());
        let heard = Log::new();
        Io::new(a.clone()).merge(Io::new(b.clone())).subscribe(|_| panic!("a bug of the subscriber's"));
        heard.subscribe_to(&a);
        heard.subscribe_to(&b);
        a.next(1);
        b.next(2);
        a.next(3);
        b.next(4);
        assert_eq!(heard.items(), [1, 2, 3, 4]);
    });
}

/// Panics when it is told to: as an item that is cloned or dropped, as an error that is cloned.
#[derive(Debug)]
struct Fragile {
    on_clone: bool,
    on_drop: bool,
}

impl Clone for Fragile {
    fn clone(&self) -> Self {
        assert!(!self.on_clone, "clone panics");
        Self { ..*self }
    }
}

impl Drop for Fragile {
    fn drop(&mut self) {
        assert!(!self.on_drop || thread::panicking(), "drop panics");
    }
}

#[test]
fn item_that_panics_in_clone_does_not_silence_the_subject() {
    let subject = SerializedSubject::<Fragile>::new();
    let count = Arc::new(AtomicUsize::new(0));
    for _ in 0..3 {
        let counted = count.clone();
        Io::new(subject.clone()).subscribe(move |_| {
            counted.fetch_add(1, SeqCst);
        });
    }
    push_on_own_thread(&subject, Fragile { on_clone: true, on_drop: false });
    assert_eq!(count.swap(0, SeqCst), 1, "the last observer needs no clone");
    push_on_own_thread(&subject, Fragile { on_clone: false, on_drop: false });
    assert_eq!(count.load(SeqCst), 1);
}

#[test]
fn item_that_panics_in_drop_does_not_silence_a_subject_without_observers() {
    let subject = SerializedSubject::<Fragile>::new();
    push_on_own_thread(&subject, Fragile { on_clone: false, on_drop: true });
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    Io::new(subject.clone()).subscribe(move |_| {
        counted.fetch_add(1, SeqCst);
    });
    push_on_own_thread(&subject, Fragile { on_clone: false, on_drop: false });
    assert_eq!(count.load(SeqCst), 1);
}

#[test]
fn item_that_panics_in_drop_does_not_silence_its_thread() {
    within_patience(|| {
        let (fragile, other) = (SerializedSubject::<Fragile>::new(), Numbers::new());
        let heard = Log::new();
        heard.subscribe_to(&other);
        let push = || fragile.next(Fragile { on_clone: false, on_drop: true });
        let _ = catch_unwind(AssertUnwindSafe(push));
        other.next(1);
        assert_eq!(heard.items(), [1]);
    });
}

#[test]
fn error_that_panics_in_clone_silences_neither_its_subject_nor_its_thread() {
    within_patience(|| {
        let failing = SerializedSubject::<usize, Fragile>::new();
        let (subject, heard, held) = (Numbers::new(), Log::new(), Arc::new(()));
        heard.subscribe_to(&subject);
        let captured = held.clone();
        Io::new(failing.clone()).on_error(|_| {}).subscribe(move |_| hold(&captured));
        let error = || failing.clone().error(Fragile { on_clone: true, on_drop: false });
        let _ = catch_unwind(AssertUnwindSafe(error));
        failing.complete();
        subject.next(1);
        assert_eq!(heard.items(), [1]);
        assert_eq!(Arc::strong_count(&held), 1, "the observer of a subject that has ended is kept");
    });
}

fn push_on_own_thread(subject: &SerializedSubject<Fragile>, item: Fragile) {
    let subject = subject.clone();
    let _ = thread::spawn(move || subject.next(item)).join();
}
