//! The random numbers on which something depends that a program can see: how long a client waits, when a heartbeat begins.

/// From 0 to 1, without 1.
pub(crate) fn fraction() -> f64 {
    #[cfg(feature = "test")]
    if let Some(fraction) = seeded::fraction() {
        return fraction;
    }
    rand::random()
}

/// Random numbers that are the same in each run of a test.
#[cfg(feature = "test")]
pub(crate) mod seeded {
    use std::cell::RefCell;

    use rand::{RngExt, SeedableRng, rngs::StdRng};

    thread_local! {
        static SEEDED: RefCell<Option<StdRng>> = const { RefCell::new(None) };
    }

    /// For all that runs on this thread from now on, or no longer.
    pub(crate) fn seed(seed: Option<u64>) {
        SEEDED.set(seed.map(StdRng::seed_from_u64));
    }

    pub(super) fn fraction() -> Option<f64> {
        SEEDED.with_borrow_mut(|seeded| seeded.as_mut().map(|numbers| numbers.random()))
    }
}
