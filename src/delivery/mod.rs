//! The handles by which a program follows the fate of its messages.

mod copies;
mod one;

pub use copies::{Deliveries, DeliveryCounts};
pub use one::Delivery;
