use std::{
    convert::Infallible,
    mem::take,
    pin::pin,
    sync::{Arc, Mutex, atomic::AtomicU64},
    task::{self, Wake},
};

use loom::{
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
};
use rxrust::{observer::Observer, subscription::Subscription};

use crate::{
    model, runtime,
    runtime::callback,
    subject::{
        SerializedSubject, SerializedSubscription,
        replay::{Elsewhere, Noted, Replay},
    },
};

type Numbers = SerializedSubject<usize, Infallible>;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Heard {
    Item(usize),
    Complete,
    Dropped,
}

/// Notes what it hears, in a log without loom's knowledge: the subject alone is to keep its callers apart.
struct Pen {
    log: Arc<Mutex<Vec<Heard>>>,
    /// What it pushes, and where, in its first item.
    push: Option<(Numbers, usize)>,
    /// Whom it has leave in its first item.
    removes: Arc<Mutex<Option<SerializedSubscription>>>,
}

impl Pen {
    fn new(log: &Arc<Mutex<Vec<Heard>>>) -> Self {
        Self { log: log.clone(), push: None, removes: Arc::default() }
    }

    fn note(&self, heard: Heard) {
        self.log.try_lock().expect("no two calls at once").push(heard);
    }
}

impl Observer<usize, Infallible> for Pen {
    fn next(&mut self, item: usize) {
        self.note(Heard::Item(item));
        if let Some((subject, item)) = self.push.take() {
            subject.next(item);
        }
        let removed = self.removes.lock().unwrap().take();
        removed.into_iter().for_each(SerializedSubscription::unsubscribe);
    }

    fn error(self, never: Infallible) {
        match never {}
    }

    fn complete(self) {
        self.note(Heard::Complete);
    }

    fn is_closed(&self) -> bool {
        false
    }
}

impl Drop for Pen {
    fn drop(&mut self) {
        self.note(Heard::Dropped);
    }
}

fn items(log: &Mutex<Vec<Heard>>) -> Vec<usize> {
    let item = |heard| match heard {
        Heard::Item(n) => Some(n),
        _ => None,
    };
    take(&mut *log.lock().unwrap()).into_iter().filter_map(item).collect()
}

#[test]
fn items_of_two_threads_all_arrive_in_the_order_of_each() {
    model(|| {
        let (subject, log) = (Numbers::new(), Arc::default());
        subject.add(Pen::new(&log));
        let other = subject.clone();
        let pushing = thread::spawn(move || {
            other.next(0);
            other.next(1);
        });
        subject.next(10);
        pushing.join().unwrap();
        let heard = items(&log);
        assert_eq!(heard.len(), 3);
        assert!(heard.iter().filter(|n| **n < 10).is_sorted());
    });
}

#[test]
fn no_delivery_begins_after_any_of_several_unsubscriptions_has_returned() {
    model(|| {
        let (subject, log) = (Numbers::new(), Arc::default());
        let subscription = subject.add(Pen::new(&log));
        let clone = subscription.clone();
        let leaving = thread::spawn(move || clone.unsubscribe());
        subscription.unsubscribe();
        subject.next(1);
        assert_eq!(items(&log), []);
        leaving.join().unwrap();
    });
}

#[test]
fn items_of_three_threads_all_arrive() {
    model(|| {
        let (subject, log) = (Numbers::new(), Arc::default());
        subject.add(Pen::new(&log));
        let pushing = [0, 1].map(|n| {
            let other = subject.clone();
            thread::spawn(move || other.next(n))
        });
        subject.next(2);
        pushing.into_iter().for_each(|pushing| pushing.join().unwrap());
        let mut heard = items(&log);
        heard.sort_unstable();
        assert_eq!(heard, [0, 1, 2]);
    });
}

#[test]
fn what_a_callback_pushes_is_delivered_whoever_else_pushes() {
    model(|| {
        let (subject, log) = (Numbers::new(), Arc::default());
        let mut pushing_back = Pen::new(&log);
        pushing_back.push = Some((subject.clone(), 7));
        subject.add(pushing_back);
        let other = subject.clone();
        let pushing = thread::spawn(move || other.next(0));
        subject.next(1);
        pushing.join().unwrap();
        let mut heard = items(&log);
        heard.sort_unstable();
        assert_eq!(heard, [0, 1, 7]);
    });
}

#[test]
fn subscriber_hears_all_that_is_pushed_after_subscribe_returned() {
    model(|| {
        let (subject, log) = (Numbers::new(), Arc::default());
        let other = subject.clone();
        let pushing = thread::spawn(move || other.next(0));
        subject.add(Pen::new(&log));
        subject.next(1);
        pushing.join().unwrap();
        let heard = items(&log);
        assert!(heard.contains(&1) && heard.len() <= 2);
    });
}

#[test]
fn subscriber_that_came_during_an_emission_hears_the_next_item() {
    model(|| {
        let (subject, log) = (Numbers::new(), Arc::default());
        let (other, pen) = (subject.clone(), Pen::new(&log));
        let subscribing = thread::spawn(move || drop(other.add(pen)));
        subject.next(0);
        subscribing.join().unwrap();
        subject.next(1);
        let heard = items(&log);
        assert!(heard == [1] || heard == [0, 1], "{heard:?}");
    });
}

#[test]
fn observer_is_dropped_once_whichever_way_unsubscribe_races_with_an_emission() {
    model(|| {
        let (subject, log) = (Numbers::new(), Arc::default());
        let subscription = subject.add(Pen::new(&log));
        let other = subject.clone();
        let pushing = thread::spawn(move || other.next(0));
        subscription.unsubscribe();
        pushing.join().unwrap();
        let heard = take(&mut *log.lock().unwrap());
        assert!([vec![Heard::Dropped], vec![Heard::Item(0), Heard::Dropped]].contains(&heard));
    });
}

#[test]
fn subscriber_that_races_with_the_completion_hears_it_once() {
    model(|| {
        let (subject, log) = (Numbers::new(), Arc::default());
        let other = subject.clone();
        let completing = thread::spawn(move || other.complete());
        subject.add(Pen::new(&log));
        completing.join().unwrap();
        assert_eq!(*log.lock().unwrap(), [Heard::Complete, Heard::Dropped]);
    });
}

#[test]
fn nothing_follows_the_terminal_event() {
    model(|| {
        let (subject, log) = (Numbers::new(), Arc::default());
        subject.add(Pen::new(&log));
        let other = subject.clone();
        let pushing = thread::spawn(move || other.next(0));
        subject.complete();
        pushing.join().unwrap();
        let heard = take(&mut *log.lock().unwrap());
        assert!(heard.ends_with(&[Heard::Complete, Heard::Dropped]) && heard.len() <= 3);
    });
}

#[test]
fn completion_that_races_with_an_item_that_nobody_hears_is_told_to_those_who_come_late() {
    model(|| {
        let (subject, log) = (Numbers::new(), Arc::default());
        let other = subject.clone();
        let pushing = thread::spawn(move || other.next(0));
        subject.clone().complete();
        pushing.join().unwrap();
        subject.add(Pen::new(&log));
        assert_eq!(*log.lock().unwrap(), [Heard::Complete, Heard::Dropped]);
    });
}

#[test]
fn offered_item_is_heard_or_counted_or_comes_back_whoever_leaves() {
    model(|| {
        let (unheard, log) = (Arc::<AtomicU64>::default(), Arc::default());
        let subject = Numbers::counting(unheard.clone());
        let subscription = subject.add(Pen::new(&log));
        let other = subject.clone();
        let offering = thread::spawn(move || [0, 1].map(|n| other.offer(n)).into_iter().flatten().count());
        subscription.unsubscribe();
        let back = offering.join().unwrap();
        let unheard = unheard.load(SeqCst) as usize;
        let heard = take(&mut *log.lock().unwrap());
        assert_eq!(heard.last(), Some(&Heard::Dropped));
        assert_eq!((heard.len() - 1) + unheard + back, 2, "{heard:?}, {unheard} unheard, {back} back");
    });
}

#[test]
fn item_that_is_offered_to_nobody_lets_no_terminal_event_fall() {
    model(|| {
        let (subject, log) = (Numbers::new(), Arc::default());
        let other = subject.clone();
        let offering = thread::spawn(move || _ = other.offer(0));
        subject.clone().complete();
        offering.join().unwrap();
        subject.add(Pen::new(&log));
        assert_eq!(*log.lock().unwrap(), [Heard::Complete, Heard::Dropped]);
    });
}

/// Notes that it was woken.
struct Bell(Mutex<bool>);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        *self.0.lock().unwrap() = true;
    }
}

#[test]
fn task_that_waits_for_all_deliveries_is_woken_whichever_way_it_races_with_an_emission() {
    model(|| {
        let (subject, log) = (Numbers::new(), Arc::default());
        subject.add(Pen::new(&log));
        let other = subject.clone();
        let pushing = thread::spawn(move || other.next(0));
        let bell = Arc::new(Bell(Mutex::new(false)));
        let is_ready = subject.backlog().poll_at_most(0, &task::Context::from_waker(&bell.clone().into())).is_ready();
        pushing.join().unwrap();
        assert!(is_ready || *bell.0.lock().unwrap());
    });
}

#[test]
fn mark_behind_an_emission_is_passed() {
    model(|| {
        let (subject, log) = (Numbers::new(), Arc::default());
        subject.add(Pen::new(&log));
        let other = subject.clone();
        let pushing = thread::spawn(move || other.next(0));
        let bell = Arc::new(Bell(Mutex::new(false)));
        let mut delivered = pin!(subject.delivered());
        let is_passed = delivered.as_mut().poll(&mut task::Context::from_waker(&bell.clone().into())).is_ready();
        pushing.join().unwrap();
        assert!(is_passed || *bell.0.lock().unwrap());
    });
}

/// Notes with each item whether `flag` was up when its turn came.
struct Lookout {
    flag: loom::sync::Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<bool>>>,
}

impl Observer<usize, Infallible> for Lookout {
    fn next(&mut self, _: usize) {
        self.seen.lock().unwrap().push(self.flag.load(SeqCst));
    }

    fn error(self, never: Infallible) {
        match never {}
    }

    fn complete(self) {}

    fn is_closed(&self) -> bool {
        false
    }
}

#[test]
fn no_delivery_begins_after_unsubscribe_has_returned() {
    model(|| {
        let (subject, log, seen) = (Numbers::new(), Arc::default(), Arc::<Mutex<Vec<bool>>>::default());
        let flag = loom::sync::Arc::new(AtomicBool::new(false));
        subject.add(Lookout { flag: flag.clone(), seen: seen.clone() });
        let subscription = subject.add(Pen::new(&log));
        let other = subject.clone();
        let pushing = thread::spawn(move || {
            other.next(0);
            other.next(1);
        });
        subscription.unsubscribe();
        flag.store(true, SeqCst);
        pushing.join().unwrap();
        let missed = seen.lock().unwrap().iter().position(|was_up| *was_up).unwrap_or(2);
        let heard = items(&log);
        // Its turn comes behind the one who looked out.
        assert!(heard.len() <= missed, "{heard:?}, and unsubscribed before item {missed}");
    });
}

#[test]
fn each_hears_what_is_its_own_whoever_else_leaves_and_joins_during_an_emission() {
    model(|| {
        let [stayed, left, joined] = [(); 3].map(|()| Arc::default());
        let subject = Numbers::new();
        subject.add(Pen::new(&stayed));
        let subscription = subject.add(Pen::new(&left));
        let other = subject.clone();
        let pushing = thread::spawn(move || {
            other.next(0);
            other.next(1);
        });
        let late = subject.add(Pen::new(&joined));
        subscription.unsubscribe();
        subject.next(2);
        late.unsubscribe();
        pushing.join().unwrap();
        let heard = items(&stayed);
        assert!(heard.len() == 3 && heard.iter().filter(|n| **n < 2).is_sorted());
        let heard_late = items(&joined);
        // It was there from some item on, and until some other.
        assert!(
            heard.windows(heard_late.len().max(1)).any(|part| part == heard_late) || heard_late.is_empty(),
            "{heard_late:?} of {heard:?}"
        );
        assert!(!items(&left).contains(&2));
    });
}

#[test]
fn observer_that_another_one_has_leave_hears_nothing_more_of_the_same_item() {
    model(|| {
        let [remover, removed] = [(); 2].map(|()| Arc::default());
        let (subject, first) = (Numbers::new(), Pen::new(&remover));
        let removes = first.removes.clone();
        subject.add(first);
        *removes.lock().unwrap() = Some(subject.add(Pen::new(&removed)));
        let other = subject.clone();
        let pushing = thread::spawn(move || other.next(0));
        subject.next(1);
        pushing.join().unwrap();
        assert_eq!((items(&remover).len(), &removed.lock().unwrap()[..]), (2, &[Heard::Dropped][..]));
    });
}

#[test]
fn all_items_arrive_in_order_when_a_thread_with_sockets_hands_them_over() {
    model(|| {
        let (subject, log) = (Numbers::new(), Arc::default());
        subject.add(Pen::new(&log));
        let other = subject.clone();
        let pushing = thread::spawn(move || {
            other.next(0);
            other.next(1);
            other.next(2);
        });
        callback::with_share(1);
        subject.next(10);
        subject.next(11);
        runtime::serve();
        pushing.join().unwrap();
        let heard = items(&log);
        assert_eq!(heard.len(), 5);
        assert!(heard.iter().filter(|n| **n < 10).is_sorted() && heard.iter().filter(|n| **n >= 10).is_sorted());
    });
}

#[test]
fn all_items_arrive_when_two_threads_with_sockets_hand_them_over_to_each_other() {
    model(|| {
        let (subject, log) = (Numbers::new(), Arc::default());
        let mut pushing_back = Pen::new(&log);
        pushing_back.push = Some((subject.clone(), 7));
        subject.add(pushing_back);
        let other = subject.clone();
        let pushing = thread::spawn(move || {
            callback::with_share(1);
            other.next(0);
            other.next(1);
            runtime::serve();
        });
        callback::with_share(1);
        subject.next(10);
        runtime::serve();
        pushing.join().unwrap();
        let mut heard = items(&log);
        assert!(heard.iter().filter(|n| **n < 7).is_sorted());
        heard.sort_unstable();
        assert_eq!(heard, [0, 1, 7, 10]);
    });
}

/// Has three items for each subscriber.
struct Three;

impl Elsewhere<usize> for Three {
    fn keep(&self, item: usize) -> Noted<usize> {
        Noted::unkept(item)
    }

    fn take(&self) -> Vec<usize> {
        vec![0, 1, 2]
    }

    fn emit(&self, _item: usize) {}
}

#[test]
fn subscriber_with_a_backlog_hears_it_first_whatever_is_handed_over_meanwhile() {
    model(|| {
        let subject = Numbers::at_home(runtime::IoScheduler, Replay::Elsewhere(Arc::new(Three)), None);
        let log = Arc::default();
        let other = subject.clone();
        let pushing = thread::spawn(move || {
            callback::with_share(1);
            other.next(10);
            other.next(11);
            runtime::serve();
        });
        callback::with_share(1);
        subject.add(Pen::new(&log));
        subject.next(20);
        runtime::serve();
        pushing.join().unwrap();
        let heard = items(&log);
        assert!(heard.starts_with(&[0, 1, 2]) && heard.contains(&20), "{heard:?}");
        assert!(heard[3..].iter().filter(|n| **n < 20).is_sorted());
    });
}

/// A subject that keeps what comes before its first subscriber.
fn keeping() -> Numbers {
    Numbers::at_home(runtime::IoScheduler, Replay::first(9), None)
}

/// Each item was heard once, and those below ten, of one thread, in order, as well as the others, of another one.
fn assert_in_the_order_of_each(mut heard: Vec<usize>, all: &[usize]) {
    assert!(heard.iter().filter(|n| **n < 10).is_sorted());
    assert!(heard.iter().filter(|n| **n >= 10).is_sorted());
    heard.sort_unstable();
    assert_eq!(heard, all);
}

#[test]
fn first_subscriber_hears_all_that_was_kept_for_it_once_whoever_pushes_meanwhile() {
    model(|| {
        let subject = keeping();
        let (log, other) = (Arc::default(), subject.clone());
        let pushing = thread::spawn(move || {
            other.next(0);
            other.next(1);
        });
        subject.next(10);
        subject.add(Pen::new(&log));
        subject.next(11);
        pushing.join().unwrap();
        runtime::serve();
        assert_in_the_order_of_each(items(&log), &[0, 1, 10, 11]);
    });
}

#[test]
fn first_subscriber_hears_what_was_posted_and_pushed_in_the_order_of_each_thread() {
    model(|| {
        let subject = keeping();
        let (log, other) = (Arc::default(), subject.clone());
        let pushing = thread::spawn(move || {
            other.post(0);
            other.next(1);
            other.enqueue(2);
        });
        subject.next(10);
        subject.add(Pen::new(&log));
        subject.next(11);
        pushing.join().unwrap();
        subject.wake_home();
        runtime::serve();
        assert_in_the_order_of_each(items(&log), &[0, 1, 2, 10, 11]);
    });
}

#[test]
fn first_subscriber_hears_all_that_was_kept_for_it_and_then_the_last_item() {
    model(|| {
        let subject = keeping();
        let (log, other) = (Arc::default(), subject.clone());
        let pushing = thread::spawn(move || {
            other.next(0);
            other.next(1);
            other.complete_with(2);
        });
        subject.add(Pen::new(&log));
        pushing.join().unwrap();
        runtime::serve();
        assert_eq!(items(&log), [0, 1, 2]);
    });
}
