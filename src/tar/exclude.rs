//! Patterns on members' names in the words of GNU tar's `--exclude`, one folder at a time.
//!
//! [`Patterns`](super::select::Patterns) match the name that a member has in the archive; GNU tar matches the path by
//! which it walks there. So each pattern is followed along the folder's own name, and what is left of it holds below.

use super::name;
use crate::error::{Error, Result};

/// Options that make GNU tar match as we do: the whole path from its first byte on, `*` over slashes, and what a matching
/// folder holds with it. They come before the patterns.
pub const MATCHING: [&str; 3] = ["--anchored", "--wildcards", "--wildcards-match-slash"];

/// Alternatives of one pattern, at most: `{a,b}{c,d}` are four.
const MOST_ALTERNATIVES: usize = 1000;

/// A pattern of files to leave out, as shells write it: `*` and `?` match slashes too, `**` any folders or none.
#[derive(Debug, Clone)]
pub struct Exclude {
    pattern: String,
    alternatives: Vec<Vec<Token>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Byte(u8),
    Any,
    Star,
    Class { negated: bool, ranges: Vec<(u8, u8)> },
}

impl Token {
    fn matches(&self, byte: u8) -> bool {
        match self {
            Token::Byte(own) => *own == byte,
            Token::Any | Token::Star => true,
            Token::Class { negated, ranges } => {
                ranges.iter().any(|&(first, last)| (first..=last).contains(&byte)) != *negated
            }
        }
    }

    fn write(&self, to: &mut Vec<u8>) {
        match self {
            Token::Byte(byte) => literal(*byte, to),
            Token::Any => to.push(b'?'),
            Token::Star => to.push(b'*'),
            Token::Class { negated, ranges } => {
                to.push(b'[');
                to.extend(negated.then_some(b'!'));
                for &(first, last) in ranges {
                    in_class(first, to);
                    if last != first {
                        to.push(b'-');
                        in_class(last, to);
                    }
                }
                to.push(b']');
            }
        }
    }
}

fn literal(byte: u8, to: &mut Vec<u8>) {
    to.extend(b"*?[]\\".contains(&byte).then_some(b'\\'));
    to.push(byte);
}

fn in_class(byte: u8, to: &mut Vec<u8>) {
    to.extend(b"[]!^-\\".contains(&byte).then_some(b'\\'));
    to.push(byte);
}

/// A path that means itself, where GNU tar takes a pattern.
pub fn escape(path: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(path.len());
    path.iter().for_each(|&byte| literal(byte, &mut escaped));
    escaped
}

impl Exclude {
    /// Reads a pattern. A leading `/` or `./` and a trailing `/` mean nothing.
    ///
    /// # Errors
    /// It is none.
    pub fn new(pattern: &str) -> Result<Exclude> {
        // The same judge as for the patterns of a restore.
        super::select::Patterns::new(&[], &[pattern.to_string()])?;
        let text = pattern.trim_start_matches("./").trim_start_matches('/').trim_end_matches('/');
        let wrong =
            |why: &str| Error::usage(format!("{pattern:?} is no pattern of files to leave out: {why}"));
        if text.is_empty() {
            return Err(wrong("it is empty").hint("name files as the archive does: 'etc/*.conf'"));
        }
        let mut alternatives = Vec::new();
        expand(text, &mut alternatives);
        if alternatives.len() > MOST_ALTERNATIVES {
            return Err(wrong("it has too many alternatives").hint("give several patterns"));
        }
        let alternatives = alternatives.iter().flat_map(|text| tokens(text.as_bytes())).collect();
        Ok(Exclude { pattern: pattern.into(), alternatives })
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.pattern
    }

    /// Whether it leaves the folder `name` out, and so all that is in it.
    pub fn takes(&self, name: &[u8]) -> bool {
        let folders = name.iter().enumerate().filter(|&(_, &byte)| byte == b'/').map(|(at, _)| &name[..at]);
        let mut names = folders.chain([name]).filter(|name| !name.is_empty());
        names.any(|name| self.rests(name).any(|rest| rest.iter().all(|token| *token == Token::Star)))
    }

    /// Whether it leaves out the file `name`, if it takes none of the folders around it.
    pub fn matches(&self, name: &[u8]) -> bool {
        self.alternatives.iter().any(|tokens| is_match(tokens, name))
    }

    /// What GNU tar is to leave out below a folder: one pattern for each way in which the folder's `name` in the archive
    /// begins this one. `walked` is the path by which tar gets there.
    pub fn below(&self, name: &[u8], walked: &[u8]) -> Vec<Vec<u8>> {
        let prefix = match name {
            [] => Vec::new(),
            name => [name, b"/"].concat(),
        };
        let mut start = escape(walked);
        if !start.ends_with(b"/") {
            start.push(b'/');
        }
        let rests = self.rests(&prefix).filter(|rest| !rest.is_empty());
        let mut found: Vec<_> = rests
            .map(|rest| {
                let mut pattern = start.clone();
                rest.iter().for_each(|token| token.write(&mut pattern));
                pattern
            })
            .collect();
        found.sort();
        found.dedup();
        found
    }

    /// What is left of the pattern when `name` has been read, in every way in which it can be read.
    fn rests<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [Token]> {
        self.alternatives.iter().flat_map(move |tokens| {
            let mut at = vec![false; tokens.len() + 1];
            at[0] = true;
            skip_stars(tokens, &mut at);
            for &byte in name {
                let mut next = vec![false; tokens.len() + 1];
                for (i, token) in tokens.iter().enumerate().filter(|&(i, _)| at[i]) {
                    if token.matches(byte) {
                        next[if *token == Token::Star { i } else { i + 1 }] = true;
                    }
                }
                skip_stars(tokens, &mut next);
                at = next;
            }
            // What follows a star that is still open is in what the star begins.
            let is_open = |i: usize| i > 0 && at[i - 1] && tokens[i - 1] == Token::Star;
            let found: Vec<_> = (0..at.len()).filter(|&i| at[i] && !is_open(i)).collect();
            found.into_iter().map(|i| &tokens[i..])
        })
    }
}

/// Whether the tokens match the whole of a name.
fn is_match(tokens: &[Token], name: &[u8]) -> bool {
    // Most names do not end as the pattern does, which costs one look.
    let tail = tokens.iter().rev().take_while(|token| **token != Token::Star);
    if tail.zip(name.iter().rev()).any(|(token, byte)| !token.matches(*byte)) {
        return false;
    }
    // Only the last star has to be tried again: what an earlier one matches can always be as short as possible.
    let (mut token, mut at, mut star) = (0, 0, None);
    loop {
        match (tokens.get(token), name.get(at)) {
            (Some(Token::Star), _) => {
                token += 1;
                star = Some((token, at));
            }
            (Some(one), Some(byte)) if one.matches(*byte) => (token, at) = (token + 1, at + 1),
            (None, None) => return true,
            _ => match star {
                Some((after, from)) if from < name.len() => {
                    (token, at) = (after, from + 1);
                    star = Some((after, at));
                }
                _ => return false,
            },
        }
    }
}

/// A star matches nothing, too.
fn skip_stars(tokens: &[Token], at: &mut [bool]) {
    for (i, token) in tokens.iter().enumerate() {
        at[i + 1] |= at[i] && *token == Token::Star;
    }
}

/// `{a,b}` written out, and `**` as what it means at its place.
fn expand(text: &str, found: &mut Vec<String>) {
    if found.len() > MOST_ALTERNATIVES {
        return;
    }
    if let Some((before, inside, after)) = braces(text) {
        inside.iter().for_each(|one| expand(&format!("{before}{one}{after}"), found));
        return;
    }
    if let Some(rest) = text.strip_prefix("**/") {
        expand(rest, found);
        expand(&format!("*/{rest}"), found);
        return;
    }
    if let Some((before, after)) = text.split_once("/**/") {
        expand(&format!("{before}/{after}"), found);
        expand(&format!("{before}/*/{after}"), found);
        return;
    }
    found.push(text.into());
}

/// What stands before, in and after the first braces; alternatives that are empty are none.
fn braces(text: &str) -> Option<(&str, Vec<&str>, &str)> {
    let (mut depth, mut open, mut from, mut inside) = (0, 0, 0, Vec::new());
    let (mut chars, mut class) = (text.char_indices(), false);
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' if !class => {
                chars.next();
            }
            '[' if !class => {
                class = true;
                // A bracket that comes first is a member of the class.
                let rest = text[at + 1..].trim_start_matches(['!', '^']);
                if rest.starts_with(']') {
                    chars.by_ref().find(|(_, c)| *c == ']');
                }
            }
            ']' => class = false,
            _ if class => {}
            '{' => {
                depth += 1;
                if depth == 1 {
                    (open, from) = (at, at + 1);
                }
            }
            ',' if depth == 1 => {
                inside.push(&text[from..at]);
                from = at + 1;
            }
            '}' if depth > 0 => {
                depth -= 1;
                if depth == 0 {
                    inside.push(&text[from..at]);
                    inside.retain(|one| !one.is_empty());
                    return Some((&text[..open], inside, &text[at + 1..]));
                }
            }
            _ => {}
        }
    }
    None
}

/// The tokens of a pattern without braces; none where a class does not end.
fn tokens(text: &[u8]) -> Option<Vec<Token>> {
    let (mut found, mut rest) = (Vec::new(), text);
    while let [first, more @ ..] = rest {
        if name::is_spelled(rest) {
            let (spelled, more) = rest.split_at(4);
            found.extend(name::parse_bytes(spelled).into_iter().map(Token::Byte));
            rest = more;
            continue;
        }
        rest = more;
        found.push(match first {
            b'*' if found.last() == Some(&Token::Star) => continue,
            b'*' => Token::Star,
            b'?' => Token::Any,
            b'\\' => {
                let (escaped, more) = rest.split_first()?;
                rest = more;
                Token::Byte(*escaped)
            }
            b'[' => {
                let (class, more) = class(rest)?;
                rest = more;
                class
            }
            byte => Token::Byte(*byte),
        });
    }
    Some(found)
}

/// A class behind its bracket, and what follows it.
fn class(text: &[u8]) -> Option<(Token, &[u8])> {
    let negated = matches!(text.first(), Some(b'!' | b'^'));
    let text = &text[usize::from(negated)..];
    // A bracket that comes first is a member of the class.
    let end = 1 + text.get(1..)?.iter().position(|&byte| byte == b']')?;
    let (mut members, mut ranges) = (&text[..end], Vec::new());
    while let [first, more @ ..] = members {
        (members, ranges) = match more {
            [b'-', last, more @ ..] => (more, [ranges, vec![(*first, *last)]].concat()),
            more => (more, [ranges, vec![(*first, *first)]].concat()),
        };
    }
    Some((Token::Class { negated, ranges }, &text[end + 1..]))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::super::select::Patterns;
    use super::*;

    fn below(pattern: &str, name: &str, walked: &str) -> Vec<String> {
        let found = Exclude::new(pattern).unwrap().below(name.as_bytes(), walked.as_bytes());
        found.into_iter().map(|bytes| String::from_utf8(bytes).unwrap()).collect()
    }

    #[test]
    fn a_pattern_is_followed_along_the_folders_own_name() {
        assert_eq!(below("etc/ssl", "etc", "/etc"), ["/etc/ssl"]);
        assert_eq!(below("/etc/ssl/", "etc", "/etc"), ["/etc/ssl"]);
        assert_eq!(below("srv/x", "etc", "/etc"), [""; 0]);
        assert_eq!(below("*.log", "etc", "/etc"), ["/etc/*.log"]);
        assert_eq!(below("*/cache", "srv/a", "/srv/a"), ["/srv/a/*/cache", "/srv/a/cache"]);
        assert_eq!(below("link/*/cache", "link", "link/."), ["link/./*/cache"]);
        assert_eq!(below("x", "", "/"), ["/x"]);
        assert_eq!(below("a/x", "a", "we[i]rd"), ["we\\[i\\]rd/x"]);
    }

    #[test]
    fn a_byte_that_is_not_utf8_is_written_as_ls_shows_it() {
        let below = |pattern: &str| Exclude::new(pattern).unwrap().below(b"r", b"r").concat();
        assert_eq!(below("r/a\\xFF"), b"r/a\xff");
        assert_eq!(below("r/by\\x2did"), b"r/by\\\\x2did");
        // These four characters.
        for itself in ["r/\\x5cxff", "r/\\\\xff"] {
            assert_eq!(below(itself), b"r/\\\\xff", "{itself}");
        }
    }

    #[test]
    fn a_folder_that_is_left_out_whole_is_known() {
        let takes = |pattern: &str, name: &str| Exclude::new(pattern).unwrap().takes(name.as_bytes());
        assert!(takes("etc", "etc") && takes("etc", "etc/ssl") && takes("e*", "etc") && takes("*", "etc"));
        assert!(!takes("etc/*", "etc") && !takes("et", "etc") && !takes("etc/ssl", "etc"));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for bad in ["", "/", "[", "a{b", "{a}{", "x\\"] {
            assert_eq!(Exclude::new(bad).err().map(|e| e.kind().exit_code()), Some(2), "{bad:?}");
        }
        assert!(Exclude::new(&"{a,b}".repeat(20)).is_err());
    }

    /// The promise of the whole: GNU tar leaves out what a restore with the same pattern would.
    const NAMES: [&str; 14] = [
        "r/a",
        "r/b.log",
        "r/sub/b.log",
        "r/sub/deep/a",
        "r/sub/deep/x.conf",
        "r/[odd]",
        "r/st*r",
        "r/-dash",
        "r/sub/cache/one",
        "r/cache/two",
        "r/a]b",
        "r/back\\slash",
        "r/node_modules/m/i.js",
        "r/q?",
    ];

    const PATTERNS: [&str; 23] = [
        "*.log",
        "r/*.log",
        "r/sub",
        "r/s*",
        "r/sub/*",
        "**/cache",
        "r/**/a",
        "r/*/a",
        "r/?",
        "r/[!a]*",
        "r/[[]odd]",
        "r/st\\*r",
        "r/{a,cache}",
        "*/{node_modules,deep}/*",
        "r/[]a]*",
        "r/[a-c]*",
        "r/-*",
        "*[\\]*",
        "r/sub/**",
        "cache",
        "r/{sub/{cache,deep},q\\?}",
        "r/[a-]dash",
        "*e*",
    ];

    #[test]
    fn gnu_tar_leaves_out_what_our_own_patterns_match() {
        let dir = tempfile::tempdir().unwrap();
        let names = NAMES;
        for name in names {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            sh(&format!("printf x > '{}'", path.display()));
        }
        for pattern in PATTERNS {
            let exclude = Exclude::new(pattern).unwrap();
            let mut tar = Command::new("tar");
            tar.args(["-c", "-f-", "-C"]).arg(dir.path()).args(MATCHING).env("LC_ALL", "C");
            for found in exclude.below(b"r", b"r") {
                tar.arg(format!("--exclude={}", String::from_utf8(found).unwrap()));
            }
            let made = tar.args(["--", "r"]).output().unwrap().stdout;
            let (mut walker, mut entries) = (crate::tar::Walker::new(), Vec::new());
            walker.feed(&made, &mut entries).unwrap();
            let mut kept: Vec<_> =
                entries.iter().map(|e| e.path.clone()).filter(|p| !p.ends_with('/')).collect();
            kept.sort();
            let ours = Patterns::new(&[], &[pattern.to_string()]).unwrap();
            let mut expected: Vec<_> =
                names.iter().filter(|name| ours.take(name.as_bytes())).map(ToString::to_string).collect();
            expected.sort();
            assert_eq!(kept, expected, "{pattern}");
            let folders = |name: &str| name.match_indices('/').map(|(at, _)| at).collect::<Vec<_>>();
            let is_left_out = |name: &str| {
                let mut ends = folders(name).into_iter().chain([name.len()]);
                ends.any(|end| exclude.matches(&name.as_bytes()[..end]))
            };
            let mut walked: Vec<_> = names.iter().filter(|name| !is_left_out(name)).collect();
            walked.sort();
            assert_eq!(walked, expected.iter().collect::<Vec<_>>(), "{pattern}, name by name");
        }
    }

    fn sh(script: &str) {
        assert!(Command::new("sh").args(["-c", script]).status().unwrap().success(), "{script}");
    }
}
