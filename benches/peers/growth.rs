//! How time, memory and archive grow with the data: data dirs of 10 MB and ten times as much until `ETCD_ARK_BENCH_GROWTH`
//! MB, and a store of 1 GB.

use crate::measure::{Job, alone, shell, tell};
use crate::{Bench, aged_store, generate};

/// MB of a data dir of full size.
const FULL: u64 = 730;
/// MB of the raft snapshot of an aged store of full size.
const FULL_STORE: u64 = 82;

impl Bench {
    pub(crate) fn growth(&self, most: u64) {
        let ark = &self.ark;
        let (ours, out) = (self.text("ours"), self.text("out"));
        for size in
            std::iter::successors(Some(10), |size| Some(size * 10)).take_while(|size| *size <= most)
        {
            let made = generate::data_dir(
                &self.path("data"),
                (size * 100).div_ceil(FULL),
                generate::MEMBER,
            );
            let rounds = if size > 1000 { 1 } else { self.rounds };
            let run = |what: &str, command: &str, fresh: &str| {
                let job = Job::new("etcd-ark", command);
                let runs = alone(rounds, &job, || self.fresh(fresh));
                tell(&format!("{what}, {size} MB"), made.bytes, &runs, None, None);
            };
            run(
                "snapshot --all",
                &format!("{} --all", self.snapshot("data", &ours)),
                "ours",
            );
            let archive = self.archive();
            let packed = std::fs::metadata(&archive).unwrap().len();
            println!(
                "  archive {:.1} MB of {:.1} MB",
                packed as f64 / 1e6,
                made.bytes as f64 / 1e6
            );
            std::fs::remove_dir_all(self.path("data")).unwrap();
            let archive = archive.display();
            run("verify", &format!("{ark} verify -q {archive}"), "out");
            run(
                "restore",
                &format!("{ark} restore -q --offline {archive} --data-dir {out}/restored"),
                "out",
            );
            run("copy", &format!("{ark} copy -q {ours} {out}/copy"), "out");
            self.fresh("out");
        }
        if most >= 1000 {
            self.large_store(1000 * 100 / FULL_STORE);
        }
    }

    /// What looks into a store of 1 GB.
    fn large_store(&self, scale: u64) {
        let lived = aged_store::data_dir(&self.path("lived"), scale, 1);
        let file = lived
            .raft_snapshots
            .iter()
            .map(|path| std::fs::metadata(path).unwrap().len());
        let file = file.max().unwrap();
        self.fresh("ours");
        shell(&self.snapshot("lived", &self.text("ours")));
        let (dir, archive) = (lived.dir.display(), self.archive());
        for (title, command) in [
            ("keys", format!("--json keys {dir}")),
            ("verify --deep", format!("verify --deep {dir}")),
            ("diff", format!("diff {dir} {}", archive.display())),
        ] {
            let job = Job::new("etcd-ark", &format!("{} {command} > /dev/null", self.ark));
            let runs = alone(1, &job, || ());
            tell(
                &format!("{title}, store of {} MB", file / 1_000_000),
                lived.bytes,
                &runs,
                None,
                None,
            );
            println!(
                "  peak memory {:.2} of the raft snapshot's file",
                runs.peak as f64 / file as f64
            );
        }
    }
}
