//! A session of the resumable mode, without clock, socket or lock: what both ends say to each other, and how they count.
//!
//! ```text
//! verb          what they say to each other beside the payloads; token: the name of a session
//! receiving     the position that this end has come to in the other's messages
//! tombstones    what a server remembers of sessions that are over; loss: why they are
//! options       what a program chooses
//! event         what the program hears of it
//! ```
//!
//! A *payload* is a message of the program. Both ends number the payloads of each direction from 0 on, without writing the
//! number into them. A *position* is the number of the next payload, which is how many came before.

mod event;
mod loss;
mod options;
pub(crate) mod receiving;
mod token;
pub(crate) mod tombstones;
pub(crate) mod verb;

pub use event::SessionEvent;
pub use loss::SessionLoss;
pub use options::Resume;
pub(crate) use token::Token;
