//! Many questions asked at the same time.
//!
//! In: jobs, and what to do with each answer as it comes. The work goes on in threads of its own
//! until the caller has heard enough; what is still under way then ends by itself, at its own
//! timeout, and no one waits for it.

use std::sync::Arc;

use crossbeam_channel::unbounded;

/// More threads than members of any cluster have URLs; with more jobs some wait for their turn.
const MAX_THREADS: usize = 256;

/// Whether all is known that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Enough {
    Yes,
    NotYet,
}

/// Gives every job to `work`, and every result with its job to `take` in the order they come, until
/// `take` says that it is enough, or all are done.
pub(super) fn at_once<J, R>(
    jobs: Vec<J>,
    work: impl Fn(&J) -> R + Send + Sync + 'static,
    mut take: impl FnMut(J, R) -> Enough,
) where
    J: Send + 'static,
    R: Send + 'static,
{
    let (queue, waiting) = unbounded();
    let (results, done) = unbounded();
    let work = Arc::new(work);
    let wanted = jobs.len().min(MAX_THREADS);
    for job in jobs {
        // Its receiver is right here.
        let _ = queue.send(job);
    }
    drop(queue);
    let start = || {
        let (waiting, results, work) = (waiting.clone(), results.clone(), Arc::clone(&work));
        let answer_all = move || {
            for job in waiting {
                let result = work(&job);
                if results.send((job, result)).is_err() {
                    return;
                }
            }
        };
        crate::thread_pool::start(answer_all).is_ok()
    };
    let started = (0..wanted).filter(|_| start()).count();
    drop(results);
    if started == 0 {
        // No thread can be had: one question after the other is better than none.
        for job in waiting {
            let result = work(&job);
            if take(job, result) == Enough::Yes {
                return;
            }
        }
        return;
    }
    for (job, result) in done {
        if take(job, result) == Enough::Yes {
            return;
        }
    }
}
