//! Small files given by a flag: certificates, keys, passwords, settings.

use std::io;
use std::io::Read as _;
use std::path::Path;

use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt as _;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;

use crate::fs::error::with_path;

/// The size limit of files with many parts, such as a CA bundle, in bytes.
pub const MOST_BUNDLE: u64 = 16 << 20;
/// The size limit of all other files, in bytes.
pub const MOST: u64 = 1 << 20;

/// Why what a flag names is not a file to read: it is not there, it is a directory, or it is too large.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotAFile(String);

/// Reads a regular file, a pipe such as a shell's `<(command)`, or a device such as `/dev/null`: `most` bytes at most.
///
/// A directory or a larger file is an error of kind `InvalidInput`; that and a missing file hold a [`NotAFile`]. A signal ends the wait for a pipe's writer with an
/// error of kind `Interrupted`.
pub fn read_small(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let refuse = |kind, why: String| with_path(io::Error::new(kind, NotAFile(why)), "read", path);
    let too_much = |why| refuse(io::ErrorKind::InvalidInput, why);
    let mut options = fs::OpenOptions::new();
    // A FIFO opens at once, with or without a writer.
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file = options.read(true).custom_flags(flags).open(path);
    let mut file = file.map_err(|error| match error.kind() {
        kind @ io::ErrorKind::NotFound => refuse(kind, "it does not exist".to_owned()),
        _ => error,
    })?;
    let kind = file.metadata()?.file_type();
    if kind.is_dir() {
        return Err(too_much("it is a directory".to_owned()));
    }
    let mut bytes = Vec::new();
    while bytes.len() as u64 <= most {
        // Not only for pipes: some files that the kernel shows as regular ones block, too.
        let mut wanted = [PollFd::new(&file, PollFlags::IN)];
        poll(&mut wanted, None).map_err(|error| with_path(error.into(), "read", path))?;
        let room = most + 1 - bytes.len() as u64;
        match (&mut file).take(room).read_to_end(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => {
                read?;
                break;
            }
        }
    }
    if bytes.len() as u64 > most {
        return Err(too_much(format!("it is over {} MiB", most >> 20)));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_small_file_is_refused_and_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("small");
        fs::write(&path, "x".repeat(1 << 20)).unwrap();
        assert_eq!(read_small(&path, MOST).unwrap().len(), 1 << 20);
        fs::write(&path, "x".repeat((1 << 20) + 1)).unwrap();
        for path in [&path, Path::new("/dev/zero"), dir.path()] {
            let error = read_small(path, MOST).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
        }
    }

    #[test]
    fn a_pipe_gives_all_that_its_writer_writes_however_late() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, mode).unwrap();
        let writer = std::thread::spawn({
            let path = path.clone();
            move || {
                use std::io::Write as _;
                std::thread::sleep(std::time::Duration::from_millis(50));
                let mut pipe = fs::OpenOptions::new().write(true).open(path).unwrap();
                pipe.write_all(&vec![1; 100_000]).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(50));
                pipe.write_all(&vec![2; 100_000]).unwrap();
            }
        });
        assert_eq!(read_small(&path, MOST).unwrap().len(), 200_000);
        writer.join().unwrap();
    }
}
