//! Flags of the retention policy.

use std::num::NonZeroU32;

use crate::retention::{Policy, RetentionRules};
use clap::ArgAction;
use jiff::SignedDuration;

use crate::cli::error::{CliError, Result};
use crate::cli::values::{count, duration, duration_or_zero, label};

/// The flags of a policy.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Retention, for each member")]
#[expect(clippy::struct_field_names, reason = "they are the flags' names")]
pub(crate) struct Keep {
    /// Keep the N newest archives
    #[arg(long, value_name = "N", value_parser = count, env = "ETCD_ARK_KEEP_LAST")]
    keep_last: Option<NonZeroU32>,
    /// Keep the newest of each of the last N hours that have one (UTC)
    #[arg(long, value_name = "N", value_parser = count, env = "ETCD_ARK_KEEP_HOURLY")]
    keep_hourly: Option<NonZeroU32>,
    /// Keep the newest of each of the last N days; also --keep-hourly, -weekly, -monthly, -yearly
    #[arg(long, value_name = "N", value_parser = count, env = "ETCD_ARK_KEEP_DAILY")]
    keep_daily: Option<NonZeroU32>,
    /// Keep the newest of each of the last N weeks, which begin on Monday
    #[arg(long, value_name = "N", value_parser = count, env = "ETCD_ARK_KEEP_WEEKLY")]
    keep_weekly: Option<NonZeroU32>,
    /// Keep the newest of each of the last N months
    #[arg(long, value_name = "N", value_parser = count, env = "ETCD_ARK_KEEP_MONTHLY")]
    keep_monthly: Option<NonZeroU32>,
    /// Keep the newest of each of the last N years
    #[arg(long, value_name = "N", value_parser = count, env = "ETCD_ARK_KEEP_YEARLY")]
    keep_yearly: Option<NonZeroU32>,
    /// Keep archives within DURATION of the newest, e.g. 30d
    #[arg(long, value_name = "DURATION", value_parser = duration, env = "ETCD_ARK_KEEP_WITHIN")]
    keep_within: Option<SignedDuration>,
    /// Keep archives with this label (repeatable)
    #[arg(long, value_name = "LABEL", action = ArgAction::Append, value_delimiter = ',', value_parser = label, env = "ETCD_ARK_KEEP_LABEL")]
    keep_label: Vec<String>,
    /// Verify an archive again after DURATION before it counts; 0s: each time
    #[arg(long, value_name = "DURATION", default_value = "7d", value_parser = duration_or_zero, env = "ETCD_ARK_PROVE_AGAIN_AFTER")]
    pub(crate) prove_again_after: SignedDuration,
}

impl Keep {
    fn rules(&self) -> RetentionRules {
        RetentionRules {
            last: self.keep_last,
            hourly: self.keep_hourly,
            daily: self.keep_daily,
            weekly: self.keep_weekly,
            monthly: self.keep_monthly,
            yearly: self.keep_yearly,
            within: self.keep_within,
            labels: self.keep_label.clone(),
        }
    }

    /// The policy, which must keep something.
    pub(crate) fn policy(&self) -> Result<Policy> {
        let rules = self.rules();
        let labels_alone = RetentionRules {
            labels: rules.labels.clone(),
            ..RetentionRules::default()
        };
        if rules == labels_alone && !rules.labels.is_empty() {
            let why = "--keep-label is given without a rule that says how many archives to keep";
            return Err(CliError::usage(why).hint("add another rule, such as --keep-last 7"));
        }
        Ok(Policy::try_from(rules)?)
    }

    /// The policy, if any of its flags is set.
    pub(crate) fn wanted(&self) -> Result<Option<Policy>> {
        if self.rules() == RetentionRules::default() {
            return Ok(None);
        }
        self.policy().map(Some)
    }
}
