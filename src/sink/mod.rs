//! Where restored bytes go. A sink takes bytes until their end is said; a restore that breaks off never looks like an
//! end to it.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;

use bytes::Bytes;
use rustix::process::Signal;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use crate::error::{Context, Error, Result};
use crate::host::process;
use crate::report::Reporter;
use crate::stream::channel::Receiver;
use crate::stream::sink::Sink;
use crate::tar::gnu;

pub use crate::tar::gnu::is_volume_path;

/// Bytes asked for as the pipe's size: fewer wake-ups than the usual 64 KiB.
const PIPE_LEN: usize = 1 << 20;

/// What a sink ends with that took all contents, but could not set everything beside them, and has said what.
pub const WARNED: i64 = 3;

pub mod landing;
mod said;
mod stdout;
pub mod target;

use said::Said;
pub use stdout::{EarlyEnd, stdout};

/// Our own standard output, through GNU tar: one member, its holes filled.
///
/// # Errors
/// Stdout is closed, or a terminal; there is no GNU tar.
pub fn expand(ui: &Reporter) -> Result<Sink> {
    stdout::takes_any_bytes()?;
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
    let tar = command.spawn().map_err(gnu::missing)?;
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
    let heard = ui.clone();
    let said = tokio::spawn(async move {
        match stderr {
            Some(stderr) => Said::default().read(stderr, &heard).await,
            None => Said::default(),
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
    let said = said.await.unwrap_or_default();
    said.warn(&ui);
    // Of all that tar does for us, only what it writes to our stdout goes into a pipe.
    if status.signal() == Some(Signal::PIPE.as_raw()) {
        return Err(Error::closed_pipe());
    }
    // GNU tar ends with 2 where something failed and it went on.
    let all_is_there =
        status.success() || (status.code() == Some(2) && said.has_all_contents() && !said.is_nothing());
    match all_is_there {
        true if said.is_nothing() => Ok(0),
        true => Ok(WARNED),
        false => Err(Error::failed(format!("tar could not unpack everything ({status})"))
            .because(said.last.join("; "))
            .hint("the target is incomplete")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    /// A folder that is removed at the end.
    struct Folder(PathBuf);

    impl Folder {
        /// A new folder, in which `script` was run.
        fn new(script: &str) -> Folder {
            let made = process::shell("mktemp -d").output().unwrap();
            let folder = Folder(String::from_utf8(made.stdout).unwrap().trim_end().into());
            assert!(process::shell(script).current_dir(&folder.0).status().unwrap().success());
            folder
        }

        fn tar(&self, members: &[&str]) -> Bytes {
            let members: Vec<_> = members.iter().map(|member| member.to_string()).collect();
            let args = gnu::create(Some(&self.0), &members);
            let made = process::command(gnu::PROGRAM).args(args).output().unwrap();
            assert!(made.status.success());
            made.stdout.into()
        }

        fn mode(&self, path: &str) -> u32 {
            std::fs::metadata(self.0.join(path)).unwrap().permissions().mode() & 0o7777
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn quiet() -> Reporter {
        Reporter::silent()
    }

    async fn write(sink: Result<Sink>, bytes: Bytes) -> Result<i64> {
        let mut sink = sink?;
        sink.write(bytes).await?;
        sink.finish().await
    }

    #[tokio::test]
    async fn a_folder_gets_back_what_a_tar_holds() {
        let from = Folder::new("mkdir -m 710 a; echo text >a/f; chmod 604 a/f; ln -s f a/l; ln a/f a/h");
        let to = Folder::new(":");
        assert_eq!(write(folder(&to.0, &quiet()), from.tar(&["a"])).await.unwrap(), 0);
        assert_eq!(std::fs::read(to.0.join("a/h")).unwrap(), b"text\n");
        assert_eq!(std::fs::read_link(to.0.join("a/l")).unwrap(), PathBuf::from("f"));
        assert_eq!((to.mode("a"), to.mode("a/f")), (0o710, 0o604));
    }

    #[tokio::test]
    async fn a_volumes_members_land_in_its_own_folder() {
        let from = Folder::new("mkdir -p my.v/_data/d; echo 1 >my.v/_data/d/f; echo 2 >my.v/other");
        let to = Folder::new(":");
        let tar = from.tar(&["my.v/_data", "my.v/other"]);
        assert_eq!(write(volume(&to.0, "my.v", &quiet()), tar).await.unwrap(), 0);
        assert_eq!(std::fs::read(to.0.join("d/f")).unwrap(), b"1\n");
        // A dot in the name is a dot: another volume's members keep their names.
        let to = Folder::new(":");
        let other = Folder::new("mkdir -p my-v/_data; echo 3 >my-v/_data/f");
        write(volume(&to.0, "my.v", &quiet()), other.tar(&["my-v/_data"])).await.unwrap();
        assert_eq!(std::fs::read(to.0.join("my-v/_data/f")).unwrap(), b"3\n");
    }

    #[tokio::test]
    async fn what_tar_cannot_unpack_is_an_error_with_its_reason() {
        let to = Folder::new("echo in the way >a");
        let from = Folder::new("mkdir a; echo x >a/f");
        let error = write(folder(&to.0, &quiet()), from.tar(&["a/f"])).await.unwrap_err();
        assert!(
            error.to_string().starts_with("tar could not unpack everything (exit status: 2): "),
            "{error}"
        );
        assert!(error.to_string().contains("a/f"), "{error}");
        assert!(error.hint_text().unwrap().starts_with("the target is incomplete"));
    }

    #[tokio::test]
    async fn a_restore_that_breaks_off_ends_tar_and_keeps_its_cause() {
        let (to, from) = (Folder::new(":"), Folder::new("echo x >f"));
        let sink = folder(&to.0, &quiet()).unwrap();
        sink.write(from.tar(&["f"]).slice(..512)).await.unwrap();
        let error = sink.fail(Error::damaged("flipped")).await;
        assert_eq!(error.to_string(), "flipped");
    }

    #[test]
    fn modes_of_members_do_not_depend_on_the_umask() {
        let from = Folder::new("mkdir -m 755 a; echo x >a/f; chmod 666 a/f");
        let to = Folder::new(":");
        let mut shell = process::shell("umask 077; tar -C \"$1\" -c a | { shift; exec tar \"$@\"; }");
        let status = shell.arg("sh").arg(&from.0).args(gnu::extract(&to.0)).status().unwrap();
        assert!(status.success());
        assert_eq!((to.mode("a"), to.mode("a/f")), (0o755, 0o666));
    }
}
