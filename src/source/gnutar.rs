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
            Ok(Proof { exit_code, warnings: lines.first, ..Proof::default() })
        }
        _ => Err(Error::failed(format!("tar failed ({status})"))
            .because(lines.last.join("; "))
            .hint("every file must be readable: run as root for volumes and system folders")),
    }
}
