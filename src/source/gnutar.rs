//! Folders of this host through GNU tar, which knows owners, xattrs, ACLs and holes better than we could.

use std::ffi::OsString;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::roots::{self, Walk};
use super::said::Said;
use crate::error::{Context, Error, Result};
use crate::host::mounts::Mounts;
use crate::host::process;
use crate::report::{Lines, Reporter};
use crate::stream::source::{ByteStream, Proof, Running};
use crate::tar::gnu;

/// Bytes asked for as the pipe's size: fewer wake-ups than the usual 64 KiB.
const PIPE_LEN: usize = 1 << 20;

/// What to do where a file cannot be read.
pub(super) const UNREADABLE: &str = "every file must be readable: run as root for volumes and system folders";

/// A tar of folders as named: absolute ones lose their leading slash, as with `tar` itself.
///
/// # Errors
/// A folder cannot be walked, or there is no GNU tar.
pub async fn folders(
    dirs: &[String],
    walk: &Walk,
    ui: &Reporter,
    stop: &CancellationToken,
) -> Result<Running> {
    start(None, dirs, walk, ui, stop).await
}

/// A tar of `members` as seen from the folder `from`.
///
/// # Errors
/// As [`folders`].
pub async fn members(
    from: &Path,
    members: &[String],
    walk: &Walk,
    ui: &Reporter,
    stop: &CancellationToken,
) -> Result<Running> {
    start(Some(from), members, walk, ui, stop).await
}

async fn start(
    from: Option<&Path>,
    names: &[String],
    walk: &Walk,
    ui: &Reporter,
    stop: &CancellationToken,
) -> Result<Running> {
    let plan = roots::plan(from, names, walk, &Mounts::read())?;
    gnu::require().await?;
    plan.tell(ui);
    let args = gnu::create_with(from, plan.options(), plan.members());
    spawn(args, Stdio::null(), |ended, said| ended.proof(said), ui, stop)
}

/// Starts tar; `judge` says of how it ended whether that is a proof.
pub(super) fn spawn(
    args: Vec<OsString>,
    names: Stdio,
    judge: impl FnOnce(Ended, Said) -> Result<Proof> + Send + 'static,
    ui: &Reporter,
    stop: &CancellationToken,
) -> Result<Running> {
    let (reader, writer) = std::io::pipe().context(|| "cannot make a pipe".into())?;
    // Only speed depends on it, and an unprivileged user may be over the limit.
    let _ = rustix::pipe::fcntl_setpipe_size(&reader, PIPE_LEN);
    let mut command = Command::from(process::command(gnu::PROGRAM));
    // Not in the terminal's group: a Ctrl-C is for us, and we tell it.
    command.args(args).process_group(0).stdin(names).stdout(writer).stderr(Stdio::piped()).kill_on_drop(true);
    let child = command.spawn().map_err(gnu::missing)?;
    // The command holds our copy of the writing end; the reader must see EOF when tar's is closed.
    drop(command);
    let (prove, proof) = oneshot::channel();
    let (ui, stop) = (ui.clone(), stop.clone());
    let cleanup = tokio::spawn(async move {
        let mut said = Said::default();
        let watched = watch(child, &mut said, &ui, &stop).await;
        let _ = prove.send(watched.and_then(|ended| judge(ended, said)));
    });
    Ok(Running { stream: ByteStream::from_reader(reader, proof), cleanup })
}

/// How tar ended.
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    /// Its last lines.
    lines: Lines,
}

impl Ended {
    /// Its exit code is the proof.
    pub(super) fn proof(self, said: Said) -> Result<Proof> {
        match self.status.code() {
            // With 1, GNU tar says that some files were not the same all the time while it read them.
            Some(code @ (0 | 1)) => Ok(said.proof(code)),
            _ => Err(Error::failed(format!("tar failed ({})", self.status))
                .because(self.lines.last.join("; "))
                .hint(UNREADABLE)),
        }
    }
}

/// Waits for tar's end; kills it when the backup is stopped.
async fn watch(mut child: Child, said: &mut Said, ui: &Reporter, stop: &CancellationToken) -> Result<Ended> {
    let stderr = child.stderr.take();
    let ended = async {
        let lines = match stderr {
            Some(stderr) => Lines::default().read_each(stderr, ui, |line| said.take(line)).await,
            None => Lines::default(),
        };
        (lines, child.wait().await)
    };
    let ended = tokio::select! {
        ended = ended => Some(ended),
        () = stop.cancelled() => None,
    };
    let Some((lines, status)) = ended else {
        let _ = child.kill().await;
        return Err(Error::interrupted());
    };
    Ok(Ended { status: status.context(|| "cannot wait for tar".into())?, lines })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn quiet() -> Reporter {
        Reporter::silent()
    }

    /// What comes out of a source, and what it proves.
    pub(crate) async fn read(running: Running) -> (Vec<u8>, Result<Proof>) {
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

    /// A folder with what the script makes in it.
    pub(crate) fn folder_with(script: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let made = std::process::Command::new("sh").args(["-ec", script]).current_dir(dir.path()).status();
        assert!(made.unwrap().success(), "{script}");
        dir
    }

    /// The members of the tar of these folders, as seen from `from`.
    async fn walked(from: &Path, names: &[&str], walk: &Walk) -> Result<Vec<String>> {
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        let running = members(from, &names, walk, &quiet(), &CancellationToken::new()).await?;
        let (bytes, proof) = read(running).await;
        assert_eq!(proof?.warnings, []);
        let (mut walker, mut entries) = (crate::tar::Walker::new(), Vec::new());
        walker.feed(&bytes, &mut entries)?;
        let mut names: Vec<_> = entries
            .into_iter()
            .map(|e| e.path + &e.link.map_or(String::new(), |l| format!(" > {l}")))
            .collect();
        names.sort();
        Ok(names)
    }

    fn without(patterns: &[&str]) -> Walk {
        let exclude = patterns.iter().map(|pattern| crate::tar::exclude::Exclude::new(pattern).unwrap());
        let filter = super::super::FileFilter { exclude: exclude.collect(), ..Default::default() };
        Walk { filter, ..Walk::default() }
    }

    #[tokio::test]
    async fn a_folder_comes_as_a_tar_with_its_proof() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let (names, stop) = (["Cargo.toml".to_string()], CancellationToken::new());
        let running = members(root, &names, &Walk::default(), &quiet(), &stop).await.unwrap();
        let (bytes, proof) = read(running).await;
        let proof = proof.unwrap();
        assert_eq!((proof.exit_code, proof.warnings.len()), (Some(0), 0));
        let toml = std::fs::read(root.join("Cargo.toml")).unwrap();
        assert!(bytes.windows(toml.len()).any(|window| window == toml));
    }

    #[tokio::test]
    async fn a_tar_that_fails_is_no_proof() {
        let args = gnu::create(Some(Path::new("/")), &["no such folder".into()]);
        let judge = |ended: Ended, said| ended.proof(said);
        let running = spawn(args, Stdio::null(), judge, &quiet(), &CancellationToken::new()).unwrap();
        let error = read(running).await.1.unwrap_err();
        assert_eq!(
            error.to_string(),
            "tar failed (exit status: 2): tar: no such folder: Cannot stat: No such file or directory; \
             tar: Exiting with failure status due to previous errors"
        );
        assert!(error.hint_text().unwrap().starts_with("every file must be readable"));
    }

    #[tokio::test]
    async fn a_folder_that_is_not_there_is_told_before_tar_runs() {
        let dirs = ["/no such folder".to_string()];
        let error =
            folders(&dirs, &Walk::default(), &quiet(), &CancellationToken::new()).await.err().unwrap();
        assert!(error.to_string().starts_with("cannot read /no such folder: "), "{error}");
        assert!(error.find::<std::io::Error>().is_some());
    }

    #[tokio::test]
    async fn a_backup_that_is_stopped_has_no_proof() {
        let stop = CancellationToken::new();
        stop.cancel();
        // A folder that takes tar longer than it takes us to look.
        let running = folders(&["/usr".into()], &Walk::default(), &quiet(), &stop).await.unwrap();
        let error = read(running).await.1.unwrap_err();
        assert_eq!(error.kind(), crate::error::Kind::Interrupted);
    }

    #[tokio::test]
    async fn a_root_that_is_a_link_is_followed_and_keeps_its_name_and_links_below_it_stay() {
        let dir = folder_with(
            "mkdir -p real/sub; echo x > real/f; ln real/f real/h; ln -s ./f real/sub/l; ln -s real link; ln -s link twice",
        );
        let names = walked(dir.path(), &["twice/"], &Walk::default()).await.unwrap();
        assert_eq!(names.len(), 5, "{names:?}");
        assert!(names[0] == "twice/" && names.contains(&"twice/sub/l > ./f".to_string()), "{names:?}");
        assert!(names.iter().any(|name| name.contains(" > twice/")), "a hard link's target too: {names:?}");
        let both = walked(dir.path(), &["link", "real"], &Walk::default()).await.unwrap();
        assert!(both[0] == "link/" && both.contains(&"real/".to_string()) && both.len() == 10, "{both:?}");
    }

    #[tokio::test]
    async fn a_file_behind_a_link_is_stored_under_the_links_name() {
        let dir = folder_with(
            "mkdir d; echo x > 'd/o&d,[name]$'; ln -s 'd/o&d,[name]$' 'li&n,k\\e'; echo y > other",
        );
        let link = "li&n,k\\e";
        assert_eq!(walked(dir.path(), &[link, "other"], &Walk::default()).await.unwrap(), [link, "other"]);
        // Beside another link to it, and beside a folder behind a link, too.
        std::os::unix::fs::symlink(link, dir.path().join("second")).unwrap();
        let names = walked(dir.path(), &[link, "second"], &Walk::default()).await.unwrap();
        assert_eq!(names, [link, &format!("second > {link}")]);
        std::os::unix::fs::symlink("d", dir.path().join("folder")).unwrap();
        let names = walked(dir.path(), &["folder", link], &Walk::default()).await.unwrap();
        assert_eq!(names[0], "folder/");
        assert!(names.iter().any(|name| name.split(" > ").next() == Some(link)), "{names:?}");
    }

    #[tokio::test]
    async fn a_backslash_in_a_roots_name_is_itself() {
        let dir = folder_with("mkdir 'back\\nslash'; echo x > 'back\\nslash/\\101'");
        let name = "back\\nslash";
        let expected = [format!("{name}/"), format!("{name}/\\101")];
        assert_eq!(walked(dir.path(), &[name], &Walk::default()).await.unwrap(), expected);
    }

    #[tokio::test]
    async fn a_file_behind_a_link_is_left_out_by_its_own_name_and_not_by_where_it_lies() {
        let dir = folder_with("mkdir d; echo x > d/f.log; ln -s d/f.log link");
        let absolute = dir.path().canonicalize().unwrap().join("d").display().to_string();
        let names = walked(dir.path(), &[&absolute, "link"], &without(&["*.log"])).await.unwrap();
        assert_eq!(names, ["link", &format!("{}/", absolute.trim_start_matches('/'))]);
    }

    #[tokio::test]
    async fn patterns_leave_out_by_the_name_in_the_archive_through_a_link_too() {
        let dir = folder_with(
            "mkdir -p real/cache real/a/cache; echo x > real/f.log; echo x > real/a/cache/y; ln -s real link",
        );
        assert_eq!(
            walked(dir.path(), &["link"], &without(&["link/*/cache", "*.log"])).await.unwrap(),
            ["link/", "link/a/", "link/cache/"]
        );
        assert_eq!(
            walked(dir.path(), &["real/a"], &without(&["real/a/cache/*"])).await.unwrap(),
            ["real/a/", "real/a/cache/"]
        );
        let error = walked(dir.path(), &["link"], &without(&["l*"])).await.unwrap_err();
        assert_eq!(error.to_string(), "\"l*\" leaves all of link out");
    }

    #[tokio::test]
    async fn caches_that_are_tagged_are_left_out_and_that_is_no_warning() {
        let tag = "Signature: 8a477f597d28d172789f06886806bc55";
        let dir = folder_with(&format!(
            "mkdir -p d/c; echo '{tag}' > d/c/CACHEDIR.TAG; echo x > d/c/big; echo y > d/f"
        ));
        let filter = super::super::FileFilter { exclude_caches: true, ..Default::default() };
        let names = walked(dir.path(), &["d"], &Walk { filter, ..Walk::default() }).await.unwrap();
        assert_eq!(names, ["d/", "d/c/", "d/c/CACHEDIR.TAG", "d/f"]);
    }

    #[tokio::test]
    async fn a_socket_is_noted_and_is_no_warning() {
        let dir = folder_with("mkdir d; echo x > d/f");
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("d/s")).unwrap();
        let (names, stop) = (["d".to_string()], CancellationToken::new());
        let running = members(dir.path(), &names, &Walk::default(), &quiet(), &stop).await.unwrap();
        let proof = read(running).await.1.unwrap();
        assert_eq!(proof.warnings, []);
        assert_eq!(proof.notes, ["d/s is a socket: nothing of it can be stored"]);
    }

    #[tokio::test]
    async fn a_store_below_a_root_is_left_out() {
        let dir = folder_with(
            "mkdir -p 'd/st[o]re/job' d/stoore; echo x > 'd/st[o]re/job/y'; echo x > d/stoore/f; ln -s d link",
        );
        let folder = dir.path().canonicalize().unwrap().join("d/st[o]re");
        let stores = vec![super::super::StoreFolder { folder, job: "job".into() }];
        let walk = Walk { stores, ..Walk::default() };
        for root in ["d", "link"] {
            let names = walked(dir.path(), &[root], &walk).await.unwrap();
            assert_eq!(names, ["", "stoore/", "stoore/f"].map(|name| format!("{root}/{name}")), "{names:?}");
        }
        for root in ["d/st[o]re", "d/st[o]re/job"] {
            let error = walked(dir.path(), &[root], &walk).await.unwrap_err();
            assert_eq!(error.to_string(), format!("{root} is where this backup is stored"));
        }
    }

    #[tokio::test]
    async fn a_root_beside_the_job_in_the_stores_folder_is_backed_up() {
        let dir = folder_with(
            "mkdir -p store/team/job store/team/data; echo x > store/team/data/f; echo x > store/team/job/archive",
        );
        let folder = dir.path().canonicalize().unwrap().join("store");
        let walk = Walk {
            stores: vec![super::super::StoreFolder { folder, job: "team/job".into() }],
            ..Walk::default()
        };
        let names = walked(dir.path(), &["store/team"], &walk).await.unwrap();
        assert_eq!(names, ["store/team/", "store/team/data/", "store/team/data/f"]);
    }

    #[tokio::test]
    async fn what_the_kernel_makes_up_is_not_walked_into() {
        // Were it, the files of our own processes alone would make tar fail.
        let plan = roots::plan(None, &["/".into()], &Walk::default(), &Mounts::read()).unwrap();
        assert!(plan.options().contains(&"--exclude=/proc/*".into()), "{:?}", plan.options());
        assert!(
            plan.details.iter().any(|text| text.starts_with("/proc is the kernel's own")),
            "{:?}",
            plan.details
        );
        let named = roots::plan(None, &["/proc".into()], &Walk::default(), &Mounts::read()).unwrap();
        assert!(!named.options().contains(&"--exclude=/proc/*".into()), "whoever names it means it");
    }
}
