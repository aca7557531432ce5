//! A rewind with a failure at every system call.

use super::{Blow, Call, Story, ensure, ensure_no_staging, strike_everywhere};
use crate::support::prelude::*;

/// A `rewind` of the small member: of an archive of it to a cluster of one, struck at every call, or of its data dir to all
/// three members, killed at every call that makes something.
struct RewindStory {
    template: PathBuf,
    single: bool,
}

impl RewindStory {
    /// Where the results are: the first run's, and the next one's if the first was done.
    fn outs(root: &Path) -> [PathBuf; 2] {
        ["out", "out-2"].map(|name| root.join("results").join(name))
    }
}

impl Story for RewindStory {
    fn prepare(&self, root: &Path) {
        make_dir(&root.join("data"));
        copy_dir(&self.template, &root.join("data/input"));
        make_dir(&root.join("results"));
        let source = format!("{:?}", tree(&root.join("data")));
        fs::write(root.with_extension("before"), source).unwrap();
    }

    fn args(&self, root: &Path) -> Vec<OsString> {
        let [out, _] = Self::outs(root);
        let mut args: Vec<OsString> = vec!["rewind".into(), "--threads".into(), "1".into()];
        let input = root.join("data/input");
        // Of a data dir `/proc/locks` is read, in as many calls as it takes on that day.
        let input = archives_in(&input).pop().unwrap_or(input);
        args.extend([input.into(), "--out".into(), out.into()]);
        args.extend(["--to".into(), "end".into()]);
        if self.single {
            args.extend(["--single".into(), "infra0".into()]);
        }
        args
    }

    fn blows(&self, call: &Call) -> Vec<Blow> {
        if self.single {
            call.blows()
        } else {
            // Half a set is what three archives add to the story.
            call.creates().then_some(Blow::Kill).into_iter().collect()
        }
    }

    fn judge(
        &self,
        root: &Path,
        struck: Option<(&Call, Blow)>,
        ran: &crate::support::ark::Ran,
    ) -> Result<(), String> {
        let before = fs::read_to_string(root.with_extension("before")).unwrap();
        let after = format!("{:?}", tree(&root.join("data")));
        ensure(before == after, || "the source was touched".to_owned())?;
        let wanted = if self.single { 1 } else { 3 };
        for out in Self::outs(root).iter().filter(|out| out.exists()) {
            let made = archives_in(out);
            ensure(
                made.len() == wanted && names(out).len() == 2 * wanted,
                || format!("half a set: {:?}", names(out)),
            )?;
            for archive in made {
                let verified = ark([OsString::from("verify"), archive.into()]);
                ensure(verified.code == 0, || {
                    format!("a broken archive: {verified:?}")
                })?;
            }
        }
        let [out, _] = Self::outs(root);
        ensure(ran.code != 0 || out.exists(), || {
            "done, and no result".to_owned()
        })?;
        ensure(struck.is_some() || ran.code == 0, || {
            "it does not work any more".to_owned()
        })?;
        ensure_no_staging(&root.join("results"), struck, ran)
    }

    fn next_args(&self, root: &Path) -> Vec<OsString> {
        let [out, next] = Self::outs(root);
        let mut args = self.args(root);
        if out.exists() {
            for arg in &mut args {
                if *arg == *out.as_os_str() {
                    *arg = next.clone().into();
                }
            }
        }
        args
    }
}

#[test]
fn a_rewind_struck_anywhere_leaves_a_whole_set_or_none() {
    // Guards against half a set of archives: the cluster restored from it would have members of two incarnations.
    only_with!(need("strace"));
    let dir = fast_dir("ark-rewind-");
    let (member, archive) = (dir.path().join("member"), dir.path().join("archive"));
    small_member(&member);
    snapshot(&member, &archive, &[]);
    let mut blows = 0;
    for (template, single) in [(archive, true), (member, false)] {
        blows += strike_everywhere(&RewindStory { template, single });
    }
    println!("rewind: {blows} blows");
    assert!(blows > 50, "only {blows}");
}
