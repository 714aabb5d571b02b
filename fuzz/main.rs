//! Bytes that nobody means well with, into everything that reads bytes.
//!
//! Each target runs for `RXPLUS_FUZZ_SECS` seconds (default 1) from the seed `RXPLUS_FUZZ_SEED` (default: another one each
//! time, printed when a target fails):
//!
//! ```sh
//! RXPLUS_FUZZ_SECS=600 cargo test --release --all-features --test fuzz
//! ```

mod client;
#[cfg(feature = "deflate")]
mod compressed;
mod datatypes;
mod dice;
mod server;

use std::{
    env,
    panic::{self, PanicHookInfo},
    sync::{
        Once,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use dice::Dice;

/// Only fails a target that hangs.
const PATIENCE: Duration = Duration::from_secs(10);

/// Panics of any thread: an I/O thread's would be caught and reported, and the target would not see it.
static PANICS: AtomicUsize = AtomicUsize::new(0);

/// Calls `case` with seeds until the time is up. No case may panic, in no thread.
fn fuzz(mut case: impl FnMut(&mut Dice)) {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
            PANICS.fetch_add(1, Ordering::SeqCst);
            usual(info);
        }));
    });
    let number = |name: &str| env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let time = Duration::from_secs(number("RXPLUS_FUZZ_SECS").unwrap_or(1));
    let first = number("RXPLUS_FUZZ_SEED").unwrap_or_else(rand::random);
    let began = Instant::now();
    let mut cases = 0;
    while began.elapsed() < time || cases == 0 {
        let seed = first.wrapping_add(cases);
        eprintln!("RXPLUS_FUZZ_SEED={seed}");
        case(&mut Dice::new(seed));
        assert_eq!(PANICS.load(Ordering::SeqCst), 0, "a thread panicked");
        cases += 1;
    }
    println!("{cases} cases from seed {first}");
}
