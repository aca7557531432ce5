//! Flags for the place of a new archive, and its recipients.

use std::path::PathBuf;
use std::rc::Rc;

use crate::archive::Cipher;
use crate::repository::Repository;
use crate::snapshot::destination::Destination;
use clap::ArgAction;

use crate::cli::encryption::cipher;
use crate::cli::error::Result;
use crate::cli::flags::repository::BackupDir;
use crate::cli::json::text;
use crate::cli::location::Location;
use crate::cli::open::Opener;

/// Where the archive goes, and for whom it is encrypted.
#[derive(Debug, clap::Args)]
pub(crate) struct DestinationFlags {
    #[command(flatten)]
    pub(crate) backup_dir: BackupDir,
    /// Directory for the archive before it is uploaded or encrypted [default: $TMPDIR or /tmp]
    ///
    /// The archive is written and verified there as a file without a name.
    #[arg(long, value_name = "DIR", env = "ETCD_ARK_SPOOL_DIR")]
    pub(crate) spool_dir: Option<PathBuf>,
    /// Encrypt for an age recipient (repeatable)
    #[arg(long, value_name = "RECIPIENT", action = ArgAction::Append, value_delimiter = ',', env = "ETCD_ARK_RECIPIENT")]
    pub(crate) recipient: Vec<String>,
    /// Encrypt for the recipients in FILE (repeatable)
    #[arg(short = 'R', long, value_name = "FILE", action = ArgAction::Append, env = "ETCD_ARK_RECIPIENTS_FILE")]
    pub(crate) recipients_file: Vec<PathBuf>,
}

pub(crate) struct Opened {
    pub(crate) repository: Rc<dyn Repository>,
    spool: PathBuf,
    cipher: Option<Box<dyn Cipher>>,
}

impl DestinationFlags {
    /// The recipients, as flags of another command.
    pub(crate) fn recipient_flags(&self) -> Vec<(&'static str, String)> {
        let named = self.recipient.iter();
        let named = named.map(|name| ("--recipient", name.clone()));
        let files = self.recipients_file.iter();
        named
            .chain(files.map(|file| ("--recipients-file", text(file))))
            .collect()
    }

    pub(crate) fn open(&self, places: &Opener<'_>) -> Result<Opened> {
        Ok(Opened {
            repository: places.repository(self.backup_dir.place()?)?,
            spool: self.spool(),
            cipher: cipher(&self.recipient, &self.recipients_file)?,
        })
    }

    fn spool(&self) -> PathBuf {
        self.spool_dir.clone().unwrap_or_else(std::env::temp_dir)
    }

    pub(crate) fn is_encrypted(&self) -> bool {
        !self.recipient.is_empty() || !self.recipients_file.is_empty()
    }

    /// The directory to which the archive is written first, if it is not written to its place at once.
    pub(crate) fn used_spool(&self) -> Option<PathBuf> {
        let is_spooled =
            matches!(&self.backup_dir.backup_dir, Some(Location::Url(_))) || self.is_encrypted();
        is_spooled.then(|| self.spool())
    }
}

impl Opened {
    pub(crate) fn destination(&self) -> Destination<'_> {
        match (self.repository.directory(), &self.cipher) {
            (Some(dir), None) => Destination::BackupDir(dir),
            _ => Destination::Through {
                repository: &*self.repository,
                spool: &self.spool,
                cipher: self.cipher.as_deref(),
            },
        }
    }
}
