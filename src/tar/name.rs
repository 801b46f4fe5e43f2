//! Members' names: bytes, compared as bytes, and one way to write them as text and back.
//!
//! A byte that is no part of UTF-8 is written `\xHH`. So that nothing else looks like that, a backslash is written `\x5c`
//! where it stands before what would be read so; every other backslash, as in the names of systemd's units, is itself.

use std::cmp::Ordering;

use crate::report::{hex, printable};

/// Linux's `PATH_MAX`: bytes of a path, its NUL included.
pub const PATH_MAX: usize = 4096;

/// A name as people and programs may write it. Control characters are left as they are.
pub fn text(name: &[u8]) -> String {
    let mut text = String::new();
    for chunk in name.utf8_chunks() {
        let valid = chunk.valid();
        for (at, c) in valid.char_indices() {
            match c == '\\' && escaped(&valid.as_bytes()[at..]).is_some() {
                true => text.push_str("\\x5c"),
                false => text.push(c),
            }
        }
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
    }
    text
}

/// A name for people, which steers no terminal.
pub fn shown(name: &[u8]) -> String {
    printable(&text(name))
}

/// The bytes of a name that was written as [`text`] writes it.
pub fn parse(text: &str) -> Vec<u8> {
    parse_bytes(text.as_bytes())
}

pub(super) fn parse_bytes(mut rest: &[u8]) -> Vec<u8> {
    let mut name = Vec::new();
    while let Some(&first) = rest.first() {
        let (byte, len) = escaped(rest).map_or((first, 1), |byte| (byte, 4));
        name.push(byte);
        rest = &rest[len..];
    }
    name
}

/// Whether a pattern goes on with `\xHH`.
pub(super) fn is_spelled(pattern: &[u8]) -> bool {
    digits(pattern).is_some()
}

/// The digits of `\xHH`.
fn digits(text: &[u8]) -> Option<&str> {
    let digits = text.strip_prefix(b"\\x")?.get(..2)?;
    std::str::from_utf8(digits).ok().filter(|_| digits.iter().all(u8::is_ascii_hexdigit))
}

/// The byte that `\xHH` stands for.
fn escaped(text: &[u8]) -> Option<u8> {
    u8::from_str_radix(digits(text)?, 16).ok().filter(|&byte| byte >= 0x80 || byte == b'\\')
}

/// A pattern in which `\xHH` means these four characters, as [`text`] writes them: there a backslash takes the special
/// meaning from what follows it.
pub fn pattern(glob: &str) -> String {
    let (mut pattern, mut rest) = (String::new(), glob);
    while let Some(at) = rest.find('\\') {
        let here = &rest[at..];
        let second = here.chars().nth(1).map_or(0, char::len_utf8);
        let (written, used) = match escaped(here.as_bytes()) {
            Some(byte) => (format!("\\\\x{byte:02x}"), 4),
            None if is_spelled(here.as_bytes()) => (format!("\\{}", &here[..4]), 4),
            // A backslash that means itself, before what would be read so.
            None if here[1..].starts_with('\\') && escaped(&here.as_bytes()[1..]).is_some() => {
                ("\\\\x5c".into(), 2)
            }
            None => (here[..1 + second].into(), 1 + second),
        };
        pattern.push_str(&rest[..at]);
        pattern.push_str(&written);
        rest = &here[used..];
    }
    pattern + rest
}

/// A name without what does not tell members apart: `./`, slashes before it, and the slash behind a folder.
pub fn plain(mut name: &[u8]) -> &[u8] {
    while let Some(rest) = name.strip_prefix(b"./").or_else(|| name.strip_prefix(b"/")) {
        name = rest;
    }
    while let Some(rest) = name.strip_suffix(b"/") {
        name = rest;
    }
    name
}

/// Orders names as a walk in sorted folders comes by them: `/` is lower than any other byte, so that a folder comes
/// directly before all that is in it.
pub fn path_order(a: &[u8], b: &[u8]) -> Ordering {
    let rank = |byte: &u8| if *byte == b'/' { None } else { Some(*byte) };
    match a.iter().zip(b).find(|(a, b)| a != b) {
        Some((a, b)) => rank(a).cmp(&rank(b)),
        None => a.len().cmp(&b.len()),
    }
}

/// Where a name leads below a folder: its parts, joined. Nothing of the folder itself.
pub fn place(name: &[u8]) -> Vec<u8> {
    let parts = name.split(|&b| b == b'/').filter(|part| !part.is_empty() && *part != b".");
    parts.collect::<Vec<_>>().join(&b'/')
}

/// The folders around what has this name, from the outside in.
pub fn folders(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    name.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &name[..at])
}

/// A name without the slashes before it, as GNU tar unpacks it.
pub(super) fn relative(name: &[u8]) -> &[u8] {
    let slashes = name.iter().take_while(|&&b| b == b'/').count();
    &name[slashes..]
}

/// The bytes of a catalog's name.
pub fn bytes(lossy: &str, hex: Option<&str>) -> Vec<u8> {
    let hex = hex.filter(|hex| hex.is_ascii() && hex.len() % 2 == 0);
    let bytes = hex.and_then(|hex| {
        (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).ok()).collect()
    });
    bytes.unwrap_or_else(|| lossy.as_bytes().to_vec())
}

/// The hex that stands beside a name that is not UTF-8.
pub fn hex_unless_text(name: &[u8]) -> Option<String> {
    std::str::from_utf8(name).is_err().then(|| hex(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_written_and_read_back() {
        let names: [&[u8]; 9] = [
            b"plain",
            "gr\u{fc}n".as_bytes(),
            b"gr\xfcn",
            b"\\xff",
            b"\\x5cxff",
            b"dev-disk-by\\x2did.mount",
            b"a\\",
            b"\xff\\xff\\x5C",
            b"",
        ];
        for name in names {
            assert_eq!(parse(&text(name)), name, "{}", text(name));
        }
        for (one, other) in
            names.iter().enumerate().flat_map(|(i, one)| names[i + 1..].iter().map(move |other| (one, other)))
        {
            assert_ne!(text(one), text(other));
        }
    }

    #[test]
    fn what_looks_alike_is_told_apart_and_units_names_are_themselves() {
        assert_eq!(text(b"gr\xfcn"), "gr\\xfcn");
        assert_eq!(text(b"by\\x2did"), "by\\x2did");
        assert_eq!(text(b"\\xff"), "\\x5cxff");
        assert_eq!(shown(b"a\n\xff"), "a\\n\\xff");
        assert_ne!(text(b"\xff"), text(b"\xfe"));
    }

    #[test]
    fn a_pattern_has_names_as_they_are_shown() {
        assert_eq!(pattern("a\\xFC*"), "a\\\\xfc*");
        assert_eq!(pattern("by\\x2did\\*"), "by\\\\x2did\\*");
        assert_eq!(pattern("\\xq"), "\\xq");
        assert_eq!(pattern("by\\x2Did"), "by\\\\x2Did");
        // Of the name that is these four characters.
        for itself in ["\\x5cxff", "\\\\xff"] {
            assert_eq!(pattern(itself), "\\\\x5cxff", "{itself}");
        }
        assert_eq!(pattern("a\\\\*\\"), "a\\\\*\\");
    }

    #[test]
    fn a_folder_comes_directly_before_what_is_in_it() {
        let ordered = ["", "\x01", "a", "a/x", "a/x/y", "a/x-y", "a\x01", "a-b", "a.b", "a0", "b"];
        for (i, one) in ordered.iter().enumerate() {
            for (j, other) in ordered.iter().enumerate() {
                assert_eq!(path_order(one.as_bytes(), other.as_bytes()), i.cmp(&j), "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn one_place_has_one_plain_name() {
        for (name, plain) in
            [("./a/", "a"), ("/a", "a"), (".//./a//", "a"), ("./", ""), ("../a", "../a"), (".a", ".a")]
        {
            assert_eq!(super::plain(name.as_bytes()), plain.as_bytes(), "{name}");
        }
    }
}
