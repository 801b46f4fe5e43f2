//! What a word of another tool means here: `forget` is `prune`, `snapshots` is `list`.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Words for verbs, each with what does that here.
const VERBS: &[(&[&str], &str)] = &[
    (&["archives", "backups", "history", "lists", "snapshot", "snapshots"], "list"),
    (&["expire", "forget", "gc", "keep", "retention", "rotate"], "prune"),
    (&["check", "fsck", "scrub", "test", "validate"], "verify"),
    (&["del", "remove", "rm"], "delete"),
    (&["browse", "contents", "find", "files", "mount", "tree"], "ls` and `sealift cat"),
    (&["describe", "info", "inspect", "stat"], "show"),
    (&["cp", "mirror", "replicate", "sync"], "copy"),
    (&["create", "push", "save", "store"], "backup"),
    (&["download", "extract", "get", "import", "load", "pull", "recover", "unpack"], "restore"),
    (&["dump", "export"], "restore ARCHIVE --to-stdout"),
    (&["compare"], "diff"),
    (&["cleanup", "purge", "unlock", "vacuum"], "clean"),
    (&["hold", "lock", "protect", "tag"], "pin"),
    (&["release", "untag"], "unpin"),
    (&["health", "monitor", "report", "stats"], "status"),
    (&["diagnose", "env", "preflight"], "doctor"),
    (&["dry-run", "preview"], "plan"),
    (&["init", "setup"], "config init"),
    (&["settings"], "config show"),
    (&["commit", "repair"], "adopt"),
    (&["completion"], "completions"),
    (&["version"], "--version"),
];

/// Words for what is backed up.
const SOURCES: &[(&[&str], &str)] = &[
    (&["database", "db", "dump", "sql"], "postgres`, `mysql`, `mongo`, `redis` or `sealift backup exec"),
    (&["pg", "pg_dump", "pg_dumpall", "pgsql", "postgresql"], "postgres CONTAINER"),
    (&["mariadb", "mariadb-dump", "mysqldump"], "mysql CONTAINER"),
    (&["mongodb", "mongodump"], "mongo CONTAINER"),
    (&["rdb", "redis-cli", "valkey"], "redis CONTAINER"),
    (&["dir", "directory", "file", "files", "folder", "fs", "host", "paths"], "path"),
    (&["container", "docker"], "exec`, `sealift backup run` or `sealift backup volume"),
    (&["compose", "data", "volumes"], "volume"),
    (&["images"], "image"),
    (&["pipe", "stream", "-"], "stdin"),
    (&["docker-ee", "ee", "sets"], "set docker-ee"),
    (&["registry", "trusted-registry"], "dtr"),
    (&["jobs"], "job"),
];

/// Options of other tools, each with what it is called here.
const OPTIONS: &[(&[&str], &str)] = &[
    (
        &["--repo", "--repository", "--store", "--url", "--remote"],
        "--to STORE, or --from STORE where it is read",
    ),
    (&["--password-file", "--pass-file", "--key-file"], "--passphrase-file FILE"),
    (&["--password-command"], "--passphrase-command COMMAND"),
    (&["--password", "--passphrase"], "--passphrase-file FILE: what stands on a command line shows in `ps`"),
    (&["--target", "--output", "--dest", "--destination"], "--to-path DIR"),
    (&["--bwlimit", "--limit-upload", "--limit-download", "--rate"], "--limit-rate RATE"),
    (&["--compression", "--compression-level"], "--level N, or --codec"),
    (&["--tag", "--name"], "--job NAME"),
    (&["--yes", "--force"], "--confirm where something is deleted, --overwrite where something is restored"),
    (&["--prune"], "`sealift prune`"),
];

fn find(known: &[(&[&str], &'static str)], word: &str) -> Option<&'static str> {
    known.iter().find(|(words, _)| words.contains(&word)).map(|(_, means)| *means)
}

/// The error with a tip, where its word means something else here. `is_job` says whether the settings name a job so.
pub fn with_meaning(
    mut error: clap::Error,
    words: &[OsString],
    is_job: impl Fn(&str) -> bool,
) -> clap::Error {
    let kind = match error.kind() {
        ErrorKind::InvalidSubcommand => ContextKind::InvalidSubcommand,
        ErrorKind::UnknownArgument => ContextKind::InvalidArg,
        _ => return error,
    };
    let Some(ContextValue::String(word)) = error.get(kind) else { return error };
    let word = word.split(['=', ' ']).next().unwrap_or_default().to_lowercase();
    let verb = words.iter().skip(1).find(|word| !word.as_encoded_bytes().starts_with(b"-"));
    let is_source = verb.is_some_and(|verb| verb == "backup");
    let tip = match (kind, is_source) {
        (ContextKind::InvalidArg, _) => find(OPTIONS, &word).map(|means| format!("here it is {means}")),
        (_, true) if is_job(&word) => Some(format!("a job of the settings: `sealift backup job {word}`")),
        (_, true) => find(SOURCES, &word).map(|means| format!("see `sealift backup {means}`")),
        (_, false) => find(VERBS, &word).map(|means| format!("see `sealift {means}`")),
    };
    if let Some(tip) = tip {
        error.remove(ContextKind::SuggestedSubcommand);
        error.remove(ContextKind::SuggestedArg);
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::{CommandFactory, Parser};

    fn said(line: &str) -> String {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let error = Cli::try_parse_from(&words).unwrap_err();
        with_meaning(error, &words, |job| job == "night").to_string()
    }

    #[test]
    fn verbs_of_other_tools_lead_to_ours() {
        assert!(said("sealift forget").contains("tip: see `sealift prune`"), "{}", said("sealift forget"));
        assert!(said("sealift --quiet snapshots --from x").contains("tip: see `sealift list`"));
        assert!(said("sealift mount").contains("tip: see `sealift ls` and `sealift cat`"));
        assert!(said("sealift verfy").contains("'verify'"), "what is spelt alike is still found");
    }

    #[test]
    fn what_is_backed_up_has_other_names_too_and_jobs_are_known() {
        assert!(said("sealift backup mariadb db").contains("tip: see `sealift backup mysql CONTAINER`"));
        assert!(said("sealift backup night").contains("`sealift backup job night`"));
    }

    #[test]
    fn options_of_other_tools_lead_to_ours() {
        assert!(said("sealift list --repo x").contains("tip: here it is --to STORE, or --from STORE"));
        let text = said("sealift backup stdin --password=secret");
        assert!(text.contains("--passphrase-file FILE") && !text.contains("secret"), "{text}");
    }

    #[test]
    fn every_word_leads_somewhere_and_none_is_one_of_ours() {
        let cli = Cli::command();
        let backup = cli.find_subcommand("backup").unwrap();
        for (known, command) in [(VERBS, &cli), (SOURCES, backup)] {
            let names: Vec<_> = command.get_subcommands().map(clap::Command::get_name).collect();
            for (words, means) in known {
                let first = means.split([' ', '`']).next().unwrap();
                assert!(names.contains(&first) || first == "--version", "{first}");
                assert!(words.iter().all(|word| !names.contains(word)), "{words:?}");
            }
        }
    }
}
