//! Which files of folders and volumes are backed up.

use clap::Args;

use crate::error::{Error, Result};
use crate::source::FileFilter;
use crate::tar::exclude::Exclude;

/// What of folders and volumes is left out.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "File options")]
pub struct FileOptions {
    /// Leave out: 'etc/ssl', '*.log', '*/cache'; repeatable
    ///
    /// These members, as `restore --exclude` would, and what is in them.
    #[arg(long, value_name = "PATTERN", value_parser = pattern)]
    exclude: Vec<Exclude>,
    /// File with a pattern a line; empty lines, and lines that begin with #, mean nothing; may be repeated
    #[arg(long, value_name = "FILE")]
    exclude_from: Vec<String>,
    /// Leave out what lies beside a CACHEDIR.TAG
    #[arg(long)]
    exclude_caches: bool,
    /// Stay on the file system that the folder itself lies on
    #[arg(long)]
    one_file_system: bool,
}

fn pattern(text: &str) -> Result<Exclude> {
    Exclude::new(text)
}

impl FileOptions {
    /// What is left out, as a plain request.
    ///
    /// # Errors
    /// A file of patterns cannot be read, or holds what is no pattern.
    pub fn filter(self) -> Result<FileFilter> {
        let mut exclude = self.exclude;
        for file in &self.exclude_from {
            let text = std::fs::read_to_string(file).map_err(|e| {
                Error::usage(format!("cannot read the patterns in {file}"))
                    .because(e)
                    .hint("--exclude-from FILE: a pattern a line")
            })?;
            let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
            for line in lines {
                exclude.push(Exclude::new(line).map_err(|e| e.context(file.clone()))?);
            }
        }
        let (exclude_caches, one_file_system) = (self.exclude_caches, self.one_file_system);
        Ok(FileFilter { exclude, exclude_caches, one_file_system })
    }
}

#[cfg(test)]
mod tests {
    use clap::{FromArgMatches, Parser};

    use super::*;

    fn filter(words: &[&str]) -> Result<FileFilter> {
        let command = FileOptions::augment_args(clap::Command::new("x").no_binary_name(true));
        let matches = command.try_get_matches_from(words).unwrap();
        FileOptions::from_arg_matches(&matches).unwrap().filter()
    }

    fn patterns(filter: &FileFilter) -> Vec<&str> {
        filter.exclude.iter().map(Exclude::as_str).collect()
    }

    #[test]
    fn patterns_come_from_options_and_from_files() {
        let dir = tempfile::tempdir().unwrap();
        let (file, path) = (dir.path().join("patterns"), dir.path().join("patterns").display().to_string());
        let write = |text: &str| {
            use std::io::Write;
            let mut tee = std::process::Command::new("tee");
            tee.arg(&file).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null());
            let mut tee = tee.spawn().unwrap();
            tee.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
            assert!(tee.wait().unwrap().success());
        };
        write("# caches\n\n*/cache\netc/#odd#\n   \n");
        let both = filter(&["--exclude", "a", "--exclude", "b/*", "--exclude-from", &path]).unwrap();
        assert_eq!(patterns(&both), ["a", "b/*", "*/cache", "etc/#odd#"]);
        assert!(!both.takes_all() && !both.one_file_system);
        write("[\n");
        let error = filter(&["--exclude-from", &path]).unwrap_err();
        assert!(error.to_string().starts_with(&format!("{path}: ")), "{error}");
        assert_eq!(filter(&["--exclude-from", "/no/such"]).unwrap_err().kind().exit_code(), 2);
    }

    #[test]
    fn nothing_is_left_out_unless_it_is_said() {
        assert!(filter(&[]).unwrap().takes_all());
        assert!(filter(&["--exclude-caches"]).unwrap().exclude_caches);
        assert!(!filter(&["--one-file-system"]).unwrap().takes_all());
    }

    #[test]
    fn a_folder_and_a_volume_take_them_and_a_stream_does_not() {
        for (words, fits) in [
            ("backup path /etc --to file:///x --exclude etc/ssl", true),
            ("backup volume v --to file:///x --one-file-system", true),
            ("backup stdin --job j --to file:///x --exclude a", false),
            ("backup path /etc --to file:///x --exclude [", false),
        ] {
            let words = format!("sealift {words}");
            assert_eq!(super::super::Cli::try_parse_from(words.split(' ')).is_ok(), fits, "{words}");
        }
    }
}
