use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use loom::thread;
use rxrust::{observer::Observer, subscription::Subscription};

use crate::{
    model,
    runtime::IoScheduler,
    subject::SerializedSubject,
    subject::audience::{Audience, Seen},
    subject::branch::{Branch, FromBranch, Main, kept_in},
    subject::holding::Holding,
    subject::replay::{EarlyBounds, Replay},
};

/// An item of the main subject: of which branch, and which.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Marked(u64, usize);

impl FromBranch<usize> for Marked {
    fn branch(&self) -> u64 {
        self.0
    }

    fn into_own(self) -> usize {
        self.1
    }
}

/// What comes from the branches has this tag.
const TAG: &str = "/spring";

type Log<T> = Arc<Mutex<Vec<T>>>;

/// Notes what it hears.
struct Pen<T>(Log<T>);

impl<T> Observer<T, Infallible> for Pen<T> {
    fn next(&mut self, item: T) {
        self.0.lock().unwrap().push(item);
    }

    fn error(self, never: Infallible) {
        match never {}
    }

    fn complete(self) {}

    fn is_closed(&self) -> bool {
        false
    }
}

/// The first of the branches of a main subject.
struct River {
    main: SerializedSubject<Marked, Infallible>,
    audience: Audience,
    branch: Branch<usize, Marked, Infallible>,
}

impl River {
    fn new() -> Self {
        let bounds = EarlyBounds { items: 9, len: 9 };
        let main = SerializedSubject::at_home(IoScheduler, Replay::early(bounds, |_| 1, |_| {}), None);
        let audience = Audience::default();
        let own = SerializedSubject::at_home(IoScheduler, kept_in(1, main.clone(), |item| Marked(1, item)), None);
        let branch = Branch::new(own, Main { subject: main.clone(), audience: audience.clone() });
        Self { main, audience, branch }
    }

    fn emit(&self, item: usize) {
        self.branch.emit(TAG, item, |item| self.main.relay(Marked(1, item)));
    }

    fn listen_to_main(&self, log: &Log<Marked>) {
        self.main.add(Holding::new(Pen(log.clone()), self.audience.count_in(None)));
    }
}

#[test]
fn subscriber_of_a_branch_hears_what_came_before_and_what_comes_meanwhile() {
    model(|| {
        let (river, log) = (Arc::new(River::new()), Log::default());
        river.emit(0);
        let other = river.clone();
        let emitting = thread::spawn(move || {
            other.emit(1);
            other.emit(2);
        });
        river.branch.add(Pen(log.clone()));
        emitting.join().unwrap();
        river.emit(3);
        assert_eq!(*log.lock().unwrap(), [0, 1, 2, 3]);
    });
}

#[test]
fn what_comes_between_two_subscribers_of_a_branch_is_heard_by_the_second() {
    model(|| {
        let (river, first, second) = (Arc::new(River::new()), Log::default(), Log::default());
        let former = river.branch.add(Pen(first.clone()));
        let other = river.clone();
        let emitting = thread::spawn(move || {
            other.emit(0);
            other.emit(1);
        });
        former.unsubscribe();
        let at_first = first.lock().unwrap().len();
        river.branch.add(Pen(second.clone()));
        emitting.join().unwrap();
        river.emit(2);
        let heard: Vec<_> = first.lock().unwrap().iter().chain(&*second.lock().unwrap()).copied().collect();
        // One whose turn it was when the first one left may be nobody's.
        let lost = (0..3).filter(|item| !heard.contains(item)).count();
        assert!(heard.is_sorted_by(|a, b| a < b) && lost <= 1, "{heard:?}, {at_first} at first");
    });
}

#[test]
fn item_is_heard_or_kept_once_whoever_subscribes_to_the_branch_and_to_the_main_subject() {
    model(|| {
        let (river, own, of_main) = (Arc::new(River::new()), Log::default(), Log::default());
        river.emit(0);
        let (other, log) = (river.clone(), of_main.clone());
        let subscribing = thread::spawn(move || other.listen_to_main(&log));
        let (other, log) = (river.clone(), own.clone());
        let emitting = thread::spawn(move || other.emit(1));
        river.branch.add(Pen(log));
        subscribing.join().unwrap();
        emitting.join().unwrap();
        river.emit(2);
        let (own, of_main) = (own.lock().unwrap(), of_main.lock().unwrap());
        for item in 0..2 {
            assert!(own.contains(&item) || of_main.contains(&Marked(1, item)), "{own:?} {of_main:?}");
        }
        assert!(own.contains(&2) && of_main.contains(&Marked(1, 2)), "{own:?} {of_main:?}");
        assert!(own.is_sorted_by(|a, b| a < b) && of_main.is_sorted_by(|a, b| a.1 < b.1), "{own:?} {of_main:?}");
    });
}

#[test]
fn item_that_is_pushed_while_somebody_leaves_is_heard_or_kept() {
    model(|| {
        let bounds = EarlyBounds { items: 9, len: 9 };
        let main = SerializedSubject::at_home(IoScheduler, Replay::early(bounds, |_| 1, |_| {}), None);
        let own = SerializedSubject::at_home(IoScheduler, kept_in(1, main.clone(), |item| Marked(1, item)), None);
        let (heard, kept) = (Log::default(), Log::default());
        let subscription = own.add(Pen(heard.clone()));
        let other = own.clone();
        let pushing = thread::spawn(move || other.next(0));
        subscription.unsubscribe();
        pushing.join().unwrap();
        own.next(1);
        main.add(Pen(kept.clone()));
        assert!(kept.lock().unwrap().ends_with(&[Marked(1, 1)]), "{heard:?} {kept:?}");
    });
}

#[test]
fn main_subject_whose_last_subscriber_has_left_is_fed_no_more() {
    model(|| {
        let (river, log) = (River::new(), Log::default());
        river.main.add(Holding::new(Pen(Log::default()), river.audience.count_in(None))).unsubscribe();
        river.branch.add(Pen(log.clone()));
        river.branch.emit(TAG, 0, |_| panic!("there is nobody to hear it"));
        assert_eq!(*log.lock().unwrap(), [0]);
    });
}

#[test]
fn subscriber_of_the_branchs_tag_misses_nothing_from_when_it_joins_whoever_else_comes_and_goes() {
    model(|| {
        let (river, log) = (Arc::new(River::new()), Log::default());
        river.main.add(Pen(Log::default())); // no item is kept any more
        let other = river.clone();
        let emitting = thread::spawn(move || {
            other.emit(0);
            other.emit(1);
        });
        let brief = river.audience.count_in(Some(TAG));
        river.main.add(Holding::new(Pen(log.clone()), river.audience.count_in(Some(TAG))));
        drop(brief);
        emitting.join().unwrap();
        river.emit(2);
        let heard: Vec<_> = log.lock().unwrap().iter().map(|item| item.1).collect();
        assert!([0, 1, 2].ends_with(&heard) && heard.ends_with(&[2]), "{heard:?}");
    });
}

#[test]
fn item_whose_tag_nobody_hears_is_not_even_made() {
    model(|| {
        let (river, log) = (River::new(), Log::default());
        river.branch.add(Pen(log.clone()));
        river.main.add(Holding::new(Pen(Log::default()), river.audience.count_in(Some("/sea"))));
        river.branch.emit(TAG, 0, |_| panic!("there is nobody to hear it"));
        assert_eq!(*log.lock().unwrap(), [0]);
    });
}

#[test]
fn tag_is_heard_while_anybody_is_there_for_it() {
    model(|| {
        let (audience, [a, b]) = (Audience::default(), [Seen::default(), Seen::default()]);
        let heard = || [audience.hears("/a", &a), audience.hears("/b", &b)];
        assert_eq!(heard(), [false, false]);
        let [first, second] = [audience.count_in(Some("/a")), audience.count_in(Some("/a"))];
        assert_eq!(heard(), [true, false]);
        let all = audience.count_in(None);
        assert_eq!(heard(), [true, true]);
        drop((first, all));
        assert_eq!(heard(), [true, false]);
        drop(second);
        assert_eq!(heard(), [false, false]);
    });
}
