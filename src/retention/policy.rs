//! The retention policy.
//!
//! In: [`RetentionRules`] as an operator gives them. Out: a [`Policy`], which keeps something: rules that
//! keep nothing would empty the backup dir, and are refused.

use std::num::NonZeroU32;

use jiff::SignedDuration;

use crate::repository::ArchiveSummary;
use crate::retention::reason::Period;

/// What to keep of each group; all times are UTC.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetentionRules {
    /// The newest archives, by number.
    pub last: Option<NonZeroU32>,
    /// The newest of each hour, for this number of hours.
    pub hourly: Option<NonZeroU32>,
    /// The newest of each day, for this number of days.
    pub daily: Option<NonZeroU32>,
    /// The newest of each ISO week, for this number of weeks.
    pub weekly: Option<NonZeroU32>,
    /// The newest of each month, for this number of months.
    pub monthly: Option<NonZeroU32>,
    /// The newest of each year, for this number of years.
    pub yearly: Option<NonZeroU32>,
    /// All that are at most this much older than the newest.
    pub within: Option<SignedDuration>,
    /// All with one of these labels.
    pub labels: Vec<String>,
}

/// Rules that keep nothing by age or number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no retention rule given")]
pub struct EmptyPolicy;

/// Rules that keep something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy(RetentionRules);

impl TryFrom<RetentionRules> for Policy {
    type Error = EmptyPolicy;

    /// Labels alone are not a policy: every archive without one would be removed.
    fn try_from(rules: RetentionRules) -> Result<Self, EmptyPolicy> {
        let policy = Self(rules);
        if policy.last().is_none() && policy.within().is_none() && policy.periods().next().is_none()
        {
            return Err(EmptyPolicy);
        }
        Ok(policy)
    }
}

impl Policy {
    pub(crate) fn last(&self) -> Option<u32> {
        self.0.last.map(NonZeroU32::get)
    }

    pub(crate) fn within(&self) -> Option<SignedDuration> {
        self.0.within
    }

    /// Each kind of period in the rules, with its number.
    pub(crate) fn periods(&self) -> impl Iterator<Item = (Period, u32)> + use<> {
        let rules = &self.0;
        let asked = [
            (Period::Hour, rules.hourly),
            (Period::Day, rules.daily),
            (Period::Week, rules.weekly),
            (Period::Month, rules.monthly),
            (Period::Year, rules.yearly),
        ];
        asked
            .into_iter()
            .filter_map(|(period, count)| Some((period, count?.get())))
    }

    pub(crate) fn labels_of(&self, summary: &ArchiveSummary) -> impl Iterator<Item = String> {
        let kept = &self.0.labels;
        summary
            .labels
            .iter()
            .filter(|label| kept.contains(label))
            .cloned()
    }
}
