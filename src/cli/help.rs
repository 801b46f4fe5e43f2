//! How help looks: `-h` shows what is asked for daily on one screen, `--help` all of it under headings; and examples can be
//! copied as they stand.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Command};

use crate::report::{has_colours, relay_stderr, relay_stdout};

/// The headings of `--help`, and the options under each, by their ids. What is not named stands under clap's `Options`, or
/// under a heading of its own.
const HEADINGS: [(&str, &[&str]); 7] = [
    (
        "What to back up",
        &[
            "allow_empty",
            "command",
            "container",
            "dirs",
            "exclude",
            "exclude_caches",
            "exclude_from",
            "expect",
            "format",
            "host",
            "images",
            "job_name",
            "min_entries",
            "one_file_system",
            "set_name",
            "shrink_alarm",
            "strict",
            "volumes",
        ],
    ),
    (
        "Where to",
        &[
            "to",
            "job",
            "make_store",
            "ca_file",
            "checksum",
            "from",
            "lock",
            "lock_mode",
            "max_parts",
            "no_lease",
            "part_size",
            "retry_for",
            "sse",
            "sse_kms_key_id",
            "storage_class",
            "wait",
        ],
    ),
    (
        "Secrets",
        &[
            "cipher",
            "new_passphrase_command",
            "new_passphrase_file",
            "no_encrypt",
            "passphrase_command",
            "passphrase_file",
        ],
    ),
    ("Quiesce", &["pause", "quiesce", "quiesce_limit", "scale_down", "stop", "stop_timeout"]),
    ("Increments", &["compare", "full", "full_every", "incremental", "rebase", "rebase_limit", "segment"]),
    ("How fast", &["compress", "io_nice", "level", "limit_rate", "memory", "nice", "parallel", "workers"]),
    (OUTPUT, &["config", "help", "json", "quiet", "verbose", "version", "warn_ok"]),
];

const OUTPUT: &str = "Output";

/// Behind all others, which clap numbers as they are declared.
const LAST: usize = 1000;

/// The options that `-h` shows. Arguments without dashes are always shown.
const DAILY: [&str; 33] = [
    "all",
    "confirm",
    "content",
    "docker",
    "drilled_within",
    "dry_run",
    "exclude",
    "from",
    "help",
    "include",
    "incremental",
    "job",
    "keep_daily",
    "keep_going",
    "keep_last",
    "keep_monthly",
    "keep_weekly",
    "long",
    "max_age",
    "older_than",
    "only",
    "passphrase_file",
    "path",
    "plan",
    "random",
    "sample",
    "set",
    "sets",
    "since_last",
    "stop_engine",
    "to",
    "verified_within",
    "whole",
];

/// Where a restore may go to: each is somebody's daily one.
const TARGETS: &str = "to_";

/// The commands that `sealift -h` shows a line each of.
const DAILY_VERBS: [&str; 7] = ["backup", "restore", "list", "status", "verify", "prune", "config"];

/// What stands below `sealift --help`.
pub(super) const EXAMPLES: &str = "\
Examples:
  sealift backup volume registry --to s3://backups/prod --passphrase-file /etc/sealift.pass
  sealift backup postgres --to file:///mnt/nas db
  sealift backup job images
  sealift list --from s3://backups/prod
  sealift verify registry --from s3://backups/prod
  sealift restore registry --to-stdout --from s3://backups/prod | tar -x -C /var/lib/docker/volumes

Exit codes:
  0 done · 1 failed, nothing committed · 2 wrong usage · 3 committed with warnings, or not to every store
  10 no such archive · 11 another run of the job is under way · 12 wrong passphrase · 13 damaged archive
  14 refused: a member may not be unpacked · 70 internal error · 130 interrupted, aborted cleanly";

/// What is read of the environment: names, and what each says.
pub(super) const ENVIRONMENT: [(&str, &str); 12] = [
    ("SEALIFT_STORE", "The store, where neither --to nor --from names one."),
    ("SEALIFT_CONFIG", "The settings file, where --config names none."),
    (
        "SEALIFT_PASSPHRASE, SEALIFT_PASSPHRASE_FILE, SEALIFT_PASSPHRASE_COMMAND",
        "The passphrase, the file whose first line it is, or the command that prints it.",
    ),
    (
        "SEALIFT_NEW_PASSPHRASE, SEALIFT_NEW_PASSPHRASE_FILE, SEALIFT_NEW_PASSPHRASE_COMMAND",
        "The same for the new passphrase of sealift rekey.",
    ),
    (
        "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL",
        "Credentials of s3:// stores.",
    ),
    (
        "AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ACCOUNT_KEY, AZURE_STORAGE_ENDPOINT",
        "Credentials of az:// stores.",
    ),
    ("GOOGLE_SERVICE_ACCOUNT, GOOGLE_BASE_URL", "Credentials of gs:// stores."),
    (
        "AWS_ACCESS_KEY_ID_FILE, AWS_SECRET_ACCESS_KEY_FILE, AZURE_STORAGE_ACCOUNT_KEY_FILE",
        "Files that hold these, as Docker and Kubernetes hand out secrets.",
    ),
    ("AWS_CA_BUNDLE, SSL_CERT_FILE", "Certificates that stores are trusted by, where --ca-file names none."),
    ("DOCKER_HOST, DOCKER_CONTEXT", "The Docker Engine."),
    ("DTR_REPLICA_ID", "The replica, for sealift backup dtr."),
    ("UCP_URL, UCP_USERNAME", "The UCP whose users Docker Trusted Registry asks for, and who asks."),
];

/// What stands for a blank in a line that must not be wrapped: clap breaks lines at blanks alone.
const UNBROKEN: &str = "\u{a0}";

/// Which help is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `-h`, or that of a line that lacks something.
    Short,
    /// `--help`, `help`, and the manual.
    Long,
}

impl Layout {
    /// What a command line asks for, should it ask for help.
    pub fn asked_for(words: &[OsString]) -> Layout {
        let is_help = |(i, word): (usize, &OsString)| word == "--help" || (i == 1 && word == "help");
        if words.iter().enumerate().any(is_help) { Layout::Long } else { Layout::Short }
    }
}

/// The command with its help laid out, and those below it.
pub fn laid_out(command: Command, layout: Layout) -> Command {
    let help = Arg::new("help").short('h').long("help").action(ArgAction::Help).global(true);
    let help = help.help("Print help, --help all of it");
    let command = below(command.disable_help_flag(true).arg(placed(help, layout)), layout);
    match layout {
        // One line too many for a screen; the set docker-ee has it, too.
        Layout::Short => daily_verbs(command)
            .mut_subcommand("backup", |backup| backup.mut_subcommand("ucp", |ucp| ucp.hide(true))),
        Layout::Long => command.after_help(unbroken(&format!("{EXAMPLES}\n\n{}", environment()))),
    }
}

/// What is read of the environment, as it stands in help.
fn environment() -> String {
    let entry = |(names, text): &(&str, &str)| format!("  {names}\n      {text}");
    let entries: Vec<_> = ENVIRONMENT.iter().map(entry).collect();
    format!("Environment (options win over it, and it wins over the settings file):\n{}", entries.join("\n"))
}

fn below(command: Command, layout: Layout) -> Command {
    let command = command.mut_args(|arg| placed(arg, layout));
    let tail = command.get_after_help().map(|text| unbroken(&text.to_string()));
    let command = match (tail, layout) {
        (Some(tail), Layout::Long) => command.after_help(tail),
        (_, Layout::Short) => command.after_help(""),
        (None, Layout::Long) => command,
    };
    command.mut_subcommands(|sub| below(sub, layout))
}

/// An option under its heading, or shown only where it is a daily one.
fn placed(arg: Arg, layout: Layout) -> Arg {
    let id = arg.get_id().to_string();
    let heading = HEADINGS.iter().find(|(_, ids)| ids.contains(&id.as_str())).map(|(heading, _)| *heading);
    let arg = arg.hide_env_values(true);
    // What every verb has comes last.
    let arg = if heading == Some(OUTPUT) { arg.display_order(LAST) } else { arg };
    if arg.is_positional() {
        // What others take their words from says so itself.
        let is_of_others =
            arg.get_value_names().is_some_and(|names| names.iter().any(|name| name == "WORDS"));
        return arg.help_heading(None).hide(is_of_others && layout == Layout::Short);
    }
    if layout == Layout::Short {
        let is_daily = DAILY.contains(&id.as_str()) || id.starts_with(TARGETS);
        let has_values = arg.get_action().takes_values();
        let arg = arg.hide_possible_values(has_values);
        return arg.hide_short_help(!is_daily).help_heading(None).hide_env(true);
    }
    match heading {
        Some(heading) => arg.help_heading(heading),
        None => arg,
    }
}

/// The list of commands with the daily ones alone, and the names of the others.
fn daily_verbs(command: Command) -> Command {
    let is_daily = |sub: &Command| DAILY_VERBS.contains(&sub.get_name());
    let others = command.get_subcommands().filter(|sub| !is_daily(sub) && !sub.is_hide_set());
    let others: Vec<_> = others.map(Command::get_name).collect();
    let tail = format!("Also: {}.\n\n{DAILY_EXAMPLES}", others.join(", "));
    let command = command.mut_subcommands(|sub| {
        let is_hidden = sub.is_hide_set() || !is_daily(&sub);
        sub.hide(is_hidden)
    });
    command.disable_help_subcommand(true).after_help(unbroken(&tail))
}

const DAILY_EXAMPLES: &str = "\
Examples:
  sealift backup volume registry --to s3://backups/prod
  sealift restore registry --to-volume registry --from s3://backups/prod";

/// The text with its indented lines, which are examples and tables, kept whole.
fn unbroken(text: &str) -> String {
    let kept = |line: &str| if line.starts_with("  ") { line.replace(' ', UNBROKEN) } else { line.into() };
    text.split('\n').map(kept).collect::<Vec<String>>().join("\n")
}

/// Whether that is help and no error: it was asked for, or a command alone says nothing.
pub fn is_asked_for(error: &clap::Error) -> bool {
    matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand)
}

/// Prints the help that was asked for, or what is wrong with the words; the exit code for it.
pub fn print(error: &clap::Error) -> u8 {
    if is_asked_for(error) {
        let (text, to_stdout) = (error.render(), !error.use_stderr());
        let text = if has_colours(to_stdout) { text.ansi().to_string() } else { text.to_string() };
        let text = printed(&text);
        if to_stdout { relay_stdout(text.as_bytes()) } else { relay_stderr(text.as_bytes()) }
    } else {
        drop(error.print());
    }
    u8::try_from(error.exit_code()).unwrap_or(2)
}

/// Help as it is printed or read.
fn printed(text: &str) -> String {
    text.replace(UNBROKEN, " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::{CommandFactory, Parser};

    /// Every command, with its words.
    fn all(layout: Layout) -> Vec<(String, Command)> {
        fn walk(command: &Command, words: &str, found: &mut Vec<(String, Command)>) {
            let words = format!("{words} {}", command.get_name()).trim().to_string();
            found.push((words.clone(), command.clone()));
            command.get_subcommands().for_each(|sub| walk(sub, &words, found));
        }
        let mut root = laid_out(Cli::command(), layout);
        root.build();
        let mut found = Vec::new();
        walk(&root, "", &mut found);
        found.retain(|(words, _)| !words.contains(" help"));
        found
    }

    #[test]
    fn short_help_fits_one_screen() {
        let mut long = Vec::new();
        for (words, command) in all(Layout::Short) {
            let text = printed(&command.term_width(80).render_help().to_string());
            let height = text.trim_end().lines().count();
            let wide = text.lines().filter(|line| line.chars().count() > 80).count();
            if height > 24 || wide > 0 {
                long.push(format!("{words}: {height} lines, {wide} wide\n{text}"));
            }
        }
        assert!(long.is_empty(), "{}", long.join("\n--\n"));
    }

    /// The words that a shell makes of each `sealift` in a line.
    fn as_a_shell_reads(line: &str) -> Vec<Vec<String>> {
        // Of what else stands there only the name is known; and nothing may be written.
        let line = line.split(" > ").next().unwrap_or_default();
        let others =
            ["gpg", "less", "mysqldump", "psql", "tar"].map(|name| format!("{name}() {{ :; }}\n")).concat();
        let script = format!("sealift() {{ printf '%s\\0' \"$@\" '' >&3; }}\n{others}{line}");
        let out = std::process::Command::new("sh")
            .args(["-c", "exec 3>&1 >/dev/null; eval \"$0\"", &script])
            .output();
        let out = out.unwrap();
        assert!(out.status.success(), "{line}: {}", String::from_utf8_lossy(&out.stderr));
        let words = String::from_utf8(out.stdout).unwrap();
        words.split_terminator("\0\0").map(|one| one.split('\0').map(Into::into).collect()).collect()
    }

    /// A line of a command, and none of a table or of the environment.
    fn is_example(line: &str) -> bool {
        line.starts_with("  ") && !line.starts_with("   ") && !line.contains('`') && line.contains("sealift ")
    }

    #[test]
    fn every_example_is_a_command_that_is_understood() {
        let mut found = 0;
        for (words, command) in all(Layout::Long) {
            let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let text = printed(&text).replace("\\\n", "");
            for line in text.lines().filter(|line| is_example(line)) {
                // A settings file's lines have comments that name a command.
                let Some(line) = line.split("# ").next().filter(|line| line.contains("sealift ")) else {
                    continue;
                };
                for mut example in as_a_shell_reads(line) {
                    // The settings have the store, which stand in the examples as they may on a host.
                    if example.starts_with(&["backup".into(), "job".into()]) {
                        example.extend(["--to", "file:///x"].map(String::from));
                    }
                    let read = Cli::try_parse_from(std::iter::once("sealift".into()).chain(example));
                    assert!(read.is_ok(), "{words}: {line}\n{}", read.unwrap_err());
                    found += 1;
                }
            }
        }
        assert!(found > 40, "{found}");
    }

    #[test]
    fn long_help_wraps_no_example_and_shows_every_option() {
        for (words, command) in all(Layout::Long) {
            let tail = command.get_after_help().map(|text| printed(&text.to_string())).unwrap_or_default();
            let names: Vec<_> = command.get_arguments().filter(|arg| !arg.is_hide_set()).collect();
            let names: Vec<_> =
                names.iter().filter_map(|arg| arg.get_long()).map(|name| format!("--{name}")).collect();
            let text = printed(&command.clone().term_width(80).render_long_help().to_string());
            for line in tail.lines().filter(|line| line.starts_with("  ")) {
                assert!(text.contains(line), "{words}: {line}\n{text}");
            }
            for name in names {
                assert!(text.contains(&name), "{words}: {name}\n{text}");
            }
        }
    }

    #[test]
    fn what_is_named_here_exists() {
        let ids: std::collections::BTreeSet<String> = all(Layout::Long)
            .iter()
            .flat_map(|(_, command)| {
                command.get_arguments().map(|arg| arg.get_id().to_string()).collect::<Vec<_>>()
            })
            .collect();
        let named = HEADINGS.iter().flat_map(|(_, ids)| ids.iter()).chain(&DAILY);
        let unknown: Vec<_> = named.filter(|id| !ids.contains(**id)).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }
}
