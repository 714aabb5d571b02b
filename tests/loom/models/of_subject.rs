use std::{
    convert::Infallible,
    mem::take,
    sync::{Arc, Mutex},
};

use loom::thread;
use rxrust::{observer::Observer, subscription::Subscription};

use crate::{model, subject::SerializedSubject};

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
}

impl Pen {
    fn new(log: &Arc<Mutex<Vec<Heard>>>) -> Self {
        Self { log: log.clone(), push: None }
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
