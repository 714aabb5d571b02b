//! The random numbers on which something depends that a program or a peer can see: how long a client waits, when a heartbeat
//! begins, what a session is called.

use rand::{TryRng, rngs::SysRng};

/// From 0 to 1, without 1.
pub(crate) fn fraction() -> f64 {
    #[cfg(feature = "test")]
    if let Some(fraction) = seeded::fraction() {
        return fraction;
    }
    rand::random()
}

/// Bytes that nobody can guess, of the operating system itself.
///
/// # Panics
///
/// If the operating system has none, as the hash maps of the standard library do.
pub(crate) fn secret() -> [u8; 16] {
    #[cfg(feature = "test")]
    if let Some(secret) = seeded::secret() {
        return secret;
    }
    let mut secret = [0; 16];
    SysRng.try_fill_bytes(&mut secret).expect("the operating system has random numbers");
    secret
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

    pub(super) fn secret() -> Option<[u8; 16]> {
        SEEDED.with_borrow_mut(|seeded| seeded.as_mut().map(|numbers| numbers.random()))
    }
}
