//! A restore without us: `zstd`, `tar`, the lines of the catalog and a list of what to delete.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bytes::Bytes;
use serde_json::Value;

/// Restores an archive, of which the store's objects are given by key, into a new folder. Copies of those objects lie in
/// `work` meanwhile.
pub(super) fn restore(objects: &BTreeMap<String, Bytes>, job: &str, id: &str, work: &Path, target: &Path) {
    std::fs::create_dir(target).unwrap();
    let catalog = copy(objects, &format!("{job}/{id}.catalog.zst"), work);
    let lines = Command::new("zstd").args(["-dcq".as_ref(), catalog.as_os_str()]).output().unwrap();
    assert!(lines.status.success(), "{}", String::from_utf8_lossy(&lines.stderr));
    let records: Vec<Value> =
        serde_json::Deserializer::from_slice(&lines.stdout).into_iter().collect::<Result<_, _>>().unwrap();
    let refs = records.iter().filter_map(|record| record.get("ref"));
    let mut archives: BTreeMap<u64, &str> =
        refs.map(|archive| (archive["n"].as_u64().unwrap(), archive["id"].as_str().unwrap())).collect();
    // Its own is the newest, and the last to be unpacked.
    archives.insert(u64::MAX, id);
    let members: Vec<(PathBuf, u64)> = records
        .iter()
        .filter_map(|record| record.get("entry"))
        .map(|entry| (name(entry), entry["ref"].as_u64().unwrap_or(u64::MAX)))
        .collect();
    for (number, archive) in archives {
        unpack(&copy(objects, &format!("{job}/{archive}.tar.zst"), work), target);
        let known = members.iter().filter(|(_, archive)| *archive <= number);
        delete_others(target, target, &known.map(|(name, _)| name).collect());
    }
}

fn copy(objects: &BTreeMap<String, Bytes>, key: &str, work: &Path) -> PathBuf {
    let path = work.join(key.replace('/', "-"));
    std::fs::write(&path, objects.get(key).unwrap_or_else(|| panic!("no {key}"))).unwrap();
    path
}

/// The plain name of a catalog's entry.
fn name(entry: &Value) -> PathBuf {
    let hex = |hex: &str| -> Vec<u8> {
        hex.as_bytes()
            .chunks(2)
            .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
            .collect()
    };
    let bytes = match entry["path_hex"].as_str() {
        Some(text) => hex(text),
        None => entry["path"].as_str().unwrap().into(),
    };
    Path::new(OsStr::from_bytes(&bytes)).components().collect()
}

fn unpack(archive: &Path, target: &Path) {
    let mut zstd = Command::new("zstd")
        .args(["-dcq".as_ref(), archive.as_os_str()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let tar = Command::new("tar")
        .args(["-x", "-p", "--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner", "-C"])
        .arg(target)
        .stdin(zstd.stdout.take().unwrap())
        .output()
        .unwrap();
    assert!(tar.status.success(), "{}", String::from_utf8_lossy(&tar.stderr));
    zstd.wait().unwrap();
    std::fs::remove_file(archive).unwrap();
}

/// Deletes what is not known, and folders that are empty then.
fn delete_others(root: &Path, folder: &Path, known: &BTreeSet<&PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let is_folder = path.symlink_metadata().unwrap().is_dir();
        if is_folder {
            delete_others(root, &path, known);
        }
        match known.contains(&path.strip_prefix(root).unwrap().to_path_buf()) {
            true => {}
            // One that is not empty holds something that is known.
            false if is_folder => drop(std::fs::remove_dir(path)),
            false => std::fs::remove_file(path).unwrap(),
        }
    }
}
