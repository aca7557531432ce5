//! What the product must do, told as stories about what goes wrong. One binary, so that the
//! support code is compiled once.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

/// Every system call fails once, or is the last one: what stands afterwards.
mod faults;
