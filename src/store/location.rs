//! A store as a request names it, before it is opened.

use super::{Store, StoreOptions};
use crate::error::Result;

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

    /// Opens it to read.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open(&self) -> Result<Store> {
        Store::open(&self.url, &self.options)
    }

    /// Opens it to write.
    ///
    /// # Errors
    /// As [`Store::create`].
    pub fn create(&self) -> Result<Store> {
        Store::create(&self.url, &self.options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_opened_by_its_url() {
        assert_eq!(StoreUrl::new("memory:///a/b/").open().unwrap().name, "memory:///a/b");
        for url in ["", "nonsense", "ftp://host/x", "s3://"] {
            assert_eq!(StoreUrl::new(url).open().unwrap_err().kind().exit_code(), 2, "{url}");
        }
    }

    #[test]
    fn a_folder_is_made_where_that_was_asked_for_and_never_to_read() {
        let parent = tempfile::tempdir().unwrap();
        let location = StoreUrl::new(format!("file://{}/new", parent.path().display()));
        assert_eq!(location.open().unwrap_err().kind().exit_code(), 1);
        assert!(!parent.path().join("new").exists());
        assert_eq!(location.create().unwrap_err().kind().exit_code(), 1);
        assert!(!parent.path().join("new").exists(), "it may be a disk that is not mounted");
        let options = StoreOptions { make_folder: true, ..StoreOptions::default() };
        StoreUrl { options, ..location }.create().unwrap();
        assert!(parent.path().join("new").is_dir());
    }
}
