//! Text for people: makes the output of guests harmless, and gives numbers units.

use std::time::Duration;

use insula_api::v1;
use insula_sys::clock::now_ms;
use prost_types::Timestamp;

/// Whether a character does more to a terminal than appear: controls, and characters that reorder text.
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Replaces what would do more to a terminal than appear, line feeds included.
pub fn printable(text: &str) -> String {
    text.chars().map(|character| if is_unsafe(character) { '\u{fffd}' } else { character }).collect()
}

/// The lines of a text, printable.
pub fn printable_lines(text: &str) -> Vec<String> {
    text.lines().map(|line| printable(&line.replace('\t', "    "))).collect()
}

/// JSON whose unsafe characters, which occur only inside strings, are escaped.
pub fn escape_json(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for character in json.chars() {
        match is_unsafe(character) && character != '\n' {
            true => escaped.push_str(&format!("\\u{:04x}", u32::from(character))),
            false => escaped.push(character),
        }
    }
    escaped
}

/// The output of a guest's console, without the sequences of ECMA-48 that set colours and move the cursor.
pub fn strip_escapes(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\x1b' => skip_sequence(&mut characters),
            '\n' | '\t' => plain.push(character),
            other if is_unsafe(other) => {}
            other => plain.push(other),
        }
    }
    plain
}

/// Skips what follows an escape character: `[…X`, `]…BEL`, `P…ESC \`, or a single character.
fn skip_sequence(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match characters.next() {
        Some('[') => {
            characters.find(|character| matches!(character, '\x40'..='\x7e' | '\n'));
        }
        Some(']' | 'P' | 'X' | '^' | '_') => {
            let end = characters.find(|character| matches!(character, '\x07' | '\x1b' | '\n'));
            if end == Some('\x1b') {
                characters.next_if_eq(&'\\');
            }
        }
        Some('(' | ')' | '#' | '%') => {
            characters.next();
        }
        _ => {}
    }
}

/// A duration as `90`, `90s`, `5m`, `1h`, `7d` or `500ms`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let expected =
        || format!("expected a number of seconds or a time such as 90s, 5m, 1h or 7d, not {text:?}");
    let number: u64 = number.parse().map_err(|_| expected())?;
    let unit_ms = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(expected()),
    };
    number.checked_mul(unit_ms).map(Duration::from_millis).ok_or_else(expected)
}

/// How long ago a time is, in its largest unit: `45s`, `12m`, `3h`, `8d`.
pub fn age(time: Option<&Timestamp>) -> String {
    let ago = |time: &Timestamp| u64::try_from(now_ms() / 1000 - time.seconds.max(0)).unwrap_or(0);
    time.map(|time| span(ago(time))).unwrap_or_default()
}

fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A time in the form of RFC 3339, to the second.
pub fn time(time: Option<&Timestamp>) -> String {
    time.map(|time| Timestamp { seconds: time.seconds, nanos: 0 }.to_string()).unwrap_or_default()
}

/// The word for a state.
pub fn vps_state(state: v1::VpsState) -> String {
    insula_api::convert::vps_state(state).map_or("unknown", |state| state.as_str()).to_owned()
}

/// A file's kind and permissions as `ls -l` shows them.
pub fn file_mode(file: &v1::FileEntry) -> String {
    let kind = match file.r#type() {
        v1::FileType::Directory => 'd',
        v1::FileType::SymbolicLink => 'l',
        v1::FileType::NamedPipe => 'p',
        v1::FileType::Socket => 's',
        v1::FileType::Device => 'c',
        v1::FileType::Regular | v1::FileType::Unspecified => '-',
    };
    let triple = |shift: u32, special: u32, letter: char| {
        let bits = file.mode >> shift;
        let execute = match (bits & 1 != 0, file.mode & special != 0) {
            (true, true) => letter,
            (false, true) => letter.to_ascii_uppercase(),
            (true, false) => 'x',
            (false, false) => '-',
        };
        let read = if bits & 4 != 0 { 'r' } else { '-' };
        let write = if bits & 2 != 0 { 'w' } else { '-' };
        [read, write, execute]
    };
    let triples = [triple(6, 0o4000, 's'), triple(3, 0o2000, 's'), triple(0, 0o1000, 't')];
    std::iter::once(kind).chain(triples.into_iter().flatten()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_guest_writes_does_nothing_to_a_terminal() {
        for (text, shown) in [
            ("web1", "web1"),
            ("Grüße 日本", "Grüße 日本"),
            ("\x1b]0;owned\x07", "\u{fffd}]0;owned\u{fffd}"),
            ("a\nb\rc", "a\u{fffd}b\u{fffd}c"),
            ("\u{9b}31m", "\u{fffd}31m"),
            ("abc\u{202e}cba", "abc\u{fffd}cba"),
        ] {
            assert_eq!(printable(text), shown);
        }
    }

    #[test]
    fn json_stays_json() {
        let json = serde_json::to_string_pretty(&["\u{9b}31m\u{202e}", "a\nb"]).unwrap();
        let escaped = escape_json(&json);
        assert!(escaped.chars().all(|character| character == '\n' || !is_unsafe(character)), "{escaped}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&escaped).unwrap(), ["\u{9b}31m\u{202e}", "a\nb"]);
    }

    #[test]
    fn a_boot_is_readable_without_its_colours() {
        for (bytes, plain) in [
            (&b"[\x1b[0;32m  OK  \x1b[0m] Reached target\r\n"[..], "[  OK  ] Reached target\n"),
            (b"\x1b]0;title\x07web1 login: ", "web1 login: "),
            (b"\x1b]0;title\x1b\\web1 login: ", "web1 login: "),
            (b"\x1b(Ba\x1b7b\x1b", "ab"),
            (b"\x1b[999", ""),
            (b"\xff\x80a", "\u{fffd}\u{fffd}a"),
        ] {
            assert_eq!(strip_escapes(bytes), plain, "{bytes:?}");
        }
    }

    #[test]
    fn durations_have_units() {
        for (text, ms) in [
            ("90", Some(90_000)),
            ("90s", Some(90_000)),
            ("5m", Some(300_000)),
            ("1h", Some(3_600_000)),
            ("250ms", Some(250)),
            ("", None),
            ("s", None),
            ("-1", None),
            ("1.5", None),
            ("1d", Some(86_400_000)),
            ("1w", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(parse_duration(text).ok(), ms.map(Duration::from_millis), "{text:?}");
        }
    }

    #[test]
    fn spans_have_one_unit() {
        let cases = [(0, "0s"), (59, "59s"), (60, "1m"), (7_200, "2h"), (172_800, "2d")];
        for (seconds, text) in cases {
            assert_eq!(span(seconds), text);
        }
    }

    #[test]
    fn a_mode_is_shown_as_ls_shows_it() {
        let shown = |kind: v1::FileType, bits| {
            file_mode(&v1::FileEntry { r#type: kind.into(), mode: bits, ..Default::default() })
        };
        assert_eq!(shown(v1::FileType::Regular, 0o644), "-rw-r--r--");
        assert_eq!(shown(v1::FileType::Directory, 0o1777), "drwxrwxrwt");
        assert_eq!(shown(v1::FileType::Regular, 0o6750), "-rwsr-s---");
        assert_eq!(shown(v1::FileType::SymbolicLink, 0o777), "lrwxrwxrwx");
        assert_eq!(shown(v1::FileType::NamedPipe, 0o4000), "p--S------");
    }
}
