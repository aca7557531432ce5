//! Selects archives of a backup dir: by member, label and time.
//!
//! In: the flags, and the archives' summaries. Out: the matching ones, and those that cannot be opened.

use clap::ArgAction;
use jiff::Timestamp;

use crate::repository::{ArchiveRef, Catalog, Repository, summarize};

use crate::cli::error::{Kind, Result};
use crate::cli::flags::chosen::{Filter, MemberFlag};
use crate::cli::output::Output;
use crate::cli::quote::shell;
use crate::cli::values::{label, time};

#[derive(Debug, clap::Args)]
pub(crate) struct Selection {
    #[command(flatten)]
    pub(crate) member: MemberFlag,
    /// Only archives with this label (repeatable: any of them)
    #[arg(long, value_name = "LABEL", action = ArgAction::Append, value_delimiter = ',', value_parser = label, env = "ETCD_ARK_ONLY_LABEL")]
    label: Vec<String>,
    /// Only archives taken since TIME, e.g. 7d (ago), 2026-11-01
    ///
    /// A duration before now, a date (UTC), or a time such as 2026-11-01T06:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = time, env = "ETCD_ARK_SINCE")]
    since: Option<Timestamp>,
}

impl Selection {
    fn is_of_all(&self) -> bool {
        self.filter().is_of_all()
    }

    pub(crate) fn filter(&self) -> Filter<'_> {
        Filter {
            labels: &self.label,
            since: self.since,
            ..self.member.filter()
        }
    }

    pub(crate) fn narrow(&self, catalog: &mut Catalog) {
        let filter = self.filter();
        catalog.summaries.retain(|summary| filter.fits(summary));
    }

    /// The same for commands that change or copy archives: if none matches, a flag may be mistyped.
    pub(crate) fn demand(&self, catalog: &mut Catalog, repository: &dyn Repository) -> Result<()> {
        self.narrow(catalog);
        let has_any = !catalog.summaries.is_empty() || !catalog.unreadable.is_empty();
        if self.is_of_all() || has_any {
            return Ok(());
        }
        let place = repository.location();
        let message = format!("no archives{} in `{place}`", self.text());
        Err(Kind::NotFound.error(message).hint(format!(
            "`etcd-ark list {}` shows what is there, and by which names",
            shell(&place)
        )))
    }

    /// The matching archives of `repository`, sorted by name.
    pub(crate) fn listed(
        &self,
        repository: &dyn Repository,
        out: &Output,
    ) -> Result<Vec<ArchiveRef>> {
        let listed = if self.is_of_all() {
            repository.list()?
        } else {
            let mut catalog = summarize(repository)?;
            self.demand(&mut catalog, repository)?;
            let unreadable = catalog.unreadable.into_iter().map(|(listed, _)| listed);
            let fitting = catalog.summaries.into_iter().map(|one| one.listed);
            let mut listed: Vec<_> = fitting.chain(unreadable).collect();
            listed.sort_by(|a, b| a.name.cmp(&b.name));
            listed
        };
        out.warn_skipped(repository);
        Ok(listed)
    }

    /// The selection as text, to follow "archives".
    pub(crate) fn text(&self) -> String {
        self.filter().text()
    }
}
