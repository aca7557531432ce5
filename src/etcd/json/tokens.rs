//! A JSON tokenizer for documents of which only a part is kept.
//!
//! In: bytes, cut anywhere. Out: tokens to a [`TokenSink`], which may say that it wants no text
//! for now, so that the rest is only skipped. Memory: the longest wanted text.
//! Text comes unescaped; bytes that are not UTF-8 are replaced as Go's decoder does.

use memchr::{memchr, memchr2};

use crate::etcd::json::swar::{below, copy_until, equal, length_until};

/// The longest accepted number or literal, in bytes.
const MAX_SCALAR: usize = 64;
const CONTROL: &str = "control character in a text";
/// The longest accepted text, in bytes.
const MAX_TEXT: usize = 1 << 30;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token<'t> {
    BeginObject,
    EndObject,
    BeginArray,
    EndArray,
    Key(&'t [u8]),
    Text(&'t [u8]),
    /// A text as in the document, without its quotes: ASCII without control characters, `<`, `>` and
    /// `&`, and with no escapes but `\"`, `\n`, `\r` and `\t`. Go's encoder would write it the same way.
    Written(&'t [u8]),
    /// A number, as in the document.
    Number(&'t [u8]),
    Bool(bool),
    Null,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {offset} of the JSON")]
pub struct JsonFault {
    /// Bytes from the start of the document to the faulty lexeme.
    pub offset: u64,
    pub what: &'static str,
}

/// How a key or text is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WantedText {
    /// Empty: it is not needed.
    Nothing,
    /// Unescaped.
    Plain,
    /// As in the document; an escape in it is a fault.
    Literal,
    /// As [`Token::Written`] if possible, unescaped otherwise. Not for a key.
    AsWritten,
}

pub trait TokenSink {
    /// Takes the next token; an error ends the reading.
    fn token(&mut self, token: Token<'_>) -> Result<(), &'static str>;

    fn wants_text(&self) -> WantedText;

    /// Takes the next members of the open object at once, as many as it can read without tokens.
    /// `bytes` begin at a member's name, or at the end of an empty object, and may be cut anywhere.
    fn members(&mut self, _bytes: &[u8]) -> Result<Members, &'static str> {
        Ok(Members::default())
    }

    /// Whether nothing more is needed; the rest is then not read.
    fn is_done(&self) -> bool;
}

/// The members of an object that a sink has taken without tokens.
#[derive(Clone, Copy, Debug, Default)]
pub struct Members {
    /// Their bytes, with the comma if another member follows.
    pub length: usize,
    /// Whether the end of the object comes next, and not another member.
    pub is_last: bool,
}

#[derive(Debug)]
pub struct JsonTokens {
    /// Bytes before this piece.
    offset: u64,
    /// The open objects and arrays: `true` for an object.
    open: Vec<bool>,
    expect: Expect,
    lexeme: Lexeme,
    /// The start of the last lexeme, in bytes from the start of the document.
    lexeme_at: u64,
    /// The start of a text or scalar, unescaped.
    text: Vec<u8>,
    fault: Option<JsonFault>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Value,
    FirstValueOrEnd,
    FirstKeyOrEnd,
    Key,
    Colon,
    CommaOrEnd,
    Nothing,
}

#[derive(Clone, Copy, Debug)]
enum Lexeme {
    Between,
    Scalar,
    Text(Text),
}

#[derive(Clone, Copy, Debug)]
struct Text {
    is_key: bool,
    wanted: WantedText,
    escape: Escape,
    /// The first half of a surrogate pair; its second half may follow.
    high: Option<u16>,
}

impl Text {
    fn is_kept(self) -> bool {
        self.wanted != WantedText::Nothing
    }
}

#[derive(Clone, Copy, Debug)]
enum Escape {
    No,
    Begun,
    Unicode { digits: u8, value: u16 },
}

impl Default for JsonTokens {
    fn default() -> Self {
        Self {
            offset: 0,
            open: Vec::new(),
            expect: Expect::Value,
            lexeme: Lexeme::Between,
            lexeme_at: 0,
            text: Vec::new(),
            fault: None,
        }
    }
}

impl JsonTokens {
    /// Takes the next bytes. After a fault nothing more is read.
    pub fn update(&mut self, bytes: &[u8], sink: &mut impl TokenSink) {
        let mut rest = bytes;
        while !rest.is_empty() && self.fault.is_none() && !sink.is_done() {
            let at = self.offset + (bytes.len() - rest.len()) as u64;
            let outcome = match self.lexeme {
                Lexeme::Between => self.between(at, rest, sink),
                Lexeme::Scalar => self.scalar(rest, sink),
                Lexeme::Text(text) => self.text(text, rest, sink),
            };
            match outcome {
                Ok(taken) => rest = rest.get(taken..).unwrap_or_default(),
                Err(what) => {
                    let offset = self.lexeme_at;
                    self.fault = Some(JsonFault { offset, what });
                }
            }
        }
        self.offset += bytes.len() as u64;
    }

    /// Checks that it was one whole document, unless the sink had enough before.
    pub fn finish(self, sink: &impl TokenSink) -> Result<(), JsonFault> {
        let ended = self.expect == Expect::Nothing || sink.is_done();
        match self.fault {
            Some(fault) => Err(fault),
            None if ended => Ok(()),
            None => Err(JsonFault {
                offset: self.offset,
                what: "unexpected end",
            }),
        }
    }

    /// Reads between lexemes, from the byte `at` of the document on; returns the number of bytes
    /// read.
    fn between(
        &mut self,
        at: u64,
        bytes: &[u8],
        sink: &mut impl TokenSink,
    ) -> Result<usize, &'static str> {
        let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        let spaces = bytes.iter().take_while(|byte| is_space(byte)).count();
        let Some(&byte) = bytes.get(spaces) else {
            return Ok(spaces);
        };
        self.lexeme_at = at + spaces as u64;
        let value = matches!(self.expect, Expect::Value | Expect::FirstValueOrEnd);
        let key = matches!(self.expect, Expect::Key | Expect::FirstKeyOrEnd);
        if key {
            let members = sink.members(bytes.get(spaces..).unwrap_or_default())?;
            if members.length > 0 {
                self.expect = if members.is_last {
                    Expect::CommaOrEnd
                } else {
                    Expect::Key
                };
                return Ok(spaces + members.length);
            }
        }
        match byte {
            b'"' if value || key => {
                self.text.clear();
                let text = Text {
                    is_key: key,
                    wanted: sink.wants_text(),
                    escape: Escape::No,
                    high: None,
                };
                let behind = bytes.get(spaces + 1..).unwrap_or_default();
                return Ok(spaces + 1 + self.text(text, behind, sink)?);
            }
            b'{' if value => {
                self.open.push(true);
                self.expect = Expect::FirstKeyOrEnd;
                sink.token(Token::BeginObject)?;
            }
            b'[' if value => {
                self.open.push(false);
                self.expect = Expect::FirstValueOrEnd;
                sink.token(Token::BeginArray)?;
            }
            b'}' if matches!(self.expect, Expect::FirstKeyOrEnd)
                || self.expect == Expect::CommaOrEnd && self.open.last() == Some(&true) =>
            {
                self.close();
                sink.token(Token::EndObject)?;
            }
            b']' if matches!(self.expect, Expect::FirstValueOrEnd)
                || self.expect == Expect::CommaOrEnd && self.open.last() == Some(&false) =>
            {
                self.close();
                sink.token(Token::EndArray)?;
            }
            b':' if self.expect == Expect::Colon => self.expect = Expect::Value,
            b',' if self.expect == Expect::CommaOrEnd => self.expect = self.behind_comma(),
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' if value => {
                self.text.clear();
                let scalar = bytes.get(spaces..).unwrap_or_default();
                return Ok(spaces + self.scalar(scalar, sink)?);
            }
            _ => return Err("unexpected character"),
        }
        Ok(spaces + 1)
    }

    fn behind_comma(&self) -> Expect {
        if self.open.last() == Some(&true) {
            Expect::Key
        } else {
            Expect::Value
        }
    }

    /// Reads the comma or colon that usually follows a lexeme; returns the number of bytes.
    fn follow(&mut self, behind: &[u8]) -> usize {
        self.expect = match (self.expect, behind.first()) {
            (Expect::Colon, Some(b':')) => Expect::Value,
            (Expect::CommaOrEnd, Some(b',')) => self.behind_comma(),
            _ => return 0,
        };
        1
    }

    fn close(&mut self) {
        self.open.pop();
        self.value_ended();
    }

    fn value_ended(&mut self) {
        self.lexeme = Lexeme::Between;
        self.expect = if self.open.is_empty() {
            Expect::Nothing
        } else {
            Expect::CommaOrEnd
        };
    }

    fn scalar(&mut self, bytes: &[u8], sink: &mut impl TokenSink) -> Result<usize, &'static str> {
        let goes_on =
            |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.');
        let length = bytes.iter().take_while(|byte| goes_on(byte)).count();
        if self.text.len() + length > MAX_SCALAR {
            return Err("impossible number");
        }
        let (scalar, behind) = bytes.split_at(length);
        if behind.is_empty() || !self.text.is_empty() {
            self.text.extend_from_slice(scalar);
        }
        if behind.is_empty() {
            self.lexeme = Lexeme::Scalar;
            return Ok(length);
        }
        self.value_ended();
        let whole = if self.text.is_empty() {
            scalar
        } else {
            self.text.as_slice()
        };
        let token = match whole {
            b"null" => Token::Null,
            b"true" => Token::Bool(true),
            b"false" => Token::Bool(false),
            number if is_number(number) => Token::Number(number),
            _ => return Err("neither number nor literal"),
        };
        sink.token(token)?;
        Ok(length + self.follow(behind))
    }

    fn text(
        &mut self,
        mut text: Text,
        bytes: &[u8],
        sink: &mut impl TokenSink,
    ) -> Result<usize, &'static str> {
        let mut taken = 0;
        // A text with one escape usually has many: from the first one on, reads all of it at once if possible. Tried
        // once for each piece, so that no byte is read again and again.
        let mut is_tried = false;
        loop {
            let rest = bytes.get(taken..).unwrap_or_default();
            if !matches!(text.escape, Escape::No) {
                let Some(&byte) = rest.first() else { break };
                self.escaped(&mut text, byte)?;
                taken += 1;
                continue;
            }
            let length = if !text.is_kept() {
                let length = memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
                let (skimmed, escapes) = rest.split_at(length);
                if has_control(skimmed) {
                    return Err(CONTROL);
                }
                let is_first = escapes.first() == Some(&b'\\') && !is_tried;
                is_tried |= is_first;
                let written = is_first.then(|| written_length(escapes)).flatten();
                length + written.unwrap_or(0)
            } else if self.text.is_empty() && text.high.is_none() {
                if text.wanted == WantedText::AsWritten
                    && let Some(length) = written_length(rest)
                {
                    self.value_ended();
                    let (written, behind) = rest.split_at(length);
                    sink.token(Token::Written(written))?;
                    let behind = behind.get(1..).unwrap_or_default();
                    return Ok(taken + length + 1 + self.follow(behind));
                }
                let length = length_until(rest, stops);
                let (plain, behind) = rest.split_at(length);
                if behind.first() == Some(&b'"') {
                    // The usual case: no escape, and the text is complete.
                    self.emit(text, Some(plain), sink)?;
                    let behind = behind.get(1..).unwrap_or_default();
                    return Ok(taken + length + 1 + self.follow(behind));
                }
                self.text.extend_from_slice(plain);
                length
            } else {
                if rest.first().is_some_and(|&byte| byte != b'\\') {
                    self.lone_surrogate(&mut text);
                }
                copy_until(rest, &mut self.text, stops)
            };
            if self.text.len() > MAX_TEXT {
                return Err("text too long");
            }
            taken += length;
            let behind = rest.get(length..).unwrap_or_default();
            match behind.first() {
                None => break,
                Some(b'"') => {
                    self.emit(text, None, sink)?;
                    let behind = behind.get(1..).unwrap_or_default();
                    return Ok(taken + 1 + self.follow(behind));
                }
                Some(b'\\') if text.wanted == WantedText::Literal => {
                    return Err("an escape where Go takes none");
                }
                Some(b'\\') => text.escape = Escape::Begun,
                Some(_) => return Err(CONTROL),
            }
            taken += 1;
            // Most escapes have one character, which is available.
            if let Some(&byte) = behind.get(1)
                && text.high.is_none()
                && let Some(plain) = simple_escape(byte)
            {
                if text.is_kept() {
                    self.text.push(plain);
                }
                text.escape = Escape::No;
                taken += 1;
            }
        }
        self.lexeme = Lexeme::Text(text);
        Ok(taken)
    }

    /// Passes on a finished text: the collected one, or `whole` as in the document.
    fn emit(
        &mut self,
        text: Text,
        whole: Option<&[u8]>,
        sink: &mut impl TokenSink,
    ) -> Result<(), &'static str> {
        if text.is_key {
            self.lexeme = Lexeme::Between;
            self.expect = Expect::Colon;
        } else {
            self.value_ended();
        }
        let found = go_utf8(whole.unwrap_or(&self.text));
        sink.token(if text.is_key {
            Token::Key(&found)
        } else {
            Token::Text(&found)
        })
    }

    fn escaped(&mut self, text: &mut Text, byte: u8) -> Result<(), &'static str> {
        const WRONG: &str = "impossible escape";
        if let Escape::Unicode { digits, value } = text.escape {
            let digit = char::from(byte).to_digit(16).ok_or(WRONG)? as u16;
            let value = value << 4 | digit;
            text.escape = Escape::Unicode {
                digits: digits + 1,
                value,
            };
            if digits == 3 {
                text.escape = Escape::No;
                self.code_unit(text, value);
            }
            return Ok(());
        }
        if byte == b'u' {
            text.escape = Escape::Unicode {
                digits: 0,
                value: 0,
            };
            return Ok(());
        }
        let plain = simple_escape(byte).ok_or(WRONG)?;
        text.escape = Escape::No;
        if text.is_kept() {
            self.lone_surrogate(text);
            self.text.push(plain);
        }
        Ok(())
    }

    /// Takes one UTF-16 code unit.
    fn code_unit(&mut self, text: &mut Text, unit: u16) {
        if !text.is_kept() {
            return;
        }
        if let Some(high) = text.high
            && let Some(Ok(c)) = char::decode_utf16([high, unit]).next()
            && (0xdc00..0xe000).contains(&unit)
        {
            text.high = None;
            self.push(c);
            return;
        }
        self.lone_surrogate(text);
        match char::from_u32(u32::from(unit)) {
            Some(c) => self.push(c),
            None if unit < 0xdc00 => text.high = Some(unit),
            None => self.push(char::REPLACEMENT_CHARACTER),
        }
    }

    fn lone_surrogate(&mut self, text: &mut Text) {
        if text.high.take().is_some() {
            self.push(char::REPLACEMENT_CHARACTER);
        }
    }

    fn push(&mut self, c: char) {
        let mut utf8 = [0; 4];
        self.text
            .extend_from_slice(c.encode_utf8(&mut utf8).as_bytes());
    }
}

/// Whether a skipped text contains a byte that Go accepts in no text.
fn has_control(text: &[u8]) -> bool {
    // Without a position: many bytes at once.
    text.iter().fold(u8::MAX, |least, &byte| least.min(byte)) < b' '
}

/// The character of a backslash and `byte`.
fn simple_escape(byte: u8) -> Option<u8> {
    Some(match byte {
        b'"' | b'\\' | b'/' => byte,
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        _ => return None,
    })
}

/// Finds the end of plain text: a quote, a backslash, a control character.
pub(crate) fn stops(word: u64) -> u64 {
    below(word, b' ') | equal(word, b'"') | equal(word, b'\\')
}

/// The length of a text that can be a [`Token::Written`] and ends in `bytes`.
pub(crate) fn written_length(bytes: &[u8]) -> Option<usize> {
    const BLOCK: usize = 32;
    let end = if bytes
        .first()
        .is_some_and(|&byte| breaks_written(b' ', byte))
    {
        0
    } else {
        // Compares each byte with the one before it, many at once, without a position.
        let (before, here) = (bytes, bytes.get(1..)?);
        let blocks = before.as_chunks::<BLOCK>().0.iter();
        let blocks = blocks.zip(here.as_chunks::<BLOCK>().0);
        let is_clear = |(before, here): &(&[u8; BLOCK], &[u8; BLOCK])| {
            let pairs = before.iter().zip(here.iter());
            !pairs.fold(false, |found, (&before, &byte)| {
                found | breaks_written(before, byte)
            })
        };
        let clear = blocks.take_while(is_clear).count() * BLOCK;
        let mut pairs = before.iter().zip(here).skip(clear);
        let found = pairs.position(|(&before, &byte)| breaks_written(before, byte));
        1 + clear + found?
    };
    (bytes.get(end) == Some(&b'"')).then_some(end)
}

/// Whether `byte` after `before` ends a [`Token::Written`] or cannot be in one.
fn breaks_written(before: u8, byte: u8) -> bool {
    if before == b'\\' {
        !matches!(byte, b'"' | b'n' | b'r' | b't')
    } else {
        !matches!(byte, b' '..=0x7f) || matches!(byte, b'"' | b'&' | b'<' | b'>')
    }
}

/// Appends the unescaped text of a [`Token::Written`].
pub fn put_unescaped(written: &[u8], out: &mut Vec<u8>) {
    let mut rest = written;
    while !rest.is_empty() {
        let length = copy_until(rest, out, |word| equal(word, b'\\'));
        let escape = rest.get(length + 1).copied();
        out.extend(escape.and_then(simple_escape));
        rest = rest.get(length + 2..).unwrap_or_default();
    }
}

/// `-? (0 | [1-9] [0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?`
fn is_number(text: &[u8]) -> bool {
    let digits = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    if digits(text) {
        return text.len() == 1 || text.first() != Some(&b'0');
    }
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let exponent = text.iter().position(|&byte| byte == b'e' || byte == b'E');
    let (mantissa, exponent) = match exponent {
        Some(at) => (text.get(..at), text.get(at + 1..)),
        None => (Some(text), None),
    };
    let mantissa = mantissa.unwrap_or_default();
    let (whole, fraction) = match memchr(b'.', mantissa) {
        Some(at) => (mantissa.get(..at), mantissa.get(at + 1..)),
        None => (Some(mantissa), None),
    };
    let whole = whole.unwrap_or_default();
    let exponent = exponent.map(|e| {
        e.strip_prefix(b"+")
            .or_else(|| e.strip_prefix(b"-"))
            .unwrap_or(e)
    });
    digits(whole)
        && (whole.len() == 1 || whole.first() != Some(&b'0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(digits)
}

/// `bytes` with U+FFFD for every byte that is not part of a UTF-8 character, as Go does
/// when it encodes or decodes a string in JSON.
pub fn go_utf8(bytes: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    // Most texts are short, and a general decoder has a start-up cost.
    if bytes.is_ascii() {
        return bytes.into();
    }
    let mut rest = match std::str::from_utf8(bytes) {
        Ok(_) => return bytes.into(),
        Err(_) => bytes,
    };
    let mut replaced = Vec::with_capacity(bytes.len() + 16);
    while let Err(error) = std::str::from_utf8(rest) {
        let (valid, broken) = rest.split_at(error.valid_up_to());
        replaced.extend_from_slice(valid);
        replaced.extend_from_slice("\u{fffd}".as_bytes());
        rest = broken.get(1..).unwrap_or_default();
    }
    replaced.extend_from_slice(rest);
    replaced.into()
}

#[cfg(test)]
mod tests;
