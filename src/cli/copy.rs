//! `copy`: archives from one repository to another, each proven before and after.

use std::path::PathBuf;

use anyhow::Result;
use etcd_ark::deed::copy::{Copied, copy};
use etcd_ark::ground::interrupt::Interrupt;
use etcd_ark::place::repository::Listed;
use serde_json::json;

use super::failure::{Failure, Kind, Told};
use super::out::{Out, size, text};
use super::places::Places;
use super::progress::Progress;

#[derive(Debug, clap::Args)]
pub(crate) struct Copy {
    /// Where the archives are: a backup dir, or a URL such as `s3://bucket/prefix`
    #[arg(value_name = "FROM")]
    from: PathBuf,
    /// Where they go
    #[arg(value_name = "TO")]
    to: PathBuf,
    /// Only these archives, by their names; all by default
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

pub(crate) fn run(
    args: &Copy,
    places: &Places<'_>,
    out: &Out,
    interrupt: &Interrupt,
) -> Result<u8> {
    let from = places.repository(&args.from)?;
    let to = places.repository(&args.to)?;
    let wanted: Vec<Listed> = if args.names.is_empty() {
        from.list()?
    } else {
        let names = args.names.iter();
        names
            .map(|name| from.look_up(name))
            .collect::<Result<_, _>>()?
    };
    to.prepare()?;
    let (mut new, mut bytes, mut there) = (0_u64, 0, 0_u64);
    let mut results = Vec::new();
    let mut worst: Option<(Kind, String)> = None;
    for listed in &wanted {
        let mut progress = Progress::new(out);
        let observe = &mut |event| progress.observe(event);
        let outcome = copy(&*from, &*to, listed, interrupt, observe);
        drop(progress);
        let path = text(&to.path_of(&listed.name));
        match outcome {
            Ok(Copied::New(copied)) => {
                new += 1;
                bytes += copied;
                out.line(&format!("copied {path}  {}", size(copied)));
                results.push(json!({"archive": path, "copied": true, "bytes": copied}));
            }
            Ok(Copied::AlreadyThere) => {
                there += 1;
                results.push(json!({"archive": path, "copied": false}));
            }
            Err(error) => {
                let failure = Failure::of(&error.into());
                interrupt.check()?;
                results.push(json!({"archive": path, "copied": false, "error": failure.message}));
                out.warn(&failure.message);
                // Corruption outweighs every other failure.
                if worst
                    .as_ref()
                    .is_none_or(|(kind, _)| *kind != Kind::Corrupt)
                {
                    worst = Some((failure.kind, failure.message));
                }
            }
        }
    }
    out.json(
        || json!({"copied": new, "bytes": bytes, "already_there": there, "archives": results}),
    );
    out.line(&format!(
        "{new} copied ({}), {there} there already, of {}",
        size(bytes),
        wanted.len()
    ));
    let Some((kind, first)) = worst else {
        return Ok(0);
    };
    let failed = wanted.len() as u64 - new - there;
    let told = Told {
        kind,
        message: format!(
            "{failed} of {} archives were not copied: {first}",
            wanted.len()
        ),
        hint: Some("those that were copied are whole; run it again for the rest"),
    };
    Err(told.into())
}
