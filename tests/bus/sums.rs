//! What one publisher's path has come to on the side of a receiver.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use super::*;

/// The messages are numbers that rise.
#[derive(Default)]
pub(crate) struct Sums {
    pub(crate) received: AtomicU64,
    pub(crate) missed: AtomicU64,
    last: AtomicU64,
}

impl Sums {
    pub(crate) fn on(bus: &RxBus<WsStr>, path: &'static str) -> Arc<Self> {
        let sums = Arc::<Self>::default();
        let (of_items, of_gaps) = (sums.clone(), sums.clone());
        bus.path(path).log_errors().subscribe(move |td| {
            let number = td.data.parse().unwrap();
            assert!(of_items.last.swap(number, Relaxed) < number, "{number} comes twice or late");
            of_items.received.fetch_add(1, Relaxed);
        });
        bus.events().subscribe(move |event| match event {
            BusEvent::Gap { path: of, missed, .. } if of == path => _ = of_gaps.missed.fetch_add(missed, Relaxed),
            _ => {}
        });
        sums
    }

    pub(crate) fn total(&self) -> u64 {
        self.received.load(Relaxed) + self.missed.load(Relaxed)
    }
}
