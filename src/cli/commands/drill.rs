//! `drill`: tests a backup with etcd itself.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::drill::{Difference, DrillError, DrillRequest, Drilled, Unequal, drill};
use crate::etcd::store::diff::Part;
use crate::etcd::text::printable;
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::cli::context::Context;
use crate::cli::error::{Kind, Result};
use crate::cli::flags::target::TargetFlags;
use crate::cli::json::{self, text};
use crate::cli::metrics::MetricsFile;
use crate::cli::output::{Paint, one_line};
use crate::cli::values::duration;

pub(crate) const AFTER_HELP: &str = "Restores TARGET into a scratch directory and starts the given etcd there, alone, with \
    --force-new-cluster, on loopback and on free ports. Compares every key and directory that the server then holds, \
    hidden ones too, with a replay of the log by the in-order names of that etcd; keys of the v3 API are not compared. Exits with 0 if all \
    are equal, with 4 if something differs or the server does not come up, with 3 if that etcd is older than the release of TARGET, with 1 if it \
    is not an etcd, with 10 if there is no such etcd, scratch directory or TARGET. Writes neither to the \
    backup nor to the data dir, and leaves nothing behind.";

/// How many differences are shown by default.
const SHOWN: usize = 10;

#[derive(Debug, clap::Args)]
pub(crate) struct Drill {
    #[command(flatten)]
    pub(crate) from: TargetFlags,
    /// The etcd to start, of the release of the backup
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::ExecutablePath, env = "ETCD_ARK_ETCD")]
    etcd: PathBuf,
    /// Where to make the scratch directory (default: the system's)
    ///
    /// It needs room for twice the unpacked data.
    #[arg(long, value_name = "DIR", env = "ETCD_ARK_SCRATCH_DIR")]
    scratch_dir: Option<PathBuf>,
    /// How long the server may take
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = duration, env = "ETCD_ARK_DRILL_WITHIN")]
    within: SignedDuration,
    #[command(flatten)]
    pub(crate) metrics: MetricsFile,
}

pub(crate) fn run(args: &Drill, cx: &Context<'_>) -> Result<()> {
    let etcd = find(&args.etcd);
    if !etcd.is_file() {
        return Err(DrillError::NoBinary(etcd).into());
    }
    let (path, target) = args.from.open(cx)?;
    let environment: Vec<_> = std::env::vars_os()
        .filter(|(name, _)| !name.to_string_lossy().starts_with("ETCD"))
        .collect();
    let own = std::env::current_exe()?;
    let scratch = args.scratch_dir.clone().unwrap_or_else(std::env::temp_dir);
    let request = DrillRequest {
        etcd: &etcd,
        stand_in: Some(&own),
        environment: &environment,
        scratch: &scratch,
        within: Duration::try_from(args.within).unwrap_or_default(),
        threads: args.from.threads.count(),
    };
    let drilled = cx.watched(|observe| drill(target, &request, cx.interrupt, observe));
    match drilled {
        Ok(drilled) => print(path.as_path(), &etcd, &drilled, cx),
        Err(error) => {
            if let DrillError::DoesNotStart { version, log, .. } = &error {
                cx.out
                    .json(|| report_json(path.as_path(), &etcd, version, Err(log)));
                cx.out.line(&format!("the last lines of etcd {version}:"));
                for line in log {
                    cx.out.line(&format!("  {}", printable(line)));
                }
            }
            Err(error.into())
        }
    }
}

/// The program that a shell would run.
fn find(etcd: &Path) -> PathBuf {
    let is_bare = etcd.parent() == Some(Path::new(""));
    let path: OsString = std::env::var_os("PATH").unwrap_or_default();
    let mut found = std::env::split_paths(&path).map(|dir| dir.join(etcd));
    let found = found.find(|path| is_bare && path.is_file());
    let found = found.unwrap_or_else(|| etcd.to_path_buf());
    std::path::absolute(&found).unwrap_or(found)
}

fn print(path: &Path, etcd: &Path, drilled: &Drilled, cx: &Context<'_>) -> Result<()> {
    let Drilled {
        version,
        member,
        at,
        keys,
        ..
    } = drilled;
    let is_equal = drilled.differences.is_empty();
    cx.out
        .json(|| report_json(path, etcd, version, Ok(drilled)));
    if is_equal {
        cx.record.drilled(member, drilled.created, *keys);
        let word = cx.out.paint(Paint::Good, "equal");
        cx.out.report(&format!("{word}  {}", path.display()));
        cx.out.report(&format!("  member     {}", member.identity));
        cx.out.report(&format!(
            "  verified   etcd {version} started from it and holds {} as of index {at}",
            match keys {
                1 => "its one key".to_owned(),
                keys => format!("all {keys} keys"),
            }
        ));
        if drilled.expired > 0 {
            cx.out.report(&format!(
                "  expired    {} keys or directories since",
                drilled.expired
            ));
        }
        return Ok(());
    }
    let shown = if cx.out.verbose { usize::MAX } else { SHOWN };
    for difference in drilled.differences.iter().take(shown) {
        let key = one_line(&difference.path);
        cx.out.line(&format!("  {key}  {}", what(&difference.what)));
    }
    let count = drilled.differences.len();
    if count > shown {
        cx.out.line(&format!(
            "  and {} more; --verbose shows all",
            count - shown
        ));
    }
    Err(Kind::Corrupt.error(format!(
            "etcd {version} started from `{}` and holds something else than it: {count} keys or directories differ",
            path.display()
        )).hint("drill an older backup, and keep this one: `etcd-ark verify --deep` looks closer"))
}

/// The report on a drill that compared, or on one in which the server ended with this log.
fn report_json(
    path: &Path,
    etcd: &Path,
    version: &str,
    drilled: std::result::Result<&Drilled, &[String]>,
) -> Value {
    let found = drilled.ok();
    let differences = found.map_or(&[][..], |found| &found.differences);
    json!({
        "target": text(path),
        "etcd": {"path": text(etcd), "version": version},
        "equal": found.is_some() && differences.is_empty(),
        "started": found.is_some(),
        "etcd_log": drilled.err().unwrap_or_default(),
        "member": found.map(|found| json::member(&found.member.identity)),
        "created_at": found.map(|found| found.created),
        "raft_index": found.map(|found| found.at),
        "keys": found.map(|found| found.keys),
        "expired": found.map(|found| found.expired),
        "differences": differences.iter().map(to_json).collect::<Vec<_>>(),
    })
}

fn what(unequal: &Unequal) -> String {
    match unequal {
        Unequal::Missing => "is not in the server".to_owned(),
        Unequal::Added => "is only in the server".to_owned(),
        Unequal::Parts(parts) => format!("differs: {}", Part::names(parts)),
    }
}

fn to_json(difference: &Difference) -> Value {
    let (what, parts) = match &difference.what {
        Unequal::Missing => ("missing", Vec::new()),
        Unequal::Added => ("added", Vec::new()),
        Unequal::Parts(parts) => ("different", parts.clone()),
    };
    json!({
        "key": String::from_utf8_lossy(&difference.path),
        "change": what,
        "fields": parts,
    })
}
