//! Sends many requests at the same time.
//!
//! In: jobs, and a function for each result as it comes. The jobs run in threads of their own
//! until the caller has enough results; the others end by themselves, at their own
//! timeouts, without being waited for.

use std::sync::Arc;

use crossbeam_channel::unbounded;

/// More threads than the members of any cluster have URLs; further jobs wait.
const MAX_THREADS: usize = 256;

/// Whether more results are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Enough {
    Yes,
    NotYet,
}

/// Gives every job to `work`, and every result with its job to `take` in the order they come, until
/// `take` says that it has enough, or all are done.
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
        // Cannot fail: the receiver exists.
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
        // If no thread can be started, the requests run one after the other.
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
