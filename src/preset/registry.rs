//! The layout of a Docker registry's files: every link is to name a blob that is in the backup, too.

use std::collections::HashSet;

use crate::archive::check::MemberCheck;
use crate::report::hex;
use crate::stream::warning::{Warning, WarningKind};
use crate::tar::Entry;

/// A SHA-256.
type Digest = [u8; 32];

/// What a Docker registry's folder holds: `docker/registry/v2/blobs/sha256/ab/ab…/data`, and links below
/// `docker/registry/v2/repositories` whose names end with `sha256/ab…/link`.
#[derive(Debug, Clone, Default)]
pub(super) struct RegistryLayout {
    blobs: HashSet<Digest>,
    links: HashSet<Digest>,
    /// Whether anything lies in a registry's folder.
    seen: bool,
}

impl MemberCheck for RegistryLayout {
    fn observe(&mut self, entry: &Entry) {
        let Some((_, below)) = entry.path.split_once("docker/registry/v2/") else { return };
        self.seen = true;
        let segments: Vec<_> = below.split('/').collect();
        match segments[..] {
            ["blobs", "sha256", _, hex, "data"] => self.blobs.extend(digest(hex)),
            ["repositories", .., "sha256", hex, "link"] => self.links.extend(digest(hex)),
            _ => {}
        }
    }

    fn unmet(&self) -> Vec<Warning> {
        if !self.seen {
            let text = "no registry's files: nothing lies in docker/registry/v2/";
            return vec![Warning::new(WarningKind::UnmetExpectation, text)];
        }
        let mut dangling = self.links.difference(&self.blobs);
        let Some(first) = dangling.next() else { return Vec::new() };
        let (count, first) = (1 + dangling.count(), hex(first));
        let text = format!(
            "the registry has links to blobs that are not in the backup: {count}, such as sha256:{first} \
             (pushed meanwhile, or left by a garbage collection)"
        );
        vec![Warning::new(WarningKind::DanglingLinks, text)]
    }

    fn boxed(&self) -> Box<dyn MemberCheck> {
        Box::new(self.clone())
    }
}

fn digest(hex: &str) -> Option<Digest> {
    let byte = |i: usize| u8::from_str_radix(hex.get(2 * i..2 * i + 2)?, 16).ok();
    let mut digest = Digest::default();
    for (i, to) in digest.iter_mut().enumerate() {
        *to = byte(i)?;
    }
    (hex.len() == 64).then_some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::check::{Check, entry, texts};

    const ROOT: &str = "v/_data/docker/registry/v2";

    fn blob(hex: &str) -> String {
        format!("{ROOT}/blobs/sha256/{}/{hex}/data", &hex[..2])
    }

    fn layer(hex: &str) -> String {
        format!("{ROOT}/repositories/team/app/_layers/sha256/{hex}/link")
    }

    fn tag(hex: &str) -> String {
        format!("{ROOT}/repositories/team/app/_manifests/tags/1.4/index/sha256/{hex}/link")
    }

    fn unmet(paths: &[String]) -> Vec<Warning> {
        let mut check = Check::of(RegistryLayout::default());
        paths.iter().for_each(|path| check.observe(&entry(path)));
        check.unmet()
    }

    #[test]
    fn links_whose_blobs_are_there_are_as_expected() {
        let (a, b) = ("aa".repeat(32), "bb".repeat(32));
        assert_eq!(unmet(&[layer(&a), blob(&a)]), []);
        assert_eq!(unmet(&[blob(&a), blob(&b), layer(&a), tag(&b), tag(&a)]), []);
    }

    #[test]
    fn a_blob_without_a_link_is_nothing_to_warn_of() {
        assert_eq!(unmet(&[blob(&"aa".repeat(32))]), []);
    }

    #[test]
    fn a_link_without_its_blob_dangles() {
        let (a, b) = ("aa".repeat(32), "bb".repeat(32));
        let dangling = unmet(&[blob(&a), layer(&a), layer(&b)]);
        let text = format!(
            "the registry has links to blobs that are not in the backup: 1, such as sha256:{b} (pushed meanwhile, or \
             left by a garbage collection)"
        );
        assert_eq!(dangling, [Warning::new(WarningKind::DanglingLinks, text)]);
    }

    #[test]
    fn a_blob_that_several_links_miss_is_counted_once() {
        let (a, b) = ("aa".repeat(32), "bb".repeat(32));
        let dangling = unmet(&[layer(&a), tag(&a), layer(&b)]);
        assert!(dangling[0].text.contains("not in the backup: 2, such as sha256:"), "{dangling:?}");
        assert_eq!(dangling.len(), 1);
    }

    #[test]
    fn a_folder_of_something_else_is_no_registry() {
        for paths in [vec![], vec!["v/_data/other".to_string()], vec!["v/_data/docker/registry".into()]] {
            let warnings = unmet(&paths);
            assert_eq!(texts(&warnings), ["no registry's files: nothing lies in docker/registry/v2/"]);
            assert_eq!(warnings[0].kind, WarningKind::UnmetExpectation);
        }
    }

    #[test]
    fn an_empty_registry_is_one() {
        assert_eq!(unmet(&[format!("{ROOT}/repositories/")]), []);
    }

    #[test]
    fn what_has_no_digest_is_neither_blob_nor_link() {
        let a = "aa".repeat(32);
        let odd = [
            layer("aa"),
            layer(&"zz".repeat(32)),
            layer(&format!("{a}aa")),
            format!("{ROOT}/repositories/team/app/_layers/sha256/{a}/other"),
            format!("{ROOT}/repositories/team/app/_layers/sha512/{a}/link"),
        ];
        assert_eq!(unmet(&odd), []);
        let misplaced = format!("{ROOT}/blobs/sha256/{a}/data");
        assert_eq!(unmet(&[layer(&a), misplaced])[0].kind, WarningKind::DanglingLinks);
    }

    #[test]
    fn digests_are_64_hexadecimal_digits() {
        assert_eq!(digest(&"0f".repeat(32)), Some([15; 32]));
        for wrong in ["", "0f", &"0f".repeat(31), &"0f".repeat(33), &"é".repeat(32), &"0g".repeat(32)] {
            assert_eq!(digest(wrong), None, "{wrong}");
        }
    }
}
