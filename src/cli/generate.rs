//! What is made from the description of the command line: man pages.

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, roman};

use super::Cli;
use super::help::ENVIRONMENT;
use crate::error::{Context, Result};

/// The man pages, by their files' names: of sealift, and of every verb that its help lists.
///
/// # Errors
/// None that is known: they are written to memory.
pub fn man_pages() -> Result<Vec<(String, Vec<u8>)>> {
    let mut pages = Vec::new();
    add_pages(&documented(), None, &mut pages)?;
    Ok(pages)
}

/// The command with what has a page. `restore set` is hidden in the usage of `restore` only. What every verb has comes
/// behind a verb's own options.
fn documented() -> Command {
    let mut root = Cli::command()
        .disable_help_subcommand(true)
        .mut_subcommand("restore", |restore| restore.mut_subcommand("set", |set| set.hide(false)))
        .mut_args(|arg| if arg.is_global_set() { arg.display_order(1000) } else { arg });
    root.build();
    root
}

fn add_pages(command: &Command, above: Option<&str>, pages: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    let text = page(command, name, above).context(|| format!("cannot write the man page {name}"))?;
    pages.push((format!("{name}.1"), text));
    let listed = command.get_subcommands().filter(|verb| !verb.is_hide_set());
    listed.into_iter().try_for_each(|verb| add_pages(verb, Some(name), pages))
}

fn page(command: &Command, name: &str, above: Option<&str>) -> std::io::Result<Vec<u8>> {
    let (man, help) = (Man::new(command.clone()), Help::of(command));
    let mut page = Vec::new();
    title(name).to_writer(&mut page)?;
    man.render_name_section(&mut page)?;
    synopsis(command).to_writer(&mut page)?;
    man.render_description_section(&mut page)?;
    help.body.to_writer(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.get_subcommands().any(|verb| !verb.is_hide_set()) {
        man.render_subcommands_section(&mut page)?;
    }
    help.sections.to_writer(&mut page)?;
    if above.is_none() {
        entries("ENVIRONMENT", &ENVIRONMENT).to_writer(&mut page)?;
        entries("FILES", &FILES).to_writer(&mut page)?;
    }
    see_also(above).to_writer(&mut page)?;
    // Every section brings the definitions that one page needs once.
    let definitions = Roff::new().render();
    let page = String::from_utf8_lossy(&page).replace(&definitions, "");
    Ok([definitions, page].concat().into_bytes())
}

fn title(name: &str) -> Roff {
    let mut roff = Roff::new();
    let source = format!("sealift {}", env!("CARGO_PKG_VERSION"));
    // Quotes stand for a date that is not said; without them what follows would be taken for it.
    roff.control("TH", [name, "1", "\"\"", &source, "\"\""]);
    // Names of files and options are not torn apart.
    roff.control("nh", []);
    roff
}

/// As in its help: dozens of options in brackets tell nobody anything.
fn synopsis(command: &Command) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]);
    let usage = command.clone().render_usage().to_string();
    for line in usage.trim_start_matches("Usage:").lines().map(str::trim).filter(|line| !line.is_empty()) {
        roff.text([roman(line)]).control("br", []);
    }
    roff
}

fn see_also(above: Option<&str>) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["SEE ALSO"]);
    let others = above.map_or(&["docker(1)", "gpg(1)", "zstd(1)", "tar(1)"][..], |_| &[]);
    let own = above.map(|name| format!("{name}(1)"));
    let names = own.iter().map(String::as_str).chain(others.iter().copied());
    roff.text([roman(names.collect::<Vec<_>>().join(", "))]);
    roff
}

/// What stands below the options in a command's help.
#[derive(Default)]
struct Help {
    /// What belongs to its description.
    body: Roff,
    /// What has a heading of its own.
    sections: Roff,
}

/// Lines that begin a section, and what it is called in a man page.
const HEADINGS: [(&str, &str); 3] =
    [("Example:", "EXAMPLES"), ("Examples:", "EXAMPLES"), (EXIT_CODES, "EXIT STATUS")];
const EXIT_CODES: &str = "Exit codes:";

impl Help {
    fn of(command: &Command) -> Help {
        let text = command.get_after_long_help().or_else(|| command.get_after_help());
        let text = text.map(ToString::to_string).unwrap_or_default();
        let (mut help, mut section) = (Help::default(), None);
        for paragraph in text.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty()) {
            let mut lines = paragraph.lines().peekable();
            let heading = HEADINGS.iter().find(|(begins, _)| lines.peek() == Some(begins));
            if let Some((begins, heading)) = heading {
                lines.next();
                help.sections.control("SH", [*heading]);
                section = Some(*begins);
            } else {
                help.target(section).control("PP", []);
            }
            let lines: Vec<_> = lines.collect();
            match section {
                Some(EXIT_CODES) => codes(&mut help.sections, &lines.join("\n")),
                _ => paragraph_of(help.target(section), &lines),
            }
        }
        help
    }

    fn target(&mut self, section: Option<&str>) -> &mut Roff {
        if section.is_some() { &mut self.sections } else { &mut self.body }
    }
}

/// Lines that run on, and blocks of indented ones, which stay as they are.
fn paragraph_of(roff: &mut Roff, lines: &[&str]) {
    for block in lines.chunk_by(|line, next| line.starts_with(' ') == next.starts_with(' ')) {
        let as_it_is = block.iter().any(|line| line.starts_with(' '));
        if as_it_is {
            roff.control("RS", ["4"]).control("nf", []);
        }
        for line in block {
            roff.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
        }
        if as_it_is {
            roff.control("fi", []).control("RE", []);
        }
    }
}

/// `0 done · 1 failed`, one a paragraph.
fn codes(roff: &mut Roff, text: &str) {
    for item in text.split(['·', '\n']) {
        if let Some((code, meaning)) = item.trim().split_once(' ') {
            roff.control("TP", []).text([bold(code)]).text([roman(meaning)]);
        }
    }
}

fn entries(heading: &str, entries: &[(&str, &str)]) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", [heading]);
    for (names, meaning) in entries {
        let names: Vec<Inline> = names.split(", ").map(bold).collect();
        let mut line = Vec::new();
        for name in names {
            if !line.is_empty() {
                line.push(roman(", "));
            }
            line.push(name);
        }
        roff.control("TP", []).text(line).text([roman(*meaning)]);
    }
    roff
}

const FILES: [(&str, &str); 3] = [
    ("sealift.toml", "The settings file: this one of the folder that sealift is run in, or the first of"),
    ("~/.config/sealift/sealift.toml", "the user's own, and"),
    ("/etc/sealift/sealift.toml", "the host's. sealift-config(1) says what stands in it."),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn pages() -> Vec<(String, String)> {
        let text = |(name, text)| (name, String::from_utf8(text).unwrap());
        man_pages().unwrap().into_iter().map(text).collect()
    }

    fn page(name: &str) -> String {
        pages().into_iter().find(|(file, _)| file == name).unwrap_or_else(|| panic!("no page {name}")).1
    }

    #[test]
    fn every_verb_that_is_listed_has_a_page_and_no_other() {
        let names: Vec<_> = pages().into_iter().map(|(name, _)| name).collect();
        for name in ["sealift.1", "sealift-backup-volume.1", "sealift-restore-set.1", "sealift-config-init.1"]
        {
            assert!(names.iter().any(|page| page == name), "{name} is not among {names:?}");
        }
        for name in ["sealift-man.1", "sealift-help.1", "sealift-backup-help.1"] {
            assert!(names.iter().all(|page| page != name), "{name} is among {names:?}");
        }
    }

    #[test]
    fn examples_stay_as_they_are_typed() {
        let page = page("sealift-backup-run.1");
        let (_, examples) = page.split_once(".SH EXAMPLES\n.RS 4\n.nf\n").unwrap();
        let (examples, _) = examples.split_once("\n.fi\n").unwrap();
        assert!(examples.starts_with("sealift backup run \\-\\-to s3://"), "{examples}");
        assert!(examples.contains(" \\\\\n  \\-\\-existing\\-replica\\-id"), "{examples}");
    }

    #[test]
    fn what_stands_before_the_examples_is_described() {
        let page = page("sealift-prune.1");
        let at = |text: &str| page.find(text).unwrap_or_else(|| panic!("{text:?} is not in {page}"));
        assert!(at(".SH DESCRIPTION") < at("The rules are restic"));
        assert!(at("The rules are restic") < at(".SH OPTIONS"));
        assert!(at(".SH OPTIONS") < at(".SH EXAMPLES"));
    }

    #[test]
    fn every_exit_code_has_its_meaning() {
        let page = page("sealift.1");
        let (_, status) = page.split_once(".SH \"EXIT STATUS\"\n").unwrap();
        let (status, _) = status.split_once(".SH").unwrap();
        for code in ["0", "1", "2", "3", "10", "11", "12", "13", "14", "70", "130"] {
            assert!(status.contains(&format!(".TP\n\\fB{code}\\fR\n")), "{code} is not in {status}");
        }
    }

    #[test]
    fn every_variable_that_an_option_reads_is_among_the_environment() {
        fn variables(command: &Command, found: &mut Vec<String>) {
            let named = command.get_arguments().filter_map(|arg| arg.get_env());
            found.extend(named.map(|name| name.to_string_lossy().into_owned()));
            command.get_subcommands().for_each(|verb| variables(verb, found));
        }
        let mut found = Vec::new();
        variables(&documented(), &mut found);
        assert!(found.len() > 5, "{found:?}");
        found.retain(|name| {
            !ENVIRONMENT.iter().any(|(names, _)| names.split(", ").any(|known| known == name))
        });
        assert!(found.is_empty(), "{found:?}");
    }
}
