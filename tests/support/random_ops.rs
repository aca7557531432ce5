//! Random operations of the v2 API, the same for the same seed.
//!
//! In: a seed, and the server's answer to each operation, from which later ones take existing indexes and values.
//! Out: HTTP requests on a key space so small that they often collide, a count of their results, and the names
//! of the hidden nodes, which are in no listing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::etcd::{Answer, Connection};

/// Names of keys and directories that must survive percent signs, sorting, shortening, JSON and a terminal.
const ODD_NAMES: [&[u8]; 26] = [
    b"_x",
    b"_",
    b"A",
    b"a!",
    b"a-b",
    b"a0",
    b"a_",
    b"a b",
    b" ",
    b"...",
    b"quote\"d 'name' \\",
    b"<b>&amp;",
    b"100%",
    b"%2F",
    b"?q=1#f+;:@",
    b"\x01\t\n\r\x1b[31m\x7f",
    b"nul\0",
    b"183",
    b"00000000000000000007",
    "\u{e9}".as_bytes(),
    // The same letter to the eye, other bytes.
    "e\u{301}".as_bytes(),
    "\u{65e5}\u{672c}\u{8a9e}".as_bytes(),
    "\u{1f511}".as_bytes(),
    "\u{2028}\u{2029}".as_bytes(),
    "\u{202e}rtl".as_bytes(),
    "\u{feff}\u{fffd}".as_bytes(),
];

/// Names and values that are not UTF-8. etcd keeps them as they are, and its JSON has U+FFFD for each byte that is wrong.
/// Some look the same there, and are one after a raft snapshot.
const NOT_UTF8: [&[u8]; 9] = [
    b"\xff",
    b"\xfe",
    b"\x80",
    b"\xfe\xff",
    b"\xc3(",
    // A character cut short: three wrong bytes, of which some decoders make one.
    b"\xf0\x9f\x94",
    // A surrogate, and an encoding that is too long.
    b"\xed\xa0\x80",
    b"\xc0\xafa",
    "\u{fffd}".as_bytes(),
];

const VALUES: [&[u8]; 14] = [
    b"",
    b"",
    b"0",
    b"plain",
    b"two\nlines\r\n",
    b"\"quoted\" \\ 'value'",
    b"<script>&amp;</script>",
    b"{\"json\":[1,null,\"\\u0000\"]}",
    b"a=b&c=d+e%20f",
    b"\0\x01\x1b[2J\x7f",
    b" \t ",
    "\u{65e5}\u{672c}\u{8a9e} \u{1f511}".as_bytes(),
    "\u{2028}\u{2029}\u{feff}".as_bytes(),
    "e\u{301}\u{e9}".as_bytes(),
];

/// Lifetimes in seconds that do something else than count down: 0 has expired at once; the others overflow the
/// nanoseconds in which etcd reckons, into the past (1758, one second ago, a negative number) or into 2076.
const ODD_TTLS: [&str; 6] = [
    "0",
    "10000000000",
    "18446744073709551615",
    "9223372037",
    "9000000000",
    "20000000000",
];

/// Lifetimes in seconds above this one are still there when a story ends.
pub const LONG_TTL: u64 = 1000;

/// Content type of a form, which is what the v2 API takes.
const FORM: &str = "application/x-www-form-urlencoded";

type Maker = fn(&mut RandomOps) -> Operation;

/// How often each kind of request comes, of about 1000; its name and method; which key it names: `known:40` and `dir:70` are
/// a known key and a directory in that percentage of the requests; and its parameters, each with the percentage of the
/// requests that have it, if not all do. After `ttl` is the percentage with a short one.
const REQUESTS: &str = "
    210 | set                | PUT    | known:40 | value ttl:10 dir=false:3
    65  | set dir            | PUT    | any      | dir=true ttl:15 value:20
    65  | create             | PUT    | any      | prevExist=false value ttl:10 prevValue=whatever:5
    30  | create dir         | PUT    | any      | prevExist=false dir=true ttl:15
    100 | update             | PUT    | known:70 | prevExist=true value ttl:10
    30  | update dir         | PUT    | dir:100  | prevExist=true value:20 ttl:20 dir=true:50
    110 | compare and swap   | PUT    | compared | comparison value ttl:10 prevExist=true:30 dir=true:5
    70  | post               | POST   | post     | value ttl:10
    15  | post dir           | POST   | post     | dir=true ttl:15
    70  | delete             | DELETE | any      |
    25  | delete dir         | DELETE | dir:70   | dir=true
    30  | delete recursive   | DELETE | dir:50   | recursive=true dir=true:50
    50  | compare and delete | DELETE | compared | comparison dir=true:10 recursive=true:10";

/// The same of the operations that are more than a request.
const OTHERS: [(u64, Maker); 9] = [
    (6, RandomOps::set_twins),
    (75, RandomOps::refresh),
    (6, RandomOps::post_onto_its_name),
    (15, RandomOps::write_to_root),
    (10, RandomOps::ill_formed),
    (6, RandomOps::odd_path),
    (10, RandomOps::quorum_get),
    (15, RandomOps::v3_put),
    (8, RandomOps::learner),
];

#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        let mut random = Self(seed);
        random.next();
        random
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

#[derive(Clone, Debug)]
pub struct Operation {
    /// What it tries, for the tally.
    pub kind: &'static str,
    pub method: &'static str,
    pub target: String,
    pub content_type: &'static str,
    pub body: String,
    /// The key that it names; empty if nothing is to be learnt from the answer about a key.
    key: Vec<u8>,
    /// The value that it would leave there.
    value: Vec<u8>,
}

/// The parameters of a v2 request, in the body or in the address.
#[derive(Default)]
struct Form(Vec<(&'static str, Vec<u8>)>);

impl Form {
    fn with(mut self, name: &'static str, value: impl AsRef<[u8]>) -> Self {
        self.0.push((name, value.as_ref().to_vec()));
        self
    }

    fn with_some(self, name: &'static str, value: Option<impl AsRef<[u8]>>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    fn encoded(&self) -> String {
        let pairs = self.0.iter();
        let pairs: Vec<_> = pairs
            .map(|(name, value)| format!("{name}={}", percent(value, b"")))
            .collect();
        pairs.join("&")
    }
}

/// What the generator believes of a key that it has written; the server may know better.
#[derive(Clone, Debug)]
struct Known {
    modified_index: u64,
    /// None for a directory.
    value: Option<Vec<u8>>,
}

/// How often each kind of operation ended how: with a status, or with an error code of etcd's.
#[derive(Clone, Debug, Default)]
pub struct Tally(BTreeMap<&'static str, BTreeMap<String, u64>>);

impl Tally {
    /// How many operations ended so: a status such as `201`, or an error code such as `code 105`.
    pub fn ended(&self, outcome: &str) -> u64 {
        let of_kind = self.0.values().filter_map(|kind| kind.get(outcome));
        of_kind.sum()
    }

    pub fn sums(&self) -> (u64, u64) {
        let outcomes = || self.0.values().flatten();
        let succeeded = outcomes().filter(|(outcome, _)| outcome.starts_with('2'));
        (
            outcomes().map(|(_, count)| count).sum(),
            succeeded.map(|(_, count)| count).sum(),
        )
    }

    pub fn add(&mut self, other: &Self) {
        for (kind, outcomes) in &other.0 {
            for (outcome, count) in outcomes {
                let sums = self.0.entry(kind).or_default();
                *sums.entry(outcome.clone()).or_default() += count;
            }
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, outcomes) in &self.0 {
            write!(to, "{kind:>20}:")?;
            for (outcome, count) in outcomes {
                write!(to, "  {outcome} × {count}")?;
            }
            writeln!(to)?;
        }
        Ok(())
    }
}

#[derive(Debug)]
pub struct RandomOps {
    random: Random,
    /// Whether names and values may be no UTF-8.
    any_bytes: bool,
    known: BTreeMap<Vec<u8>, Known>,
    /// Every key or directory used so far with a name that begins with `_`.
    hidden: BTreeSet<Vec<u8>>,
    /// The store's index in the latest answer.
    index: u64,
    /// The member that is added and removed again and again, while it is one.
    learner: Option<String>,
    /// Number of values made: it makes most of them differ.
    values: u64,
    planned: VecDeque<Operation>,
    tally: Tally,
}

impl RandomOps {
    /// The operations of one seed. With `any_bytes` some names and values are not UTF-8.
    pub fn new(seed: u64, any_bytes: bool) -> Self {
        Self {
            random: Random::new(seed),
            any_bytes,
            known: BTreeMap::new(),
            hidden: BTreeSet::new(),
            index: 0,
            learner: None,
            values: 0,
            planned: VecDeque::new(),
            tally: Tally::default(),
        }
    }

    pub fn run(&mut self, connection: &mut Connection, count: u64) {
        for _ in 0..count {
            let operation = self.next_operation();
            let sent = connection.send(
                operation.method,
                &operation.target,
                operation.content_type,
                &operation.body,
            );
            let answer = sent.unwrap_or_else(|error| panic!("{error}: {operation:?}"));
            self.learn(&operation, &answer);
        }
    }

    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Every hidden key or directory that may be there, parents first.
    pub fn hidden(&self) -> &BTreeSet<Vec<u8>> {
        &self.hidden
    }

    fn next_operation(&mut self) -> Operation {
        if let Some(planned) = self.planned.pop_front() {
            return planned;
        }
        let requests = REQUESTS.trim().lines().map(|row| {
            let row: Vec<&'static str> = row.split('|').map(str::trim).collect();
            (row[0].parse().unwrap(), row)
        });
        let requests: Vec<(u64, Vec<&'static str>)> = requests.collect();
        let weights = requests.iter().map(|(weight, _)| weight);
        let sum = weights.chain(OTHERS.iter().map(|(weight, _)| weight)).sum();
        let mut left = self.random.below(sum);
        for (weight, row) in &requests {
            match left.checked_sub(*weight) {
                Some(less) => left = less,
                None => return self.request(row),
            }
        }
        for (weight, make) in OTHERS {
            match left.checked_sub(weight) {
                Some(less) => left = less,
                None => return make(self),
            }
        }
        unreachable!("the weights sum up")
    }

    /// A request of a row of [`REQUESTS`].
    fn request(&mut self, row: &[&'static str]) -> Operation {
        let (place, percent) = row[3].split_once(':').unwrap_or((row[3], "100"));
        let is_chosen = self.random.chance(percent.parse().unwrap());
        let (key, known) = match place {
            "known" if is_chosen => self.known_of_kind(false),
            "dir" if is_chosen => (self.any_dir(), None),
            "compared" => self.any_for_comparison(),
            "post" => (self.post_target(), None),
            _ => (self.any_key(), None),
        };
        let mut form = Form::default();
        for parameter in row[4].split_whitespace() {
            let (parameter, percent) = parameter.split_once(':').unwrap_or((parameter, "100"));
            let percent = percent.parse().unwrap();
            form = match parameter.split_once('=') {
                None if parameter == "ttl" => form.with_some("ttl", self.ttl(percent)),
                None if parameter == "comparison" => self.comparison(known.as_ref()),
                _ if !self.random.chance(percent) => form,
                None => form.with("value", self.value()),
                Some((name, value)) => form.with(name, value),
            };
        }
        self.v2(row[1], row[2], key, &form)
    }

    fn learn(&mut self, operation: &Operation, answer: &Answer) {
        let told = answer.json();
        let outcome = match (told["errorCode"].as_u64(), answer.status) {
            (Some(code), _) => format!("code {code}"),
            (None, status @ 200..300) => status.to_string(),
            (None, status) => format!("status {status}"),
        };
        let outcomes = self.tally.0.entry(operation.kind).or_default();
        *outcomes.entry(outcome).or_default() += 1;
        if operation.key.is_empty() {
            return self.learn_learner(operation, answer.status, &told);
        }
        if answer.header("X-Etcd-Index").is_some() {
            self.index = answer.number("X-Etcd-Index");
        }
        if told["errorCode"] == 100 {
            self.known.remove(&operation.key);
        }
        if let Some(modified_index) = told["node"]["modifiedIndex"].as_u64() {
            self.learn_node(operation, modified_index, &told);
        }
    }

    fn learn_node(&mut self, operation: &Operation, modified_index: u64, told: &Value) {
        let mut key = operation.key.clone();
        match told["action"].as_str() {
            Some("delete" | "compareAndDelete") => {
                let below = [&key[..], b"/"].concat();
                self.known
                    .retain(|known, _| *known != key && !known.starts_with(&below));
                return;
            }
            Some("create") if operation.method == "POST" => {
                // Its last name is the server's, and always made of digits.
                let created = told["node"]["key"].as_str().unwrap_or_default();
                let (_, name) = created.rsplit_once('/').unwrap_or_default();
                key = join(&key, name.as_bytes());
            }
            Some("get") | None => return,
            Some(_) => {}
        }
        let known = Known {
            modified_index,
            value: (told["node"]["dir"] != true).then(|| operation.value.clone()),
        };
        self.known.insert(key, known);
    }

    fn learn_learner(&mut self, operation: &Operation, status: u16, told: &Value) {
        match (operation.kind, status) {
            ("learner add", 200) => {
                self.learner = told["member"]["ID"].as_str().map(str::to_owned);
            }
            ("learner remove", 200) => self.learner = None,
            _ => {}
        }
    }

    fn name(&mut self) -> &'static [u8] {
        if self.any_bytes && self.random.chance(12) {
            self.random.pick(&NOT_UTF8)
        } else {
            // The first ones collide all the time.
            match self.random.below(40) {
                0..6 => b"a",
                6..10 => b"b",
                10..12 => b"c",
                12..14 => b"_h",
                _ => self.random.pick(&ODD_NAMES),
            }
        }
    }

    /// A key made up: mostly one or two names deep.
    fn random_key(&mut self) -> Vec<u8> {
        let depth = self.random.pick(&[1, 1, 1, 2, 2, 2, 3, 3, 4]);
        (0..depth).fold(Vec::new(), |key, _| join(&key, self.name()))
    }

    /// A key that has been written, if there is one.
    fn known_key(&mut self) -> Option<(Vec<u8>, Known)> {
        let count = self.known.len() as u64;
        let chosen = self.random.below(count.max(1)) as usize;
        let (key, known) = self.known.iter().nth(chosen)?;
        Some((key.clone(), known.clone()))
    }

    /// A known key, or a directory if `is_dir`; an invented one if there is none.
    fn known_of_kind(&mut self, is_dir: bool) -> (Vec<u8>, Option<Known>) {
        for _ in 0..20 {
            match self.known_key() {
                Some((key, known)) if known.value.is_none() == is_dir => return (key, Some(known)),
                _ => {}
            }
        }
        (self.random_key(), None)
    }

    /// Any key: made up, known, above a known one (a directory) or below it (where a key may be in the way).
    fn any_key(&mut self) -> Vec<u8> {
        let luck = self.random.below(100);
        match self.known_key() {
            Some((key, _)) if luck < 40 => key,
            Some((key, _)) if luck < 48 => parent(&key).to_vec(),
            Some((key, _)) if luck < 60 => join(&key, self.name()),
            _ => self.random_key(),
        }
    }

    /// A directory, mostly: a known one, or one that holds a known key.
    fn any_dir(&mut self) -> Vec<u8> {
        if self.random.chance(40) {
            return self.known_of_kind(true).0;
        }
        match self.known_key() {
            Some((key, _)) if self.random.chance(70) => parent(&key).to_vec(),
            _ => self.any_key(),
        }
    }

    fn value(&mut self) -> Vec<u8> {
        self.values += 1;
        match self.random.below(100) {
            0..40 => format!("v{}", self.values).into_bytes(),
            40..43 => "long ".repeat(800).into_bytes(),
            43..55 if self.any_bytes => self.random.pick(&NOT_UTF8).to_vec(),
            _ => self.random.pick(&VALUES).to_vec(),
        }
    }

    /// Mostly none; `short` percent of the time one that ends while the story runs. An empty one is as good as none.
    fn ttl(&mut self, short: u64) -> Option<String> {
        let luck = self.random.below(100);
        let long = 15;
        if luck < short {
            Some(self.random.pick(&["1", "1", "2"]).to_owned())
        } else if luck < short + long {
            Some((LONG_TTL + self.random.below(200_000)).to_string())
        } else if luck < short + long + 3 {
            Some(self.random.pick(&ODD_TTLS).to_owned())
        } else if luck < short + long + 6 {
            Some(String::new())
        } else {
            None
        }
    }

    /// A request of the v2 API on `key`; its parameters in the body, or where the method has none, in the address.
    fn v2(
        &mut self,
        kind: &'static str,
        method: &'static str,
        key: Vec<u8>,
        form: &Form,
    ) -> Operation {
        for (at, _) in key.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            let name = &key[at + 1..];
            if name.starts_with(b"_") {
                let end = name.iter().position(|byte| *byte == b'/');
                let end = end.map_or(key.len(), |length| at + 1 + length);
                self.hidden.insert(key[..end].to_vec());
                self.hidden.insert(as_in_json(&key[..end]));
            }
        }
        let mut target = v2_target(&key);
        if self.random.chance(5) {
            target.push('/');
        }
        let mut body = form.encoded();
        if method == "DELETE" || self.random.chance(10) {
            let _ = write!(target, "?{body}");
            body.clear();
        }
        let value = form.0.iter().find(|(name, _)| *name == "value");
        Operation {
            kind,
            method,
            target,
            content_type: FORM,
            body,
            value: value.map(|(_, value)| value.clone()).unwrap_or_default(),
            key,
        }
    }

    /// Two keys in one directory whose names look alike: to the eye, or in JSON where that takes bytes of any kind.
    fn set_twins(&mut self) -> Operation {
        let alike: [&[u8]; 4] = if self.any_bytes {
            [b"\xff", b"\xfe", b"\x80", "\u{fffd}".as_bytes()]
        } else {
            ["\u{e9}", "e\u{301}", "e", "e\u{301}\u{feff}"].map(str::as_bytes)
        };
        let dir = if self.random.chance(60) {
            b"/".to_vec()
        } else {
            self.any_dir()
        };
        let first = self.random.below(4) as usize;
        let second = (first + 1 + self.random.below(3) as usize) % 4;
        let [first, second] = [first, second].map(|which| {
            let form = Form::default().with("value", self.value());
            self.v2("set twins", "PUT", join(&dir, alike[which]), &form)
        });
        self.planned.push_back(second);
        first
    }

    /// `prevValue` and `prevIndex` for a key: one or both, right or wrong.
    fn comparison(&mut self, known: Option<&Known>) -> Form {
        let right_value = known.and_then(|known| known.value.clone());
        let right_value = right_value.filter(|value| !value.is_empty());
        let wrong = |random: &mut Random| random.chance(25);
        let value = match right_value {
            Some(value) if !wrong(&mut self.random) => value,
            _ => b"never this one".to_vec(),
        };
        let index = match known {
            Some(known) if !wrong(&mut self.random) => known.modified_index,
            _ => self.random.below(self.index + 3),
        };
        let (with_value, with_index) =
            self.random
                .pick(&[(true, false), (false, true), (true, true)]);
        Form::default()
            .with_some("prevValue", with_value.then_some(value))
            .with_some("prevIndex", with_index.then(|| index.to_string()))
    }

    fn any_for_comparison(&mut self) -> (Vec<u8>, Option<Known>) {
        if self.random.chance(85) {
            self.known_of_kind(false)
        } else {
            (self.any_key(), None)
        }
    }

    /// A new lifetime that wakes no watcher and leaves the value, by each of the ways that a PUT can go.
    fn refresh(&mut self) -> Operation {
        let (key, known) = if self.random.chance(80) {
            self.any_for_comparison()
        } else {
            (self.any_dir(), None)
        };
        let ttl = self.ttl(30).filter(|ttl| !ttl.is_empty());
        let (prev_exist, compared) = self.random.pick(&[
            (Some("true"), false),
            (Some("true"), false),
            (Some("true"), true),
            (Some("false"), false),
            (None, false),
            (None, false),
            (None, true),
        ]);
        let form = if compared {
            self.comparison(known.as_ref())
        } else {
            Form::default()
        };
        let form = form
            .with("refresh", "true")
            .with("ttl", ttl.unwrap_or_else(|| LONG_TTL.to_string()))
            .with_some("prevExist", prev_exist)
            .with_some("dir", self.random.chance(10).then_some("true"));
        let mut operation = self.v2("refresh", "PUT", key, &form);
        // The value that stays.
        operation.value = known.and_then(|known| known.value).unwrap_or_default();
        operation
    }

    fn post_target(&mut self) -> Vec<u8> {
        match self.random.below(100) {
            0..50 => self.any_dir(),
            50..90 => self.any_key(),
            _ => b"/".to_vec(),
        }
    }

    /// A key of the very name that the next POST will choose, and that POST, unless something expires in between.
    fn post_onto_its_name(&mut self) -> Operation {
        let dir = self.random_key();
        let name = format!("{:020}", self.index + 2);
        let post = Form::default().with("value", "in order");
        let post = self.v2("post onto its name", "POST", dir.clone(), &post);
        self.planned.push_back(post);
        let form = Form::default().with("value", "in the way");
        self.v2("set", "PUT", join(&dir, name.as_bytes()), &form)
    }

    /// Each of them must fail.
    fn write_to_root(&mut self) -> Operation {
        let (method, name, value) = self.random.pick(&[
            ("PUT", "value", "root"),
            ("PUT", "dir", "true"),
            ("PUT", "prevExist", "true"),
            ("PUT", "prevExist", "false"),
            ("PUT", "prevIndex", "1"),
            ("DELETE", "recursive", "true"),
            ("DELETE", "dir", "true"),
            ("DELETE", "prevValue", "root"),
        ]);
        let form = Form::default().with(name, value);
        self.v2("write to root", method, b"/".to_vec(), &form)
    }

    /// Refused before it reaches the log.
    fn ill_formed(&mut self) -> Operation {
        let (name, value) = self.random.pick(&[
            ("ttl", "-1"),
            ("ttl", "soon"),
            ("ttl", "99999999999999999999999"),
            ("prevIndex", "-1"),
            ("prevValue", ""),
            ("prevExist", "perhaps"),
            ("refresh", "true"),
            ("dir", "maybe"),
        ]);
        let key = self.any_key();
        let form = Form::default().with("value", "x").with(name, value);
        self.v2("ill-formed", "PUT", key, &form)
    }

    /// A path that a server may clean or send back: what it does with it is seen in what it then holds.
    fn odd_path(&mut self) -> Operation {
        let odd = self.random.pick(&[
            "/../b",
            "/a/../../c",
            "/./b",
            "//a//b",
            "/a/..",
            "/a%2f%2fb",
            "/a%2fb",
            "/%2e%2e/b",
            "/a/%2e",
            "/a/.../b",
        ]);
        let form = Form::default().with("value", "odd");
        let mut operation = self.v2("odd path", "PUT", Vec::new(), &form);
        operation.target = format!("/v2/keys{odd}");
        operation
    }

    /// Goes through the log and changes nothing.
    fn quorum_get(&mut self) -> Operation {
        let operation = self.v2("quorum get", "GET", b"/".to_vec(), &Form::default());
        Operation {
            target: "/v2/keys/?quorum=true".to_owned(),
            ..operation
        }
    }

    /// An entry of the other API in the same log.
    fn v3_put(&mut self) -> Operation {
        // Base64 of a key and of a value.
        let (key, value) = self
            .random
            .pick(&[("YQ==", "Yg=="), ("L2E=", "UFVU"), ("MQ==", "")]);
        v3("v3 put", "/v3/kv/put", &json!({"key": key, "value": value}))
    }

    /// A conf change: a member that has no vote is added, changed or removed. Its id comes from its URLs and the second in
    /// which it is added: one that comes back within the second that it was removed in is refused, but is in the log.
    fn learner(&mut self) -> Operation {
        let urls = ["http://127.0.0.1:1", "http://127.0.0.1:2"];
        let add = || {
            let member = json!({"peerURLs": urls[..1], "isLearner": true});
            v3("learner add", "/v3/cluster/member/add", &member)
        };
        match self.learner.clone() {
            None => add(),
            Some(id) if self.random.chance(50) => {
                let change = json!({"ID": id, "peerURLs": urls[self.random.below(2) as usize..]});
                v3("learner update", "/v3/cluster/member/update", &change)
            }
            Some(id) => {
                self.planned.push_back(add());
                let member = json!({"ID": id});
                v3("learner remove", "/v3/cluster/member/remove", &member)
            }
        }
    }
}

/// A request of the v3 API through its JSON gateway.
fn v3(kind: &'static str, target: &str, body: &Value) -> Operation {
    Operation {
        kind,
        method: "POST",
        target: target.to_owned(),
        content_type: "application/json",
        body: body.to_string(),
        key: Vec::new(),
        value: Vec::new(),
    }
}

pub fn v2_target(key: &[u8]) -> String {
    format!("/v2/keys{}", percent(key, b"/"))
}

/// Every byte that is neither a letter nor a digit nor in `plain`, as `%xx`.
fn percent(bytes: &[u8], plain: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || plain.contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// What is left of a key in JSON as Go writes it: U+FFFD for each byte that is not UTF-8.
fn as_in_json(key: &[u8]) -> Vec<u8> {
    let chunks = key.utf8_chunks();
    let chunks =
        chunks.map(|chunk| chunk.valid().to_owned() + &"\u{fffd}".repeat(chunk.invalid().len()));
    chunks.collect::<String>().into_bytes()
}

fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let dir = dir.strip_suffix(b"/").unwrap_or(dir);
    [dir, b"/", name].concat()
}

fn parent(key: &[u8]) -> &[u8] {
    match key.iter().rposition(|byte| *byte == b'/') {
        Some(0) | None => b"/",
        Some(at) => &key[..at],
    }
}
