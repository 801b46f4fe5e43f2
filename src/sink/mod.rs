//! Where restored bytes go. A sink takes bytes until their end is said; a restore that breaks off never looks like an
//! end to it.

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use bytes::Bytes;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use crate::error::{Context, Error, Result};
use crate::host::process;
use crate::report::{Lines, Reporter};
use crate::stream::channel::Receiver;
use crate::stream::sink::Sink;
use crate::tar::gnu;

pub use crate::tar::gnu::is_volume_path;

/// Bytes asked for as the pipe's size: fewer wake-ups than the usual 64 KiB.
const PIPE_LEN: usize = 1 << 20;

/// Our own standard output.
pub fn stdout() -> Sink {
    Sink::new(|mut from, _| async move {
        let write = tokio::task::spawn_blocking(move || {
            let mut stdout = std::io::stdout().lock();
            while let Some(bytes) = from.recv_blocking()? {
                let written = stdout.write_all(&bytes).and_then(|()| stdout.flush());
                written.context(|| "cannot write to stdout".into())?;
            }
            Ok(0)
        });
        write.await.map_err(|e| Error::failed("a worker died").because(e))?
    })
}

/// Our own standard output, through GNU tar: one member, its holes filled.
pub fn expand(ui: &Reporter) -> Result<Sink> {
    start(gnu::to_stdout(), Stdio::inherit(), ui)
}

/// A folder of this host, through GNU tar: owners, xattrs, ACLs, holes.
pub fn folder(dir: &Path, ui: &Reporter) -> Result<Sink> {
    start(gnu::extract(dir), Stdio::null(), ui)
}

/// A volume's own folder, its mountpoint: members `ORIGINAL/_data/…` lose that much of their names. Tar never sees the
/// folder above, where other volumes lie: whatever a member is called, it stays in this one.
/// `original` has only the characters that [`is_volume_path`] allows.
pub fn volume(mountpoint: &Path, original: &str, ui: &Reporter) -> Result<Sink> {
    start(gnu::extract_volume(mountpoint, original), Stdio::null(), ui)
}

/// Starts GNU tar with the restored bytes on its stdin.
fn start(args: Vec<OsString>, stdout: Stdio, ui: &Reporter) -> Result<Sink> {
    let (reader, writer) = std::io::pipe().context(|| "cannot make a pipe".into())?;
    // Only speed depends on it, and an unprivileged user may be over the limit.
    let _ = rustix::pipe::fcntl_setpipe_size(&writer, PIPE_LEN);
    let mut command = Command::from(process::command(gnu::PROGRAM));
    command
        .args(args)
        .process_group(0)
        .stdin(reader)
        .stdout(stdout)
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let tar = command.spawn();
    let tar =
        tar.map_err(|e| Error::failed("cannot run GNU tar").because(e).hint("install the package tar"))?;
    let ui = ui.clone();
    Ok(Sink::new(move |from, stop| unpack(tar, from, writer, ui, stop)))
}

async fn unpack(
    mut tar: tokio::process::Child,
    mut from: Receiver<Bytes>,
    mut writer: std::io::PipeWriter,
    ui: Reporter,
    stop: CancellationToken,
) -> Result<i64> {
    let stderr = tar.stderr.take();
    let lines = tokio::spawn(async move {
        match stderr {
            Some(stderr) => Lines::default().read(stderr, &ui).await,
            None => Lines::default(),
        }
    });
    let feed = tokio::task::spawn_blocking(move || {
        while let Some(bytes) = from.recv_blocking()? {
            if writer.write_all(&bytes).is_err() {
                // tar has ended: its exit code says why.
                return Ok(());
            }
        }
        Ok(())
    });
    let fed: Result<()> = tokio::select! {
        fed = feed => fed.map_err(|e| Error::failed("a worker died").because(e))?,
        () = stop.cancelled() => Err(Error::interrupted()),
    };
    if let Err(broken) = fed {
        let _ = tar.kill().await;
        return Err(broken);
    }
    let status = tar.wait().await.context(|| "cannot wait for tar".into())?;
    let lines = lines.await.unwrap_or_default();
    if status.success() {
        return Ok(0);
    }
    Err(Error::failed(format!("tar could not unpack everything ({status})"))
        .because(lines.last.join("; "))
        .hint("the target is incomplete; restoring owners and devices needs root"))
}
