//! Pipelines that push into themselves: a combining operator holds a lock while it calls downstream.

use super::*;

/// Runs `pipeline(a, b)`, whose subscriber pushes `b` for each item of `a`, and returns what the subscriber heard.
fn heard_by_pipeline<T: Clone + Send + 'static>(
    pipeline: impl FnOnce(Io<Numbers>, Io<Numbers>, Pushes<T>) + Send + 'static,
) -> Vec<T> {
    let heard = Log::new();
    let noted = heard.clone();
    within_patience(move || {
        let (a, b) = (Numbers::new(), Numbers::new());
        let pushes = Pushes { into: b.clone(), heard: noted };
        pipeline(Io::new(a.clone()), Io::new(b), pushes);
        (0..3).for_each(|n| a.next(n));
    });
    heard.items()
}

struct Pushes<T> {
    into: Numbers,
    heard: Log<T>,
}

impl<T: Clone> Pushes<T> {
    fn note_and_push(&self, item: T, push: Option<usize>) {
        self.heard.note(item);
        push.into_iter().for_each(|n| self.into.next(n));
    }
}

#[test]
fn callback_on_a_of_a_merge_b_may_push_b() {
    let heard = heard_by_pipeline(|a, b, pushes| {
        a.merge(b).subscribe(move |n| pushes.note_and_push(n, (n < 10).then_some(n + 10)));
    });
    assert_eq!(heard, [0, 10, 1, 11, 2, 12]);
}

#[test]
fn callback_of_a_zip_b_may_push_b() {
    let heard = heard_by_pipeline(|a, b, pushes| {
        let first = pushes.into.clone();
        a.zip(b).subscribe(move |(n, m)| pushes.note_and_push((n, m), Some(m + 1)));
        first.next(10);
    });
    assert_eq!(heard, [(0, 10), (1, 11), (2, 12)]);
}

#[test]
fn callback_of_a_take_until_b_may_push_b() {
    let heard = heard_by_pipeline(|a, b, pushes| {
        a.take_until(b).subscribe(move |n| pushes.note_and_push(n, (n == 1).then_some(0)));
    });
    assert_eq!(heard, [0, 1]);
}

#[test]
fn callback_of_a_combine_latest_b_may_push_b() {
    let heard = heard_by_pipeline(|a, b, pushes| {
        let first = pushes.into.clone();
        a.combine_latest(b, |n, m| (n, m)).subscribe(move |(n, m)| {
            pushes.note_and_push((n, m), (m < 10 * (n + 1)).then_some(m + 10));
        });
        first.next(0);
    });
    assert_eq!(heard, [(0, 0), (0, 10), (1, 10), (1, 20), (2, 20), (2, 30)]);
}

#[test]
fn function_and_callback_of_a_switch_map_to_b_may_push_b() {
    let heard = heard_by_pipeline(|a, b, pushes| {
        let b = b.into_inner();
        let switched = a.switch_map(move |n| {
            b.next(10 * n);
            Io::new(b.clone())
        });
        switched.subscribe(move |n| pushes.note_and_push(n, (n % 10 == 0).then_some(n + 1)));
    });
    assert_eq!(heard, [0, 1, 10, 11, 20, 21]);
}

#[test]
fn callback_may_complete_both_sources_of_its_merge() {
    within_patience(|| {
        let (a, b) = (Numbers::new(), Numbers::new());
        let (ends, completed) = ((a.clone(), b.clone()), Log::new());
        let (noted, held) = (completed.clone(), Arc::new(()));
        let captured = held.clone();
        Io::new(a.clone()).merge(Io::new(b)).on_complete(move || noted.note(())).subscribe(move |_| {
            hold(&captured);
            ends.0.clone().complete();
            ends.1.clone().complete();
        });
        a.next(0);
        assert_eq!(completed.items(), [()]);
        assert_eq!(Arc::strong_count(&held), 1);
    });
}

#[test]
fn combining_with_a_subject_that_has_ended_hears_its_terminal_event() {
    within_patience(|| {
        let (a, ended) = (Numbers::new(), Numbers::new());
        ended.clone().complete();
        let (live, over) = (|| Io::new(a.clone()), || Io::new(ended.clone()));
        let heard = Log::new();
        let note = |what| {
            let heard = heard.clone();
            move || heard.note(what)
        };
        let inner = ended.clone();
        live().merge(over()).on_complete(note("live.merge(over)")).subscribe(|_| {});
        over().merge(live()).on_complete(note("over.merge(live)")).subscribe(|_| {});
        over().take_until(live()).on_complete(note("over.take_until(live)")).subscribe(|_| {});
        live().take_until(over()).on_complete(note("live.take_until(over)")).subscribe(|_| {});
        live().switch_map(move |_| Io::new(inner.clone())).on_complete(note("live.switch_map(over)")).subscribe(|_| {});
        assert_eq!(heard.items(), ["over.take_until(live)"]);
        a.next(0);
        a.clone().complete();
        let at_the_end = ["live.merge(over)", "over.merge(live)", "live.take_until(over)", "live.switch_map(over)"];
        assert_eq!(heard.items()[1..], at_the_end);
    });
}

#[test]
fn two_merges_that_cross_on_two_threads_do_not_deadlock() {
    const ROUNDS: usize = 3_000;
    within_patience(|| {
        let (a, b) = (Numbers::new(), Numbers::new());
        let heard = [Log::new(), Log::new()];
        for (from, to, log) in [(&a, &b, &heard[0]), (&b, &a, &heard[1])] {
            let (echo, log) = (to.clone(), log.clone());
            Io::new(from.clone()).merge(Io::new(to.clone())).subscribe(move |n| {
                log.note(n);
                if n < ROUNDS {
                    echo.next(n + ROUNDS);
                }
            });
        }
        let meet = Barrier::new(2);
        thread::scope(|scope| {
            for subject in [&a, &b] {
                let meet = &meet;
                scope.spawn(move || {
                    for n in 0..ROUNDS {
                        meet.wait();
                        subject.next(n);
                    }
                });
            }
        });
        for log in heard {
            // Each round: one item and one echo by either merge in either subject.
            let items = log.items();
            assert_eq!(items.iter().filter(|n| **n < ROUNDS).count(), 2 * ROUNDS);
            assert_eq!(items.iter().filter(|n| **n >= ROUNDS).count(), 4 * ROUNDS);
        }
    });
}

#[test]
fn interval_merged_with_a_whose_callback_pushes_a_goes_on() {
    let a = Numbers::new();
    let (send, heard) = mpsc::channel();
    let pushed = a.clone();
    let subscription = Io::interval(Duration::from_millis(1)).merge(Io::new(a)).take(6).subscribe(move |n| {
        send.send(n).unwrap();
        if n < 100 {
            pushed.next(n + 100);
        }
    });
    let heard: Vec<_> = (0..6).map(|_| heard.recv_timeout(PATIENCE).unwrap()).collect();
    assert_eq!(heard, [0, 100, 1, 101, 2, 102]);
    subscription.unsubscribe();
}

#[test]
fn cold_source_started_on_a_scheduler_may_be_merged_with_a_subject_its_callback_pushes() {
    let a = Numbers::new();
    let (send, heard) = mpsc::channel();
    let (pushed, cold) = (a.clone(), Io::from_iter(0..3).subscribe_on(IoScheduler::default()));
    Io::new(a).merge(cold).take(6).subscribe(move |n| {
        send.send(n).unwrap();
        if n < 100 {
            pushed.next(n + 100);
        }
    });
    let heard: Vec<_> = (0..6).map(|_| heard.recv_timeout(PATIENCE).unwrap()).collect();
    assert_eq!(heard, [0, 1, 2, 100, 101, 102]);
}
