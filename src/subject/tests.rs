//! The subject's services to components, which its public interface does not show. Apart from the module, which `tests/loom`
//! compiles a second time.

use std::{
    convert::Infallible,
    future::Future,
    pin::pin,
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    task::{self, Waker},
    thread,
    time::Duration,
};

use rxrust::prelude::*;

use crate::{
    Io, IoRuntime, IoScheduler, SerializedSubject, SerializedSubscription,
    runtime::callback,
    subject::{OnPanic, replay::Replay},
    time,
};

const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn item_posted_after_one_that_raced_with_the_emission_of_another_thread_is_delivered() {
    let runtime = IoRuntime::new("home").unwrap();
    let home = IoScheduler::on(&runtime);
    let subject = SerializedSubject::<usize>::at_home(home.clone(), Replay::Nothing, None);
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
        let delivered = scope.spawn(|| time::block_on(subject.delivered(), PATIENCE));
        (0..2).for_each(|_| go.send(()).unwrap());
        assert!(delivered.join().unwrap().is_some());
    });
    assert!(at_most(0).is_ready());
}

#[test]
fn one_who_waits_for_what_was_pushed_does_not_wait_for_what_others_push_meanwhile() {
    let subject = SerializedSubject::<usize>::new();
    let (go, gone) = mpsc::channel::<()>();
    let (send, heard) = mpsc::channel();
    Io::new(subject.clone()).subscribe(move |n| {
        send.send(n).unwrap();
        gone.recv().unwrap();
    });
    thread::scope(|scope| {
        scope.spawn(|| subject.next(1));
        assert_eq!(heard.recv_timeout(PATIENCE), Ok(1));
        subject.next(2);
        let mut delivered = pin!(subject.delivered());
        assert!(delivered.as_mut().poll(&mut task::Context::from_waker(Waker::noop())).is_pending());
        subject.next(3);
        (0..2).for_each(|_| go.send(()).unwrap());
        assert_eq!([(); 2].map(|()| heard.recv_timeout(PATIENCE).unwrap()), [2, 3]);
        // Resolved while the third is under way, by the thread that delivered the second.
        assert!(time::block_on(delivered, PATIENCE).is_some());
        assert!(time::block_on(subject.delivered(), Duration::from_millis(20)).is_none(), "the third is under way");
        go.send(()).unwrap();
        assert!(time::block_on(subject.delivered(), PATIENCE).is_some());
    });
}

/// Passes on what it hears.
struct Pen(mpsc::Sender<usize>);

impl Observer<usize, Infallible> for Pen {
    fn next(&mut self, item: usize) {
        self.0.send(item).unwrap();
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
fn item_that_another_thread_pushes_does_not_overtake_one_that_a_callback_has_put_off() {
    for is_joined in [false, true] {
        let (subject, (send, heard)) = (SerializedSubject::<usize>::new(), mpsc::channel());
        subject.add(Pen(send));
        callback::run(|| {
            subject.next(1);
            if is_joined {
                Io::new(subject.clone()).subscribe(|_| {});
            }
            thread::scope(|scope| _ = scope.spawn(|| subject.next(2)));
        });
        assert_eq!(heard.try_iter().collect::<Vec<_>>(), [1, 2]);
    }
}

#[test]
fn subscriber_whose_backlog_waits_for_the_home_thread_misses_nothing() {
    let runtime = IoRuntime::new("home").unwrap();
    let home = IoScheduler::on(&runtime);
    let subject = SerializedSubject::<usize>::at_home(home.clone(), Replay::latest(0), None);
    let (go, gone) = mpsc::channel::<()>();
    home.spawn(async move { _ = gone.recv() });
    let (send, heard) = mpsc::channel();
    Io::new(subject.clone()).subscribe(|_| {});
    subject.add(Pen(send));
    subject.next(1);
    assert_eq!(heard.try_iter().collect::<Vec<_>>(), [0, 1]);
    drop(go);
}

#[test]
fn late_subscriber_hears_the_latest_item_whoever_has_subscribed_before() {
    let subject = SerializedSubject::<usize>::at_home(IoScheduler::default(), Replay::latest(0), None);
    for n in 1..4 {
        let (send, heard) = mpsc::channel();
        subject.next(n);
        // The home thread may have it: it has called the subscriber before, and may not be done.
        time::block_on(subject.delivered(), PATIENCE).unwrap();
        subject.add(Pen(send));
        assert_eq!(heard.recv_timeout(PATIENCE), Ok(n));
    }
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

#[test]
fn home_looks_at_its_timers_while_others_post_without_end() {
    let runtime = IoRuntime::new("home").unwrap();
    let home = IoScheduler::on(&runtime);
    let subject = SerializedSubject::<usize>::at_home(home.clone(), Replay::Nothing, None);
    let [posted, delivered] = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
    let over = Arc::new(AtomicBool::new(false));
    let (ahead, seen, is_over) = (posted.clone(), delivered.clone(), over.clone());
    Io::new(subject.clone()).subscribe(move |_| {
        // So that there is always another one.
        while ahead.load(SeqCst) <= seen.load(SeqCst) + 1 && !is_over.load(SeqCst) {
            thread::yield_now();
        }
        seen.fetch_add(1, SeqCst);
    });
    let (tick, ticked) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(SeqCst) {
                if posted.load(SeqCst) < delivered.load(SeqCst) + 1_000 {
                    subject.post(0);
                    posted.fetch_add(1, SeqCst);
                }
                thread::yield_now();
            }
        });
        home.spawn(async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            tick.send(()).unwrap();
        });
        let ticked = ticked.recv_timeout(PATIENCE);
        over.store(true, SeqCst);
        ticked.unwrap();
    });
}

#[test]
fn what_was_handed_to_a_runtime_that_ends_is_delivered_all_the_same() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let subject = SerializedSubject::<usize>::new();
    let (send, heard) = mpsc::channel();
    Io::new(subject.clone()).subscribe(move |n| send.send(n).unwrap());
    let burst = async move { callback::run(|| (0..1_000).for_each(|n| subject.next(n))) };
    runtime.block_on(async move { tokio::spawn(burst).await }).unwrap();
    drop(runtime);
    assert!((0..1_000).all(|n| heard.recv_timeout(PATIENCE) == Ok(n)));
}

/// Notes on `home`, in a task of its own that looks at the sockets first, how far `delivered` is by then.
fn note_when_served(home: &IoScheduler, delivered: &Arc<AtomicUsize>, noted: mpsc::Sender<usize>) {
    let delivered = delivered.clone();
    home.spawn(async move {
        tokio::task::yield_now().await;
        noted.send(delivered.load(SeqCst)).unwrap();
    });
}

#[test]
fn home_looks_at_its_sockets_while_a_subscriber_hears_of_many_members() {
    const MEMBERS: usize = 5_000;
    let runtime = IoRuntime::new("home").unwrap();
    let home = IoScheduler::on(&runtime);
    let members = Replay::members(|n: &usize| *n as u64);
    let subject = SerializedSubject::<usize>::at_home(home.clone(), members, None);
    (0..MEMBERS).for_each(|n| subject.next(n));
    let delivered = Arc::new(AtomicUsize::new(0));
    let (heard, (note, noted)) = (delivered.clone(), mpsc::channel());
    let (all, told) = mpsc::channel();
    Io::new(subject.clone()).subscribe(move |n| {
        assert_eq!(heard.fetch_add(1, SeqCst), n);
        if n == 500 {
            note_when_served(&home, &heard, note.clone());
        }
        if n == MEMBERS {
            all.send(()).unwrap();
        }
    });
    // Not by `next`: this thread, which has no sockets, would deliver all the rest.
    subject.post(MEMBERS);
    told.recv_timeout(PATIENCE).unwrap();
    let served = noted.recv_timeout(PATIENCE).unwrap();
    assert!(served <= 500 + 4 * callback::SHARE, "after {served} deliveries");
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a bug of the subscriber's");
    }
}

struct Told(AtomicUsize);

impl OnPanic for Told {
    fn note_panic(&self) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[test]
fn destructor_of_a_subscriber_that_panics_is_told_of_whenever_it_is_dropped() {
    type Fallible = SerializedSubject<usize, ()>;
    fn ended_by(end: impl FnOnce(&Fallible, SerializedSubscription)) -> usize {
        let runtime = IoRuntime::new("home").unwrap();
        let told = Arc::new(Told(AtomicUsize::new(0)));
        let hook: Arc<dyn OnPanic> = told.clone();
        let home = IoScheduler::on(&runtime);
        let subject = Fallible::at_home(home, Replay::Nothing, Some(Arc::downgrade(&hook)));
        let bomb = Bomb;
        let subscription = Io::new(subject.clone()).on_error(|()| {}).subscribe(move |_| _ = &bomb);
        end(&subject, subscription);
        drop(subject);
        told.0.load(SeqCst)
    }
    assert_eq!(ended_by(|_, subscription| subscription.unsubscribe()), 1);
    assert_eq!(ended_by(|subject, _| subject.clone().complete()), 1);
    assert_eq!(ended_by(|_, _| {}), 1, "with its subject");
    let in_a_callback = |subject: &Fallible, subscription: SerializedSubscription| {
        let mut subscription = Some(subscription);
        let leave = move |_| subscription.take().into_iter().for_each(SerializedSubscription::unsubscribe);
        Io::new(subject.clone()).on_error(|()| {}).subscribe(leave);
        subject.next(1);
    };
    assert_eq!(ended_by(in_a_callback), 1);
}

#[test]
fn observer_that_leaves_while_a_task_of_the_home_delivers_is_dropped() {
    let subject = SerializedSubject::<usize>::at_home(IoScheduler::default(), Replay::Nothing, None);
    let (held, leave) = (Arc::new(()), Arc::new(Mutex::new(None::<SerializedSubscription>)));
    let (is_held, leaving) = (Arc::downgrade(&held), leave.clone());
    let subscription = Io::new(subject.clone()).subscribe(move |_| {
        _ = &held;
        leaving.lock().unwrap().take().into_iter().for_each(SerializedSubscription::unsubscribe);
    });
    *leave.lock().unwrap() = Some(subscription);
    assert!(time::block_on(subject.deliver_at_home(1), PATIENCE).is_some());
    assert!(is_held.upgrade().is_none());
}

#[test]
fn memory_of_a_burst_in_the_inbox_is_given_back() {
    let subject = SerializedSubject::<usize>::new();
    let heard = Arc::new(AtomicUsize::new(0));
    let count = heard.clone();
    Io::new(subject.clone()).subscribe(move |_| _ = count.fetch_add(1, SeqCst));
    callback::run(|| (0..100_000).for_each(|n| subject.next(n)));
    assert_eq!(heard.load(SeqCst), 100_000);
    assert!(subject.inbox_capacity() <= 4_096, "room for {}", subject.inbox_capacity());
}
