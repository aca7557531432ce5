//! Copies, and what goes straight to a bucket: against `cp` and, on the same server, `rclone`.
//!
//! The server is `s3s-fs` on the loopback; `ETCD_ARK_BENCH_S3S` names another build of it than the one in PATH.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::measure::{Job, has, in_turn, shell, tell};
use crate::{Bench, generate};

const KEY: &str = "AKIDBENCHBENCHBENCH0";
const SECRET: &str = "secret-for-the-benchmark-only";

/// A server, until it is dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Bench {
    /// What moves an archive.
    pub(crate) fn places(&self, scale: u64) {
        let made = generate::data_dir(&self.path("data"), scale, generate::MEMBER);
        let (from, ours, theirs) = (self.text("from"), self.text("ours"), self.text("theirs"));
        self.fresh("from");
        shell(&format!("{} --all", self.snapshot("data", &from)));
        let before = || {
            self.fresh("ours");
            self.fresh("theirs");
        };
        let a = Job::new("etcd-ark", &format!("{} copy -q {from} {ours}", self.ark));
        let b = Job::new(
            "cp; sha256sum -c; sync",
            &format!(
                "cp {from}/etcd-* {theirs} && cd {theirs} && sha256sum --quiet -c *.sha256 && sync *"
            ),
        );
        let (a, b) = in_turn(self.rounds, &a, &b, before);
        tell(
            "copy, directory to directory",
            made.bytes,
            &a,
            Some(&b),
            Some(1.10),
        );
        self.bucket(made.bytes);
        std::fs::remove_dir_all(self.path("data")).unwrap();
    }

    fn bucket(&self, bytes: u64) {
        let program = std::env::var("ETCD_ARK_BENCH_S3S").unwrap_or_else(|_| "s3s-fs".to_owned());
        if !has(&program) {
            return println!("s3s-fs is not installed: no bucket");
        }
        self.fresh("buckets");
        self.fresh("buckets/bench");
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port().to_string();
        drop(free);
        let mut server = Command::new(program);
        server.args([
            "--host",
            "127.0.0.1",
            "--port",
            &port,
            "--access-key",
            KEY,
            "--secret-key",
            SECRET,
        ]);
        server
            .arg(self.path("buckets"))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let _server = Server(server.spawn().unwrap());
        std::thread::sleep(Duration::from_secs(1));
        let environment = format!(
            "unset AWS_CA_BUNDLE; export AWS_ACCESS_KEY_ID={KEY} AWS_SECRET_ACCESS_KEY={SECRET} AWS_REGION=us-east-1 AWS_ENDPOINT_URL=http://127.0.0.1:{port} \
             RCLONE_CONFIG_S_TYPE=s3 RCLONE_CONFIG_S_PROVIDER=Other RCLONE_CONFIG_S_ENV_AUTH=true RCLONE_CONFIG_S_ENDPOINT=http://127.0.0.1:{port};"
        );
        let (ark, from) = (&self.ark, self.text("from"));
        let before = || {
            self.fresh("buckets/bench/ours");
            self.fresh("buckets/bench/theirs");
            self.fresh("ours");
            self.fresh("theirs");
        };
        let captures = |name, to: &str| {
            Job::new(
                name,
                &format!("{environment} {}", self.snapshot("data", to)),
            )
        };
        let a = captures("etcd-ark", "s3://bench/ours");
        let b = captures("to a directory", &self.text("ours"));
        let (a, b) = in_turn(self.rounds, &a, &b, before);
        tell("snapshot straight to S3", 0, &a, Some(&b), Some(1.15));
        if !has("rclone") {
            return println!("rclone is not installed: not compared");
        }
        let filled = "s3://bench/filled";
        shell(&format!("{environment} {ark} copy -q {from} {filled}"));
        let (ours, theirs) = (self.text("ours"), self.text("theirs"));
        // With a slash rclone does not ask for an object of that name, which this server never answers for a directory.
        for (title, a, b) in [
            (
                "copy, directory to S3",
                format!("copy -q {from} s3://bench/ours"),
                format!("{from} s:bench/theirs/"),
            ),
            (
                "copy, S3 to directory",
                format!("copy -q {filled} {ours}"),
                format!("s:bench/filled/ {theirs} && sync {theirs}/*"),
            ),
        ] {
            let a = Job::new("etcd-ark", &format!("{environment} {ark} {a}"));
            let b = Job::new("rclone copy", &format!("{environment} rclone copy -q {b}"));
            let (a, b) = in_turn(self.rounds, &a, &b, before);
            tell(title, bytes, &a, Some(&b), Some(1.0));
        }
    }
}
