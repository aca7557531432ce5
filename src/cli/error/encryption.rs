//! Exit codes and hints for errors with keys of encrypted archives.

use crate::archive::encryption::{EncryptionFault, KeyError};

use crate::cli::error::{CliError, Judge, USE_ANOTHER, corrupt, refused, usage};

impl Judge for EncryptionFault {
    fn judge(&self) -> CliError {
        match self {
            Self::NoIdentity => usage(
                "pass the file with the private key: `--identity FILE`; `etcd-ark verify` checks the ciphertext without one",
            ),
            Self::WrongIdentity => refused(
                "pass the private key of a recipient that the archive was made for; `etcd-ark verify` without --identity checks whether it is undamaged",
            ),
            Self::Armored => {
                usage("`age -d -i KEY FILE > etcd-….tar.zst` gives the archive itself")
            }
            Self::Header(_) | Self::Truncated => corrupt(USE_ANOTHER),
        }
    }
}

impl Judge for KeyError {
    fn judge(&self) -> CliError {
        let hint = match self {
            Self::PrivateKey => {
                "the public key of it is the recipient: `age-keygen -y KEY` prints it, age1…"
            }
            Self::Recipient(_) | Self::RecipientsFile { .. } | Self::NoRecipient(_) => {
                "a recipient is the public key that `age-keygen -y KEY` prints: age1…"
            }
            Self::Empty(_) | Self::IdentityFile(_) => {
                "an identity is the file that `age-keygen -o KEY` makes: AGE-SECRET-KEY-1…"
            }
            Self::TooMany(_) => "encrypt for the key of a team instead of for each of its people",
            Self::Passphrase(_) => "decrypt it first: `age -d FILE > KEY`",
        };
        usage(hint)
    }
}
