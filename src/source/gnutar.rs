//! Folders of this host through GNU tar, which knows owners, xattrs, ACLs and holes better than we could.

use std::ffi::OsString;
use std::process::Stdio;

use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::error::{Context, Error, Result};
use crate::host::process;
use crate::report::{Lines, Reporter};
use crate::stream::source::{ByteStream, Proof, Running};
use crate::stream::warning::{Warning, WarningKind};
use crate::tar::gnu;

/// Bytes asked for as the pipe's size: fewer wake-ups than the usual 64 KiB.
const PIPE_LEN: usize = 1 << 20;

/// A tar of folders as named: absolute ones lose their leading slash, as with `tar` itself.
pub fn folders(dirs: &[String], ui: &Reporter, stop: &CancellationToken) -> Result<Running> {
    for dir in dirs {
        std::fs::metadata(dir).map_err(|e| Error::failed(format!("cannot read {dir}")).because(e)).map_err(
            |e| e.hint("name a folder that exists on this host; for a volume use `backup volume`"),
        )?;
    }
    spawn(gnu::create(None, dirs), ui, stop)
}

/// A tar of `members` as seen from the folder `from`.
pub fn members(
    from: &std::path::Path,
    members: &[String],
    ui: &Reporter,
    stop: &CancellationToken,
) -> Result<Running> {
    spawn(gnu::create(Some(from), members), ui, stop)
}

fn spawn(args: Vec<OsString>, ui: &Reporter, stop: &CancellationToken) -> Result<Running> {
    let (reader, writer) = std::io::pipe().context(|| "cannot make a pipe".into())?;
    // Only speed depends on it, and an unprivileged user may be over the limit.
    let _ = rustix::pipe::fcntl_setpipe_size(&reader, PIPE_LEN);
    let mut command = Command::from(process::command(gnu::PROGRAM));
    // Not in the terminal's group: a Ctrl-C is for us, and we tell it.
    command
        .args(args)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let child = command.spawn().map_err(|e| {
        Error::failed("cannot run GNU tar")
            .because(e)
            .hint("install the package tar; other tars lack --xattrs and --sparse")
    })?;
    // The command holds our copy of the writing end; the reader must see EOF when tar's is closed.
    drop(command);
    let (prove, proof) = oneshot::channel();
    let (ui, stop) = (ui.clone(), stop.clone());
    let cleanup = tokio::spawn(async move {
        let _ = prove.send(watch(child, &ui, &stop).await);
    });
    Ok(Running { stream: ByteStream::from_reader(reader, proof), cleanup })
}

/// Waits for tar's exit code, which is the proof; kills it when the backup is stopped.
async fn watch(mut child: Child, ui: &Reporter, stop: &CancellationToken) -> Result<Proof> {
    let stderr = child.stderr.take();
    let ended = async {
        let lines = match stderr {
            Some(stderr) => Lines::default().read(stderr, ui).await,
            None => Lines::default(),
        };
        (lines, child.wait().await)
    };
    let ended = tokio::select! {
        ended = ended => Some(ended),
        () = stop.cancelled() => None,
    };
    let Some((mut lines, status)) = ended else {
        let _ = child.kill().await;
        return Err(Error::interrupted());
    };
    let status = status.context(|| "cannot wait for tar".into())?;
    let exit_code = status.code().map(i64::from);
    match exit_code {
        Some(0) => Ok(Proof { exit_code, ..Proof::default() }),
        // GNU tar: some files changed while they were archived.
        Some(1) => {
            if lines.count > lines.first.len() {
                lines.first.push(format!("and {} more", lines.count - lines.first.len()));
            }
            let warnings = lines.first.into_iter().map(classify).collect();
            Ok(Proof { exit_code, warnings, ..Proof::default() })
        }
        _ => Err(Error::failed(format!("tar failed ({status})"))
            .because(lines.last.join("; "))
            .hint("every file must be readable: run as root for volumes and system folders")),
    }
}

/// A line of GNU tar's stderr, `tar: FILE: MESSAGE`, by its message: a file's own name may hold any words.
fn classify(line: String) -> Warning {
    let message = line.rsplit_once(": ").map_or(line.as_str(), |(_, message)| message);
    let changed = ["changed as we read it", "removed before we read it", "shrank by"];
    let kind = match changed.iter().any(|words| message.contains(words)) {
        true => WarningKind::Changed,
        false => WarningKind::Other,
    };
    Warning::new(kind, line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet() -> Reporter {
        Reporter::silent()
    }

    /// What comes out of a source, and what it proves.
    async fn read(running: Running) -> (Vec<u8>, Result<Proof>) {
        let Running { mut stream, cleanup } = running;
        let read = tokio::task::spawn_blocking(move || {
            let (mut bytes, mut buffer) = (Vec::new(), vec![0; 65536]);
            loop {
                match stream.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(len) => bytes.extend_from_slice(&buffer[..len]),
                    Err(error) => return (bytes, Err(error)),
                }
            }
            (bytes, stream.prove())
        });
        let read = read.await.unwrap();
        cleanup.await.unwrap();
        read
    }

    #[tokio::test]
    async fn a_folder_comes_as_a_tar_with_its_proof() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let running = members(root, &["Cargo.toml".into()], &quiet(), &CancellationToken::new()).unwrap();
        let (bytes, proof) = read(running).await;
        let proof = proof.unwrap();
        assert_eq!((proof.exit_code, proof.warnings.len()), (Some(0), 0));
        let toml = std::fs::read(root.join("Cargo.toml")).unwrap();
        assert!(bytes.windows(toml.len()).any(|window| window == toml));
    }

    #[tokio::test]
    async fn a_member_that_is_not_there_is_no_proof() {
        let members = members(
            std::path::Path::new("/"),
            &["no such folder".into()],
            &quiet(),
            &CancellationToken::new(),
        );
        let error = read(members.unwrap()).await.1.unwrap_err();
        assert_eq!(
            error.to_string(),
            "tar failed (exit status: 2): tar: no such folder: Cannot stat: No such file or directory; \
             tar: Exiting with failure status due to previous errors"
        );
        assert!(error.hint_text().unwrap().starts_with("every file must be readable"));
    }

    #[tokio::test]
    async fn a_folder_that_is_not_there_is_told_before_tar_runs() {
        let error = folders(&["/no such folder".into()], &quiet(), &CancellationToken::new()).err().unwrap();
        assert!(error.to_string().starts_with("cannot read /no such folder: "), "{error}");
        assert!(error.find::<std::io::Error>().is_some());
    }

    #[tokio::test]
    async fn a_backup_that_is_stopped_has_no_proof() {
        let stop = CancellationToken::new();
        stop.cancel();
        // A folder that takes tar longer than it takes us to look.
        let running = folders(&["/usr".into()], &quiet(), &stop).unwrap();
        let error = read(running).await.1.unwrap_err();
        assert_eq!(error.kind(), crate::error::Kind::Interrupted);
    }

    fn kind(line: &str) -> WarningKind {
        let warning = classify(line.into());
        assert_eq!(warning.text, line);
        warning.kind
    }

    #[test]
    fn a_file_that_did_not_hold_still_is_told_from_the_rest() {
        for line in [
            "tar: srv/db: file changed as we read it",
            "tar: srv/db/: Directory removed before we read it",
            "tar: srv/db: File removed before we read it",
            "tar: srv/db: File shrank by 512 bytes; padding with zeros",
            "tar: a: b: file changed as we read it",
        ] {
            assert_eq!(kind(line), WarningKind::Changed, "{line}");
        }
        for line in [
            "tar: srv/db: Cannot stat: Permission denied",
            "tar: srv/db: file is the archive; not dumped",
            "tar: Exiting with failure status due to previous errors",
            "and 7 more",
            "",
        ] {
            assert_eq!(kind(line), WarningKind::Other, "{line}");
        }
    }

    #[test]
    fn a_files_name_does_not_make_its_warning_one_of_a_change() {
        assert_eq!(
            kind("tar: file changed as we read it: Cannot stat: Permission denied"),
            WarningKind::Other
        );
        assert_eq!(kind("tar: shrank by 1: socket ignored"), WarningKind::Other);
    }
}
