//! Chooses one archive of a backup dir: by `latest`, or by a part of its name.
//!
//! In: what the user named, and the filters that were given. Out: the place of the one archive that is meant, or why
//! there is not exactly one. A filter that was given always holds; a path is compared with it.

use std::path::Path;

use clap::builder::NonEmptyStringValueParser;
use jiff::Timestamp;

use crate::archive::{ArchiveError, ENCRYPTED, EXTENSION};
use crate::data_dir::DataDir;
use crate::data_dir::scan::survey;
use crate::etcd::ids::Identity;
use crate::etcd::scan::{Extent, Pass};
use crate::monitoring::scope::{Watched, in_every_cluster, is_ahead, is_called, is_named_ahead};
use crate::repository::catalog::read_one;
use crate::repository::{ArchiveRef, ArchiveSummary, Catalog, Repository, summarize};
use crate::text::utc;

use crate::cli::context::Context;
use crate::cli::error::repository::unexpanded;
use crate::cli::error::{CliError, Kind, Result};
use crate::cli::flags::repository::BackupDir;
use crate::cli::location::{LATEST, Location, TargetName};

const MOST_CANDIDATES: usize = 8;
const LIST_SHOWS: &str = "`etcd-ark list` shows what is there";

/// Where `latest` is looked for.
#[derive(Debug, clap::Args)]
pub(crate) struct LatestFlags {
    #[command(flatten)]
    pub(crate) backup_dir: BackupDir,
    #[command(flatten)]
    member: MemberFlag,
}

/// The member that is meant, of several in one place.
#[derive(Debug, clap::Args)]
pub(crate) struct MemberFlag {
    /// Only archives of this member (name or id)
    #[arg(long, value_name = "MEMBER", value_parser = NonEmptyStringValueParser::new(), env = "ETCD_ARK_MEMBER")]
    member: Option<String>,
}

impl LatestFlags {
    pub(crate) fn search(&self) -> Search<'_> {
        Search {
            backup_dir: &self.backup_dir,
            filter: self.member.filter(),
        }
    }
}

impl MemberFlag {
    pub(crate) fn wanted(&self) -> Option<&str> {
        self.member.as_deref()
    }

    pub(crate) fn filter(&self) -> Filter<'_> {
        Filter {
            member: self.wanted(),
            ..Filter::default()
        }
    }
}

/// The filters that were given: an archive is chosen only if it fits all of them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Filter<'f> {
    /// The name or id of its member.
    pub(crate) member: Option<&'f str>,
    /// It has any of them.
    pub(crate) labels: &'f [String],
    pub(crate) since: Option<Timestamp>,
}

impl Filter<'_> {
    pub(crate) fn is_of_all(self) -> bool {
        self.member.is_none() && !self.is_of_archives()
    }

    /// Whether it is about what only archives have.
    fn is_of_archives(self) -> bool {
        !self.labels.is_empty() || self.since.is_some()
    }

    pub(crate) fn fits(self, summary: &ArchiveSummary) -> bool {
        let labelled = summary.labels.iter().any(|own| self.labels.contains(own));
        is_called(&summary.identity, self.member)
            && (self.labels.is_empty() || labelled)
            && self.since.is_none_or(|since| summary.created >= since)
    }

    /// It as text, to follow "archives".
    pub(crate) fn text(self) -> String {
        let member = self.member.map(|name| format!(" of `{name}`"));
        let labels = (!self.labels.is_empty())
            .then(|| format!(" with the label `{}`", self.labels.join("` or `")));
        let since = self.since.map(|since| format!(" since {}", utc(since)));
        [member, labels, since].into_iter().flatten().collect()
    }
}

/// Where archives are looked for, and which of them fit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Search<'s> {
    pub(crate) backup_dir: &'s BackupDir,
    pub(crate) filter: Filter<'s>,
}

/// What a target on the command line means.
enum Meaning {
    /// An archive that was looked for in the backup dir.
    Found(Location),
    Path(Location),
}

impl Meaning {
    fn into_place(self) -> Location {
        match self {
            Self::Found(place) | Self::Path(place) => place,
        }
    }
}

impl Search<'_> {
    /// The place that `target` means: the path itself, which must fit the filter, the newest archive, or the one with
    /// this part in its name. `wal_dir` is the dedicated WAL dir if it is a data dir.
    pub(crate) fn resolve(
        self,
        target: &TargetName,
        wal_dir: Option<&Path>,
        cx: &Context<'_>,
    ) -> Result<Location> {
        let meant = self.look_for(target, cx)?;
        if let Meaning::Path(place) = &meant {
            self.compare(place, wal_dir, cx)?;
        }
        Ok(meant.into_place())
    }

    /// The same for two. A path beside an archive that was looked for may be of another member; of two paths one must
    /// fit.
    pub(crate) fn resolve_both(
        self,
        [(a, a_wal_dir), (b, b_wal_dir)]: [(&TargetName, Option<&Path>); 2],
        cx: &Context<'_>,
    ) -> Result<(Location, Location)> {
        let both = (self.look_for(a, cx)?, self.look_for(b, cx)?);
        if let (Meaning::Path(a), Meaning::Path(b)) = &both
            && let Err(error) = self.compare(a, a_wal_dir, cx)
        {
            self.compare(b, b_wal_dir, cx).map_err(|_| error)?;
        }
        Ok((both.0.into_place(), both.1.into_place()))
    }

    fn look_for(self, target: &TargetName, cx: &Context<'_>) -> Result<Meaning> {
        let repository = || cx.places.repository(self.backup_dir.place()?);
        let (repository, name) = match target {
            TargetName::Latest { label } => {
                let repository = repository()?;
                let name = latest(&*repository, label.as_deref(), self.filter)?;
                (repository, name)
            }
            TargetName::At(place) => {
                let Some(part) = part(place).filter(|_| self.backup_dir.place().is_ok()) else {
                    return Ok(Meaning::Path(place.clone()));
                };
                let repository = repository()?;
                let Some(name) = named(&*repository, part, self.filter)? else {
                    let message = format!(
                        "there is no `{part}` here, and no archive with that in its name in `{}`",
                        repository.location()
                    );
                    let hint = unexpanded(Path::new(part)).unwrap_or(LIST_SHOWS);
                    return Err(Kind::NotFound.error(message).hint(hint));
                };
                (repository, name)
            }
        };
        Ok(Meaning::Found(repository.path_of(&name).into()))
    }

    /// Refuses a path to an archive or a data dir that does not fit. One that cannot be read is left to the command.
    fn compare(self, place: &Location, wal_dir: Option<&Path>, cx: &Context<'_>) -> Result<()> {
        let filter = self.filter;
        if filter.is_of_all() || place.is_bucket() {
            return Ok(());
        }
        let shown = place.as_path().display();
        let refuse = |what: String| {
            Err(CliError::usage(what).hint(
                "a path is taken as it is: leave the filter out; it may be in the environment or in the configuration file",
            ))
        };
        if let Some(dir) = place.local().filter(|path| path.is_dir()) {
            // The archives of a backup dir are compared one by one.
            let Ok(data_dir) = DataDir::open(dir, wal_dir) else {
                return Ok(());
            };
            if filter.is_of_archives() {
                let what =
                    format!("`{shown}` is a data dir: only archives have a label and a time");
                return refuse(what);
            }
            let pass = Pass {
                extent: Extent::Needed,
                ..Pass::CHECK
            };
            let found = survey(&data_dir, pass, cx.interrupt, &mut |_| ());
            return match found.map(|found| found.facts) {
                Ok(Ok(facts)) if !is_called(&facts.identity, filter.member) => refuse(format!(
                    "`{shown}` is of {}, and not{}",
                    facts.identity,
                    filter.text()
                )),
                _ => Ok(()),
            };
        }
        match summary(place, cx) {
            Ok(summary) if !filter.fits(&summary) => refuse(format!(
                "`{shown}` is an archive of {} from {}, and not one{}",
                summary.identity,
                utc(summary.created),
                filter.text()
            )),
            _ => Ok(()),
        }
    }
}

fn summary(place: &Location, cx: &Context<'_>) -> Result<ArchiveSummary> {
    if let Some((_, summary)) = cx.places.locked(place)? {
        return Ok(summary);
    }
    let archive = cx.places.archive(place)?;
    let (repository, name) = cx.places.locate(place)?;
    let listed = repository.look_up(&name)?;
    Ok(ArchiveSummary::of(listed, archive.manifest()))
}

/// The text of `place` if it may be a part of an archive's name: one word that is not an existing path.
fn part(place: &Location) -> Option<&str> {
    let path = place.local()?;
    let word = path.to_str().filter(|word| !word.contains('/'))?;
    std::fs::symlink_metadata(path).is_err().then_some(word)
}

/// The one archive in `repository` that fits `filter` and has the name `part`, or `part` in its name.
pub(crate) fn named(
    repository: &dyn Repository,
    part: &str,
    filter: Filter<'_>,
) -> Result<Option<String>> {
    if part.is_empty() {
        return Ok(None);
    }
    let mut all = repository.list()?;
    if let Some(at) = all.iter().position(|listed| listed.name == part) {
        all = vec![all.swap_remove(at)];
    } else if "etcd-".contains(part) || format!("{EXTENSION}{ENCRYPTED}").contains(part) {
        let message = format!("`{part}` is in the name of every archive");
        return Err(CliError::usage(message)
            .hint("name the archive by another part, or as `etcd-ark list` does"));
    }
    all.retain(|listed| listed.name.contains(part));
    let (fitting, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|listed| {
        // One that cannot be opened may be the one that is meant.
        filter.is_of_all()
            || read_one(repository, listed.clone()).map_or(true, |summary| filter.fits(&summary))
    });
    let place = repository.location();
    match (fitting.as_slice(), others.as_slice()) {
        ([one], _) => Ok(Some(one.name.clone())),
        ([], []) => Ok(None),
        ([], others) => {
            let message = format!(
                "no archive{} in `{place}` has `{part}` in its name, only {}",
                filter.text(),
                some(others)
            );
            Err(Kind::NotFound.error(message).hint(LIST_SHOWS))
        }
        (several, _) => {
            let message = format!(
                "`{part}` is in the names of {} archives{} in `{place}`: {}",
                several.len(),
                filter.text(),
                some(several)
            );
            Err(CliError::usage(message)
                .hint("name the archive by a longer part, or as `etcd-ark list` does"))
        }
    }
}

/// The names of the first of `archives`, and how many more there are.
fn some(archives: &[ArchiveRef]) -> String {
    let names = archives.iter().map(|listed| listed.name.clone());
    let mut names: Vec<_> = names.take(MOST_CANDIDATES).collect();
    let more = archives.len() - names.len();
    if more > 0 {
        names.push(format!("and {more} more"));
    }
    names.join(", ")
}

/// The name of the newest backup in `repository` that fits `filter`, with a label if one is requested.
pub(crate) fn latest(
    repository: &dyn Repository,
    label: Option<&str>,
    filter: Filter<'_>,
) -> Result<String> {
    if label == Some("") {
        return Err(CliError::usage("`latest:` has no label after it")
            .hint("write `latest:LABEL`, or `latest` for the newest of all"));
    }
    let now = crate::clock::now();
    let mut catalog = summarize(repository)?;
    let fits = |one: &ArchiveSummary| {
        let labelled = label.is_none_or(|label| one.labels.iter().any(|own| own == label));
        labelled && filter.fits(one)
    };
    let (ahead, dated): (Vec<_>, Vec<_>) = std::mem::take(&mut catalog.summaries)
        .into_iter()
        .partition(|one| is_ahead(one, now));
    let mut newest = in_every_cluster(&dated, now, &fits);
    match newest.len() {
        0 => {
            catalog.summaries = dated.into_iter().chain(ahead).filter(fits).collect();
            let wanted = label.map(|label| format!(" with the label `{label}`"));
            let wanted = wanted.unwrap_or_default() + &filter.text();
            Err(no_backup(repository, &wanted, &catalog))
        }
        1 => {
            let mut newest = newest.remove(0);
            let own = &newest.newest.identity;
            let of = |id: &Identity| (id.cluster_id, id.member_id);
            let is_own =
                |one: &ArchiveSummary| one.is_backup() && of(&one.identity) == of(own) && fits(one);
            newest.ahead = ahead.into_iter().filter(is_own).collect();
            refuse_older(&newest, catalog.unreadable, now)?;
            Ok(newest.newest.listed.name)
        }
        _ => {
            let members = newest.iter().map(|one| one.newest.identity.to_string());
            let named = filter.member.map(|name| format!(" named `{name}`"));
            let others = Filter {
                member: None,
                ..filter
            };
            let message = format!(
                "`{}` holds backups of several members{}{}: {}",
                repository.location(),
                named.unwrap_or_default(),
                others.text(),
                members.collect::<Vec<_>>().join(", ")
            );
            Err(CliError::usage(message).hint(
                "choose one with `--member`: by its name, or by its id if others have that name",
            ))
        }
    }
}

/// Why no archive of `catalog`, which are those that were wanted, is the newest backup.
fn no_backup(repository: &dyn Repository, wanted: &str, catalog: &Catalog) -> CliError {
    let number =
        |is: &dyn Fn(&&ArchiveSummary) -> bool| catalog.summaries.iter().filter(is).count();
    let parts = [
        (number(&|one| one.rewound), "made by `rewind`"),
        (number(&|one| one.is_damaged()), "of a damaged data dir"),
        (number(&|one| one.is_backup()), "dated in the future"),
        (catalog.unreadable.len(), "not readable"),
    ];
    let parts = parts.iter().filter(|(number, _)| *number > 0);
    let parts: Vec<_> = parts
        .map(|(number, what)| format!("{number} {what}"))
        .collect();
    let message = format!("no backup{wanted} in `{}`", repository.location());
    let error = |message| Kind::NotFound.error(message);
    if parts.is_empty() {
        return error(message).hint(LIST_SHOWS);
    }
    error(format!(
        "{message}, only archives that `{LATEST}` passes over: {}",
        parts.join(", ")
    ))
    .hint("to use one of them, name it as `etcd-ark list` shows it")
}

/// Refuses if one of `unreadable` is of the same member and newer than `newest`: the user expects the newest backup.
fn refuse_older(
    newest: &Watched,
    unreadable: Vec<(ArchiveRef, ArchiveError)>,
    now: Timestamp,
) -> Result<()> {
    let is_newer = |(listed, _): &(ArchiveRef, _)| {
        newest.is_newer_by_name(&listed.name) && !is_named_ahead(&listed.name, now)
    };
    let Some((_, error)) = unreadable.into_iter().find(is_newer) else {
        return newest.furthest().map_or(Ok(()), |furthest| {
            let of = |one: &ArchiveSummary| {
                let (name, index) = (one.name(), one.position.index);
                format!("`{name}` of {} ends at entry {index}", utc(one.created))
            };
            let message = format!(
                "which archive of {} is `{LATEST}` cannot be told: {}, and {}",
                newest.name,
                of(&newest.newest),
                of(furthest)
            );
            Err(Kind::Refused.error(message).hint(
                "a clock was wrong, or the member went back to older data: name the archive that you mean; only the one that ends later has all that was written",
            ))
        });
    };
    let error = CliError::from(error);
    let message = format!("`{LATEST}` is damaged: {}", error.message);
    let hint = format!(
        "the newest of {} that can be opened is {}: to use it, name it",
        newest.name, newest.newest.listed.name
    );
    Err(error.kind.error(message).hint(hint))
}
