//! A registry: served from the scratch volume by a container without any network, asked from inside it, and every byte that
//! it gives held against its digest here.

use std::collections::HashSet;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use bollard::models::{Mount, MountType};
use serde::Deserialize;

use super::Attempt;
use super::compare::Items;
use super::files::Restored;
use crate::docker::Engine;
use crate::docker::run::RunSpec;
use crate::docker::scratch::Server;
use crate::error::{Error, Result};
use crate::job::random::Random;
use crate::job::until;
use crate::report::{hex, printable};

/// Where a registry's files lie below its root.
const LAYOUT: &str = "docker/registry/v2/";
/// Where the volume is mounted.
const ROOT: &str = "/sealift";
const ADDRESS: &str = "127.0.0.1:5000";
const READY: Duration = Duration::from_secs(120);
/// Serves a registry's files where nothing better is known.
const USUAL_IMAGE: &str = "registry:2";
/// Manifests are some kilobytes; registries take none that is larger.
const LARGEST_MANIFEST: usize = 4 << 20;
/// Indexes in indexes.
const DEEPEST: usize = 4;

const ACCEPT: &str = "Accept: application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.v1+prettyjws";

/// A manifest, as far as it names what else must be there.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    config: Option<Descriptor>,
    layers: Vec<Descriptor>,
    manifests: Vec<Descriptor>,
    fs_layers: Vec<FsLayer>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    digest: String,
    /// Where a layer lies that may not be distributed; no registry need have it.
    #[serde(default)]
    urls: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct FsLayer {
    blob_sum: String,
}

impl Manifest {
    /// Blobs that it names.
    fn blobs(&self) -> impl Iterator<Item = &str> {
        let own = self.config.iter().chain(&self.layers).filter(|blob| blob.urls.is_empty());
        let old = self.fs_layers.iter().map(|layer| layer.blob_sum.as_str());
        own.map(|blob| blob.digest.as_str()).chain(old)
    }
}

/// The root of a registry's files among these, and its tags: repository and tag.
fn tags(items: &Items) -> Option<(String, Vec<(String, String)>)> {
    let mut found: Option<(String, Vec<_>)> = None;
    for path in items.keys().filter_map(|name| std::str::from_utf8(name).ok()) {
        let Some((root, below)) = split(path) else { continue };
        let (known, tags) = found.get_or_insert_with(|| (root.into(), Vec::new()));
        let tag = below.strip_prefix("repositories/").and_then(|below| {
            let (repository, tag) = below.strip_suffix("/current/link")?.rsplit_once("/_manifests/tags/")?;
            Some((repository.to_string(), tag.to_string()))
        });
        tags.extend(tag.filter(|_| known == root));
    }
    found
}

/// The part of a path before a registry's layout, and that behind it.
fn split(path: &str) -> Option<(&str, &str)> {
    match path.strip_prefix(LAYOUT) {
        Some(below) => Some(("", below)),
        None => path.split_once("/docker/registry/v2/"),
    }
}

impl Attempt<'_> {
    /// Serves what is a registry's, and pulls some of its tags.
    pub(super) async fn serve(&mut self, restored: &[Restored]) -> Result<()> {
        if self.request.as_registry == Some(false) {
            return Ok(());
        }
        let mut is_any = false;
        for part in restored {
            if let Some((root, tags)) = tags(&part.items) {
                self.tried.what = "registry".into();
                self.registry(part, &root, tags).await?;
                is_any = true;
            }
        }
        match self.request.as_registry {
            Some(true) if !is_any => Err(Error::failed("no registry's files were restored")
                .hint(format!("nothing lies in {LAYOUT}: is this the right job?"))),
            _ => Ok(()),
        }
    }

    async fn registry(&mut self, part: &Restored, root: &str, tags: Vec<(String, String)>) -> Result<()> {
        let cancel = self.cancel;
        let engine = self.scratched()?.engine().clone();
        let image = match (&self.request.registry_image, &part.original) {
            (Some(image), _) => image.clone(),
            (None, Some(volume)) => image_of(engine.image_using(volume).await?),
            (None, None) => USUAL_IMAGE.into(),
        };
        let there = engine.require_image(&image).await;
        there
            .map_err(|error| error.and_hint("or another that serves a registry's files: --registry-image"))?;
        let scratch = self.scratched()?;
        let server = async {
            let server = scratch.start(spec(image, &part.volume, root)).await?;
            let url = format!("http://{ADDRESS}/v2/");
            let client = Client::find(&engine, &server).await?;
            let words = client.words(&url);
            scratch.ready(&server, &words.iter().map(String::as_str).collect::<Vec<_>>(), READY).await?;
            Ok((server, client))
        };
        let (server, client) = until(cancel, server).await?;
        let count = tags.len() as u64;
        let chosen = Random::new()?.some(tags, self.request.tags);
        let mut pull = Pull { engine, server, client, seen: HashSet::new(), bytes: 0 };
        for (repository, tag) in &chosen {
            let pulled = until(cancel, pull.tag(repository, tag)).await;
            pulled.map_err(|error| error.context(printable(&format!("{repository}:{tag}"))))?;
        }
        self.tried.count("tags", count);
        self.tried.count("pulled", chosen.len() as u64);
        self.tried.count("blobs", pull.seen.len() as u64);
        self.tried.count("pulled_bytes", pull.bytes);
        Ok(())
    }
}

/// The image that serves a volume now, unless it is one that does so with the rest of its product alone.
fn image_of(using: Option<String>) -> String {
    let is_of_product = |image: &String| {
        let name = image.rsplit_once(':').map_or(image.as_str(), |(name, _)| name);
        name.ends_with("/dtr-registry") || name.ends_with("/msr-registry") || !name.contains("registry")
    };
    using.filter(|image| !is_of_product(image)).unwrap_or(USUAL_IMAGE.into())
}

fn spec(image: String, volume: &str, root: &str) -> RunSpec {
    let mount = Mount {
        typ: Some(MountType::VOLUME),
        source: Some(volume.into()),
        target: Some(ROOT.into()),
        read_only: Some(true),
        ..Mount::default()
    };
    let env = [
        format!("REGISTRY_HTTP_ADDR={ADDRESS}"),
        "REGISTRY_STORAGE=filesystem".into(),
        format!("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY={ROOT}/{root}"),
    ];
    RunSpec { image, env: env.into(), mounts: vec![mount], ..RunSpec::default() }
}

/// What asks the registry, in its own container: that has no network that anybody could ask it by.
#[derive(Debug, Clone, Copy)]
enum Client {
    Wget,
    Curl,
}

impl Client {
    async fn find(engine: &Engine, server: &Server) -> Result<Client> {
        for (client, name) in [(Client::Wget, "wget"), (Client::Curl, "curl")] {
            if !engine.ask(&server.name, &[name, "--help"]).await?.is_no_command() {
                return Ok(client);
            }
        }
        Err(Error::failed("the registry's image has neither wget nor curl")
            .hint("name another: --registry-image registry:2"))
    }

    fn words(self, url: &str) -> Vec<String> {
        let words: &[&str] = match self {
            Client::Wget => &["wget", "-q", "-O", "-", "--header", ACCEPT, url],
            Client::Curl => &["curl", "-fsS", "-H", ACCEPT, url],
        };
        words.iter().map(ToString::to_string).collect()
    }
}

/// Pulls, and remembers what was pulled.
struct Pull {
    engine: Engine,
    server: Server,
    client: Client,
    /// Digests whose bytes are right.
    seen: HashSet<String>,
    bytes: u64,
}

impl Pull {
    /// A tag: its manifest, the same by its digest, and every blob that it leads to.
    async fn tag(&mut self, repository: &str, tag: &str) -> Result<()> {
        let (text, digest) = self.manifest(repository, tag).await?;
        let is_old = parse(&text)?.schema_version == 1;
        // The digest of a signed manifest is not that of its bytes.
        match is_old {
            true => self.blobs(repository, &parse(&text)?).await,
            false => self.pull(repository, &digest).await,
        }
    }

    /// A manifest by its digest, and all that it leads to.
    async fn pull(&mut self, repository: &str, digest: &str) -> Result<()> {
        let mut next = vec![(digest.to_string(), 0)];
        while let Some((digest, depth)) = next.pop() {
            if self.seen.contains(&digest) {
                continue;
            }
            let (text, own) = self.manifest(repository, &digest).await?;
            if own != digest {
                return Err(wrong(&digest, &own));
            }
            self.seen.insert(digest);
            let manifest = parse(&text)?;
            self.blobs(repository, &manifest).await?;
            if depth < DEEPEST {
                next.extend(manifest.manifests.into_iter().map(|below| (below.digest, depth + 1)));
            }
        }
        Ok(())
    }

    async fn blobs(&mut self, repository: &str, manifest: &Manifest) -> Result<()> {
        for digest in manifest.blobs() {
            if self.seen.contains(digest) {
                continue;
            }
            let own = self.get(&format!("{repository}/blobs/{digest}"), |_| {}).await?;
            if own != digest {
                return Err(wrong(digest, &own));
            }
            self.seen.insert(digest.into());
        }
        Ok(())
    }

    async fn manifest(&mut self, repository: &str, reference: &str) -> Result<(Vec<u8>, String)> {
        let mut text = Vec::new();
        let keep = |bytes: &[u8]| {
            let room = LARGEST_MANIFEST.saturating_sub(text.len());
            text.extend_from_slice(&bytes[..bytes.len().min(room)]);
        };
        let digest = self.get(&format!("{repository}/manifests/{reference}"), keep).await?;
        Ok((text, digest))
    }

    /// The digest of what lies there.
    async fn get(&mut self, path: &str, mut each: impl FnMut(&[u8])) -> Result<String> {
        let words = self.client.words(&format!("http://{ADDRESS}/v2/{path}"));
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let (mut sum, mut bytes) = (Context::new(&SHA256), 0);
        let heard = self.engine.hear(&self.server.name, &words, |piece| {
            sum.update(piece);
            bytes += piece.len() as u64;
            each(piece);
        });
        let answer = heard.await?;
        if answer.code != 0 {
            let error = Error::failed(printable(&format!("the registry does not give {path}")));
            return Err(error.because(printable(answer.stderr.trim())));
        }
        self.bytes += bytes;
        Ok(format!("sha256:{}", hex(sum.finish().as_ref())))
    }
}

fn parse(text: &[u8]) -> Result<Manifest> {
    serde_json::from_slice(text).map_err(|e| Error::failed("a manifest cannot be read").because(e))
}

fn wrong(digest: &str, own: &str) -> Error {
    Error::failed(printable(&format!("what the registry gives for {digest} has the digest {own}")))
}

#[cfg(test)]
mod tests {
    use super::super::compare::Item;
    use super::*;
    use crate::tar::Entry;

    fn items(paths: &[&str]) -> Items {
        let item = |path: &&str| {
            let entry: Entry = serde_json::from_value(serde_json::json!({
                "path": path, "at": 0, "len": 512, "type": "file", "mode": 0, "uid": 0, "gid": 0, "size": 0, "mtime": "0",
            }))
            .unwrap();
            Item::of(&entry, b"").unwrap()
        };
        paths.iter().map(item).collect()
    }

    #[test]
    fn tags_are_those_whose_current_link_was_sealed() {
        let link = "docker/registry/v2/repositories/team/app/_manifests/tags/1.4/current/link";
        let index = "docker/registry/v2/repositories/team/app/_manifests/tags/1.4/index/sha256/aa/link";
        let tag = || vec![("team/app".to_string(), "1.4".to_string())];
        assert_eq!(tags(&items(&[link, index])), Some((String::new(), tag())));
        assert_eq!(tags(&items(&[&format!("a/b/{link}")])), Some(("a/b".into(), tag())));
        assert_eq!(tags(&items(&["docker/registry/v2/blobs/x"])), Some((String::new(), Vec::new())));
        assert_eq!(tags(&items(&["etc/passwd"])), None);
    }

    #[test]
    fn a_manifest_of_any_kind_says_what_must_be_there() {
        let blobs =
            |text: &str| parse(text.as_bytes()).unwrap().blobs().map(String::from).collect::<Vec<_>>();
        let image = r#"{"schemaVersion": 2, "config": {"digest": "c"},
            "layers": [{"digest": "a"}, {"digest": "foreign", "urls": ["https://x"]}]}"#;
        assert_eq!(blobs(image), ["c", "a"]);
        assert_eq!(blobs(r#"{"schemaVersion": 1, "fsLayers": [{"blobSum": "a"}]}"#), ["a"]);
        let index = parse(br#"{"schemaVersion": 2, "manifests": [{"digest": "m"}]}"#).unwrap();
        assert_eq!((index.manifests[0].digest.as_str(), index.blobs().count()), ("m", 0));
        assert!(parse(b"<html>").is_err());
    }

    #[test]
    fn what_serves_the_volume_now_serves_it_in_a_drill_unless_it_needs_its_product() {
        let image = |using: &str| image_of(Some(using.into()));
        assert_eq!(image("registry:2.8"), "registry:2.8");
        assert_eq!(image("r.example.com:5000/own/registry:3"), "r.example.com:5000/own/registry:3");
        assert_eq!(image("docker/dtr-registry:2.7.5"), USUAL_IMAGE);
        assert_eq!(image("busybox"), USUAL_IMAGE);
        assert_eq!(image_of(None), USUAL_IMAGE);
    }
}
