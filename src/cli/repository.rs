//! Where archives are kept, as a command line says it.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::Result;
use etcd_ark::place::repository::Repository;

use super::failure::{Kind, Told};
use super::places::Places;

/// Where archives are.
#[derive(Debug, clap::Args)]
pub(crate) struct RepositoryFlags {
    /// The backup dir
    #[arg(
        value_name = "BACKUP_DIR",
        env = "ETCD_ARK_BACKUP_DIR",
        required_unless_present = "repo"
    )]
    backup_dir: Option<PathBuf>,
    /// A bucket instead, such as `s3://bucket/prefix`, or one at gs:// or az://, with the credentials that
    /// the cloud's own tools find in the environment
    #[arg(long, value_name = "URL", env = "ETCD_ARK_REPO")]
    repo: Option<PathBuf>,
}

impl RepositoryFlags {
    pub(crate) fn open(&self, places: &Places<'_>) -> Result<Rc<dyn Repository>> {
        places.repository(one_place(self.backup_dir.as_deref(), self.repo.as_deref())?)
    }
}

/// The bucket if one is named, else the backup dir. A bucket wins: whoever has both, one of them
/// in the environment or a file, asked for the less usual one.
pub(crate) fn one_place<'p>(
    backup_dir: Option<&'p Path>,
    repo: Option<&'p Path>,
) -> Result<&'p Path> {
    repo.or(backup_dir).ok_or_else(|| {
        let told = Told {
            kind: Kind::Usage,
            message: "neither a backup dir nor a bucket is named".to_owned(),
            hint: Some("pass the backup dir, or `--repo URL`"),
        };
        told.into()
    })
}
