//! Runs shell commands in turn and takes wall time, processor time and peak memory of each.

use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The rows of the table that is printed at the end, as docs/performance.md has them.
static ROWS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// A command to measure.
pub(crate) struct Job {
    pub(crate) name: String,
    pub(crate) command: String,
}

impl Job {
    pub(crate) fn new(name: &str, command: &str) -> Self {
        Self {
            name: name.to_owned(),
            command: command.to_owned(),
        }
    }
}

/// What the counted runs of a job took.
pub(crate) struct Runs {
    name: String,
    wall: Vec<f64>,
    cpu: Vec<f64>,
    /// The largest single process, in bytes.
    pub(crate) peak: u64,
}

/// Runs `a` and `b` in turn, one uncounted round first; `before` prepares each round.
pub(crate) fn in_turn(rounds: usize, a: &Job, b: &Job, before: impl Fn()) -> (Runs, Runs) {
    let (mut runs_a, mut runs_b) = (Runs::of(a), Runs::of(b));
    for round in 0..=rounds {
        before();
        runs_a.add(a, round > 0);
        runs_b.add(b, round > 0);
    }
    (runs_a, runs_b)
}

/// Runs `job` alone, one uncounted round first; `before` prepares each round.
pub(crate) fn alone(rounds: usize, job: &Job, before: impl Fn()) -> Runs {
    let mut runs = Runs::of(job);
    for round in 0..=rounds {
        before();
        runs.add(job, round > 0);
    }
    runs
}

impl Runs {
    fn of(job: &Job) -> Self {
        Self {
            name: job.name.clone(),
            wall: Vec::new(),
            cpu: Vec::new(),
            peak: 0,
        }
    }

    fn add(&mut self, job: &Job, counts: bool) {
        // Writing out what an earlier run left dirty must not be timed.
        shell("sync");
        let (wall, cpu, peak) = run(&job.command);
        if counts {
            self.wall.push(wall);
            self.cpu.push(cpu);
            self.peak = self.peak.max(peak);
        }
    }
}

/// Prints medians, and the ratio pair by pair; `goal` is the most that it should be.
pub(crate) fn tell(title: &str, bytes: u64, a: &Runs, b: Option<&Runs>, goal: Option<f64>) {
    println!("{title}");
    for runs in [Some(a), b].into_iter().flatten() {
        let wall = median(&runs.wall);
        let speed = if bytes > 0 {
            format!("{:6.0} MB/s", bytes as f64 / 1e6 / wall)
        } else {
            String::new()
        };
        println!(
            "  {:32} wall {wall:6.3} s ({:.3}–{:.3})  cpu {:6.3} s  peak {:6.1} MiB {speed}",
            runs.name,
            least(&runs.wall),
            most(&runs.wall),
            median(&runs.cpu),
            mib(runs.peak),
        );
    }
    let goal = goal.map_or("–".to_owned(), |goal| format!("{goal:.2}"));
    let (peer, ratio, cpu) = match b {
        None => ("–", format!("{:.3} s", median(&a.wall)), "–".to_owned()),
        Some(b) => {
            let ratios: Vec<_> = a.wall.iter().zip(&b.wall).map(|(a, b)| a / b).collect();
            let (least, most) = (least(&ratios), most(&ratios));
            let cpu: Vec<_> = a.cpu.iter().zip(&b.cpu).map(|(a, b)| a / b).collect();
            let ratio = format!("{:.2} ({least:.2}–{most:.2})", median(&ratios));
            let of_peak = a.peak as f64 / b.peak as f64;
            println!(
                "  ratio {ratio}, of processor time {:.2}, of peak memory {of_peak:.2}",
                median(&cpu)
            );
            (b.name.as_str(), ratio, format!("{:.2}", median(&cpu)))
        }
    };
    let row = format!(
        "| {} | {peer} | {ratio} | {goal} | {:.3} s | {cpu} | {:.1} MiB |",
        title.trim(),
        median(&a.cpu),
        mib(a.peak)
    );
    ROWS.lock().unwrap().push(row);
}

/// Prints all that was told, as a table for docs/performance.md.
pub(crate) fn print_table() {
    println!(
        "\n| job | peer | wall, of the peer's | goal | processor time | of the peer's | peak memory |"
    );
    println!("|---|---|---|---|---|---|---|");
    for row in ROWS.lock().unwrap().iter() {
        println!("{row}");
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

pub(crate) fn shell(command: &str) {
    let status = Command::new("sh").args(["-c", command]).status().unwrap();
    assert!(status.success(), "failed: {command}");
}

pub(crate) fn has(program: &str) -> bool {
    let look = format!("command -v {program} > /dev/null");
    Command::new("sh")
        .args(["-c", &look])
        .status()
        .is_ok_and(|status| status.success())
}

/// Wall and processor seconds, and the peak memory of the largest process in it.
fn run(command: &str) -> (f64, f64, u64) {
    let cpu_before = children_cpu();
    let started = Instant::now();
    let mut child = Command::new("sh")
        .args(["-c", command])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let pid = child.id();
    let watch = std::thread::spawn(move || {
        let mut peak = 0;
        while stopped.recv_timeout(Duration::from_millis(2)).is_err() {
            peak = peak.max(peak_below(pid));
        }
        peak
    });
    let status = child.wait().unwrap();
    let wall = started.elapsed().as_secs_f64();
    stop.send(()).unwrap();
    let peak = watch.join().unwrap();
    assert!(status.success(), "failed: {command}");
    (wall, children_cpu() - cpu_before, peak)
}

/// The highest `VmHWM` of a process and its children, in bytes.
fn peak_below(pid: u32) -> u64 {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.unwrap_or_default();
    let below = children
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok());
    below.map(peak_below).fold(peak_of(pid), u64::max)
}

fn peak_of(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// User and system seconds of all children that have ended: fields 16 and 17 of `stat`.
fn children_cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat.rsplit(')').next().unwrap().split_whitespace();
    let ticks: Vec<f64> = fields
        .skip(13)
        .take(2)
        .map(|f| f.parse().unwrap())
        .collect();
    ticks.iter().sum::<f64>() / 100.0
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values
}

fn median(values: &[f64]) -> f64 {
    let values = sorted(values);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn least(values: &[f64]) -> f64 {
    sorted(values).first().copied().unwrap_or(f64::NAN)
}

fn most(values: &[f64]) -> f64 {
    sorted(values).last().copied().unwrap_or(f64::NAN)
}
