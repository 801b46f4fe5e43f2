//! Volumes: where they lie, and their files through the engine's archive API.

use std::collections::HashMap;
use std::path::PathBuf;

use bollard::models::{ContainerCreateBody, HostConfig, Mount, MountType};
use bollard::query_parameters::{CreateImageOptions, DownloadFromContainerOptions};
use bytes::Bytes;
use futures_util::TryStreamExt;
use tokio_util::sync::CancellationToken;

use super::{Engine, forward, running, status};
use crate::error::{Context, Error, Result};
use crate::report::Reporter;
use crate::stream::channel::Sender;
use crate::stream::source::{Proof, Running};
use crate::tar::{BLOCK, Walker};

/// An image without any file: its containers are created, never started.
const EMPTY_IMAGE: (&str, &str) = ("sealift/empty", "1");

/// A volume as the engine describes it.
#[derive(Debug, Clone)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Its folder on the engine's host.
    pub mountpoint: PathBuf,
    /// It is a folder of that host, with the owners that the engine sees, not something that is mounted there while a
    /// container uses it.
    pub is_folder: bool,
}

impl Volume {
    /// The folder of this host below which the volume is `NAME/_data`, if it can be read here.
    pub fn folder(&self) -> Option<PathBuf> {
        let named = self.mountpoint.ends_with(PathBuf::from(&self.name).join("_data"));
        let readable = self.is_folder && named && std::fs::read_dir(&self.mountpoint).is_ok();
        self.mountpoint.ancestors().nth(2).filter(|_| readable).map(PathBuf::from)
    }
}

impl Engine {
    /// Looks a volume up.
    ///
    /// # Errors
    /// There is none of that name; it is never created silently.
    pub async fn volume(&self, name: &str) -> Result<Volume> {
        self.find_volume(name).await?.ok_or_else(|| {
            Error::failed(format!("there is no volume {name}"))
                .hint("`docker volume ls` shows the ones there are")
        })
    }

    /// Looks a volume up; none where there is none of that name.
    ///
    /// # Errors
    /// The engine does not answer.
    pub async fn find_volume(&self, name: &str) -> Result<Option<Volume>> {
        let volume = match self.docker.inspect_volume(name).await {
            Ok(volume) => volume,
            Err(e) if status(&e) == Some(404) => return Ok(None),
            Err(e) => return Err(Error::failed(format!("cannot look at volume {name}")).because(e)),
        };
        // A local volume with options (NFS, a device) is an empty folder unless a container uses it.
        let is_local = volume.driver == "local" && volume.options.values().all(String::is_empty);
        let is_folder = is_local && !self.rootless;
        Ok(Some(Volume { name: volume.name, mountpoint: volume.mountpoint.into(), is_folder }))
    }

    /// The NFS share that a volume is, as `nfs://SERVER/PATH`; none where it is no share.
    pub async fn nfs_url(&self, name: &str) -> Result<Option<String>> {
        let volume = self.docker.inspect_volume(name).await;
        let options = volume.context(|| format!("cannot look at volume {name}"))?.options;
        Ok(nfs_url(&options))
    }

    /// Streams volumes as one tar with members `VOLUME/_data/…`, from a container that is never started.
    pub async fn archive_volumes(
        &self,
        names: &[String],
        ui: &Reporter,
        stop: &CancellationToken,
    ) -> Result<Running> {
        let mounts: Vec<_> = names.iter().map(|name| (name.clone(), name.clone())).collect();
        let id = self.container_with(&mounts, true).await?;
        let (engine, names, ui, stop) = (self.clone(), names.to_vec(), ui.clone(), stop.clone());
        Ok(running(move |sender| async move {
            let sent = engine.send_archives(&id, &names, &sender, &stop).await;
            engine.remove_or_warn(&id, &ui).await;
            (sender, sent.map(|()| Proof::default()))
        }))
    }

    /// A never-started container in which each volume is `/NAME/_data`: pairs of volume and NAME.
    pub(super) async fn container_with(
        &self,
        volumes: &[(String, String)],
        read_only: bool,
    ) -> Result<String> {
        self.make_empty_image().await?;
        let mount = |(volume, name): &(String, String)| Mount {
            typ: Some(MountType::VOLUME),
            source: Some(volume.clone()),
            target: Some(format!("/{name}/_data")),
            read_only: Some(read_only),
            ..Mount::default()
        };
        let body = ContainerCreateBody {
            image: Some(format!("{}:{}", EMPTY_IMAGE.0, EMPTY_IMAGE.1)),
            // An image without a command needs one, though it never runs.
            cmd: Some(vec!["never-started".into()]),
            host_config: Some(HostConfig {
                mounts: Some(volumes.iter().map(mount).collect()),
                network_mode: Some("none".into()),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        self.create(None, body).await
    }

    async fn make_empty_image(&self) -> Result<()> {
        let (repo, tag) = EMPTY_IMAGE;
        if self.docker.inspect_image(&format!("{repo}:{tag}")).await.is_ok() {
            return Ok(());
        }
        let options = CreateImageOptions {
            from_src: Some("-".into()),
            repo: Some(repo.into()),
            tag: Some(tag.into()),
            ..CreateImageOptions::default()
        };
        let empty_tar = bollard::body_full(Bytes::from(vec![0; 2 * BLOCK]));
        let made: Result<Vec<_>, _> =
            self.docker.create_image(Some(options), Some(empty_tar), None).try_collect().await;
        made.map(drop).context(|| "cannot make an empty image to read the volume through".into())
    }

    /// One archive after the other, as one tar: only the last keeps its end marker.
    async fn send_archives(
        &self,
        id: &str,
        names: &[String],
        sender: &Sender<Bytes>,
        stop: &CancellationToken,
    ) -> Result<()> {
        for (i, name) in names.iter().enumerate() {
            let options = DownloadFromContainerOptions { path: format!("/{name}") };
            let body = self.docker.download_from_container(id, Some(options));
            if i + 1 == names.len() {
                forward(body, sender, stop).await?;
                break;
            }
            let mut cut = EndCut { walker: Walker::new(), at: 0, held: Vec::new() };
            let body = body.map_err(|e| Error::failed("the engine's stream broke off").because(e));
            let members = body.and_then(|chunk| std::future::ready(cut.pass(&chunk)));
            forward(members, sender, stop).await?;
            cut.finish()?;
        }
        Ok(())
    }
}

/// The options of a local volume: `type=nfs`, `o=addr=SERVER,rw`, `device=:/PATH`.
fn nfs_url(options: &HashMap<String, String>) -> Option<String> {
    options.get("type").filter(|kind| kind.starts_with("nfs"))?;
    let server = options.get("o")?.split(',').find_map(|option| option.strip_prefix("addr="))?;
    Some(format!("nfs://{server}{}", options.get("device")?.strip_prefix(':')?))
}

/// Drops a tar's end marker, so that another tar may follow.
struct EndCut {
    walker: Walker,
    at: u64,
    /// Zeros that are the end marker, or the zeros of a member's data.
    held: Vec<u8>,
}

impl EndCut {
    fn pass(&mut self, chunk: &Bytes) -> Result<Bytes> {
        let mut passed = std::mem::take(&mut self.held);
        let from = self.at - passed.len() as u64;
        self.walker.feed(chunk, &mut Vec::new())?;
        passed.extend_from_slice(chunk);
        self.at += chunk.len() as u64;
        let keep = match self.walker.ended_at() {
            Some(end) => end.saturating_sub(from) as usize,
            // The first of the two blocks may be among the last bytes seen.
            None => passed.len().saturating_sub(2 * BLOCK),
        };
        self.held = passed.split_off(keep.min(passed.len()));
        if self.walker.ended_at().is_some() {
            self.held.clear();
        }
        Ok(passed.into())
    }

    fn finish(&self) -> Result<()> {
        self.walker.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_nfs_share_is_known_by_its_options() {
        let options =
            |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let share = [("type", "nfs4"), ("o", "rw,addr=10.0.0.9,nolock"), ("device", ":/srv/images")];
        assert_eq!(nfs_url(&options(&share)).as_deref(), Some("nfs://10.0.0.9/srv/images"));
        assert_eq!(nfs_url(&options(&[("type", "tmpfs"), ("o", "addr=x"), ("device", ":/y")])), None);
        assert_eq!(nfs_url(&options(&[])), None);
    }

    #[test]
    fn an_end_marker_is_dropped_and_nothing_else() {
        let mut member = vec![0u8; BLOCK];
        member[..1].copy_from_slice(b"a");
        member[124..135].copy_from_slice(b"00000003000");
        member[156] = b'0';
        member[148..156].fill(b' ');
        let sum: u32 = member.iter().map(|&b| u32::from(b)).sum();
        member[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        // A file of zeros looks like an end marker to whoever does not follow the headers.
        member.resize(BLOCK + 1536, 0);
        let tar = [&member[..], &member, &[0; 10240]].concat();
        for step in [1, 100, 511, 512, 1024, 1025, tar.len()] {
            let mut cut = EndCut { walker: Walker::new(), at: 0, held: Vec::new() };
            let mut passed = Vec::new();
            for chunk in tar.chunks(step) {
                passed.extend_from_slice(&cut.pass(&Bytes::copy_from_slice(chunk)).unwrap());
            }
            cut.finish().unwrap();
            assert_eq!(passed.len(), 2 * member.len(), "step {step}");
        }
    }
}
