//! What one emission costs: `SerializedSubject`, `tag` and `route_by_tag` against RxRust's bare subject.

use std::{convert::Infallible, hint::black_box};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rxplus::prelude::*;

const OBSERVERS: [u64; 4] = [1, 8, 64, 512];

/// Times `next` on a subject that `build` gave so many observers.
fn emission<N: FnMut(u64)>(c: &mut Criterion, group: &str, what: &str, build: impl Fn(u64) -> N) {
    let mut group = c.benchmark_group(group);
    for observers in OBSERVERS {
        group.throughput(Throughput::Elements(observers));
        let mut next = build(observers);
        group.bench_function(BenchmarkId::new(what, observers), |b| b.iter(|| next(black_box(7))));
    }
}

fn subject(c: &mut Criterion) {
    emission(c, "subject", "bare", |observers| {
        let mut subject = Shared::subject::<u64, Infallible>();
        (0..observers).for_each(|_| _ = subject.clone().subscribe(|n| _ = black_box(n)));
        move |n| subject.next(n)
    });
    emission(c, "subject", "serialized", |observers| {
        let subject = SerializedSubject::<u64, Infallible>::new();
        (0..observers).for_each(|_| _ = Io::new(subject.clone()).subscribe(|n| _ = black_box(n)));
        move |n| subject.next(n)
    });
}

fn tag(c: &mut Criterion) {
    let tag = Tag::from("/path");
    emission(c, "tag", "bare", |observers| {
        let mut subject = Shared::subject::<u64, Infallible>();
        for _ in 0..observers {
            let tag = tag.clone();
            let tagged = subject.clone().map(move |n| TaggedData::new(tag.clone(), n));
            tagged.subscribe(|tagged| _ = black_box(tagged));
        }
        move |n| subject.next(n)
    });
    emission(c, "tag", "serialized", |observers| {
        let subject = SerializedSubject::<u64, Infallible>::new();
        for _ in 0..observers {
            Io::new(subject.clone()).tag(&tag).subscribe(|tagged| _ = black_box(tagged));
        }
        move |n| subject.next(n)
    });
}

/// One observer for each of so many tags; what is emitted is for one of them.
fn route_by_tag(c: &mut Criterion) {
    emission(c, "route_by_tag", "bare, by filter", |tags| {
        let mut subject = Shared::subject::<TaggedData<u64, u64>, Infallible>();
        for tag in 0..tags {
            subject.clone().filter(move |tagged| tagged.tag == tag).subscribe(|tagged| _ = black_box(tagged));
        }
        move |n| subject.next(TaggedData::with_key(n % tags, n))
    });
    emission(c, "route_by_tag", "serialized", |tags| {
        let subject = SerializedSubject::<TaggedData<u64, u64>, Infallible>::new();
        let router = Io::new(subject.clone()).route_by_tag();
        (0..tags).for_each(|tag| _ = router.tag(tag).subscribe(|n| _ = black_box(n)));
        // Keeps the router.
        move |n| (subject.next(TaggedData::with_key(n % tags, n)), _ = &router).0
    });
}

criterion_group!(benches, subject, tag, route_by_tag);
criterion_main!(benches);
