//! What a stream that is read from its front may be, and where it may go.

use super::*;
use crate::tar::testing::{END, member};
use crate::tar::{BLOCK, EntryType};

/// A tar of empty files, with its end.
fn tar_of(names: &[&str]) -> Bytes {
    let members = names.iter().map(|name| member(name, b'0', b"")).collect::<Vec<_>>();
    [members.concat(), END.to_vec()].concat().into()
}

fn front(front: Bytes, raw: bool) -> Front {
    let stream: BytesStream = Box::pin(futures_util::stream::iter([Ok(front.clone())]));
    Front {
        name: "x".into(),
        layers: Vec::new(),
        raw,
        foreign: false,
        front,
        stream,
        trailing: Trailing::default(),
    }
}

fn guard(bytes: &Bytes, target: &RestoreTarget) -> Result<Guard> {
    let mut guard = Guard::new(&front(bytes.clone(), false), target)?;
    guard.landing = target.unpacks().then(|| Landing::new(""));
    Ok(guard)
}

fn into_folder() -> RestoreTarget {
    RestoreTarget::Path("x".into())
}

#[test]
fn a_volume_lies_below_its_name_or_below_the_path_that_was_packed() {
    for (first, volume) in [
        ("vol/_data/a", "vol"),
        ("vol/_data", "vol"),
        ("/var/lib/docker/volumes/vol/", "var/lib/docker/volumes/vol"),
        ("vol", "vol"),
        ("./vol", "./vol"),
        ("var/lib/docker/volumes/vol/_data/a", "var/lib/docker/volumes/vol"),
        ("var/lib/docker/volumes/vol", "var/lib/docker/volumes/vol"),
    ] {
        let guard = guard(&tar_of(&[first]), &RestoreTarget::Volume("v".into())).unwrap();
        assert_eq!(guard.original_volume().unwrap(), volume, "{first}");
    }
}

#[test]
fn an_archive_of_no_volume_is_told_from_one() {
    for first in ["etc/passwd", "./", "."] {
        let guard = guard(&tar_of(&[first]), &RestoreTarget::Volume("v".into())).unwrap();
        assert_eq!(guard.original_volume().unwrap_err().kind().exit_code(), 2, "{first}");
    }
}

#[test]
fn members_outside_of_the_target_stop_the_restore() {
    let bytes = tar_of(&["a", "../b"]);
    assert_eq!(
        guard(&bytes, &into_folder()).unwrap().pass(bytes.clone()).unwrap_err().kind().exit_code(),
        14
    );
    assert!(guard(&bytes, &RestoreTarget::Stdout).unwrap().pass(bytes.clone()).is_ok());
}

#[test]
fn members_of_another_volume_stop_the_restore() {
    let bytes = tar_of(&["vol/_data/a", "vol/_datax/b"]);
    let mut guard = guard(&bytes, &RestoreTarget::Volume("v".into())).unwrap();
    guard.original_volume().unwrap();
    let error = guard.pass(bytes.clone()).unwrap_err();
    assert!(error.to_string().contains("outside of vol/_data: vol/_datax/b"), "{error}");
}

#[test]
fn a_link_out_of_the_volume_stops_the_restore() {
    let bytes = tar_of(&["vol/_data/a"]);
    let guard = guard(&bytes, &RestoreTarget::Volume("v".into())).unwrap();
    guard.original_volume().unwrap();
    let mut entry = guard.first.clone().unwrap();
    let allow = |entry: &Entry| lies_within(entry, Some("vol"));
    assert!(allow(&entry).is_ok());
    (entry.kind, entry.link) = (EntryType::Link, Some("other/_data/b".into()));
    assert_eq!(allow(&entry).unwrap_err().kind().exit_code(), 14);
    entry.link = Some("vol/_data/b".into());
    assert!(allow(&entry).is_ok());
}

#[test]
fn a_tar_that_was_cut_is_broken() {
    let bytes = tar_of(&["a"]);
    let mut guard = guard(&bytes, &RestoreTarget::Stdout).unwrap();
    guard.pass(bytes.slice(..BLOCK)).unwrap();
    assert_eq!(guard.finish().unwrap_err().kind().exit_code(), 13);
    guard.pass(bytes.slice(BLOCK..)).unwrap();
    assert!(guard.finish().is_ok());
}

#[test]
fn only_a_foreign_tar_may_lack_its_end_and_then_it_is_said() {
    for end in [0, BLOCK, 2 * BLOCK] {
        let bytes = tar_of(&["a"]).slice(..BLOCK + end);
        let pass = |foreign| {
            let mut guard = guard(&bytes, &into_folder()).unwrap();
            guard.foreign = foreign;
            guard.pass(bytes.clone()).unwrap();
            guard.finish().map(|()| guard.warnings().len())
        };
        assert_eq!(pass(true).unwrap(), usize::from(end < 2 * BLOCK), "{end}");
        assert_eq!(pass(false).is_ok(), end == 2 * BLOCK, "{end}");
    }
    // Inside of a member nothing ends.
    let cut = [member("a", b'0', b"abc"), Vec::new()].concat();
    let mut guard = guard(&tar_of(&["a"]), &into_folder()).unwrap();
    guard.foreign = true;
    guard.pass(Bytes::from(cut).slice(..BLOCK + 2)).unwrap();
    assert_eq!(guard.finish().unwrap_err().kind().exit_code(), 13);
}

#[test]
fn a_tar_that_can_be_read_in_two_ways_is_handed_on_as_it_is_and_said() {
    let bytes = Bytes::from([member("a", b'S', b"x"), END.to_vec()].concat());
    let mut unpacking = guard(&tar_of(&["a"]), &into_folder()).unwrap();
    assert_eq!(unpacking.pass(bytes.clone()).unwrap_err().kind().exit_code(), 14);
    let mut guard = guard(&bytes, &RestoreTarget::Stdout).unwrap();
    assert_eq!(guard.pass(bytes.clone()).unwrap(), [bytes]);
    assert!(guard.finish().is_ok() && guard.warnings()[0].contains("nobody knows"));
}

#[test]
fn another_tar_behind_the_first_is_said() {
    let bytes = Bytes::from([tar_of(&["a"]), tar_of(&["b"])].concat());
    let mut guard = guard(&bytes, &into_folder()).unwrap();
    let written = guard.pass(bytes).unwrap().concat();
    assert_eq!((written.len(), guard.warnings().len()), (3 * BLOCK, 1));
}

#[test]
fn bytes_that_are_no_tar_go_where_none_is_needed() {
    let bytes = Bytes::from_static(b"no tar");
    for target in [into_folder(), RestoreTarget::Image, RestoreTarget::Volume("v".into())] {
        assert_eq!(guard(&bytes, &target).err().unwrap().kind().exit_code(), 2, "{target:?}");
    }
    let mut guard = guard(&bytes, &RestoreTarget::Stdout).unwrap();
    assert!(guard.pass(bytes.clone()).is_ok() && guard.finish().is_ok());
}

#[test]
fn what_was_sealed_as_bytes_need_not_end_as_a_tar_does() {
    let bytes = tar_of(&["a"]);
    let mut guard = Guard::new(&front(bytes.clone(), true), &RestoreTarget::Stdout).unwrap();
    guard.pass(bytes.slice(..100)).unwrap();
    assert!(guard.finish().is_ok());
}
