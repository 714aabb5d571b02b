//! That memory stays level over ten million items through `deliver_on`, and that none is lost or overtaken.
//!
//! `cargo bench --bench deliver_on_memory`, on Linux

use std::{fs, sync::mpsc};

use rxplus::prelude::*;

const MILLION: usize = 1_000_000;

fn main() {
    let worker = EventLoopScheduler::new("worker");
    let subject = SerializedSubject::<usize>::new();
    let (done, finished) = mpsc::channel();
    let (mut next, mut inversions) = (0, 0);
    Io::new(subject.clone()).deliver_on(&worker).subscribe(move |n| {
        inversions += usize::from(n != next);
        next = n + 1;
        if next % MILLION == 0 {
            done.send(inversions).unwrap_or(());
        }
    });
    for million in 0..10 {
        (million * MILLION..(million + 1) * MILLION).for_each(|n| subject.next(n));
        let inversions = finished.recv().expect("a million items come");
        println!("{} million items, {inversions} out of order, {}", million + 1, resident());
    }
}

/// What the kernel says about the process's memory.
fn resident() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or("VmRSS unknown").to_owned()
}
