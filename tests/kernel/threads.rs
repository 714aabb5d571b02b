//! Many threads pushing into one subject.

use super::*;

const THREADS: usize = 8;
pub(super) const ITEMS: usize = 100_000;

/// Counts what arrives, and notes what the Rx grammar forbids.
#[derive(Default)]
struct Tally {
    in_call: AtomicBool,
    overlaps: AtomicUsize,
    /// How many items of each thread arrived, in their order.
    in_order: [AtomicUsize; THREADS],
    out_of_order: AtomicUsize,
}

impl Tally {
    fn note(&self, (thread, n): (usize, usize)) {
        if self.in_call.swap(true, SeqCst) {
            self.overlaps.fetch_add(1, SeqCst);
        }
        if self.in_order[thread].load(SeqCst) == n {
            self.in_order[thread].store(n + 1, SeqCst);
        } else {
            self.out_of_order.fetch_add(1, SeqCst);
        }
        if n % 1_000 == 0 {
            thread::yield_now(); // so that threads meet inside an emission on a single processor too
        }
        self.in_call.store(false, SeqCst);
    }

    fn total(&self) -> usize {
        self.in_order.iter().map(|n| n.load(SeqCst)).sum()
    }
}

/// Pushes from all threads at once and returns how many of them panicked.
fn push_from_all_threads(push: impl Fn((usize, usize)) + Clone + Send) -> usize {
    let start = Barrier::new(THREADS);
    thread::scope(|scope| {
        let pushers = [(); THREADS].map(|()| push.clone()).into_iter().enumerate().map(|(thread, push)| {
            let start = &start;
            scope.spawn(move || {
                start.wait();
                (0..ITEMS).for_each(|n| push((thread, n)));
            })
        });
        let pushers: Vec<_> = pushers.collect();
        pushers.into_iter().filter_map(|pusher| pusher.join().err()).count()
    })
}

#[test]
fn items_of_eight_threads_all_arrive_in_the_order_of_each_and_never_two_at_once() {
    let subject = SerializedSubject::new();
    let tally = Arc::new(Tally::default());
    let noted = tally.clone();
    Io::new(subject.clone()).subscribe(move |item| noted.note(item));

    let panicked = push_from_all_threads(move |item| subject.next(item));

    assert_eq!(panicked, 0);
    assert_eq!(tally.total(), THREADS * ITEMS);
    assert_eq!(tally.out_of_order.load(SeqCst), 0);
    assert_eq!(tally.overlaps.load(SeqCst), 0);
}

#[test]
fn the_same_program_makes_a_bare_rxrust_subject_panic_or_lose() {
    let subject = Shared::subject::<_, Infallible>();
    let tally = Arc::new(Tally::default());
    let noted = tally.clone();
    subject.clone().subscribe(move |item| noted.note(item));

    let panicked = push_from_all_threads(move |item| subject.clone().next(item));

    assert!(
        panicked > 0 || tally.total() < THREADS * ITEMS,
        "RxRust has mended it: is SerializedSubject still needed?"
    );
}

#[test]
fn producer_waits_for_room_when_a_million_items_wait() {
    const BOUND: usize = 1 << 20;
    let subject = Numbers::new();
    let pushed = Arc::new(AtomicUsize::new(0));
    let (noted, seen, expected) = (pushed.clone(), Arc::new(AtomicUsize::new(0)), BOUND + 10_000);
    let delivered = seen.clone();
    let (entered, in_callback) = mpsc::channel();
    let (open, gate) = mpsc::channel::<()>();
    Io::new(subject.clone()).subscribe(move |n| {
        if n == 0 {
            entered.send(()).unwrap();
            gate.recv_timeout(PATIENCE).unwrap();
        }
        assert_eq!(delivered.fetch_add(1, SeqCst), n);
        assert!(noted.load(SeqCst) <= n + BOUND + 1, "more items wait than the bound allows");
    });

    let emitter = thread::spawn({
        let subject = subject.clone();
        move || subject.next(0)
    });
    in_callback.recv_timeout(PATIENCE).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            for n in 1..expected {
                subject.next(n);
                if pushed.fetch_add(1, SeqCst) == BOUND - 1 {
                    open.send(()).unwrap();
                }
            }
        });
    });
    emitter.join().unwrap();

    assert_eq!(seen.load(SeqCst), expected);
}

/// Holds the emission of a subject on a thread of its own, until told; counts what its observer hears.
fn hold_emission(subject: &Numbers) -> (Sender<()>, Arc<AtomicUsize>, thread::JoinHandle<()>) {
    let ((begin, begun), (let_go, told)) = (mpsc::channel(), mpsc::channel::<()>());
    let heard = Arc::new(AtomicUsize::new(0));
    let count = heard.clone();
    Io::new(subject.clone()).subscribe(move |_| {
        if count.fetch_add(1, SeqCst) == 0 {
            begin.send(()).unwrap();
            told.recv_timeout(PATIENCE).unwrap();
        }
    });
    let emitting = subject.clone();
    let emitting = thread::spawn(move || emitting.next(0));
    begun.recv_timeout(PATIENCE).unwrap();
    (let_go, heard, emitting)
}

#[test]
fn what_callbacks_push_beyond_two_million_items_is_lost_and_counted() {
    const BOUND: usize = 1 << 21;
    let subject = Numbers::new();
    let (let_go, heard, emitting) = hold_emission(&subject);
    let (trigger, into) = (Numbers::new(), subject.clone());
    Io::new(trigger.clone()).subscribe(move |_| {
        (0..BOUND + 999).for_each(|n| into.next(n));
        let_go.send(()).unwrap();
    });
    trigger.next(0);
    emitting.join().unwrap();
    // One is being delivered while the others wait.
    assert_eq!((heard.load(SeqCst), subject.lost()), (BOUND, 1_000));
    subject.next(0);
    assert_eq!((heard.load(SeqCst), subject.lost()), (BOUND + 1, 1_000));
}

#[test]
fn callback_on_a_thread_of_a_runtime_and_the_thread_itself_never_wait_for_room() {
    const PUSHED: usize = (1 << 20) + 1_000;
    let subject = Numbers::new();
    let (let_go, heard, emitting) = hold_emission(&subject);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let pushing = subject.clone();
    runtime.block_on(async move { (0..PUSHED).for_each(|n| pushing.next(n)) });
    let_go.send(()).unwrap();
    emitting.join().unwrap();
    assert_eq!((heard.load(SeqCst), subject.lost()), (PUSHED + 1, 0));
}
