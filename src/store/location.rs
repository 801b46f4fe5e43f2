//! A store as a request names it, before it is opened; and the one mapping between its URL, the keys below it, and what is
//! shown of them.
//!
//! A URL's path is percent-decoded once, and what comes out is the prefix to the letter: `s3://bucket/büro`,
//! `s3://bucket/b%C3%BCro` and the prefix `büro` of the bucket are one place. What a URL would cut off or change in silence
//! (`#`, `?`, a line break) is refused with the way to write it.

use std::path::PathBuf;

use object_store::path::Path;
use url::Url;

use super::{Kind, Store, StoreOptions};
use crate::error::{Error, Result};
use crate::report::Reporter;

const KNOWN: &str = "file:///folder, s3://bucket/prefix, az://container/prefix or gs://bucket/prefix";

/// The URL of a store, and how it is to be used.
#[derive(Debug, Clone)]
pub struct StoreUrl {
    /// `file:///folder`, `s3://bucket/prefix` and so on; holds no secret.
    pub url: String,
    /// How it is to be used.
    pub options: StoreOptions,
}

impl StoreUrl {
    /// The store at `url`, with the options that hold where nothing else is said.
    pub fn new(url: impl Into<String>) -> Self {
        StoreUrl { url: url.into(), options: StoreOptions::default() }
    }

    /// Opens it to read; `ui` is told when it is asked again for long.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open(&self, ui: &Reporter) -> Result<Store> {
        Store::open(&self.url, &self.options).inspect(|store| store.report_to(ui))
    }

    /// Opens it to write; `ui` is told when it is asked again for long.
    ///
    /// # Errors
    /// As [`Store::create`].
    pub fn create(&self, ui: &Reporter) -> Result<Store> {
        Store::create(&self.url, &self.options).inspect(|store| store.report_to(ui))
    }
}

/// What a store's URL says, without opening it.
///
/// # Errors
/// It is none that is known, names no place, carries credentials, or has characters that a URL does not keep.
pub fn locate(url: &str) -> Result<(Kind, Url)> {
    // These two do not stand for themselves in every URL: a backslash is a slash there, and `/c|` is a drive.
    let text = kept_by_urls(url)?.replace('\\', "%5C").replace('|', "%7C");
    let parsed = Url::parse(&text)
        .map_err(|e| Error::usage(format!("{url:?} is no store")).because(e).hint(format!("give {KNOWN}")))?;
    if parsed.password().is_some() || !parsed.username().is_empty() || parsed.query().is_some() {
        return Err(Error::usage("a store's URL carries no credentials and no options").hint(
            "give keys in the environment (AWS_ACCESS_KEY_ID, AZURE_STORAGE_ACCOUNT_KEY, …); a ? in a name is written %3F",
        ));
    }
    if parsed.port().is_some() {
        return Err(Error::usage(format!("{url} has a port, where a bucket's name has none"))
            .hint("give the server's address in AWS_ENDPOINT_URL or AZURE_STORAGE_ENDPOINT"));
    }
    let kind = match parsed.scheme() {
        "file" => Kind::File,
        "s3" => Kind::S3,
        "az" | "azure" => Kind::Azure,
        "gs" => Kind::Gcs,
        "memory" => Kind::Memory,
        other => {
            return Err(
                Error::usage(format!("unknown kind of store {other:?}")).hint(format!("give {KNOWN}"))
            );
        }
    };
    match kind {
        Kind::File => drop(folder_of(&parsed)?),
        Kind::Memory => {}
        Kind::S3 | Kind::Azure | Kind::Gcs => drop(bucket_of(&parsed)?),
    }
    prefix_of(kind, &parsed)?;
    Ok((kind, parsed))
}

/// Refuses what a URL would lose in silence.
fn kept_by_urls(url: &str) -> Result<&str> {
    let lost = |what: &str, hint: &str| {
        Err(Error::usage(format!("{url:?} {what}")).hint(format!("{hint} if it belongs to the name")))
    };
    if url.contains('#') {
        return lost("has a #, which would cut it off", "write %23");
    }
    if url.contains(char::is_control) {
        return lost("has a control character", "write it as %0A and the like");
    }
    if url.trim() != url {
        return lost("begins or ends with a space", "write %20");
    }
    Ok(url)
}

pub(super) fn bucket_of(url: &Url) -> Result<String> {
    url.host_str().map(String::from).ok_or_else(|| {
        Error::usage(format!("{url} names no bucket"))
            .hint("write s3://bucket/prefix, az://container/prefix or gs://bucket/prefix")
    })
}

pub(super) fn folder_of(url: &Url) -> Result<PathBuf> {
    url.to_file_path().map_err(|()| {
        Error::usage(format!("{url} names no folder of this host"))
            .hint("write file:///folder with three slashes")
    })
}

/// The prefix that a URL stands for, to the letter; a folder's is the folder itself.
pub(super) fn prefix_of(kind: Kind, url: &Url) -> Result<Path> {
    if kind == Kind::File {
        return Ok(Path::ROOT);
    }
    Path::from_url_path(url.path().trim_end_matches('/')).map_err(|e| {
        Error::usage(format!("{url} is no prefix of keys")).because(e).hint(
            "its parts are UTF-8, without empty ones and control characters; a % of the name is written %25",
        )
    })
}

/// A store's name: its URL without slashes at the end.
pub(super) fn name_of(url: &str) -> String {
    let name = url.trim_end_matches('/');
    if name.ends_with(':') { format!("{name}//") } else { name.into() }
}

/// A key as it is written behind a store's URL, so that the URL of both leads to it.
pub(super) fn shown_as(key: &str) -> String {
    let mut url = String::with_capacity(key.len());
    for c in key.chars() {
        match c {
            '%' | '#' | '?' | '\\' | '|' => url.push_str(&format!("%{:02X}", c as u32)),
            c => url.push(c),
        }
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(url: &str) -> String {
        let (kind, url) = locate(url).unwrap();
        prefix_of(kind, &url).unwrap().as_ref().to_string()
    }

    #[test]
    fn a_prefix_of_any_letters_is_meant_to_the_letter() {
        for letters in [
            "büro",
            "a~b",
            "x[1]",
            "50%",
            "a*b",
            "a\\b",
            "{a}",
            "c|d",
            "日本/語",
            "a b",
            "a^b`c",
            "<a>",
            "\"q\"",
            "e\u{301}",
        ] {
            for scheme in ["s3", "az", "gs", "memory"] {
                assert_eq!(prefix(&format!("{scheme}://b/{letters}")), letters);
                assert_eq!(prefix(&format!("{scheme}://b/top/{letters}/")), format!("top/{letters}"));
            }
            let (_, url) = locate(&format!("file:///srv/{letters}")).unwrap();
            assert_eq!(folder_of(&url).unwrap(), std::path::Path::new("/srv").join(letters));
        }
        // What is written with % is decoded once.
        assert_eq!(prefix("s3://b/b%C3%BCro"), "büro");
        assert_eq!(prefix("s3://b/a%23b%3Fc%2541"), "a#b?c%41");
    }

    #[test]
    fn keys_lie_below_the_prefix_to_the_letter_and_read_back() {
        for letters in ["büro", "a~b", "x[1]", "50%25", "a%23b"] {
            let store = StoreUrl::new(format!("memory://n/{letters}")).open(&Reporter::silent()).unwrap();
            let key = store.key("team/db", &"20261122T020000Z-1f2e3d4c".parse().unwrap(), ".tar.zst");
            let below = "team/db/20261122T020000Z-1f2e3d4c.tar.zst";
            assert_eq!(key.as_ref(), format!("{}/{below}", prefix(&store.name)));
            assert_eq!(store.shown(&key), below);
            assert_eq!(store.url_of(&key), format!("memory://n/{letters}/{below}"));
            assert_eq!(prefix(&store.url_of(&key)), key.as_ref(), "the shown URL leads to the object");
        }
    }

    #[test]
    fn a_foreign_objects_url_leads_to_it_too() {
        let store = StoreUrl::new("memory://n/p").open(&Reporter::silent()).unwrap();
        for key in ["50% off?#1", "a\\b|c", "ü"] {
            let key = store.at(key).unwrap();
            assert_eq!(prefix(&store.url_of(&key)), key.as_ref());
        }
    }

    #[test]
    fn what_a_url_would_cut_off_or_change_is_refused_with_the_way_to_write_it() {
        for (url, hint) in [
            ("file:///srv/a#b", "%23"),
            ("s3://b/a#", "%23"),
            ("file:///srv/a?b", "%3F"),
            ("s3://b/a?", "%3F"),
            ("file:///srv/a\nb", "%0A"),
            ("s3://b/a\tb", "%0A"),
            ("s3://b/a ", "%20"),
            (" file:///srv", "%20"),
            ("s3://b/a//b", "%25"),
            ("s3://b/%ff", "%25"),
            ("s3://b:9000/a", "AWS_ENDPOINT_URL"),
        ] {
            let error = locate(url).unwrap_err();
            assert_eq!(error.kind().exit_code(), 2, "{url}: {error}");
            assert!(error.hint_text().is_some_and(|text| text.contains(hint)), "{url}: {error:?}");
        }
    }

    #[test]
    fn a_store_at_the_root_keeps_its_slashes() {
        assert_eq!([name_of("file:///"), name_of("s3://b/p//")], ["file://", "s3://b/p"]);
    }

    #[test]
    fn a_url_says_kind_and_place() {
        for (url, kind) in [
            ("file:///usr", Kind::File),
            ("s3://b/p", Kind::S3),
            ("az://c", Kind::Azure),
            ("azure://c/p", Kind::Azure),
            ("gs://b", Kind::Gcs),
            ("memory://x", Kind::Memory),
        ] {
            assert_eq!(locate(url).unwrap().0, kind, "{url}");
        }
        for (url, text) in [
            ("s3:///prefix", "s3:///prefix names no bucket"),
            ("gs://b?x=1", "a store's URL carries no credentials and no options"),
            ("ftp://h/x", "unknown kind of store \"ftp\""),
        ] {
            assert_eq!(locate(url).unwrap_err().to_string(), text);
        }
    }

    #[test]
    fn a_store_is_opened_by_its_url() {
        assert_eq!(StoreUrl::new("memory:///a/b/").open(&Reporter::silent()).unwrap().name, "memory:///a/b");
        for url in ["", "nonsense", "ftp://host/x", "s3://"] {
            assert_eq!(
                StoreUrl::new(url).open(&Reporter::silent()).unwrap_err().kind().exit_code(),
                2,
                "{url}"
            );
        }
    }

    #[test]
    fn a_folder_is_made_where_that_was_asked_for_and_never_to_read() {
        let parent = tempfile::tempdir().unwrap();
        let location = StoreUrl::new(format!("file://{}/new", parent.path().display()));
        assert_eq!(location.open(&Reporter::silent()).unwrap_err().kind().exit_code(), 1);
        assert!(!parent.path().join("new").exists());
        assert_eq!(location.create(&Reporter::silent()).unwrap_err().kind().exit_code(), 1);
        assert!(!parent.path().join("new").exists(), "it may be a disk that is not mounted");
        let options = StoreOptions { make_folder: true, ..StoreOptions::default() };
        StoreUrl { options, ..location }.create(&Reporter::silent()).unwrap();
        assert!(parent.path().join("new").is_dir());
    }
}
