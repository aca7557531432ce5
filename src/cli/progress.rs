//! A progress bar on stderr, from the events that the library reports.

use std::time::{Duration, Instant};

use crate::interrupt::{Interrupt, Interrupted};
use crate::progress::Event;
use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::output::Output;

pub(crate) struct Progress<'o> {
    bar: ProgressBar,
    out: &'o Output,
}

impl<'o> Progress<'o> {
    pub(crate) fn new(out: &'o Output) -> Self {
        let bar = if out.progress {
            ProgressBar::new(0)
        } else {
            ProgressBar::hidden()
        };
        let shape =
            "{msg:10} {bar:30} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} {eta}";
        if let Ok(style) = ProgressStyle::with_template(shape) {
            bar.set_style(style);
        }
        Self { bar, out }
    }

    pub(crate) fn observe(&mut self, event: Event) {
        match event {
            Event::Begin { part, bytes } => {
                self.bar.reset();
                self.bar.set_length(bytes);
                self.bar.set_message(part);
            }
            Event::Advance(bytes) => self.bar.inc(bytes),
            Event::Again { reason, .. } => {
                if self.out.verbose {
                    self.bar.suspend(|| {
                        self.out.note(&format!("starting over: {reason}"));
                    });
                }
            }
        }
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// How often a wait checks for an interrupt.
const TICK: Duration = Duration::from_millis(100);

/// Waits, and shows the reason and the remaining time.
pub(crate) fn countdown(
    wait: Duration,
    what: &'static str,
    out: &Output,
    interrupt: &Interrupt,
) -> Result<(), Interrupted> {
    let bar = if out.progress && !wait.is_zero() {
        ProgressBar::new_spinner()
    } else {
        ProgressBar::hidden()
    };
    let end = Instant::now() + wait;
    loop {
        interrupt.check()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            bar.finish_and_clear();
            return Ok(());
        }
        bar.set_message(format!("{what}: {} s", left.as_secs() + 1));
        std::thread::sleep(left.min(TICK));
    }
}
