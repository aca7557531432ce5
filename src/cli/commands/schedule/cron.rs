//! A line for cron, with what cron itself lacks: credentials, a lock for a bucket, a check for a missing disk.

use crate::cli::commands::schedule::command_line::Line;
use crate::cli::commands::schedule::interval::When;
use crate::cli::commands::schedule::paths::Place;
use crate::cli::commands::schedule::{Text, VERSION};
use crate::cli::error::{CliError, Result};
use crate::cli::quote::{cron, shell};

/// The longest command that Debian's cron accepts, in bytes; with a longer one it ignores the whole file.
const LONGEST_COMMAND: usize = 998;
/// The file with credentials, which the package's service reads too.
const CREDENTIALS: &str = "/etc/default/etcd-ark";
/// The exit code of flock(1) if another run holds the lock: the same as `snapshot`'s.
const BUSY: u8 = 11;

pub(crate) fn crontab(exe: &Place, user: &str, when: When, line: &Line) -> Result<Text> {
    let mut words = vec![shell(&exe.named), "--quiet".to_owned()];
    words.extend(line.global.iter().map(|word| shell(word)));
    words.push("snapshot".to_owned());
    words.extend(line.flags.iter().map(|word| shell(word)));
    let command = words.join(" ");
    let (notes, command) = match &line.backups {
        Some(dir) => into_directory(dir, command),
        None => into_bucket(user, &command),
    };
    let command = cron(&command);
    if command.len() > LONGEST_COMMAND {
        return Err(CliError::usage(format!(
            "the command has {} bytes, and cron takes {LONGEST_COMMAND}",
            command.len()
        ))
        .hint("`--kind systemd` has no such limit"));
    }
    let path = "/etc/cron.d/etcd-ark";
    let when = when.crontab();
    let text = format!(
        "# {path}\n\
         # Printed by `etcd-ark schedule` {VERSION}. To install it, as root: put this text into that file. cron leaves out files\n\
         # with a dot in their name, and files that others than root can write to.\n\
         #\n\
         # cron mails what a run says: nothing, unless something is worth a look. This is who gets it; see that mail from this\n\
         # machine arrives.\n\
         MAILTO=root\n\
         {notes}\
         {when} {user} {command}\n"
    );
    Ok(Text { path, text })
}

/// A comment about the directory, and the command.
fn into_directory(dir: &Place, command: String) -> (String, String) {
    let named = shell(&dir.named);
    let locked = "# No flock(1) is needed: a run locks the backup dir itself.\n";
    match dir.mount() {
        Some(mount) => {
            let gone = shell(&format!("{mount} is not mounted: no snapshot was taken"));
            let mount = shell(&mount);
            (
                format!(
                    "{locked}# Without the disk at {mount} the archives would fill another one, so it must be there.\n"
                ),
                format!("mountpoint -q {mount} || {{ echo {gone} >&2; exit 1; }}; {command}"),
            )
        }
        None => (
            format!(
                "{locked}# {named} is on the root disk now. If it is to be on another one, mount that and print this again: the line will\n# then take no snapshot while that disk is missing, instead of filling the root disk.\n"
            ),
            command,
        ),
    }
}

fn into_bucket(user: &str, command: &str) -> (String, String) {
    (
        format!(
            "# cron has nothing of your shell's environment. The credentials of the bucket belong in {CREDENTIALS}, a line\n\
             # each, such as AWS_ACCESS_KEY_ID=KEY; it must be there, belong to {user}, and have mode 0600.\n\
             # Runs on a bucket do not lock each other: flock(1) on that file keeps two of this machine apart. The second one\n\
             # ends with {BUSY}.\n"
        ),
        format!(
            "set -a; . {CREDENTIALS}; flock -n -E {BUSY} {CREDENTIALS} {command} || echo \"etcd-ark ended with $?\" >&2"
        ),
    )
}
