//! GNU tar's own command line, both ways. It knows owners, xattrs, ACLs and holes better than we could.
//!
//! Only the arguments are made here. The process must be made so that nothing in the environment adds to them, and so that
//! its messages are in the C locale.

use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::sync::OnceCell;

use crate::error::{Error, MORE_THREADS, Result};
use crate::host::process;

/// The program.
pub const PROGRAM: &str = "tar";

/// How long it may take to say what it is.
const SAYS_WHAT_IT_IS: Duration = Duration::from_secs(30);

/// Demands that the tar in PATH is GNU tar: others take some of its options for something else, and then end as if all
/// were well.
///
/// # Errors
/// There is none, or it is another.
pub async fn require() -> Result<()> {
    version().await.map(drop)
}

/// What GNU tar says that it is: `tar (GNU tar) 1.35`.
///
/// # Errors
/// As [`require`].
pub async fn version() -> Result<String> {
    static IS_GNU: OnceCell<String> = OnceCell::const_new();
    let ask = async || {
        let mut command = tokio::process::Command::from(process::command(PROGRAM));
        command.arg("--version").stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(SAYS_WHAT_IT_IS, command.output()).await;
        let output = output.map_err(|_| other("it does not say what it is"))?.map_err(missing)?;
        is_gnu(&output.stdout)
    };
    IS_GNU.get_or_try_init(ask).await.cloned()
}

/// Whether a program that answers `--version` so is GNU tar.
fn is_gnu(version: &[u8]) -> Result<String> {
    let text = String::from_utf8_lossy(version);
    match text.lines().next().map(str::trim).unwrap_or_default() {
        first if first.contains("(GNU tar)") => Ok(first.into()),
        "" => Err(other("it does not say what it is")),
        first => Err(other(&crate::report::printable(first))),
    }
}

fn other(what: &str) -> Error {
    Error::failed("the tar in PATH is not GNU tar").because(what.to_string()).hint(
        "install the package tar, and put it before others in PATH: they lack --xattrs, --sparse and more",
    )
}

/// The error for a tar that cannot be started.
pub fn missing(error: std::io::Error) -> Error {
    let hint = match error.kind() {
        // EAGAIN: the table of processes is full.
        std::io::ErrorKind::WouldBlock => MORE_THREADS,
        _ => "install the package tar; other tars lack --xattrs and --sparse",
    };
    Error::failed("cannot run GNU tar").because(error).hint(hint)
}

/// Arguments that write a tar of `members` to stdout, as seen from the folder `from` if one is given. A member's name is
/// never taken for an option.
pub fn create(from: Option<&Path>, members: &[String]) -> Vec<OsString> {
    create_with(from, Vec::new(), members.iter().map(OsString::from))
}

/// The same with `more` options.
pub fn create_with(
    from: Option<&Path>,
    more: Vec<OsString>,
    members: impl IntoIterator<Item = OsString>,
) -> Vec<OsString> {
    let mut args = create_options(more, from);
    args.push("--".into());
    args.extend(members);
    args
}

/// Arguments that write a tar of what stdin names to stdout: paths as seen from the folder `from`, each with a NUL behind
/// it. Nothing in a path has a meaning of its own, and of a folder only the folder itself is stored.
pub fn create_named(from: Option<&Path>, more: Vec<OsString>) -> Vec<OsString> {
    let mut args = create_options(more, from);
    args.extend(words(&["--null", "--no-recursion", "--files-from=-"]));
    args
}

fn create_options(more: Vec<OsString>, from: Option<&Path>) -> Vec<OsString> {
    // Big blocks make few writes; pax keeps long names, large ids and nanoseconds. A backslash in a name is no escape.
    let mut args = words(&[
        "--create",
        "--file=-",
        "--format=posix",
        "--xattrs",
        "--acls",
        "--sparse",
        "--numeric-owner",
        "--no-unquote",
        "--blocking-factor=2048",
    ]);
    args.extend(more);
    if let Some(from) = from {
        args.extend(["-C".into(), from.into()]);
    }
    args
}

/// Arguments that unpack a tar from stdin into the folder `dir`, with owners, modes, xattrs, ACLs and holes.
pub fn extract(dir: &Path) -> Vec<OsString> {
    extract_with(dir, Vec::new())
}

/// Arguments that unpack members `ORIGINAL/_data/…` from stdin into the folder `dir`, without that much of their names.
/// Tar never sees the folder above `dir`: whatever a member is called, it stays in this one.
///
/// The name becomes part of a basic regular expression: `original` must have passed [`is_volume_path`].
pub fn extract_volume(dir: &Path, original: &str) -> Vec<OsString> {
    let pattern = original.replace('.', "\\.");
    // `r` and `h`: names and targets of hard links, not of symlinks.
    let rename = format!("--transform=s,^{pattern}/_data\\(/\\|$\\),./,rhS");
    // The folder that was around `_data` belongs to the engine.
    let exclude = format!("--exclude={original}");
    extract_with(dir, words(&["--anchored", "--no-wildcards", "--no-recursion", &exclude, &rename]))
}

/// Arguments that write the bytes of a tar's members from stdin to stdout, holes filled.
pub fn to_stdout() -> Vec<OsString> {
    words(&["--extract", "--file=-", "--to-stdout"])
}

/// Whether this is a volume's name, or a path to its folder, in the characters that the engine allows.
pub fn is_volume_path(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.-/".contains(c);
    !text.is_empty() && text.chars().all(plain)
}

fn extract_with(dir: &Path, more: Vec<OsString>) -> Vec<OsString> {
    let mut args = words(&[
        "--extract",
        "--file=-",
        "--preserve-permissions",
        "--same-owner",
        "--numeric-owner",
        "--xattrs",
        "--xattrs-include=*",
        "--acls",
        "--delay-directory-restore",
    ]);
    args.extend(more);
    args.extend(["-C".into(), dir.into()]);
    args
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(args: &[OsString]) -> String {
        args.iter().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_tar_that_is_not_gnu_tar_is_named_as_such() {
        assert!(is_gnu(b"tar (GNU tar) 1.34\nCopyright\n").is_ok());
        assert!(is_gnu(b"tar (GNU tar) 1.35 (Debian)\n").is_ok());
        for other in [
            "bsdtar 3.7.2 - libarchive 3.7.2 zlib/1.3\n",
            "tar (busybox) 1.36.1\n",
            "BusyBox v1.36.1 multi-call binary.\n",
        ] {
            let error = is_gnu(other.as_bytes()).unwrap_err().to_string();
            assert_eq!(error, format!("the tar in PATH is not GNU tar: {}", other.trim()));
        }
        assert!(is_gnu(b"").unwrap_err().to_string().ends_with("it does not say what it is"));
    }

    #[test]
    fn a_member_is_never_an_option() {
        let args = create(Some(Path::new("/srv")), &["--to-command=sh".into(), "-x".into()]);
        assert!(text(&args).ends_with(" -C /srv -- --to-command=sh -x"), "{args:?}");
        assert!(text(&create(None, &["/etc".into()])).ends_with(" --blocking-factor=2048 -- /etc"));
    }

    #[test]
    fn a_tar_keeps_what_the_files_have() {
        let args = text(&create(None, &[]));
        for option in ["--format=posix", "--xattrs", "--acls", "--sparse", "--numeric-owner"] {
            assert!(args.contains(option), "{option}: {args}");
        }
        let args = text(&extract(Path::new("/to")));
        for option in ["--preserve-permissions", "--same-owner", "--xattrs-include=*", "--acls"] {
            assert!(args.contains(option), "{option}: {args}");
        }
        assert!(args.ends_with(" -C /to"), "{args}");
    }

    #[test]
    fn a_volumes_name_is_matched_to_the_letter() {
        let args = extract_volume(Path::new("/to"), "my.data");
        assert!(args.contains(&"--transform=s,^my\\.data/_data\\(/\\|$\\),./,rhS".into()), "{args:?}");
        assert!(args.contains(&"--exclude=my.data".into()), "{args:?}");
        assert!(text(&args).ends_with(" -C /to"), "{args:?}");
    }

    #[test]
    fn a_volumes_path_has_no_character_that_a_pattern_knows() {
        for path in ["data", "a_b.c-d", "/var/lib/docker/volumes/x"] {
            assert!(is_volume_path(path), "{path}");
        }
        for path in ["", "a,b", "a*", "a b", "a\\b", "[a]", "a$", "ä", "a\n"] {
            assert!(!is_volume_path(path), "{path}");
        }
    }
}
