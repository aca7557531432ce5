//! Flags of commands that read a member's data.

use crate::etcd::replay::InOrderRules;

use crate::cli::values::threads;

#[derive(Debug, clap::Args)]
pub(crate) struct Threads {
    /// Number of threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = threads, env = "ETCD_ARK_THREADS")]
    threads: Option<u16>,
}

impl Threads {
    pub(crate) fn count(&self) -> usize {
        self.threads
            .map_or_else(crate::thread_pool::default_threads, usize::from)
    }
}

/// How in-order keys are named.
#[derive(Debug, clap::Args)]
pub(crate) struct NamingRules {
    /// Apply POSTs and refreshes as 2.1, 2.2 or 2.3 does [default: of the data's cluster version]
    #[arg(long, value_name = "VERSION", env = "ETCD_ARK_IN_ORDER_RULES")]
    pub(crate) in_order_rules: Option<InOrderRules>,
}
