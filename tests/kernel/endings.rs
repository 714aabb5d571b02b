//! Terminal events: one, the last, and heard by those who come late.

use super::*;

#[test]
fn nothing_follows_a_terminal_event() {
    for error in [None, Some("over")] {
        let subject = Fallible::new();
        let heard = Log::new();
        heard.subscribe_to_all_of(&subject);
        subject.next(1);
        end(&subject, error);
        subject.next(2);
        end(&subject, Some("again"));
        end(&subject, None);
        assert_eq!(heard.items(), [Heard::Item(1), Heard::end(error)]);
    }
}

#[test]
fn late_subscriber_hears_the_terminal_event_inside_subscribe() {
    for error in [None, Some("over")] {
        let subject = Fallible::new();
        subject.next(1);
        end(&subject, error);
        let (late, later_still) = (Log::new(), Log::new());
        let subscription = late.subscribe_to_all_of(&subject);
        assert_eq!(late.items(), [Heard::end(error)]);
        assert!(subscription.is_closed());
        later_still.subscribe_to_all_of(&subject);
        assert_eq!(later_still.items(), [Heard::end(error)]);
    }
}

#[test]
fn late_subscriber_hears_the_terminal_event_inside_a_callback_too() {
    let (subject, ended) = (Numbers::new(), Fallible::new());
    ended.clone().complete();
    let heard = Log::new();
    let noted = heard.clone();
    Io::new(subject.clone()).subscribe(move |_| {
        let late = Log::new();
        late.subscribe_to_all_of(&ended);
        noted.note(late.items());
    });
    subject.next(0);
    assert_eq!(heard.items(), [[Heard::Complete]]);
}

#[test]
fn terminal_event_pushed_in_a_callback_follows_the_items_pushed_before_it() {
    for error in [None, Some("over")] {
        let subject = Fallible::new();
        let heard = Log::new();
        let pushed = subject.clone();
        Io::new(subject.clone()).on_error(|_| {}).filter(|n| *n == 0).subscribe(move |_| {
            pushed.next(1);
            end(&pushed, error);
            assert!(Observer::is_closed(&pushed));
            pushed.next(2);
        });
        heard.subscribe_to_all_of(&subject);
        subject.next(0);
        subject.next(3);
        assert_eq!(heard.items(), [Heard::Item(0), Heard::Item(1), Heard::end(error)]);
    }
}

#[test]
fn one_terminal_event_of_several_at_once_reaches_everybody_once() {
    for _ in 0..1_000 {
        let subject = Fallible::new();
        let (early, racing) = (Log::new(), Log::new());
        early.subscribe_to_all_of(&subject);
        let start = Barrier::new(4);
        thread::scope(|scope| {
            for error in [None, Some("over")] {
                let (start, subject) = (&start, &subject);
                scope.spawn(move || {
                    start.wait();
                    end(subject, error);
                });
            }
            scope.spawn(|| {
                start.wait();
                (0..10).for_each(|n| subject.next(n));
            });
            start.wait();
            racing.subscribe_to_all_of(&subject);
        });
        let late = Log::new();
        late.subscribe_to_all_of(&subject);
        for heard in [&early, &racing, &late] {
            let heard = heard.items();
            let (last, items) = heard.split_last().expect("a terminal event");
            assert!(items.iter().all(|item| matches!(item, Heard::Item(_))), "{heard:?}");
            assert_eq!([last.clone()].as_slice(), late.items());
        }
    }
}
