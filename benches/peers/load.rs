//! Captures beside a server of etcd 2.x under full load: what they cost its clients.
//!
//! `ETCD_ARK_BENCH_ETCD` names the server's program. Eight clients write as fast as they are answered, in windows without and
//! with a capture a second, in turn; `ETCD_ARK_BENCH_CAPTURES` (500) captures in all, at the priority that the systemd unit
//! gives them. Each archive must hold every write that was answered before its capture began: it is restored to
//! nothing, only its position is compared with the index that the server had answered with.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::Bench;
use crate::generate::{below, value};

const CLIENTS: u64 = 8;
/// Captures in a window; a window without takes as many seconds.
const WINDOW: u64 = 50;
const KEYS: u64 = 20_000;

impl Bench {
    pub(crate) fn load(&self) {
        let Ok(program) = std::env::var("ETCD_ARK_BENCH_ETCD") else {
            return println!("ETCD_ARK_BENCH_ETCD names no server: no load");
        };
        let captures =
            std::env::var("ETCD_ARK_BENCH_CAPTURES").map_or(500, |text| text.parse().unwrap());
        let (client, peer) = ("http://127.0.0.1:23791", "http://127.0.0.1:23801");
        let mut server = Command::new(program);
        server.args(["--name", "bench", "--data-dir", &self.text("data")]);
        server.args([
            "--listen-client-urls",
            client,
            "--advertise-client-urls",
            client,
        ]);
        server.args([
            "--listen-peer-urls",
            peer,
            "--initial-advertise-peer-urls",
            peer,
        ]);
        server.args(["--initial-cluster", &format!("bench={peer}")]);
        let mut server = server
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while TcpStream::connect("127.0.0.1:23791").is_err() {
            std::thread::sleep(Duration::from_millis(100));
        }
        self.fresh("ours");
        let (mut without, mut with) = (Vec::new(), Vec::new());
        let mut missing = 0;
        // One uncounted window: the store fills.
        drop(self.window(0, WINDOW));
        for _ in 0..u64::div_ceil(captures, WINDOW) {
            without.extend(self.window(0, WINDOW).0);
            let (latencies, lacking) = self.window(WINDOW, WINDOW);
            with.extend(latencies);
            missing += lacking;
        }
        server.kill().unwrap();
        server.wait().unwrap();
        println!(
            "captures beside a server under full load: {captures}, {missing} without a write acknowledged before"
        );
        for latencies in [&mut without, &mut with] {
            latencies.sort();
        }
        for (name, permille) in [("p50", 500), ("p99", 990), ("p99.9", 999)] {
            let [a, b] =
                [&without, &with].map(|all| all[all.len() * permille / 1000].as_secs_f64() * 1e3);
            println!(
                "  {name} {a:.3} ms without, {b:.3} ms with: {:+.1} %",
                (b / a - 1.0) * 100.0
            );
        }
        println!("  {} writes without, {} with", without.len(), with.len());
    }

    /// Lets clients write for `seconds`, with `captures` at one a second beside them; the latencies, and how many archives
    /// lack a write.
    fn window(&self, captures: u64, seconds: u64) -> (Vec<Duration>, u64) {
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicU64::new(0));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
                std::thread::spawn(move || write_until(&stop, &answered, client + 1))
            })
            .collect();
        let begun = Instant::now();
        let mut lacking = 0;
        for second in 0..seconds {
            std::thread::sleep(
                (begun + Duration::from_secs(second)).saturating_duration_since(Instant::now()),
            );
            if second < captures {
                lacking += u64::from(self.capture() < answered.load(Ordering::SeqCst));
            }
        }
        stop.store(true, Ordering::SeqCst);
        let latencies = clients
            .into_iter()
            .flat_map(|client| client.join().unwrap());
        (latencies.collect(), lacking)
    }

    /// Captures as the systemd unit does; the index of the last entry in the archive.
    fn capture(&self) -> u64 {
        let command = format!(
            "exec nice -n 10 ionice -c 2 -n 7 {} --json",
            self.snapshot("data", &self.text("ours"))
        );
        let out = Command::new("sh").args(["-c", &command]).output().unwrap();
        let told: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap_or_default();
        let index = told["position"]["raft_index"].as_u64();
        index.unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&out.stderr)))
    }
}

/// Writes keys one after the other over one connection; `answered` gets the highest index that an answer named.
fn write_until(stop: &AtomicBool, answered: &AtomicU64, seed: u64) -> Vec<Duration> {
    let mut random = seed;
    let mut latencies = Vec::new();
    let mut to = TcpStream::connect("127.0.0.1:23791").unwrap();
    to.set_nodelay(true).unwrap();
    let mut from = BufReader::new(to.try_clone().unwrap());
    while !stop.load(Ordering::SeqCst) {
        let key = below(&mut random, KEYS);
        let body = format!("value={}", value(&mut random).replace('"', "%22"));
        let request = format!(
            "PUT /v2/keys/app/{}/{key} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            key % 100,
            body.len()
        );
        let begun = Instant::now();
        to.write_all(request.as_bytes()).unwrap();
        let index = read_answer(&mut from);
        latencies.push(begun.elapsed());
        answered.fetch_max(index, Ordering::SeqCst);
    }
    latencies
}

/// The raft index in an answer of success.
fn read_answer(from: &mut BufReader<TcpStream>) -> u64 {
    let (mut length, mut index, mut status) = (0, 0, String::new());
    from.read_line(&mut status).unwrap();
    assert!(status.contains(" 20"), "{status}");
    loop {
        let mut line = String::new();
        from.read_line(&mut line).unwrap();
        let Some((name, text)) = line.trim_end().split_once(": ") else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = text.parse().unwrap(),
            "x-raft-index" => index = text.parse().unwrap(),
            "transfer-encoding" => panic!("an answer in chunks"),
            _ => {}
        }
    }
    from.read_exact(&mut vec![0; length]).unwrap();
    index
}
