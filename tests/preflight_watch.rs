//! A rolling upgrade watched from the first member to the last: the output meanwhile, and the right end.
//!
//! Guards against a watch that ends too early (every binary is new, but the cluster version has not moved yet), that
//! loses a member because it is down, or that cannot be stopped while a member does not answer.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{ChildStdin, ChildStdout};
use std::sync::mpsc::{Receiver, channel};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::fake_cluster::Behaviour;
use crate::support::prelude::*;

/// How long it may take until a change is shown; the machine is busy.
const PATIENCE: Duration = Duration::from_secs(30);

struct Watch {
    child: Child,
    lines: Receiver<String>,
}

impl Watch {
    /// Watches through `endpoints`, ten times a second.
    fn begin(endpoints: &str, flags: &[&str]) -> Self {
        let mut command = clean(BINARY);
        command.args(["preflight", "--watch", "--interval", "100ms"]);
        command.args(["--endpoints", endpoints]).args(flags);
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = each_line(child.stdout.take().unwrap());
        Self { child, lines }
    }

    #[track_caller]
    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("nothing is told")
    }

    #[track_caller]
    fn line_with(&self, words: &[&str]) -> String {
        loop {
            let line = self.line();
            if words.iter().all(|word| line.contains(word)) {
                return line;
            }
        }
    }

    /// Whatever else is told in a while that is long enough for several looks.
    fn lines_in_a_while(&self) -> Vec<String> {
        let end = Instant::now() + Duration::from_millis(700);
        let left = || end.saturating_duration_since(Instant::now());
        std::iter::from_fn(|| self.lines.recv_timeout(left()).ok()).collect()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Exit code, the lines that were left, and stderr.
    fn end(mut self) -> (Option<i32>, Vec<String>, String) {
        let lines = self.lines.iter().collect();
        let mut stderr = String::new();
        let mut pipe = self.child.stderr.take().unwrap();
        pipe.read_to_string(&mut stderr).unwrap();
        (self.child.wait().unwrap().code(), lines, stderr)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // It has ended unless the test failed before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn each_line(stdout: ChildStdout) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines() {
            if sender.send(line.unwrap()).is_err() {
                return;
            }
        }
    });
    lines
}

fn story() -> FakeCluster {
    FakeCluster::of_story("1-before-upgrade")
}

#[test]
fn a_roll_is_told_change_by_change_and_ends_when_the_cluster_version_has_moved() {
    let fake = story();
    let watch = Watch::begin(&fake.endpoints(), &[]);
    for name in ["infra0", "infra1", "infra2"] {
        watch.line_with(&[name, "2.1.3, cluster version 2.1.0, healthy"]);
    }
    for (place, name) in [(1, "infra1"), (2, "infra2"), (0, "infra0")] {
        fake.member(place).down();
        watch.line_with(&[name, "down: ", "cannot be reached"]);
        if place == 0 {
            // Its followers elect another.
            fake.member(1).follows(fake.member(1).id());
            fake.member(2).follows(fake.member(1).id());
            watch.line_with(&["infra1", "leader"]);
        }
        let id = fake.member(1).id();
        fake.member(place).version("2.2.5", "2.1.0");
        if place == 0 {
            fake.member(0).follows(id);
        }
        fake.member(place).client(Behaviour::Answers);
        watch.line_with(&[name, "2.2.5, cluster version 2.1.0, healthy"]);
    }
    // Every binary is new; the cluster is not there yet.
    assert_eq!(watch.lines_in_a_while(), Vec::<String>::new());
    for member in fake.members() {
        member.version("2.2.5", "2.2.0");
    }
    watch.line_with(&["2.2.5, cluster version 2.2.0"]);
    let (code, rest, stderr) = watch.end();
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let text = rest.join("\n");
    assert!(text.contains("the cluster is at 2.2: 3 members"), "{text}");
    assert_has_each(
        &text,
        &[
            "downgrade check",
            "keep the archives",
            "diff",
            "take a snapshot",
        ],
    );
}

#[test]
fn under_json_each_change_is_an_object_on_a_line_of_its_own() {
    let fake = story();
    let watch = Watch::begin(&fake.endpoints(), &["--json"]);
    let told = |watch: &Watch| serde_json::from_str::<Value>(&watch.line()).unwrap();
    let first = told(&watch);
    assert_eq!(first["changed"].as_array().unwrap().len(), 3);
    assert_eq!(first["members"][1]["down_since_at"], Value::Null);
    assert_eq!(first["there"], 0);
    assert_eq!(first["done"], false);
    fake.member(1).down();
    let second = told(&watch);
    let id = format!("{:x}", fake.member(1).id());
    assert_eq!(second["changed"], serde_json::json!([id]));
    assert_eq!(second["members"][1]["health"], "down");
    assert_eq!(second["members"][1]["down_since_at"], second["looked_at"]);
    for member in fake.members() {
        member.version("2.2.5", "2.2.0");
    }
    fake.member(1).client(Behaviour::Answers);
    let mut last = told(&watch);
    while last["done"] == false {
        last = told(&watch);
    }
    assert_eq!(last["there"], 3);
    let (code, rest, stderr) = watch.end();
    assert_eq!((code, rest, stderr.as_str()), (Some(0), Vec::new(), ""));
}

#[test]
fn a_member_that_the_first_look_finds_down_is_not_forgotten() {
    let fake = story();
    fake.member(2).down();
    for place in 0..2 {
        fake.member(place).version("2.2.5", "2.2.0");
    }
    let watch = Watch::begin(&fake.endpoints(), &[]);
    watch.line_with(&["infra2", "down"]);
    assert_eq!(watch.lines_in_a_while(), Vec::<String>::new());
    fake.member(2).version("2.2.5", "2.2.0");
    fake.member(2).client(Behaviour::Answers);
    watch.line_with(&["infra2", "2.2.5"]);
    assert_eq!(watch.end().0, Some(0));
}

#[test]
fn when_all_are_down_at_once_they_are_still_asked_although_one_endpoint_was_given() {
    let fake = story();
    let watch = Watch::begin(&fake.member(0).client_url(), &[]);
    watch.line_with(&["infra2"]);
    for member in fake.members() {
        member.down();
    }
    for name in ["infra0", "infra1", "infra2"] {
        watch.line_with(&[name, "down"]);
    }
    // Its own endpoint stays silent: the others are known from before.
    fake.member(1).client(Behaviour::Answers);
    watch.line_with(&["infra1", "2.1.3"]);
    watch.signal(Signal::INT);
    assert_eq!(watch.end().0, Some(130));
}

#[test]
fn a_cluster_that_is_there_already_ends_the_first_look() {
    let fake = FakeCluster::of_story("3-after-upgrade");
    let endpoints = fake.endpoints();
    let args = ["preflight", "--watch", "--endpoints", &endpoints];
    let ran = ark(args).exits(0);
    assert!(ran.stdout.contains("the cluster is at 2.2"), "{ran:?}");
}

#[test]
fn the_end_says_what_the_old_binary_does_and_prints_complete_commands() {
    // 2.1 starts on data of 2.2 without a word; 2.2 exits on data of 2.3.
    let scratch = TempDir::new().unwrap();
    for (from, to, does) in [
        (
            "2.1",
            "2.2",
            "2.1 would start on these data without any warning",
        ),
        ("2.2", "2.3", "2.2 does not start on these data"),
    ] {
        let fake = FakeCluster::of_story("3-after-upgrade");
        for member in fake.members() {
            member.version(&format!("{to}.5"), &format!("{to}.0"));
        }
        let endpoints = fake.endpoints();
        let step = ["--from", from, "--to", to, "--endpoints", &endpoints];
        let ran = ark([&["preflight", "--watch"], &step[..]].concat()).exits(0);
        let words: Vec<_> = ran.stdout.split_whitespace().collect();
        let does = format!("going back to {from} by changing binaries is over: {does}");
        assert!(words.join(" ").contains(&does), "{ran:#?}");
        let lines = ran.stdout.lines().map(str::trim);
        let commands: Vec<_> = lines.filter(|line| line.starts_with("etcd-ark ")).collect();
        assert_eq!(commands.len(), 4, "{ran:#?}");
        assert_eq!(ran.stdout.matches("etcd-ark ").count(), 4, "{ran:#?}");
        assert!(commands[0].contains(&endpoints), "{}", commands[0]);
        assert_eq!(commands[0].contains("--to 2.2"), to == "2.3");
        assert!(commands[1].contains(&format!("--to last-before:{to}")));
        for command in commands {
            crate::printed::works(command, scratch.path(), ("KEY_FILE", "RECIPIENT"));
        }
    }
}

#[test]
fn a_watch_ends_by_the_time_it_was_given() {
    let fake = story();
    let told = typed(
        "preflight --watch --watch-for 1s --endpoints http://127.0.0.1:9",
        &[],
    );
    told.exits(1)
        .says("no member answered: http://127.0.0.1:9 cannot be reached");
    let watch = Watch::begin(&fake.endpoints(), &["--watch-for", "300ms"]);
    let (code, lines, stderr) = watch.end();
    assert_eq!(code, Some(1), "{lines:?}");
    let told = "the cluster has not moved to 2.2 within --watch-for: 0 of 3 members run it";
    assert!(stderr.contains(told), "{stderr}");
}

#[test]
fn a_signal_ends_it_at_once_even_while_a_member_does_not_answer() {
    let fake = story();
    fake.member(2).silent();
    let watch = Watch::begin(&fake.endpoints(), &["--timeout", "60"]);
    std::thread::sleep(Duration::from_millis(500));
    let begun = Instant::now();
    watch.signal(Signal::INT);
    let (code, _, stderr) = watch.end();
    assert_eq!(code, Some(130));
    assert_eq!(stderr, "error: interrupted\n");
    assert!(begun.elapsed() < Duration::from_secs(20), "{begun:?}");
}

#[test]
fn a_data_dir_that_names_no_member_cannot_be_watched() {
    let nowhere = TempDir::new().unwrap();
    let nowhere = nowhere.path().join("nowhere");
    let args = ["preflight", "--watch", "--data-dir"];
    let ran = ark(args.iter().copied().chain(nowhere.to_str()));
    ran.exits(10).says("does not say who the members are");
}

/// Watches on a terminal of 80 columns, does `meanwhile` with what is typed there once the table stands, and gives what was
/// written and what it shows.
fn on_a_terminal(
    fake: &FakeCluster,
    interval: &str,
    code: i32,
    meanwhile: impl FnOnce(&mut ChildStdin),
) -> (String, Vec<String>) {
    let line = format!(
        "stty cols 80 rows 40; {BINARY} preflight --watch --interval {interval} --endpoints {}",
        fake.endpoints()
    );
    let mut command = clean("script");
    command
        .args(["-qec", &line, "/dev/null"])
        .env("TERM", "xterm");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut text = Vec::new();
    let mut chunk = [0; 4096];
    while !String::from_utf8_lossy(&text).contains("infra2 ") {
        let length = stdout.read(&mut chunk).unwrap();
        assert_ne!(length, 0, "no table: {}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&chunk[..length]);
    }
    meanwhile(child.stdin.as_mut().unwrap());
    stdout.read_to_end(&mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(code), "{text}");
    let screen = Screen::of(&text);
    assert!(
        screen.iter().all(|line| line.chars().count() <= 80),
        "{screen:#?}"
    );
    (text, screen)
}

#[test]
fn on_a_terminal_the_table_is_drawn_anew_in_its_place() {
    only_with!(need("script"));
    let fake = story();
    let (text, screen) = on_a_terminal(&fake, "100ms", 0, |_| {
        std::thread::sleep(Duration::from_secs(1));
        fake.member(1).version("2.2.5", "2.1.0");
        std::thread::sleep(Duration::from_secs(1));
        for member in fake.members() {
            member.version("2.2.5", "2.2.0");
        }
    });
    let titles = screen.iter().filter(|line| line.starts_with("NAME "));
    assert_eq!(titles.count(), 1, "{screen:#?}");
    let shown = |words: &[&str]| {
        let has_all = |line: &&String| words.iter().all(|word| line.contains(word));
        screen.iter().filter(has_all).count()
    };
    assert_eq!(
        shown(&["upgrade 2.1 to 2.2", "3 of 3 members there"]),
        1,
        "{screen:#?}"
    );
    for name in ["infra0", "infra1", "infra2"] {
        assert_eq!(shown(&[name, "2.2.5   2.2.0    healthy"]), 1, "{screen:#?}");
    }
    assert_eq!(
        shown(&["infra1  2.2.5, cluster version 2.1.0"]),
        1,
        "{screen:#?}"
    );
    assert_eq!(shown(&["the cluster is at 2.2"]), 1, "{screen:#?}");
    assert!(text.contains("\x1b[32mhealthy\x1b[0m"), "{text:?}");
}

#[test]
fn a_ctrl_c_leaves_the_last_table_once_and_whole() {
    only_with!(need("script"));
    let fake = story();
    fake.member(2).down();
    // The terminal writes `^C` where the cursor is; the next table would stand beside it, and must not come.
    let (_, screen) = on_a_terminal(&fake, "30s", 130, |typed| typed.write_all(b"\x03").unwrap());
    let begin = |beginning: &str| {
        let lines = screen.iter().filter(|line| line.starts_with(beginning));
        lines.count()
    };
    for beginning in [
        "upgrade 2.1 to 2.2",
        "NAME ",
        "infra0 ",
        "infra2 down since",
    ] {
        assert_eq!(begin(beginning), 1, "{beginning}: {screen:#?}");
    }
    assert_eq!(begin("error: interrupted"), 1, "{screen:#?}");
}

/// What a terminal shows after a text that moves the cursor as a redrawn table does.
struct Screen {
    lines: Vec<Vec<char>>,
    row: usize,
    column: usize,
}

impl Screen {
    fn of(text: &str) -> Vec<String> {
        let mut screen = Self {
            lines: vec![Vec::new()],
            row: 0,
            column: 0,
        };
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            match c {
                '\r' => screen.column = 0,
                '\n' => screen.down(),
                '\x1b' => rest = screen.escape(rest),
                c => screen.put(c),
            }
        }
        let lines = screen.lines.iter();
        lines
            .map(|line| line.iter().collect::<String>().trim_end().to_owned())
            .collect()
    }

    fn down(&mut self) {
        self.row += 1;
        if self.row == self.lines.len() {
            self.lines.push(Vec::new());
        }
    }

    fn put(&mut self, c: char) {
        if self.column == 80 {
            self.down();
            self.column = 0;
        }
        let line = &mut self.lines[self.row];
        line.resize(line.len().max(self.column + 1), ' ');
        line[self.column] = c;
        self.column += 1;
    }

    /// Obeys the sequence behind an escape, and gives what follows it.
    fn escape<'t>(&mut self, rest: &'t str) -> &'t str {
        let body = rest.strip_prefix('[').unwrap();
        let end = body.find(|c: char| c.is_ascii_alphabetic()).unwrap();
        let number = body[..end].parse().unwrap_or(1);
        match &body[end..=end] {
            "A" => self.row = self.row.checked_sub(number).expect("above the screen"),
            "B" => (0..number).for_each(|_| self.down()),
            "K" => {
                self.lines[self.row].clear();
            }
            "m" | "h" | "l" => {}
            other => panic!("unknown sequence {other} in {rest:?}"),
        }
        &body[end + 1..]
    }
}
