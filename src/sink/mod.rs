//! Where restored bytes go. A sink takes bytes until their end is said; a restore that breaks off never looks like an
//! end to it.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use bytes::Bytes;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use crate::error::{Context, Error, Result};
use crate::report::{Lines, Reporter};
use crate::stream::channel::Receiver;
use crate::stream::sink::Sink;

pub mod target;

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
    let (reader, writer) = std::io::pipe().context(|| "cannot make a pipe".into())?;
    let mut command = tar();
    command.args(["--extract", "--file=-", "--to-stdout"]).stdin(reader).stdout(Stdio::inherit());
    start(command, writer, ui)
}

/// A folder of this host, through GNU tar: owners, xattrs, ACLs, holes.
pub fn folder(dir: &Path, ui: &Reporter) -> Result<Sink> {
    unpacker(dir, &[], ui)
}

/// A volume's own folder, its mountpoint: members `ORIGINAL/_data/…` lose that much of their names. Tar never sees the
/// folder above, where other volumes lie: whatever a member is called, it stays in this one.
/// `original` has only the characters that [`is_volume_path`] allows.
pub fn volume(mountpoint: &Path, original: &str, ui: &Reporter) -> Result<Sink> {
    // The name becomes part of a basic regular expression. `r` and `h`: names and targets of hard links, not of symlinks.
    let pattern = original.replace('.', "\\.");
    let rename = format!("--transform=s,^{pattern}/_data\\(/\\|$\\),./,rhS");
    // The folder that was around `_data` belongs to the engine.
    let exclude = format!("--exclude={original}");
    unpacker(mountpoint, &["--anchored", "--no-wildcards", "--no-recursion", &exclude, &rename], ui)
}

/// Whether this is a volume's name, or a path to its folder, in the characters that the engine allows.
pub fn is_volume_path(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.-/".contains(c);
    !text.is_empty() && text.chars().all(plain)
}

fn unpacker(dir: &Path, more: &[&str], ui: &Reporter) -> Result<Sink> {
    let (reader, writer) = std::io::pipe().context(|| "cannot make a pipe".into())?;
    // Only speed depends on it, and an unprivileged user may be over the limit.
    let _ = rustix::pipe::fcntl_setpipe_size(&writer, 1 << 20);
    let mut command = tar();
    command.args(["--extract", "--file=-", "--preserve-permissions", "--same-owner", "--numeric-owner"]);
    command.args(["--xattrs", "--xattrs-include=*", "--acls", "--delay-directory-restore"]).args(more);
    command.arg("-C").arg(dir).stdin(reader).stdout(Stdio::null());
    start(command, writer, ui)
}

/// GNU tar, whose messages must be the ones that are known here, and who gets no secret of ours.
fn tar() -> Command {
    let mut command = Command::new("tar");
    command.process_group(0).stderr(Stdio::piped()).kill_on_drop(true).env("LC_ALL", "C");
    for secret in crate::host::passphrase::VARIABLES {
        command.env_remove(secret);
    }
    command
}

fn start(mut command: Command, writer: std::io::PipeWriter, ui: &Reporter) -> Result<Sink> {
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
