//! The rules of `docs/ARCHITECTURE.md`, read from the sources themselves; needs neither servers nor root.
//!
//! Checked: which folder imports which, that no folders import each other in a circle, who may use clap, who may
//! print, and how long files and functions are (from the line of `fn` to the closing brace). What is read are Rust's own
//! tokens, so comments and strings do not count, while the bodies of macros do. `#[cfg(test)]` modules are held to
//! every rule but the one on printing.
#![allow(clippy::expect_used, reason = "a test may fail")]

use std::collections::{BTreeMap, BTreeSet};
use std::iter::Peekable;
use std::path::Path;

use proc_macro2::{Delimiter, Span, TokenStream, TokenTree};

/// The folders of `src` from the top down. One may import those on lower lines only: neither one above it nor one
/// beside it.
const LEVELS: [&[&str]; 15] = [
    &["main"],
    &["command"],
    &["config"],
    &["cli"],
    &["job"],
    &["preset"],
    &["source", "sink", "page"],
    &["docker", "store", "tell"],
    &["archive"],
    &["tar"],
    &["host"],
    &["report"],
    &["stream"],
    &["error"],
    // Declares the folders, and imports none of them.
    &["lib"],
];

/// Who may use clap, or what is made from it: completions and man pages.
const CLAP: [&str; 2] = ["cli", "config"];

/// Who may write to stdout and stderr: the verbs, the reports, and the sink that stdout is.
const PRINTING: [&str; 3] = ["command", "report", "sink"];

const FILE_LINES: usize = 500;
const FUNCTION_LINES: usize = 60;

/// A source file below `src`, by its path there, and its text.
type Sources = BTreeMap<String, String>;

/// What breaks a rule, each as `path:line: what`, in the order of the paths; circles come last.
fn violations(sources: &Sources) -> Vec<String> {
    let mut found = Vec::new();
    let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, text) in sources {
        let folder = folder(path);
        let lines = text.lines().count();
        if lines > FILE_LINES {
            found.push(format!("{path}: {lines} lines, more than {FILE_LINES}"));
        }
        if level(&folder).is_none() {
            found.push(format!("{path}: the folder {folder} has no place in the order"));
        }
        let Ok(tokens) = text.parse::<TokenStream>() else {
            found.push(format!("{path}: these are no Rust tokens"));
            continue;
        };
        let mut facts = Facts::default();
        facts.read(tokens, &Place { module: module(path), tests: false });
        facts.paths.sort_by_key(|path| path.line);
        for named in &facts.paths {
            let what = broken_by(&folder, named).map(|what| format!("{path}:{}: {what}", named.line));
            // One `use` may name several things of one folder.
            found.extend(what.filter(|what| found.last() != Some(what)));
            imports.entry(folder.clone()).or_default().extend(named.folder().map(String::from));
        }
        for (line, what) in facts.found {
            let printing = PRINTING.contains(&folder.as_str());
            match what {
                Finding::Print(name) if !printing => {
                    found.push(format!("{path}:{line}: {folder} prints, by {name}!"));
                }
                Finding::Print(_) => {}
                Finding::Long(name, lines) => {
                    found.push(format!(
                        "{path}:{line}: fn {name} has {lines} lines, more than {FUNCTION_LINES}"
                    ));
                }
            }
        }
    }
    found.extend(circles(&imports));
    found
}

/// What a path breaks that is named in `folder`.
fn broken_by(folder: &str, named: &Named) -> Option<String> {
    if let Some(other) = named.folder() {
        let allowed = match (level(folder), level(other)) {
            _ if folder == other => true,
            (Some(from), Some(to)) => from < to,
            _ => false,
        };
        return (!allowed).then(|| format!("{folder} imports {other}"));
    }
    if named.is_root() {
        return Some("names the crate's root as a whole, which hides what is imported".into());
    }
    let text = named.segments.join("::");
    let first = named.segments.first().map_or("", String::as_str);
    if ["clap", "clap_complete", "clap_mangen"].contains(&first) && !CLAP.contains(&folder) {
        return Some(format!("{folder} uses clap: {text}"));
    }
    let writes = named.segments.windows(2).any(|pair| {
        ["io", "stdio"].contains(&pair[0].as_str()) && ["stdout", "stderr"].contains(&pair[1].as_str())
    });
    (writes && !named.tests && !PRINTING.contains(&folder)).then(|| format!("{folder} prints, by {text}"))
}

/// The level of a folder, counted from the top.
fn level(folder: &str) -> Option<usize> {
    LEVELS.iter().position(|level| level.contains(&folder))
}

/// `job/verify/whole.rs` lies in `job`, `error.rs` is a folder by itself.
fn folder(path: &str) -> String {
    let first = path.split('/').next().unwrap_or_default();
    first.strip_suffix(".rs").unwrap_or(first).to_string()
}

/// The module that a file is.
fn module(path: &str) -> Vec<String> {
    let path = path.strip_suffix(".rs").unwrap_or(path);
    let path = path.strip_suffix("/mod").unwrap_or(path);
    match path {
        "main" | "lib" => Vec::new(),
        _ => path.split('/').map(String::from).collect(),
    }
}

/// Every circle of folders, by its members, each once and from the first of its names.
fn circles(imports: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let reached = |start: &String| {
        let mut reached = BTreeSet::new();
        let mut ahead: Vec<&String> =
            imports.get(start).into_iter().flatten().filter(|to| *to != start).collect();
        while let Some(folder) = ahead.pop() {
            if reached.insert(folder.clone()) {
                ahead.extend(imports.get(folder).into_iter().flatten());
            }
        }
        reached
    };
    let reached: BTreeMap<&String, BTreeSet<String>> =
        imports.keys().map(|start| (start, reached(start))).collect();
    let mut circles = BTreeSet::new();
    for (start, others) in &reached {
        if others.contains(*start) {
            let back = |other: &&String| reached.get(other).is_some_and(|there| there.contains(*start));
            circles.insert(others.iter().filter(back).cloned().collect::<Vec<_>>());
        }
    }
    circles.into_iter().map(|circle| format!("a circle: {}", circle.join(", "))).collect()
}

/// Where tokens stand.
#[derive(Clone)]
struct Place {
    module: Vec<String>,
    /// Below `#[cfg(test)]`.
    tests: bool,
}

/// A path as it is named somewhere, with `super`, `self` and braces resolved; `crate` is its first segment where
/// it names something of ours.
struct Named {
    line: usize,
    segments: Vec<String>,
    tests: bool,
}

impl Named {
    /// The folder of ours that it names something of.
    fn folder(&self) -> Option<&str> {
        let [first, folder, ..] = &self.segments[..] else { return None };
        (first == "crate" && !self.is_root()).then_some(folder.as_str())
    }

    /// `crate::*`, `crate::{self …}`, and no more than `crate` after `super`s.
    fn is_root(&self) -> bool {
        match &self.segments[..] {
            [first] => first == "crate",
            [first, second, ..] => first == "crate" && (second == "*" || second == "self"),
            [] => false,
        }
    }
}

enum Finding {
    Print(String),
    Long(String, usize),
}

/// What a file's tokens say.
#[derive(Default)]
struct Facts {
    paths: Vec<Named>,
    found: Vec<(usize, Finding)>,
}

type Tokens = Peekable<proc_macro2::token_stream::IntoIter>;

impl Facts {
    fn read(&mut self, tokens: TokenStream, place: &Place) {
        let mut tokens = tokens.into_iter().peekable();
        // The function whose body has not come yet; the module likewise.
        let (mut function, mut inline): (Option<(String, usize)>, Option<String>) = (None, None);
        let mut test_item = false;
        let mut before = None;
        while let Some(token) = tokens.next() {
            let text = match &token {
                TokenTree::Group(group) => {
                    let brace = group.delimiter() == Delimiter::Brace;
                    let mut inside = place.clone();
                    inside.tests |= test_item;
                    if brace {
                        inside.module.extend(inline.take());
                        test_item = false;
                        if let Some((name, from)) = function.take() {
                            let lines = line(group.span_close()) + 1 - from;
                            if lines > FUNCTION_LINES {
                                self.found.push((from, Finding::Long(name, lines)));
                            }
                        }
                    }
                    let attribute = group.stream().to_string().replace(' ', "") == "cfg(test)";
                    test_item |= attribute && before.as_deref() == Some("#");
                    // `pub(in super::super)` names a module, but imports nothing.
                    if before.as_deref() != Some("pub") {
                        self.read(group.stream(), &inside);
                    }
                    String::new()
                }
                TokenTree::Ident(ident) => {
                    let name = ident.to_string();
                    match (name.as_str(), tokens.peek()) {
                        ("fn", Some(TokenTree::Ident(called))) => {
                            function = Some((called.to_string(), line(ident.span())));
                        }
                        ("mod", Some(TokenTree::Ident(called))) => inline = Some(called.to_string()),
                        (
                            "print" | "println" | "eprint" | "eprintln" | "dbg",
                            Some(TokenTree::Punct(mark)),
                        ) if mark.as_char() == '!' && !(place.tests || test_item) => {
                            self.found.push((line(ident.span()), Finding::Print(name.clone())));
                        }
                        _ => {}
                    }
                    let place = Place { tests: place.tests || test_item, ..place.clone() };
                    self.path(&mut tokens, vec![name.clone()], line(ident.span()), &place);
                    name
                }
                TokenTree::Punct(mark) => {
                    if mark.as_char() == ';' {
                        (function, inline, test_item) = (None, None, false);
                    }
                    mark.as_char().to_string()
                }
                TokenTree::Literal(_) => String::new(),
            };
            before = Some(text);
        }
    }

    /// Reads on from a path's first segments to its end, or to the ends of all that its braces hold.
    fn path(&mut self, tokens: &mut Tokens, mut segments: Vec<String>, line: usize, place: &Place) {
        while colons(tokens) {
            match tokens.peek() {
                Some(TokenTree::Ident(ident)) => segments.push(ident.to_string()),
                Some(TokenTree::Punct(star)) if star.as_char() == '*' => segments.push("*".into()),
                Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                    let group = group.stream();
                    tokens.next();
                    return self.branches(group, &segments, place);
                }
                // `Vec::<u8>::new`: what follows is read as a path of its own.
                _ => break,
            }
            tokens.next();
        }
        self.name(segments, line, place);
    }

    /// The parts of `{a, b::c}`, each behind the segments before the brace.
    fn branches(&mut self, group: TokenStream, before: &[String], place: &Place) {
        let mut tokens = group.into_iter().peekable();
        while let Some(token) = tokens.next() {
            let at = line(token.span());
            match token {
                TokenTree::Ident(ident) if ident == "as" => drop(tokens.next()),
                TokenTree::Ident(ident) => {
                    let segments = [before, &[ident.to_string()]].concat();
                    self.path(&mut tokens, segments, at, place);
                }
                TokenTree::Punct(star) if star.as_char() == '*' => {
                    self.name([before, &["*".to_string()]].concat(), at, place);
                }
                _ => {}
            }
        }
    }

    fn name(&mut self, segments: Vec<String>, line: usize, place: &Place) {
        // A single word is a name in scope; `crate` and `super` alone stand in `pub(crate)`.
        if segments.len() < 2 {
            return;
        }
        let ours = match segments[0].as_str() {
            "self" => Some((place.module.clone(), &segments[1..])),
            "super" => {
                let ups = segments.iter().take_while(|segment| *segment == "super").count();
                let left = place.module.len().saturating_sub(ups);
                Some((place.module[..left].to_vec(), &segments[ups..]))
            }
            // The binary's name for the library.
            "sealift" => Some((Vec::new(), &segments[1..])),
            _ => None,
        };
        let segments = match ours {
            Some((module, rest)) => [&["crate".to_string()], &module[..], rest].concat(),
            None => segments,
        };
        self.paths.push(Named { line, segments, tests: place.tests });
    }
}

/// Takes `::` if it comes next.
fn colons(tokens: &mut Tokens) -> bool {
    let mut ahead = tokens.clone();
    let colon =
        |token: Option<TokenTree>| matches!(token, Some(TokenTree::Punct(mark)) if mark.as_char() == ':');
    let two = colon(ahead.next()) && colon(ahead.next());
    if two {
        *tokens = ahead;
    }
    two
}

fn line(span: Span) -> usize {
    span.start().line
}

/// Every `.rs` file below `dir`, by its path there.
fn read(dir: &Path, below: &str, sources: &mut Sources) {
    for entry in std::fs::read_dir(dir).expect("a folder of sources") {
        let entry = entry.expect("an entry");
        let path = format!("{below}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            read(&entry.path(), &format!("{path}/"), sources);
        } else if path.ends_with(".rs") {
            sources.insert(path, std::fs::read_to_string(entry.path()).expect("a source file"));
        }
    }
}

#[test]
fn the_sources_keep_to_the_rules() {
    let mut sources = Sources::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut sources);
    for folder in LEVELS.iter().copied().flatten() {
        let here = |path: &String| self::folder(path) == *folder;
        assert!(sources.keys().any(here), "no sources of {folder} were read");
    }
    let found = violations(&sources);
    assert!(found.is_empty(), "{} violations:\n{}", found.len(), found.join("\n"));
}

mod checker {
    use super::{Sources, violations};

    /// The violations of one file, with the path of each cut off.
    fn of(path: &str, text: &str) -> Vec<String> {
        let found = violations(&Sources::from([(path.to_string(), text.to_string())]));
        found
            .into_iter()
            .map(|line| line.strip_prefix(&format!("{path}:")).unwrap_or(&line).to_string())
            .collect()
    }

    #[test]
    fn takes_imports_that_point_down() {
        let text = "use crate::archive::{self, Id};\nuse crate::{error, stream::pool};\nuse super::list;\n\
                    use std::io::Read;\nfn f() -> crate::error::Result<()> { crate::tar::walk() }\n";
        assert_eq!(of("store/fan.rs", text), [""; 0]);
    }

    #[test]
    fn finds_a_use_that_points_up() {
        assert_eq!(of("archive/tap.rs", "\nuse crate::source::Source;\n"), ["2: archive imports source"]);
        assert_eq!(of("error.rs", "pub use crate::stream::Fail;\n"), ["1: error imports stream"]);
    }

    #[test]
    fn finds_a_path_that_points_up_without_a_use() {
        let text = "fn f(x: Option<crate::cli::View>) {\n    let y = crate::job::run::<u8>(x);\n}\n";
        assert_eq!(of("preset/ucp.rs", text), ["1: preset imports cli", "2: preset imports job"]);
        assert_eq!(
            of("tar/mod.rs", "fn f() { select! { x = crate::store::get() => 1 } }"),
            ["1: tar imports store"]
        );
        assert_eq!(
            of("tar/mod.rs", "#[serde(with = x)] struct S(crate::docker::T);"),
            ["1: tar imports docker"]
        );
        assert_eq!(of("tar/mod.rs", "macro_rules! m { () => { $crate::job::x() } }"), ["1: tar imports job"]);
    }

    #[test]
    fn finds_super_that_leaves_the_folder() {
        assert_eq!(of("host/priority.rs", "use super::super::report::Mode;"), [""; 0]);
        assert_eq!(of("stream/pool.rs", "use super::super::report::Mode;"), ["1: stream imports report"]);
        assert_eq!(
            of("stream/pool.rs", "mod a { mod b { use super::super::super::super::job::X; } }"),
            ["1: stream imports job"]
        );
        assert_eq!(of("stream/pool.rs", "mod tests { use super::super::report::Mode; }"), [""; 0]);
        assert_eq!(of("stream/mod.rs", "use super::report::Mode;"), ["1: stream imports report"]);
    }

    #[test]
    fn finds_what_stands_in_braces() {
        let text = "use crate::{\n    error::{Error, Result},\n    job::{self, backup::Outcome},\n    report as r,\n};\n";
        assert_eq!(of("store/mod.rs", text), ["3: store imports job"]);
        assert_eq!(of("tar/mod.rs", "use super::{error::Error, archive::{Id}};"), ["1: tar imports archive"]);
    }

    #[test]
    fn finds_neighbours_on_one_level() {
        assert_eq!(of("source/mod.rs", "use crate::sink::Sink;"), ["1: source imports sink"]);
        assert_eq!(of("docker/run.rs", "use crate::store::Store;"), ["1: docker imports store"]);
    }

    #[test]
    fn finds_imports_of_the_whole_crate() {
        let root = ["1: names the crate's root as a whole, which hides what is imported"];
        for text in ["use crate::*;", "use crate::{self as all};", "use super::*;"] {
            assert_eq!(of("tar/mod.rs", text), root, "{text}");
        }
    }

    #[test]
    fn finds_circles() {
        let sources = [
            ("docker/mod.rs", "use crate::source::Proof;"),
            ("source/mod.rs", "use crate::tar::Walker;"),
            ("tar/mod.rs", "use crate::docker::Client;"),
            ("stream/mod.rs", "use crate::error::Error;"),
        ];
        let found = violations(&sources.map(|(path, text)| (path.to_string(), text.to_string())).into());
        assert_eq!(
            found,
            [
                "docker/mod.rs:1: docker imports source",
                "tar/mod.rs:1: tar imports docker",
                "a circle: docker, source, tar"
            ]
        );
    }

    #[test]
    fn finds_clap_outside() {
        assert_eq!(of("job/backup.rs", "use clap::Args;"), ["1: job uses clap: clap::Args"]);
        assert_eq!(
            of("archive/mod.rs", "#[derive(Debug, clap::ValueEnum)] enum A {}"),
            ["1: archive uses clap: clap::ValueEnum"]
        );
        assert_eq!(
            of("main.rs", "fn main() { ::clap_complete::generate(); }"),
            ["1: main uses clap: clap_complete::generate"]
        );
        assert_eq!(of("cli/mod.rs", "use clap::{Args, Parser};"), [""; 0]);
    }

    #[test]
    fn finds_printing_outside() {
        assert_eq!(of("job/copy.rs", "fn f() { if x { println!(\"x\") } }"), ["1: job prints, by println!"]);
        assert_eq!(
            of("store/mod.rs", "fn f() { select! { _ => eprintln!() } }"),
            ["1: store prints, by eprintln!"]
        );
        assert_eq!(
            of("docker/mod.rs", "fn f() { write(std::io::stderr()); }"),
            ["1: docker prints, by std::io::stderr"]
        );
        assert_eq!(
            of("docker/mod.rs", "use tokio::io::{self, stdout};"),
            ["1: docker prints, by tokio::io::stdout"]
        );
        assert_eq!(of("report/mod.rs", "fn f() { println!(); std::io::stdout(); }"), [""; 0]);
        assert_eq!(
            of("tar/mod.rs", "#[cfg(test)]\nmod tests { fn f() { println!(); } }\nfn g() { print!() }"),
            ["3: tar prints, by print!"]
        );
        // A child's, not ours.
        assert_eq!(
            of("host/mod.rs", "fn f(c: C) { c.stdout(Stdio::piped()); let o = c.stdout.take(); }"),
            [""; 0]
        );
    }

    #[test]
    fn takes_no_comment_and_no_string_for_code() {
        let text = "//! crate::job::x\n/// use crate::cli::View; println!()\n/* use crate::cli::View; */\n\
                    const A: &str = \"use crate::job::x; println!()\";\nconst B: &str = r#\"clap::Args\"#;\n\
                    fn f() { let c = '\"'; /* println!() */ }\n";
        assert_eq!(of("error.rs", text), [""; 0]);
    }

    #[test]
    fn counts_the_lines_of_files_and_functions() {
        let long = |lines: usize| {
            format!(
                "/// A doc.\npub async fn f<T>(x: [u8; 4])\nwhere T: X {{\n{}}}\n",
                "x;\n".repeat(lines - 3)
            )
        };
        assert_eq!(of("tar/mod.rs", &long(60)), [""; 0]);
        assert_eq!(of("tar/mod.rs", &long(61)), ["2: fn f has 61 lines, more than 60"]);
        let inside = format!("trait T {{ fn a(); }}\nimpl S {{\n{}}}\n", long(61));
        assert_eq!(of("tar/mod.rs", &inside), ["4: fn f has 61 lines, more than 60"]);
        assert_eq!(of("tar/mod.rs", &"// a\n".repeat(500)), [""; 0]);
        assert_eq!(of("tar/mod.rs", &"// a\n".repeat(501)), [" 501 lines, more than 500"]);
    }

    #[test]
    fn wants_every_folder_in_the_order() {
        assert_eq!(of("misc/mod.rs", ""), [" the folder misc has no place in the order"]);
        assert_eq!(of("job/mod.rs", "use crate::misc::X;"), ["1: job imports misc"]);
    }
}
