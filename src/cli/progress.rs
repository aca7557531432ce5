//! A progress bar on stderr, from the events that the deeds report.

use etcd_ark::deed::Event;
use indicatif::{ProgressBar, ProgressStyle};

use super::out::Out;

/// Shows events while a deed is done.
pub(crate) struct Progress<'o> {
    bar: ProgressBar,
    out: &'o Out,
}

impl<'o> Progress<'o> {
    pub(crate) fn new(out: &'o Out) -> Self {
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
            Event::Again { attempt, reason } => {
                if self.out.verbose {
                    self.bar.suspend(|| {
                        self.out
                            .note(&format!("starting over (try {attempt}): {reason}"));
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
