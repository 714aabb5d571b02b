//! What an item costs on its way to another thread: `deliver_on` against RxRust's `observe_on`, on the same scheduler.
//!
//! `cargo bench --bench deliver_on`

use std::{hint::black_box, sync::mpsc};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rxplus::prelude::*;

/// How many items are pushed before the producer waits for the last of them. RxRust moves the handles of all items that
/// wait for each item, so `observe_on` costs the more the more there are.
const BURSTS: [usize; 2] = [1_000, 20_000];

/// Pushes a burst, and returns once the last item of it has been observed.
fn push_burst<U>(burst: usize, subscribe: impl FnOnce(Io<SerializedSubject<usize>>, mpsc::Sender<()>) -> U) {
    let subject = SerializedSubject::new();
    let (done, finished) = mpsc::channel();
    subscribe(Io::new(subject.clone()), done);
    (1..=burst).for_each(|n| subject.next(black_box(burst - n)));
    finished.recv().expect("the last item says so");
}

/// Observes items that count down, and says when the last has come.
fn observe(done: mpsc::Sender<()>) -> impl FnMut(usize) {
    move |left| {
        if black_box(left) == 0 {
            done.send(()).unwrap_or(());
        }
    }
}

fn to_another_thread(criterion: &mut Criterion) {
    let worker = EventLoopScheduler::new("worker");
    let mut group = criterion.benchmark_group("an item to another thread");
    group.sample_size(10);
    for burst in BURSTS {
        group.throughput(Throughput::Elements(burst as u64));
        group.bench_with_input(BenchmarkId::new("deliver_on", burst), &burst, |bench, &burst| {
            bench.iter(|| push_burst(burst, |source, done| source.deliver_on(&worker).subscribe(observe(done))));
        });
        group.bench_with_input(BenchmarkId::new("observe_on", burst), &burst, |bench, &burst| {
            bench.iter(|| push_burst(burst, |source, done| source.observe_on(worker.clone()).subscribe(observe(done))));
        });
    }
    group.finish();
}

criterion_group!(benches, to_another_thread);
criterion_main!(benches);
