//! `deliver_local`: closures that are not `Send`.

use std::{cell::RefCell, rc::Rc};

use super::*;

#[test]
fn items_of_another_thread_reach_a_closure_that_is_not_send() {
    let (run_loop, subject) = (RunLoop::new(), Fallible::new());
    let model = Rc::new(RefCell::new(Vec::new()));
    let (shown, failed) = (model.clone(), model.clone());
    Io::new(subject.clone())
        .deliver_local(&run_loop)
        .map(|n| n.to_string())
        .on_error(move |error: &str| failed.borrow_mut().push(error.to_owned()))
        .subscribe(move |text| shown.borrow_mut().push(text));
    thread::spawn(move || {
        (0..3).for_each(|n| subject.next(n));
        subject.error("broken");
    });
    while model.borrow().len() < 4 {
        run_loop.run_for(Duration::from_millis(1));
    }
    assert_eq!(*model.borrow(), ["0", "1", "2", "broken"]);
}

#[test]
fn operators_that_take_time_work_behind_it() {
    let (run_loop, subject) = (RunLoop::new(), Numbers::new());
    let source = Io::new(subject.clone()).deliver_local(&run_loop);
    let debounced = source.debounce(Duration::from_millis(2)).take(1).into_future();
    (0..10).for_each(|n| subject.next(n));
    assert_eq!(run_loop.run_until(debounced).unwrap().unwrap(), 9);
}

#[test]
fn unsubscribing_frees_what_was_queued_and_the_loop_drops_the_observer() {
    let (run_loop, subject) = (RunLoop::new(), SerializedSubject::<Arc<()>>::new());
    let (heard, item) = (Rc::new(RefCell::new(0)), Arc::new(()));
    let noted = heard.clone();
    let subscription = Io::new(subject.clone()).deliver_local(&run_loop).subscribe(move |_| *noted.borrow_mut() += 1);
    (0..100).for_each(|_| subject.next(item.clone()));
    subscription.unsubscribe();
    assert_eq!(Arc::strong_count(&item), 1);
    run_loop.run_pending();
    assert_eq!((*heard.borrow(), Rc::strong_count(&heard)), (0, 1));
}

#[test]
fn loop_that_is_dropped_ends_its_pipelines() {
    let (run_loop, subject) = (RunLoop::new(), Numbers::new());
    let (captured, late) = (Rc::new(()), Rc::new(()));
    let holding = captured.clone();
    let source = Io::new(subject.clone()).deliver_local(&run_loop);
    let subscription = source.clone().subscribe(move |_| hold(&holding));
    drop(run_loop);
    assert_eq!(Rc::strong_count(&captured), 1);
    assert!(subscription.is_closed());
    let holding = late.clone();
    assert!(source.subscribe(move |_| hold(&holding)).is_closed());
    assert_eq!(Rc::strong_count(&late), 1);
    subject.next(1);
}

#[test]
fn observer_that_panics_ends_its_pipeline_and_not_the_loop() {
    let (run_loop, subject) = (RunLoop::new(), Numbers::new());
    let heard = Rc::new(RefCell::new(Vec::new()));
    let noted = heard.clone();
    Io::new(subject.clone()).deliver_local(&run_loop).subscribe(|_| panic!("a bug of the observer's"));
    Io::new(subject.clone()).deliver_local(&run_loop).subscribe(move |n| noted.borrow_mut().push(n));
    (0..3).for_each(|n| subject.next(n));
    run_loop.run_pending();
    assert_eq!(*heard.borrow(), [0, 1, 2]);
}

#[test]
fn push_of_an_observer_is_delivered_when_it_returns() {
    let (run_loop, subject) = (RunLoop::new(), Numbers::new());
    let heard = Rc::new(RefCell::new(Vec::new()));
    let (noted, again) = (heard.clone(), subject.clone());
    Io::new(subject.clone()).deliver_local(&run_loop).subscribe(move |n| {
        noted.borrow_mut().push(n);
        if n < 3 {
            again.next(n + 1);
        }
    });
    subject.next(0);
    run_loop.run_pending();
    assert_eq!(*heard.borrow(), [0, 1, 2, 3]);
}
