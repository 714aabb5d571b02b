//! Callbacks that push, subscribe and unsubscribe.

use super::{threads::ITEMS, *};

#[test]
fn item_pushed_in_a_callback_is_delivered_after_it_to_everybody_in_order() {
    let subject = Numbers::new();
    let heard = Log::new();
    let (pushed, noted) = (subject.clone(), heard.clone());
    Io::new(subject.clone()).subscribe(move |n| {
        noted.note(n);
        if n == 0 {
            pushed.next(10);
            pushed.next(11);
            noted.note(1);
        }
    });
    heard.subscribe_to(&subject);
    subject.next(0);
    assert_eq!(heard.items(), [0, 1, 0, 10, 10, 11, 11]);
}

#[test]
fn hundred_thousand_items_pushed_in_one_callback_arrive_in_order() {
    within_patience(|| {
        let subject = Numbers::new();
        let heard = Log::new();
        let pushed = subject.clone();
        Io::new(subject.clone()).filter(|n| *n == 0).subscribe(move |_| (1..=ITEMS).for_each(|n| pushed.next(n)));
        heard.subscribe_to(&subject);
        subject.next(0);
        assert!(heard.items().into_iter().eq(0..=ITEMS));
    });
}

#[test]
fn hundred_thousand_callbacks_that_each_push_the_next_do_not_recurse() {
    within_patience(|| {
        let subject = Numbers::new();
        let heard = Log::new();
        let pushed = subject.clone();
        Io::new(subject.clone()).filter(|n| *n < ITEMS).subscribe(move |n| pushed.next(n + 1));
        heard.subscribe_to(&subject);
        subject.next(0);
        assert!(heard.items().into_iter().eq(0..=ITEMS));
    });
}

#[test]
fn two_subjects_that_push_into_each_other_do_not_recurse() {
    within_patience(|| {
        let (ping, pong) = (Numbers::new(), Numbers::new());
        let heard = Log::new();
        for (from, to) in [(&ping, &pong), (&pong, &ping)] {
            let to = to.clone();
            Io::new(from.clone()).filter(|n| *n < ITEMS).subscribe(move |n| to.next(n + 1));
            heard.subscribe_to(from);
        }
        ping.next(0);
        assert!(heard.items().into_iter().eq(0..=ITEMS));
    });
}

#[test]
fn subscriber_that_subscribes_in_each_callback_does_not_recurse() {
    within_patience(|| {
        let subject = Numbers::new();
        let heard = Log::new();
        let (pushed, noted) = (subject.clone(), heard.clone());
        Io::new(subject.clone()).filter(|n| *n < 500).subscribe(move |n| {
            noted.subscribe_to(&pushed);
            pushed.next(n + 1);
        });
        subject.next(0);
        assert_eq!(heard.items().len(), (1..=500).sum::<usize>(), "the n-th item is heard by n of the newcomers");
    });
}

#[test]
fn observer_that_pushes_while_it_is_dropped_is_heard() {
    struct LastWord(Numbers);
    impl Drop for LastWord {
        fn drop(&mut self) {
            self.0.next(99);
        }
    }
    within_patience(|| {
        let subject = Numbers::new();
        let heard = Log::new();
        let last_word = LastWord(subject.clone());
        let subscription = Io::new(subject.clone()).subscribe(move |_| hold(&last_word));
        heard.subscribe_to(&subject);
        subscription.unsubscribe();
        assert_eq!(heard.items(), [99]);
    });
}
