//! The endpoints and what they are made of.

mod config;
mod retry;

pub use config::{ConnConfig, Limits};
pub use retry::{Rejected, RetryPolicy};
