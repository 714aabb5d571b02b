//! Subscribing and unsubscribing from four threads while a fifth pushes.

use super::*;

/// A tenth of a second of traffic; with `RXPLUS_CHURN_SECONDS` set, that many seconds.
fn traffic() -> Duration {
    let seconds = std::env::var("RXPLUS_CHURN_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    seconds.map_or(Duration::from_millis(100), Duration::from_secs)
}

#[derive(Default)]
struct Churn {
    over: AtomicBool,
    pushed: AtomicUsize,
    subscribed: AtomicUsize,
    heard: AtomicUsize,
    /// Items whose delivery began after `unsubscribe` had returned: more than one of a subscription is one too many.
    late: AtomicUsize,
    observers: Arc<()>,
}

impl Churn {
    fn push(&self, subject: &SerializedSubject<Arc<()>>, items: &Arc<()>) {
        while !self.over.load(SeqCst) {
            subject.next(items.clone());
            self.pushed.fetch_add(1, SeqCst);
        }
    }

    /// Subscribes by `operator`, hears an item, unsubscribes.
    fn come_and_go(&self, subscribe: impl Fn(Box<dyn FnMut(Arc<()>) + Send>) -> Box<dyn FnOnce()>) {
        while !self.over.load(SeqCst) {
            let (observer, gone) = (self.observers.clone(), Arc::new(AtomicBool::new(false)));
            let ((hear, heard), late) = (mpsc::channel(), Arc::new(AtomicUsize::new(0)));
            let (left, counted) = (gone.clone(), late.clone());
            let unsubscribe = subscribe(Box::new(move |_| {
                hold(&observer);
                counted.fetch_add(usize::from(left.load(SeqCst)), SeqCst);
                hear.send(()).unwrap_or(());
            }));
            while heard.recv_timeout(Duration::from_millis(1)).is_err() && !self.over.load(SeqCst) {}
            unsubscribe();
            gone.store(true, SeqCst);
            self.subscribed.fetch_add(1, SeqCst);
            self.heard.fetch_add(heard.try_iter().count(), SeqCst);
            self.late.fetch_add(late.load(SeqCst).saturating_sub(1), SeqCst);
        }
    }
}

#[test]
fn four_threads_come_and_go_while_a_fifth_pushes() {
    let (churn, items) = (Churn::default(), Arc::new(()));
    let subject = SerializedSubject::<Arc<()>>::new();
    let worker = EventLoopScheduler::new("churned");
    let source = || Io::new(subject.clone());
    thread::scope(|scope| {
        scope.spawn(|| churn.push(&subject, &items));
        for visitor in 0..4 {
            let (churn, worker) = (&churn, &worker);
            scope.spawn(move || {
                churn.come_and_go(|observe| match visitor {
                    0 => {
                        let subscription = source().subscribe(observe);
                        Box::new(move || subscription.unsubscribe())
                    }
                    1 => {
                        let subscription = source().observe_on(worker.clone()).subscribe(observe);
                        Box::new(move || subscription.unsubscribe())
                    }
                    2 => {
                        let subscription = source().deliver_on(worker).subscribe(observe);
                        Box::new(move || subscription.unsubscribe())
                    }
                    _ => {
                        let bounded = source().deliver_on_bounded(worker, 16, Lossy::DropOldest, |_| ());
                        let subscription = bounded.map(|item| item).subscribe(observe);
                        Box::new(move || subscription.unsubscribe())
                    }
                });
            });
        }
        let end = Instant::now() + traffic();
        while Instant::now() < end {
            thread::park_timeout(end - Instant::now());
        }
        churn.over.store(true, SeqCst);
    });
    drop(subject);
    flush(&worker);
    flush(&worker);
    println!(
        "{} items pushed, {} heard, {} subscriptions",
        churn.pushed.load(SeqCst),
        churn.heard.load(SeqCst),
        churn.subscribed.load(SeqCst)
    );
    assert_eq!(churn.late.load(SeqCst), 0, "items came after `unsubscribe` returned");
    assert_eq!((Arc::strong_count(&items), Arc::strong_count(&churn.observers)), (1, 1), "something leaks");
}
