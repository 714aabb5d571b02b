//! What the subject does for components, which its public face does not show. Apart from `subject.rs`, which `tests/loom`
//! compiles a second time.

use std::{
    sync::{Barrier, mpsc},
    task::{self, Waker},
    thread,
    time::Duration,
};

use rxrust::prelude::*;

use crate::{Io, IoRuntime, IoScheduler, SerializedSubject, memory::Memory, ws::wait};

const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn item_posted_after_one_that_raced_with_the_emission_of_another_thread_is_delivered() {
    let runtime = IoRuntime::new("home").unwrap();
    let home = IoScheduler::on(&runtime);
    let subject = SerializedSubject::<usize>::at_home(home.clone(), Memory::Nothing, None);
    let (send, heard) = mpsc::channel();
    Io::new(subject.clone()).subscribe(move |n| {
        // Lasts until the home thread, if it was woken, has found this emission.
        for _ in 0..2 {
            let (done, looked) = mpsc::channel();
            if n == 1 && !home.is_current() {
                home.spawn(async move { done.send(()).unwrap() });
                looked.recv_timeout(PATIENCE).unwrap();
            }
        }
        send.send(n).unwrap();
    });
    let meet = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..5_000 {
                meet.wait();
                subject.next(1);
            }
        });
        for _ in 0..5_000 {
            meet.wait();
            subject.post(2);
            heard.recv_timeout(PATIENCE).unwrap();
            heard.recv_timeout(PATIENCE).unwrap();
            subject.post(3);
            heard.recv_timeout(PATIENCE).unwrap();
        }
    });
}

#[test]
fn one_who_is_not_to_run_ahead_waits_until_all_is_delivered() {
    let subject = SerializedSubject::<usize>::new();
    let (go, gone) = mpsc::channel::<()>();
    Io::new(subject.clone()).subscribe(move |_| gone.recv().unwrap());
    let at_most = |most| subject.backlog().poll_at_most(most, &task::Context::from_waker(Waker::noop()));
    assert!(at_most(0).is_ready());
    thread::scope(|scope| {
        scope.spawn(|| subject.next(1));
        while at_most(0).is_ready() {
            thread::yield_now();
        }
        subject.next(2);
        assert!(at_most(1).is_pending() && at_most(2).is_ready());
        let delivered = scope.spawn(|| wait::block_on(subject.delivered(), PATIENCE));
        (0..2).for_each(|_| go.send(()).unwrap());
        assert!(delivered.join().unwrap().is_some());
    });
    assert!(at_most(0).is_ready());
}

/// Looks at the subject it was pushed into when it is dropped.
#[derive(Clone)]
struct Looking(SerializedSubject<Self>);

impl Drop for Looking {
    fn drop(&mut self) {
        assert!(self.0.backlog().poll_at_most(0, &task::Context::from_waker(Waker::noop())).is_ready());
    }
}

#[test]
fn destructor_of_an_item_that_comes_after_the_end_may_use_the_subject() {
    let subject = SerializedSubject::new();
    subject.clone().complete();
    let (done, dropped) = mpsc::channel();
    // On a thread of its own, so that a lock that is held for ever fails the test.
    thread::spawn(move || {
        subject.next(Looking(subject.clone()));
        done.send(()).unwrap();
    });
    dropped.recv_timeout(PATIENCE).unwrap();
}
