//! Checks whether Go's decoder accepts JSON for a struct of etcd's; only the types matter.
//!
//! In: the type of a field and the tokens of its value. Out: whether Go accepts it. Go refuses a
//! whole document for one value of another type, a number that does not fit, or a time that is not
//! RFC 3339; of fields that a struct does not have it checks only the syntax. It finds a field by
//! its name in any case, and accepts `null` for every type but a time.
//! Source: `encoding/json/decode.go` and `time/format.go` at Go 1.4 to 1.6, with which etcd 2.x was
//! built.

use crate::etcd::json::tokens::{JsonTokens, Token, TokenSink, WantedText};

/// The fields of a struct, by name.
pub(crate) type Fields = &'static [(&'static str, Type)];

/// The type of a field, as far as it limits the JSON for it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Type {
    /// Not a field of the struct: any JSON.
    Any,
    /// `string`
    Text,
    /// `uint64`
    Unsigned,
    /// `int`, `int64`
    Signed,
    /// `bool`
    Bool,
    /// `*time.Time`
    Time,
    /// A struct, or a pointer to one.
    Object(Fields),
    /// A pointer to a struct that a server follows without a look: `null` would end it.
    Required(Fields),
    /// A slice.
    Array(&'static Type),
}

/// The type of the field to which Go assigns `name`.
pub(crate) fn field(fields: Fields, name: &[u8]) -> Type {
    let mut fields = fields.iter();
    let found = fields.find(|(known, _)| same_name(known.as_bytes(), name));
    found.map_or(Type::Any, |(_, of)| *of)
}

/// Whether Go assigns `name` to the field `known`.
pub(crate) fn same_name(known: &[u8], name: &[u8]) -> bool {
    known == name || known.eq_ignore_ascii_case(name)
}

/// Checks the types of a value that is not kept.
#[derive(Debug)]
pub(crate) struct Skim {
    /// The types of the open objects and arrays.
    open: Vec<Type>,
    /// The type of the next value; `None` where a name must come.
    next: Option<Type>,
}

impl Skim {
    pub(crate) fn new(of: Type) -> Self {
        Self {
            open: Vec::new(),
            next: Some(of),
        }
    }

    pub(crate) fn depth(&self) -> usize {
        self.open.len()
    }

    /// Takes the next token; returns whether the value has ended with it.
    pub(crate) fn token(&mut self, token: Token<'_>) -> Result<bool, &'static str> {
        let next = self.next.unwrap_or(Type::Any);
        match token {
            Token::Key(name) => {
                self.next = Some(match self.open.last() {
                    Some(Type::Object(fields) | Type::Required(fields)) => field(fields, name),
                    _ => Type::Any,
                });
                return Ok(false);
            }
            Token::BeginObject
                if matches!(next, Type::Any | Type::Object(_) | Type::Required(_)) =>
            {
                self.open.push(next);
                self.next = None;
                return Ok(false);
            }
            Token::BeginArray if matches!(next, Type::Any | Type::Array(_)) => {
                self.open.push(next);
                self.next = Some(next.element());
                return Ok(false);
            }
            Token::EndObject | Token::EndArray => {
                self.open.pop();
            }
            Token::Null if matches!(next, Type::Required(_)) => {
                return Err("a null that etcd does not survive");
            }
            Token::Null => {}
            _ if next.takes(token) => {}
            _ => return Err("a value of a type that etcd does not take there"),
        }
        self.next = match self.open.last() {
            Some(array @ Type::Array(_)) => Some(array.element()),
            _ => None,
        };
        Ok(self.open.is_empty())
    }

    pub(crate) fn wants_text(&self) -> WantedText {
        match (self.next, self.open.last()) {
            (None, Some(Type::Object(_) | Type::Required(_))) => WantedText::Plain,
            // Go's `time.Time` takes the bytes as they are.
            (Some(Type::Time), _) => WantedText::Literal,
            _ => WantedText::Nothing,
        }
    }
}

impl Type {
    /// The type of the elements of this type.
    fn element(self) -> Self {
        match self {
            Self::Array(element) => *element,
            _ => Self::Any,
        }
    }

    fn takes(self, token: Token<'_>) -> bool {
        match (self, token) {
            (Self::Any, _)
            | (Self::Text, Token::Text(_) | Token::Written(_))
            | (Self::Bool, Token::Bool(_)) => true,
            (Self::Unsigned, Token::Number(digits)) => unsigned(digits).is_some(),
            (Self::Signed, Token::Number(digits)) => parses::<i64>(digits),
            (Self::Time, Token::Text(text)) => is_time(text),
            _ => false,
        }
    }
}

/// An unsigned number from digits only, if it fits.
pub(crate) fn unsigned(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |number, digit| {
        let value = digit.wrapping_sub(b'0');
        number
            .checked_mul(10)?
            .checked_add((value < 10).then_some(value)?.into())
    })
}

fn parses<T: std::str::FromStr>(digits: &[u8]) -> bool {
    std::str::from_utf8(digits).is_ok_and(|digits| digits.parse::<T>().is_ok())
}

/// Whether Go reads `text` as a time: `2006-01-02T15:04:05[.999999999](Z|+07:00)`.
pub(crate) fn is_time(text: &[u8]) -> bool {
    const SHAPE: &[u8] = b"dddd-dd-ddTdd:dd:dd";
    let fits = |(byte, shape): (&u8, &u8)| match shape {
        b'd' => byte.is_ascii_digit(),
        shape => byte == shape,
    };
    let Some((moment, rest)) = text.split_at_checked(SHAPE.len()) else {
        return false;
    };
    let number = |at: usize| {
        let digits = moment.get(at..at + 2).unwrap_or_default();
        digits
            .iter()
            .fold(0, |number, digit| number * 10 + (digit & 0xf))
    };
    let in_range = matches!(number(5), 1..=12)
        && number(8) <= 31
        && number(11) < 24
        && number(14) < 60
        && number(17) < 60;
    moment.iter().zip(SHAPE).all(fits) && in_range && is_zone(behind_fraction(rest))
}

/// The text after a fraction of a second of up to nine digits.
fn behind_fraction(rest: &[u8]) -> &[u8] {
    let Some(fraction) = rest.strip_prefix(b".") else {
        return rest;
    };
    let digits = fraction
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    match digits {
        1..=9 => fraction.get(digits..).unwrap_or_default(),
        _ => rest,
    }
}

fn is_zone(zone: &[u8]) -> bool {
    match zone {
        b"Z" => true,
        [b'+' | b'-', hour @ .., b':', a, b] if hour.len() == 2 => {
            hour.iter().chain([a, b]).all(u8::is_ascii_digit)
        }
        _ => false,
    }
}

/// A member as Go reads it: from its attributes, its raft attributes, or both with its id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MemberJson {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) peer_urls: Vec<String>,
    pub(crate) client_urls: Vec<String>,
}

/// `attributes` of a member.
pub(crate) const ATTRIBUTES: Fields = &[("name", Type::Text), ("clientURLs", TEXTS)];
/// `raftAttributes` of a member.
pub(crate) const RAFT_ATTRIBUTES: Fields = &[("peerURLs", TEXTS)];
/// A member in the context of a conf change.
pub(crate) const MEMBER: Fields = &[
    ("id", Type::Unsigned),
    ("peerURLs", TEXTS),
    ("name", Type::Text),
    ("clientURLs", TEXTS),
];
const TEXTS: Type = Type::Array(&Type::Text);

impl MemberJson {
    /// Reads those `fields` of a member that are in `json`; `None` if Go refuses it.
    pub(crate) fn read(json: &[u8], fields: Fields) -> Option<Self> {
        let mut reading = Reading {
            fields,
            skim: Skim::new(Type::Object(fields)),
            name: Vec::new(),
            member: Self::default(),
        };
        let mut tokens = JsonTokens::default();
        tokens.update(json, &mut reading);
        // A `null` ends only at the next byte.
        tokens.update(b" ", &mut reading);
        tokens.finish(&reading).ok()?;
        Some(reading.member)
    }
}

struct Reading {
    fields: Fields,
    skim: Skim,
    /// The field of the current value.
    name: Vec<u8>,
    member: MemberJson,
}

impl Reading {
    fn take(&mut self, token: Token<'_>, depth: usize) {
        let text = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
        let known = self.fields.iter();
        let mut known = known.filter(|(known, _)| same_name(known.as_bytes(), &self.name));
        let member = &mut self.member;
        let urls = match known.next().map(|(name, _)| *name) {
            Some("id") => {
                if let Token::Number(digits) = token {
                    let digits = std::str::from_utf8(digits).unwrap_or_default();
                    member.id = digits.parse().unwrap_or(0);
                }
                return;
            }
            Some("name") => {
                if let Token::Text(found) = token {
                    member.name = text(found);
                }
                return;
            }
            Some("peerURLs") => &mut member.peer_urls,
            Some("clientURLs") => &mut member.client_urls,
            _ => return,
        };
        match (token, depth) {
            // A repeated field replaces the first.
            (Token::BeginArray | Token::Null, 1) => urls.clear(),
            (Token::Text(found), 2) => urls.push(text(found)),
            (Token::Null, 2) => urls.push(String::new()),
            _ => {}
        }
    }
}

impl TokenSink for Reading {
    fn token(&mut self, token: Token<'_>) -> Result<(), &'static str> {
        let depth = self.skim.depth();
        self.skim.token(token)?;
        match token {
            Token::Key(name) if depth == 1 => self.name = name.to_vec(),
            _ => self.take(token, depth),
        }
        Ok(())
    }

    fn wants_text(&self) -> WantedText {
        WantedText::Plain
    }

    fn is_done(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_one_only_as_go_writes_and_reads_it() {
        for good in [
            "2036-01-02T15:04:05Z",
            "2036-01-02T15:04:05.123456789Z",
            "2036-01-02T15:04:05.1+01:00",
            "0001-01-01T00:00:00Z",
        ] {
            assert!(is_time(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            "Z",
            "2036-01-02 15:04:05Z",
            "2036-01-02t15:04:05z",
            "2036-01-02T15:04:05",
            "2036-01-02T15:04:60Z",
            "2036-01-02T24:04:05Z",
            "2036-13-02T15:04:05Z",
            "2036-01-02T15:04:05.Z",
            "2036-01-02T15:04:05.1234567890Z",
            "2036-01-02T15:04:05+0100",
            "2036-01-02T15:04:05+01",
            "2036-01-02T15:04:05Z[UTC]",
            "20360102T150405Z",
        ] {
            assert!(!is_time(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn a_null_is_taken_but_where_etcd_follows_the_pointer() {
        // 2.0 to 2.3 start without `WatcherHub`, and stop with a nil pointer where it is null.
        let null = |of| Skim::new(of).token(Token::Null).is_ok();
        assert!(null(Type::Object(&[])) && null(Type::Any));
        assert!(!null(Type::Required(&[])));
    }

    #[test]
    fn a_member_is_read_as_go_reads_it() {
        let read = |json: &str| MemberJson::read(json.as_bytes(), MEMBER);
        let member = MemberJson {
            id: 7,
            name: "a".to_owned(),
            peer_urls: vec!["http://p".to_owned()],
            client_urls: vec!["http://c".to_owned()],
        };
        for json in [
            r#"{"id":7,"peerURLs":["http://p"],"name":"a","clientURLs":["http://c"]}"#,
            r#"{"ID":7,"PEERURLS":["http://p"],"Name":"a","clientUrls":["http://c"]}"#,
            r#"{"id":1,"id":7,"peerURLs":["x","y"],"peerURLs":["http://p"],"name":"b","name":"a","clientURLs":null,"clientURLs":["http://c"]}"#,
            r#"{"id":7,"peerURLs":["http://p"],"name":"a","clientURLs":["http://c"],"other":{"name":[1e999,{}]}}"#,
        ] {
            assert_eq!(read(json), Some(member.clone()), "{json}");
        }
        let mended = read(r#"{"name":"\ud800"}"#).map(|member| member.name);
        assert_eq!(mended.as_deref(), Some("\u{fffd}"));
        assert_eq!(read("null"), Some(MemberJson::default()));
        let empty = read(r#"{"name":null,"peerURLs":[null]}"#).unwrap();
        assert_eq!(
            (empty.name, empty.peer_urls),
            (String::new(), vec![String::new()])
        );
        for json in [
            "",
            "7",
            r#"["a",[]]"#,
            r#"{"name":7}"#,
            r#"{"id":"7"}"#,
            r#"{"id":1e2}"#,
            r#"{"id":-1}"#,
            r#"{"id":18446744073709551616}"#,
            r#"{"peerURLs":"http://p"}"#,
            r#"{"peerURLs":[1]}"#,
            r#"{"name":"a"}x"#,
            r#"{"name":"a"#,
            "{\"other\":\"\n\"}",
        ] {
            assert_eq!(read(json), None, "{json}");
        }
    }
}
