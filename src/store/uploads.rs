//! Uploads under way in a bucket, which no list of objects shows: the client library has no request for them (S3's
//! `ListMultipartUploads` and `ListParts`, which GCS has too), but signs one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::{Method, StatusCode};
use jiff::Timestamp;
use object_store::client::{HttpClient, HttpRequest};
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::signer::{SignedUrlOptions, Signer};
use object_store::{Error, Result};

use super::leftover::{OpenUpload, OpenUploads};
use super::pages::{element, unescaped};

/// For how long a request is signed.
const SIGNED: Duration = Duration::from_secs(300);

/// A bucket that shows its uploads.
pub(super) struct BucketUploads<S> {
    store: Arc<S>,
    client: HttpClient,
}

impl<S> BucketUploads<S> {
    pub(super) fn new(store: &Arc<S>, client: HttpClient) -> Self {
        BucketUploads { store: Arc::clone(store), client }
    }
}

impl<S> fmt::Debug for BucketUploads<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BucketUploads")
    }
}

#[async_trait]
impl<S: Signer + MultipartStore> OpenUploads for BucketUploads<S> {
    async fn open(&self, prefix: &Path) -> Result<Vec<OpenUpload>> {
        let (mut found, mut from) = (Vec::new(), None::<(String, String)>);
        loop {
            let mut query = vec![("uploads", String::new()), ("prefix", prefix.to_string())];
            if let Some((key, id)) = &from {
                query.extend([("key-marker", key.clone()), ("upload-id-marker", id.clone())]);
            }
            let page = self.page(&Path::default(), "ListMultipartUploadsResult", query).await?;
            found.extend(uploads(&page));
            let next = next(&page);
            if next.is_none() || next == from {
                return Ok(found);
            }
            from = next;
        }
    }

    async fn last_part(&self, key: &Path, id: &str) -> Result<Option<Timestamp>> {
        let (mut last, mut from) = (None, None::<String>);
        loop {
            let mut query = vec![("uploadId", id.to_string())];
            query.extend(from.clone().map(|from| ("part-number-marker", from)));
            let page = match self.page(key, "ListPartsResult", query).await {
                // Completed or aborted since.
                Err(Error::NotFound { .. }) => return Ok(None),
                page => page?,
            };
            last = last.max(last_part(&page)?);
            let next = is_truncated(&page).then(|| element(&page, "NextPartNumberMarker").map(unescaped));
            let next = next.flatten();
            if next.is_none() || next == from {
                return Ok(last);
            }
            from = next;
        }
    }

    async fn abort(&self, key: &Path, id: &str) -> Result<()> {
        match self.store.abort_multipart(key, &id.to_string()).await {
            // Completed or aborted since.
            Err(Error::NotFound { .. }) => Ok(()),
            Err(error) if error.to_string().contains("NoSuchUpload") => Ok(()),
            aborted => aborted,
        }
    }
}

impl<S: Signer> BucketUploads<S> {
    /// What a request is answered, which is to be an element of this name.
    async fn page(&self, key: &Path, root: &str, query: Vec<(&str, String)>) -> Result<String> {
        let options = SignedUrlOptions::default().with_query(query);
        let url = self.store.signed_url_opts(Method::GET, key, SIGNED, &options).await?;
        let mut request = HttpRequest::new(String::new().into());
        *request.uri_mut() = url.as_str().parse().map_err(generic)?;
        let answer = self.client.execute(request).await.map_err(generic)?;
        let status = answer.status();
        let text = answer.into_body().bytes().await.map_err(generic)?;
        let text = String::from_utf8_lossy(&text).into_owned();
        if status.is_success() && text.contains(&format!("<{root}")) {
            return Ok(text);
        }
        // Never the URL, which is signed.
        let source = format!("Server returned non-2xx status code: {status}: {text}").into();
        let path = url.path().to_string();
        Err(match status {
            StatusCode::FORBIDDEN => Error::PermissionDenied { path, source },
            StatusCode::NOT_FOUND => Error::NotFound { path, source },
            _ => Error::Generic { store: "S3", source },
        })
    }
}

/// The uploads on a page; what has no key or no time is none.
fn uploads(page: &str) -> Vec<OpenUpload> {
    let parts = page.split("<Upload>").skip(1).filter_map(|rest| rest.split("</Upload>").next());
    let uploads = parts.filter_map(|upload| {
        Some(OpenUpload {
            key: Path::parse(unescaped(element(upload, "Key")?)).ok()?,
            id: unescaped(element(upload, "UploadId")?),
            begun: element(upload, "Initiated")?.parse().ok()?,
        })
    });
    uploads.collect()
}

/// What leads to the next page.
fn next(page: &str) -> Option<(String, String)> {
    let marker = |name: &str| element(page, name).map(unescaped).unwrap_or_default();
    is_truncated(page).then(|| (marker("NextKeyMarker"), marker("NextUploadIdMarker")))
}

fn is_truncated(page: &str) -> bool {
    element(page, "IsTruncated").is_some_and(|text| text.eq_ignore_ascii_case("true"))
}

/// When the latest part on a page was sent. A part of no known time may be of now, and is an error.
fn last_part(page: &str) -> Result<Option<Timestamp>> {
    let parts = page.split("<Part>").skip(1).filter_map(|rest| rest.split("</Part>").next());
    let time = |part| element(part, "LastModified").unwrap_or_default().parse().map_err(generic);
    Ok(parts.map(time).collect::<Result<Vec<_>>>()?.into_iter().max())
}

fn generic(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Generic { store: "S3", source: Box::new(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_as_servers_give_it() {
        let page = "<?xml version=\"1.0\"?><ListMultipartUploadsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
             <Bucket>b</Bucket><NextKeyMarker>p/j/x&amp;y</NextKeyMarker><NextUploadIdMarker>2~a</NextUploadIdMarker>\
             <IsTruncated>true</IsTruncated>\
             <Upload><Key>p/j/x&amp;y</Key><UploadId>2~a</UploadId><Owner><ID>o</ID></Owner>\
             <Initiated>2026-11-22T02:00:00.000Z</Initiated></Upload>\
             <Upload><Key>p//j</Key><UploadId>3</UploadId><Initiated>2026-11-22T02:00:00Z</Initiated></Upload>\
             <Upload><Key>p/z</Key><UploadId>4</UploadId><Initiated>soon</Initiated></Upload>\
             </ListMultipartUploadsResult>";
        let begun = "2026-11-22T02:00:00Z".parse().unwrap();
        assert_eq!(
            uploads(page),
            [OpenUpload { key: Path::parse("p/j/x&y").unwrap(), id: "2~a".into(), begun }]
        );
        assert_eq!(next(page), Some(("p/j/x&y".into(), "2~a".into())));
        assert_eq!(
            next("<ListMultipartUploadsResult><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>"),
            None
        );
    }

    #[test]
    fn an_upload_is_as_old_as_its_latest_part() {
        let part = |n: u32, at: &str| {
            format!(
                "<Part><PartNumber>{n}</PartNumber><LastModified>{at}</LastModified><Size>5</Size></Part>"
            )
        };
        let page = |parts: &[String]| format!("<ListPartsResult>{}</ListPartsResult>", parts.concat());
        assert_eq!(last_part(&page(&[])).unwrap(), None);
        // Parts are sent side by side, and the last number need not be the latest.
        let parts = [part(1, "2026-11-22T02:00:00.000Z"), part(2, "2026-11-24T02:00:00.000Z")];
        let parts = [&parts[..], &[part(3, "2026-11-23T02:00:00.000Z")]].concat();
        assert_eq!(last_part(&page(&parts)).unwrap(), Some("2026-11-24T02:00:00Z".parse().unwrap()));
        assert!(last_part(&page(&[part(1, "soon")])).is_err());
    }
}
