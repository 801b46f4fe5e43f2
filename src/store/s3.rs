//! Requests of S3 that the client library does not make: retention of objects, their versions, and how a bucket is set up.
//! They are signed by the library, with the same credentials, and go through the same client.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{Method, StatusCode};
use jiff::Timestamp;
use md5::{Digest, Md5};
use object_store::aws::{AmazonS3, AwsAuthorizer};
use object_store::client::{HttpClient, HttpRequest};
use object_store::path::Path;
use object_store::signer::Signer;
use object_store::{Error, Result};
use serde::Deserialize;

/// For how long a URL is signed of which only the place is wanted.
const UNUSED: Duration = Duration::from_secs(60);

/// How an object's retention can be ended ("S3 Object Lock", retention modes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum LockMode {
    /// By whoever has `s3:BypassGovernanceRetention`.
    Governance,
    /// By nobody.
    Compliance,
}

impl fmt::Display for LockMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LockMode::Governance => "GOVERNANCE",
            LockMode::Compliance => "COMPLIANCE",
        })
    }
}

impl FromStr for LockMode {
    type Err = crate::error::Error;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        match text.to_ascii_lowercase().as_str() {
            "governance" => Ok(LockMode::Governance),
            "compliance" => Ok(LockMode::Compliance),
            _ => {
                Err(Self::Err::usage(format!("unknown lock mode {text:?}")).hint("governance or compliance"))
            }
        }
    }
}

/// Until when an object cannot be deleted (`GetObjectRetention`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Retention {
    /// Who can end it before.
    #[serde(rename = "Mode")]
    pub mode: LockMode,
    /// Its end.
    #[serde(rename = "RetainUntilDate")]
    pub until: Timestamp,
}

/// A version of an object, or the marker that it was deleted (`ListObjectVersions`).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Version {
    #[serde(rename = "Key")]
    pub(super) key: String,
    #[serde(rename = "VersionId")]
    pub(super) id: String,
}

/// `ListVersionsResult`
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct VersionsPage {
    version: Vec<Version>,
    delete_marker: Vec<Version>,
    is_truncated: bool,
    next_key_marker: Option<String>,
    next_version_id_marker: Option<String>,
}

/// `VersioningConfiguration`
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Versioning {
    status: Option<String>,
}

/// `ObjectLockConfiguration`
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct LockConfiguration {
    object_lock_enabled: Option<String>,
}

/// The part of S3's API that the library leaves out.
pub(super) struct Api {
    store: Arc<AmazonS3>,
    client: HttpClient,
    region: String,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Api")
    }
}

impl Api {
    pub(super) fn new(store: Arc<AmazonS3>, client: HttpClient, region: Option<String>) -> Self {
        Api { store, client, region: region.unwrap_or_else(|| "us-east-1".into()) }
    }

    /// `GetObjectRetention`; none where the object has no retention.
    pub(super) async fn retention(&self, key: &Path) -> Result<Option<Retention>> {
        match self.ask(Method::GET, key, "retention", None).await {
            Ok(text) => parse(&text).map(Some),
            Err(error)
                if says(&error, "NoSuchObjectLockConfiguration")
                    || says(&error, "ObjectLockConfiguration") =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// `PutObjectRetention`, of the object's current version.
    pub(super) async fn retain(&self, key: &Path, retention: Retention) -> Result<()> {
        let Retention { mode, until } = retention;
        // Whole seconds: that is what servers keep.
        let until = until.strftime("%Y-%m-%dT%H:%M:%SZ");
        let body = format!(
            "<Retention xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Mode>{mode}</Mode>\
             <RetainUntilDate>{until}</RetainUntilDate></Retention>"
        );
        self.ask(Method::PUT, key, "retention", Some(body)).await.map(drop)
    }

    /// Asks the bucket for one of its settings: `versioning`, `object-lock`, `lifecycle`.
    pub(super) async fn ask_bucket(&self, setting: &str) -> Result<String> {
        self.ask(Method::GET, &Path::default(), setting, None).await
    }

    /// `GetBucketVersioning`: whether what is deleted or replaced stays there as an older version.
    pub(super) async fn is_versioned(&self) -> Result<bool> {
        let text = self.ask_bucket("versioning").await?;
        Ok(parse::<Versioning>(&text)?.status.as_deref() == Some("Enabled"))
    }

    /// `GetObjectLockConfiguration`: whether objects of the bucket can have a retention.
    pub(super) async fn has_lock(&self) -> Result<bool> {
        match self.ask_bucket("object-lock").await {
            Ok(text) => {
                Ok(parse::<LockConfiguration>(&text)?.object_lock_enabled.as_deref() == Some("Enabled"))
            }
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) if says(&error, "ObjectLockConfigurationNotFoundError") => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// `ListObjectVersions`: all versions of one object, and its delete markers.
    pub(super) async fn versions(&self, key: &Path) -> Result<Vec<Version>> {
        let (mut found, mut from) = (Vec::new(), String::new());
        loop {
            let query = format!("prefix={}{from}&versions=", encoded(key.as_ref()));
            let page: VersionsPage = parse(&self.ask(Method::GET, &Path::default(), &query, None).await?)?;
            let here = page.version.into_iter().chain(page.delete_marker);
            found.extend(here.filter(|version| version.key == key.as_ref()));
            let next = format!(
                "&key-marker={}&version-id-marker={}",
                encoded(&page.next_key_marker.unwrap_or_default()),
                encoded(&page.next_version_id_marker.unwrap_or_default())
            );
            if !page.is_truncated || next == from {
                return Ok(found);
            }
            from = next;
        }
    }

    /// `DeleteObject` of one version.
    pub(super) async fn delete_version(&self, key: &Path, version: &Version) -> Result<()> {
        let query = format!("versionId={}", encoded(&version.id));
        match self.ask(Method::DELETE, key, &query, None).await {
            Ok(_) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Makes a request and gives the body of its answer. The query's parts are in order, as a signature wants them.
    async fn ask(&self, method: Method, key: &Path, query: &str, body: Option<String>) -> Result<String> {
        let mut url = self.store.signed_url(Method::GET, key, UNUSED).await?;
        url.set_query(Some(query));
        let mut request = HttpRequest::new(body.clone().unwrap_or_default().into());
        *request.uri_mut() = url.as_str().parse().map_err(generic)?;
        *request.method_mut() = method.clone();
        if let Some(body) = body {
            // Older servers know no other checksum.
            let md5 = BASE64.encode(Md5::digest(body)).parse().map_err(generic)?;
            request.headers_mut().insert("content-md5", md5);
        }
        let credential = self.store.credentials().get_credential().await?;
        AwsAuthorizer::new(&credential, "s3", &self.region).try_authorize(&mut request, None)?;
        let answer = self.client.execute(request).await.map_err(generic)?;
        let status = answer.status();
        let text = answer.into_body().bytes().await.map_err(generic)?;
        let text = String::from_utf8_lossy(&text).into_owned();
        if status.is_success() { Ok(text) } else { Err(refusal(&method, &url, status, &text)) }
    }
}

/// An answer as the library's own errors have it, so that it is understood in the same way.
fn refusal(method: &Method, url: &url::Url, status: StatusCode, text: &str) -> Error {
    let path = url.path().to_string();
    let source = format!("{method} {path} - Server returned non-2xx status code: {status}: {text}").into();
    match status {
        StatusCode::NOT_FOUND => Error::NotFound { path, source },
        StatusCode::FORBIDDEN => Error::PermissionDenied { path, source },
        StatusCode::UNAUTHORIZED => Error::Unauthenticated { path, source },
        _ => Error::Generic { store: "S3", source },
    }
}

fn says(error: &Error, text: &str) -> bool {
    error.to_string().contains(text)
}

fn generic(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Generic { store: "S3", source: Box::new(error) }
}

fn parse<T: for<'a> Deserialize<'a>>(text: &str) -> Result<T> {
    quick_xml::de::from_str(text).map_err(generic)
}

/// A value of a query.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_understood_as_servers_give_them() {
        let retention: Retention = parse(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Retention xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
             <Mode>GOVERNANCE</Mode><RetainUntilDate>2026-12-26T02:00:00.000Z</RetainUntilDate></Retention>",
        )
        .unwrap();
        let until = "2026-12-26T02:00:00Z".parse().unwrap();
        assert_eq!(retention, Retention { mode: LockMode::Governance, until });
        let versioning = |text: &str| parse::<Versioning>(text).unwrap().status;
        assert_eq!(
            versioning("<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>")
                .as_deref(),
            Some("Enabled")
        );
        assert_eq!(versioning("<VersioningConfiguration/>"), None);
        let page: VersionsPage = parse(
            "<ListVersionsResult><IsTruncated>true</IsTruncated><NextKeyMarker>k</NextKeyMarker>\
             <Version><Key>k</Key><VersionId>1</VersionId><IsLatest>true</IsLatest><Size>3</Size></Version>\
             <DeleteMarker><Key>k</Key><VersionId>3</VersionId></DeleteMarker>\
             <Version><Key>k</Key><VersionId>2</VersionId></Version></ListVersionsResult>",
        )
        .unwrap();
        let ids =
            |versions: &[Version]| versions.iter().map(|version| version.id.clone()).collect::<String>();
        assert_eq!((ids(&page.version), ids(&page.delete_marker)), ("12".into(), "3".into()));
        assert!(page.is_truncated && page.next_key_marker.as_deref() == Some("k"));
    }

    #[test]
    fn a_refusal_is_read_as_the_librarys_own() {
        let url = "http://s3/b/x?retention".parse().unwrap();
        let text = "<Error><Code>AccessDenied</Code><Message>no</Message></Error>";
        let error = refusal(&Method::PUT, &url, StatusCode::FORBIDDEN, text);
        assert_eq!(super::super::failure::status_of(&error), Some(403));
        assert_eq!(super::super::failure::service_code(&error).as_deref(), Some("AccessDenied"));
        let error = refusal(&Method::GET, &url, StatusCode::BAD_REQUEST, text);
        assert_eq!(super::super::failure::status_of(&error), Some(400));
        assert_eq!(encoded("a/b c~ü"), "a%2Fb%20c~%C3%BC");
    }
}
