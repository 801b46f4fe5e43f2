//! What a tar of images must hold: an engine that fails half-way through an export may still end the tar as it should.

use std::collections::{HashMap, HashSet};

use serde::Deserialize;

use crate::archive::check::MemberCheck;
use crate::stream::warning::{Warning, WarningKind};
use crate::tar::Entry;

/// The list of images that `docker save` writes, of their configurations and layers.
const MANIFEST: &str = "manifest.json";
/// The same of the OCI layout: digests of further manifests.
const INDEX: &str = "index.json";
/// Blobs of the OCI layout, by their digests.
const BLOBS: &str = "blobs/";
/// Bytes of the largest blob that is looked into: manifests are small, layers rarely are.
const LARGEST_MANIFEST: u64 = 256 << 10;

/// Expects of a tar of images all that its own manifests name.
#[derive(Debug, Clone, Default)]
pub struct SavedImages {
    members: HashSet<String>,
    /// What `manifest.json` says, or why it says nothing.
    manifest: Option<Result<Vec<Saved>, String>>,
    index: Option<Result<Index, String>>,
    /// Blobs that name others.
    manifests: HashMap<String, Index>,
}

/// An image of `manifest.json`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    #[serde(default)]
    config: String,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// `index.json`, or one of the blobs that it leads to: a list of manifests, or one with its configuration and layers.
#[derive(Debug, Clone, Default, Deserialize)]
struct Index {
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
}

#[derive(Debug, Clone, Deserialize)]
struct Descriptor {
    digest: String,
}

impl Descriptor {
    /// `sha256:HEX` → `blobs/sha256/HEX`
    fn member(&self) -> String {
        format!("{BLOBS}{}", self.digest.replacen(':', "/", 1))
    }
}

fn name(entry: &Entry) -> &str {
    entry.path.trim_start_matches("./").trim_end_matches('/')
}

impl SavedImages {
    /// What a member of `manifest.json` or of the OCI layout names, and is not there.
    fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        match &self.manifest {
            Some(Ok(images)) if images.is_empty() => missing.push(format!("{MANIFEST} names no image")),
            Some(Ok(images)) => {
                let named = images.iter().flat_map(|image| {
                    let layers = image.layers.iter().flatten();
                    layers.chain(std::iter::once(&image.config))
                });
                missing.extend(
                    named.filter(|name| !self.members.contains(name.trim_start_matches("./"))).map(|name| {
                        match name.as_str() {
                            "" => format!("{MANIFEST} names no configuration"),
                            name => format!("{name}, which {MANIFEST} names, is not there"),
                        }
                    }),
                );
            }
            Some(Err(why)) => missing.push(format!("{MANIFEST} cannot be read: {why}")),
            None => {}
        }
        match &self.index {
            Some(Ok(index)) => {
                let named = index.manifests.iter().flatten();
                missing.extend(named.filter_map(|named| self.incomplete(named, INDEX, 0)));
            }
            Some(Err(why)) => missing.push(format!("{INDEX} cannot be read: {why}")),
            None => {}
        }
        let names_nothing = |index: &Index| index.manifests.iter().flatten().next().is_none();
        match (&self.manifest, &self.index) {
            (None, None) => {
                missing.push(format!("there is neither {MANIFEST} nor {INDEX}: it holds no image"))
            }
            (None, Some(Ok(index))) if names_nothing(index) => {
                missing.push(format!("{INDEX} names no image"))
            }
            _ => {}
        }
        missing.sort();
        missing.dedup();
        missing
    }

    /// What of a manifest is not there; nothing where it is complete.
    fn incomplete(&self, named: &Descriptor, by: &str, depth: usize) -> Option<String> {
        let member = named.member();
        if !self.members.contains(&member) {
            return Some(format!("{member}, which {by} names, is not there"));
        }
        let manifest = self.manifests.get(&member)?;
        if let Some(manifests) = &manifest.manifests {
            // An image for several platforms is exported with those that the engine has.
            let mut wrong = Vec::new();
            for named in manifests.iter().filter(|_| depth < 8) {
                wrong.push(self.incomplete(named, &member, depth + 1)?);
            }
            return wrong.into_iter().next();
        }
        let blobs = manifest.config.iter().chain(manifest.layers.iter().flatten()).map(Descriptor::member);
        let mut gone = blobs.filter(|blob| !self.members.contains(blob));
        gone.next().map(|blob| format!("{blob}, which {member} names, is not there"))
    }
}

impl MemberCheck for SavedImages {
    fn observe(&mut self, entry: &Entry) {
        self.members.insert(name(entry).to_string());
    }

    fn wants(&self, entry: &Entry) -> bool {
        let name = name(entry);
        matches!(name, MANIFEST | INDEX) || name.starts_with(BLOBS) && entry.size <= LARGEST_MANIFEST
    }

    fn contents(&mut self, entry: &Entry, bytes: &[u8]) {
        match name(entry) {
            MANIFEST => self.manifest = Some(serde_json::from_slice(bytes).map_err(|e| e.to_string())),
            INDEX => self.index = Some(serde_json::from_slice(bytes).map_err(|e| e.to_string())),
            // What is no manifest names nothing.
            blob => {
                let found = serde_json::from_slice::<Index>(bytes).ok();
                let found = found.filter(|found| found.manifests.is_some() || found.layers.is_some());
                self.manifests.extend(found.map(|found| (blob.to_string(), found)));
            }
        }
    }

    fn unmet(&self) -> Vec<Warning> {
        self.missing().into_iter().map(|text| Warning::new(WarningKind::Incomplete, text)).collect()
    }

    fn boxed(&self) -> Box<dyn MemberCheck> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::archive::check::entry;

    /// What is missing of a tar of these members; those with text are handed over.
    fn missing(members: &[(&str, &str)]) -> Vec<String> {
        let mut images = SavedImages::default();
        for (path, text) in members {
            let entry = entry(path);
            images.observe(&entry);
            if !text.is_empty() && images.wants(&entry) {
                images.contents(&entry, text.as_bytes());
            }
        }
        images.unmet().into_iter().map(|warning| warning.text).collect()
    }

    fn saved() -> String {
        json!([{"Config": "c.json", "RepoTags": ["a:1"], "Layers": ["l1/layer.tar", "l2/layer.tar"]}])
            .to_string()
    }

    #[test]
    fn an_image_is_whole_with_its_configuration_and_every_layer() {
        let saved = saved();
        let whole = [("c.json", ""), ("l1/layer.tar", ""), ("l2/layer.tar", ""), ("manifest.json", &saved)];
        assert_eq!(missing(&whole), [""; 0]);
        // The list may come first.
        let turned: Vec<_> = whole.iter().rev().map(|(path, text)| (*path, *text)).collect();
        assert_eq!(missing(&turned), [""; 0]);
        for gone in 0..3 {
            let rest: Vec<_> =
                whole.iter().enumerate().filter(|(i, _)| *i != gone).map(|(_, m)| *m).collect();
            let name = whole[gone].0;
            assert_eq!(missing(&rest), [format!("{name}, which manifest.json names, is not there")]);
        }
    }

    #[test]
    fn a_tar_without_any_image_is_no_backup_of_one() {
        assert_eq!(missing(&[]), ["there is neither manifest.json nor index.json: it holds no image"]);
        assert_eq!(missing(&[("l1/layer.tar", "")]).len(), 1);
        assert_eq!(missing(&[("manifest.json", "[]")]), ["manifest.json names no image"]);
        assert_eq!(missing(&[("index.json", "{\"manifests\":[]}")]), ["index.json names no image"]);
        assert!(missing(&[("manifest.json", "[{")])[0].starts_with("manifest.json cannot be read: "));
        assert_eq!(missing(&[("manifest.json", "[{}]")]), ["manifest.json names no configuration"]);
    }

    #[test]
    fn an_image_without_layers_is_one() {
        let saved = json!([{"Config": "c.json", "RepoTags": null, "Layers": null}]).to_string();
        assert_eq!(missing(&[("c.json", ""), ("manifest.json", &saved)]), [""; 0]);
    }

    #[test]
    fn an_oci_layout_is_followed_down_to_its_blobs() {
        let digest = |n: u8| format!("sha256:{}", format!("{n:02x}").repeat(32));
        let blob = |n: u8| format!("blobs/sha256/{}", format!("{n:02x}").repeat(32));
        let index = json!({"manifests": [{"digest": digest(1)}]}).to_string();
        let platforms = json!({"manifests": [{"digest": digest(2)}, {"digest": digest(9)}]}).to_string();
        let manifest =
            json!({"config": {"digest": digest(3)}, "layers": [{"digest": digest(4)}]}).to_string();
        let (b1, b2, b3, b4) = (blob(1), blob(2), blob(3), blob(4));
        let whole = [
            (b4.as_str(), "a layer"),
            (&b3, "{\"os\":\"linux\"}"),
            (&b2, &manifest),
            (&b1, &platforms),
            ("oci-layout", ""),
            ("index.json", &index),
        ];
        assert_eq!(missing(&whole), [""; 0], "the other platform was never pulled");
        assert_eq!(missing(&whole[1..]), [format!("{b4}, which {b2} names, is not there")]);
        let without = |gone: &str| {
            missing(&whole.iter().copied().filter(|(path, _)| *path != gone).collect::<Vec<_>>())
        };
        assert_eq!(without(&b3), [format!("{b3}, which {b2} names, is not there")]);
        assert_eq!(without(&b2), [format!("{b2}, which {b1} names, is not there")]);
        assert_eq!(without(&b1), [format!("{b1}, which index.json names, is not there")]);
    }
}
