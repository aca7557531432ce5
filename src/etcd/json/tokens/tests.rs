//! The tokenizer compared with `serde_json`, whole and in pieces.

use proptest::prelude::*;
use serde_json::{Map, Value};

use super::*;

#[derive(Default)]
struct Build {
    open: Vec<(Value, Option<String>)>,
    done: Option<Value>,
    as_written: bool,
}

impl Build {
    fn value(&mut self, value: Value) {
        match self.open.last_mut() {
            None => self.done = Some(value),
            Some((Value::Array(items), _)) => items.push(value),
            Some((Value::Object(members), key)) => {
                members.insert(key.take().unwrap(), value);
            }
            Some(_) => unreachable!(),
        }
    }
}

impl TokenSink for Build {
    fn token(&mut self, token: Token<'_>) -> Result<(), &'static str> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        match token {
            Token::BeginObject => self.open.push((Value::Object(Map::new()), None)),
            Token::BeginArray => self.open.push((Value::Array(Vec::new()), None)),
            Token::EndObject | Token::EndArray => {
                let (value, _) = self.open.pop().unwrap();
                self.value(value);
            }
            Token::Key(key) => self.open.last_mut().unwrap().1 = Some(text(key)),
            Token::Written(written) => {
                let mut found = Vec::new();
                put_unescaped(written, &mut found);
                // Leaving it unescaped loses nothing.
                let again = serde_json::to_string(&text(&found)).unwrap();
                assert_eq!(again.as_bytes(), [b"\"", written, b"\""].concat());
                self.value(Value::String(text(&found)));
            }
            Token::Text(found) => self.value(Value::String(text(found))),
            // The receiver of a number decides which ones are too large.
            Token::Number(digits) => match serde_json::from_slice(digits) {
                Ok(number) => self.value(number),
                Err(_) => return Err("a number out of range"),
            },
            Token::Bool(found) => self.value(Value::Bool(found)),
            Token::Null => self.value(Value::Null),
        }
        Ok(())
    }

    fn wants_text(&self) -> WantedText {
        match self.open.last() {
            Some((Value::Object(_), None)) => WantedText::Plain,
            _ if self.as_written => WantedText::AsWritten,
            _ => WantedText::Plain,
        }
    }

    fn is_done(&self) -> bool {
        false
    }
}

fn read(bytes: &[u8], piece: usize) -> Option<Value> {
    let in_pieces = |piece, as_written| {
        let mut tokens = JsonTokens::default();
        let mut build = Build {
            as_written,
            ..Build::default()
        };
        for piece in bytes.chunks(piece) {
            tokens.update(piece, &mut build);
        }
        tokens.finish(&build).map(|()| build.done)
    };
    let found = in_pieces(piece, false);
    // The position of a fault must not depend on how the bytes are cut; the fuzzer found that it did.
    for as_written in [false, true] {
        assert_eq!(found, in_pieces(bytes.len().max(1), as_written));
    }
    found.ok().flatten()
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "(\\PC|[\"\\\\\n\u{1}\u{2028}\u{1f600}]){0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        let member = (".{0,6}", inner.clone());
        prop_oneof![
            prop::collection::vec(inner, 0..6).prop_map(Value::from),
            prop::collection::vec(member, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn in_container(value: &Value) -> bool {
    value.is_object() || value.is_array()
}

proptest! {
    #[test]
    fn tokens_build_what_serde_json_reads(
        value in any_json().prop_filter("a document", in_container),
        piece in 1_usize..40, pretty: bool,
    ) {
        let text = if pretty {
            serde_json::to_vec_pretty(&value)
        } else {
            serde_json::to_vec(&value)
        };
        prop_assert_eq!(read(&text.unwrap(), piece), Some(value));
    }

    #[test]
    fn what_serde_json_refuses_is_refused(
        value in any_json().prop_filter("a document", in_container),
        at: prop::sample::Index, byte: u8, piece in 1_usize..40,
    ) {
        let mut text = serde_json::to_vec(&value).unwrap();
        let at = at.index(text.len());
        text[at] = byte;
        let found = read(&text, piece);
        // Go and serde_json differ only on surrogates and broken UTF-8, which Go replaces.
        if std::str::from_utf8(&text).is_ok() && !text.windows(3).any(|w| w == b"\\ud") {
            let expected = serde_json::from_slice::<Value>(&text).ok();
            prop_assert_eq!(found, expected.filter(in_container));
        }
    }
}

#[test]
fn only_what_go_would_write_again_comes_as_it_is_written() {
    let long = "x".repeat(70);
    for beginning in ["", "x", "\\n", &long] {
        for (given, comes) in [
            ("", true),
            (r#"\"b\n\r\t"#, true),
            ("\x7f~ '/", true),
            (r"\\", false),
            (r"\/", false),
            (r"\b", false),
            (r"\u003c", false),
            ("<", false),
            (">", false),
            ("&", false),
            ("\n", false),
            ("é", false),
            ("\u{2028}", false),
        ] {
            let text = [beginning, given].concat();
            let expected = comes.then_some(text.len());
            let bytes = format!("{text}\",\"{long}\"");
            assert_eq!(written_length(bytes.as_bytes()), expected, "{bytes}");
            assert_eq!(written_length(text.as_bytes()), None, "{text}");
        }
    }
}

#[test]
fn text_is_mended_as_go_mends_it() {
    for (given, found) in [
        (&br#"["\ud83d\ude00"]"#[..], "\u{1f600}"),
        (br#"["\ud83dx"]"#, "\u{fffd}x"),
        (br#"["\ud83d"]"#, "\u{fffd}"),
        (br#"["\ud83d\n"]"#, "\u{fffd}\n"),
        (br#"["\ud83d\ud83d\ude00"]"#, "\u{fffd}\u{1f600}"),
        (br#"["\ude00"]"#, "\u{fffd}"),
        (b"[\"\xe4\xbd\"]", "\u{fffd}\u{fffd}"),
        (b"[\"a\xffb\"]", "a\u{fffd}b"),
    ] {
        for piece in 1..given.len() {
            assert_eq!(read(given, piece), Some(Value::from(vec![found])));
        }
    }
}
