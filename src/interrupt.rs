//! A request to stop, set by a signal handler and checked between steps of work.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Shared between signal handlers and the work that they can stop. It holds the number of
/// the signal, or 0.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicUsize>);

/// The work was stopped by a signal, after cleaning up.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

impl Interrupt {
    /// The variable for a signal handler to store its signal's number in.
    pub fn flag(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.0)
    }

    pub fn signal(&self) -> Option<usize> {
        Some(self.0.load(Ordering::Relaxed)).filter(|signal| *signal != 0)
    }

    /// Fails if a signal has come.
    pub fn check(&self) -> Result<(), Interrupted> {
        self.signal().map_or(Ok(()), |_| Err(Interrupted))
    }
}
