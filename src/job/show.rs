//! `show`: what an archive is, and how to restore it by hand.

use std::collections::BTreeMap;

use secrecy::SecretString;

use super::open_archive::OpenArchive;
use super::stored::{ArchiveRef, OpenRequest, StoredArchive};
use crate::archive::catalog::{ArchiveRecord, EndRecord, RefRecord};
use crate::archive::frame::Codec;
use crate::archive::openpgp::Cipher;
use crate::archive::{Format, Id};
use crate::error::Result;
use crate::preset::{SealedArchive, Step, restore_steps};
use crate::report::Reporter;
use crate::store::key_object;
use crate::store::manifest::catalog_suffix;

/// Which archive.
#[derive(Debug, Clone)]
pub struct ShowRequest {
    /// Where the archive is, and what opens it.
    pub open: OpenRequest,
    /// The archive.
    pub archive: ArchiveRef,
}

/// What the sealed catalog says of an archive.
#[derive(Debug)]
pub struct Description {
    /// Older archives that members of it lie in, oldest first.
    pub needs: Vec<RefRecord>,
    /// `JOB@ID`
    pub name: String,
    /// Where its object lies.
    pub object: String,
    /// How it began.
    pub archive: ArchiveRecord,
    /// How it ended.
    pub end: EndRecord,
    /// What brings it back into the product that it is of, where a preset made it.
    pub steps: Vec<Step>,
    /// The commands that restore it without us.
    pub by_hand: String,
}

/// Describes an archive.
///
/// # Errors
/// There is no such archive, or it cannot be opened.
pub async fn show(request: &ShowRequest, ui: &Reporter) -> Result<Description> {
    let found = StoredArchive::find(&request.open.store, &request.archive, ui).await?;
    let passphrase = found.passphrase(&request.open)?;
    let opened = OpenArchive::open(&found, passphrase.as_ref()).await?;
    let (archive, end) = (opened.record().clone(), opened.end().clone());
    let needs: Vec<_> = opened.refs().cloned().collect();
    let (object, cipher) = (format!("{}{}", found.id, found.manifest.suffix), found.cipher());
    let keys = keys(&found, &needs, passphrase.as_ref()).await?;
    let opening = opening(&object, cipher, archive.codec, keys.get(&found.id));
    let by_hand = match needs.is_empty() {
        true => alone(&opening, archive.kind),
        false => {
            let catalog = format!("{}{}", found.id, catalog_suffix(&found.manifest.suffix));
            let catalog = opening_catalog(&catalog, cipher, keys.get(&found.id));
            script(&found.name(), &needs, &keys, &opening, &catalog)
        }
    };
    let (name, is_clear) = (found.name(), cipher.is_none());
    let sealed = SealedArchive { name, is_clear, job: found.job.clone(), source: archive.source.clone() };
    Ok(Description {
        steps: restore_steps(&[sealed]),
        name: found.name(),
        object: found.store.url_of(&found.store.key(&found.job, &found.id, &found.manifest.suffix)),
        needs,
        by_hand,
        archive,
        end,
    })
}

/// The names of key objects, by the archives that the passphrase does not open by themselves.
type Keys = BTreeMap<Id, String>;

async fn keys(found: &StoredArchive, needs: &[RefRecord], passphrase: Option<&SecretString>) -> Result<Keys> {
    let mut keys = Keys::new();
    let Some(passphrase) = passphrase else { return Ok(keys) };
    let known = found.store.key_objects_of(&found.job).await?;
    let all = needs.iter().map(|record| &record.id).chain([&found.id]);
    for id in all.filter(|id| known.contains_key(id)) {
        let archive = if *id == found.id { found.clone() } else { found.sibling(id).await? };
        if let Some(key) = archive.key_in_use(&archive.archive_object().await?, passphrase).await? {
            keys.insert(id.clone(), format!("{id}{}", key_object::suffix(&key.at)));
        }
    }
    Ok(keys)
}

/// The line that restores an archive by what opens it.
fn alone(opening: &str, kind: Format) -> String {
    match kind {
        Format::Tar => format!("{opening} | {TAR} -C TARGET"),
        Format::Raw => format!("{opening} > TARGET"),
    }
}

/// Unpacks a tar as it was packed.
const TAR: &str = "tar -x -p --xattrs --xattrs-include='*' --acls --numeric-owner";

/// The commands that open an archive object, of which there is a copy in this folder, and of a key object where that is needed.
fn opening(object: &str, cipher: Option<Cipher>, codec: Codec, key: Option<&String>) -> String {
    let head_len = cipher.map_or(0, Cipher::head_len);
    let head = key.map(|key| format!("head -c {head_len} {key}"));
    with_codec(decrypting(object, cipher, head), codec)
}

/// The commands that open a catalog, likewise.
fn opening_catalog(object: &str, cipher: Option<Cipher>, key: Option<&String>) -> String {
    let head_len = cipher.map_or(0, Cipher::head_len);
    let head = key.map(|key| format!("tail -c +{} {key} | head -c {head_len}", head_len + 1));
    with_codec(decrypting(object, cipher, head), Codec::Zstd)
}

/// The commands that decrypt an object; `head` are those that print what takes the place of its own head.
fn decrypting(object: &str, cipher: Option<Cipher>, head: Option<String>) -> String {
    let program = match cipher {
        Some(Cipher::Cfb) => "gpg -d",
        Some(Cipher::Aead) => "sq decrypt",
        None => return format!("cat {object}"),
    };
    match head {
        Some(head) => {
            let from = cipher.map_or(0, Cipher::head_len) + 1;
            format!("{{ {head}; tail -c +{from} {object}; }} | {program}")
        }
        None => format!("{program} {object}"),
    }
}

fn with_codec(first: String, codec: Codec) -> String {
    let unpack = match codec {
        Codec::Zstd => " | zstd -d",
        Codec::Gzip => " | gzip -d",
        Codec::Xz => " | xz -d",
        Codec::None => "",
    };
    format!("{first}{unpack}")
}

/// A script that restores an increment without us. What an older archive has that the increment does not have from there
/// goes before the next one is unpacked: a folder may have become a file since. That changes the times of folders.
const SCRIPT: &str = r#"#!/usr/bin/env bash
# Restores NAME into a new folder, the argument. It is run as root, where copies of the objects below are.
# It needs gpg, zstd, jq, GNU tar, sed, find, xargs and coreutils, and room for the names of all members in TMPDIR.
set -euo pipefail
export LC_ALL=C
target=$1
mkdir "$target"
work=$(realpath "$(mktemp -d)")
trap 'rm -r "$work"' EXIT

plain() { sed -z 's,^\(\.\?/\)*,,; s,/*$,,; s,^\.$,,'; }

# Names of members that come from the archives up to number $1; 0 is the newest.
names() {
  of='select($n == "0" or ((.ref // 0) > 0 and .ref <= ($n | tonumber)))'
  jq -j --arg n "$1" "$of"' | select(.path_hex | not) | .path + "\u0000"' "$work/members"
  jq -r --arg n "$1" "$of"' | .path_hex // empty | ascii_upcase + "00"' "$work/members" | basenc -d -i --base16
}

# Unpacks archive number $1, and deletes what is not to be restored from there or from those before it.
unpack() {
  TAR -C "$target"
  # Behind the end of a tar come zeros, which tar does not read.
  cat >/dev/null
  names "$1" | plain | sort -z >"$work/listed"
  (
    cd "$target"
    find . -mindepth 1 ! -type d -printf '%P\0' | sort -z | comm -z -23 - "$work/listed" | xargs -0r rm -f --
    find . -mindepth 1 -type d -printf '%P\0' | sort -z | comm -z -23 - "$work/listed" | sort -zr |
      xargs -0r rmdir --ignore-fail-on-non-empty --
  )
}

CATALOG | jq -c '.entry // empty | {path, path_hex, type, mtime, ref}' >"$work/members"
ARCHIVES
# Folders get the times that they had.
times() {
  hex='def hex: explode | map("0123456789ABCDEF"[. / 16 | floor:][:1] + "0123456789ABCDEF"[. % 16:][:1]) | add;'
  jq -j 'select(.type == "dir" and (.path_hex | not)) | .mtime + "\u0000" + .path + "\u0000"' "$work/members"
  jq -r "$hex"'select(.type == "dir" and .path_hex) | (.mtime | hex) + "00" + (.path_hex | ascii_upcase) + "00"' \
    "$work/members" | basenc -d -i --base16
}
cd "$target"
times | while IFS= read -r -d '' time && IFS= read -r -d '' folder; do
  touch -d "@$time" "./$folder"
done
"#;

/// The script for an archive that needs older ones.
fn script(name: &str, needs: &[RefRecord], keys: &Keys, own: &str, catalog: &str) -> String {
    let older = needs.iter().map(|record| {
        let object = format!("{}{}", record.id, record.suffix);
        format!(
            "{} | unpack {}\n",
            opening(&object, record.cipher, record.codec, keys.get(&record.id)),
            record.n
        )
    });
    let archives = older.chain([format!("{own} | unpack 0\n")]).collect::<String>();
    let words = [("NAME", name), ("TAR", TAR), ("CATALOG", catalog), ("ARCHIVES\n", &archives)];
    words.into_iter().fold(SCRIPT.into(), |script: String, (word, by)| script.replacen(word, by, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The line that restores an archive that needs no others.
    fn by_hand(object: &str, cipher: Option<Cipher>, codec: Codec, kind: Format) -> String {
        alone(&opening(object, cipher, codec, None), kind)
    }

    #[test]
    fn a_sealed_tar_is_restored_by_gpg_zstd_and_tar() {
        let line = by_hand("x.tar.zst.gpg", Some(Cipher::Cfb), Codec::Zstd, Format::Tar);
        let tar = "tar -x -p --xattrs --xattrs-include='*' --acls --numeric-owner -C TARGET";
        assert_eq!(line, format!("gpg -d x.tar.zst.gpg | zstd -d | {tar}"));
    }

    #[test]
    fn what_gnupg_does_not_read_is_left_to_sequoia() {
        let line = by_hand("x.zst.pgp", Some(Cipher::Aead), Codec::Zstd, Format::Raw);
        assert_eq!(line, "sq decrypt x.zst.pgp | zstd -d > TARGET");
    }

    #[test]
    fn another_head_is_put_before_what_follows_the_objects_own() {
        let key = Some(&"x.key-y.skesk".to_string());
        let own = opening("x.tar.zst.gpg", Some(Cipher::Cfb), Codec::Zstd, key);
        assert_eq!(own, "{ head -c 49 x.key-y.skesk; tail -c +50 x.tar.zst.gpg; } | gpg -d | zstd -d");
        let catalog = opening_catalog("x.catalog.zst.pgp", Some(Cipher::Aead), key);
        let head = "tail -c +80 x.key-y.skesk | head -c 79";
        assert_eq!(catalog, format!("{{ {head}; tail -c +80 x.catalog.zst.pgp; }} | sq decrypt | zstd -d"));
    }

    #[test]
    fn every_codec_has_its_tool_and_none_needs_none() {
        for (codec, line) in [
            (Codec::Zstd, "cat x | zstd -d > TARGET"),
            (Codec::Gzip, "cat x | gzip -d > TARGET"),
            (Codec::Xz, "cat x | xz -d > TARGET"),
            (Codec::None, "cat x > TARGET"),
        ] {
            assert_eq!(by_hand("x", None, codec, Format::Raw), line);
        }
    }
}
