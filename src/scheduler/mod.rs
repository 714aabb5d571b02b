//! Schedulers for RxRust's operators that keep order: [`IoScheduler`], [`EventLoopScheduler`] and [`RunLoop`].

mod event_loop;
mod executor;
mod handle;
mod io;
mod lane;
mod run_loop;
mod spread;
mod turn;

pub use event_loop::EventLoopScheduler;
pub(crate) use executor::Executor;
pub use io::IoScheduler;
pub use run_loop::{RunLoop, RunLoopScheduler};
pub(crate) use turn::{Deliver, Place, deliver_on, hand_over, place, yield_now};
