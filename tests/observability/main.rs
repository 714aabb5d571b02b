//! An endpoint as it is seen from outside: what it logs, its spans, its figures. A test binary of its own, since `tracing` has
//! one subscriber for the whole process.

mod counts;
mod log;
mod spans;
#[path = "../support/mod.rs"]
mod support;
mod traced;
