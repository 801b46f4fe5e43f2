//! What a failed request means: told by types, as far as the client library has them.

use std::error::Error as StdError;

use object_store::client::{HttpError, HttpErrorKind};

use super::Kind;
use super::retry::Tried;
use crate::error::chain_of;
use crate::report::clock;

/// What a failed request means to the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// The store's folder has no such file, or is gone.
    NoFolder,
    /// The file system is full.
    Full,
    /// This user may not write there.
    NotWritable,
    /// There is no such bucket or container.
    NoBucket,
    /// The store does not accept the credentials, or there are none.
    Refused,
    /// No answer came.
    Unreachable,
    /// Anything else.
    Other,
}

/// Says what a failed request to a store of this kind means.
pub(super) fn classify(error: &object_store::Error, kind: Kind) -> Failure {
    if kind == Kind::File && matches!(error, object_store::Error::NotFound { .. }) {
        return Failure::NoFolder;
    }
    match find::<std::io::Error>(error)
        .and_then(std::io::Error::raw_os_error)
        .map(rustix::io::Errno::from_raw_os_error)
    {
        Some(rustix::io::Errno::NOSPC) => return Failure::Full,
        Some(rustix::io::Errno::ACCESS | rustix::io::Errno::ROFS) => return Failure::NotWritable,
        _ => {}
    }
    let code = service_code(error);
    match (status_of(error), code.as_deref()) {
        (Some(404), _) | (_, Some("NoSuchBucket" | "ContainerNotFound")) => Failure::NoBucket,
        (Some(401 | 403), _) => Failure::Refused,
        // First: credentials may have to be fetched from an endpoint that is not there.
        _ if lacks_credentials(error) => Failure::Refused,
        _ if is_transport(error) => Failure::Unreachable,
        _ => Failure::Other,
    }
}

/// What is to be done about a failed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was not done, and never will be.
    Refused,
    /// It was not done; a clock that was set or a token that was renewed may change that.
    RefusedNow,
    /// This host is not set up for the store: it has no credentials, or could not fetch them, or does not trust the store's
    /// certificate. Another attempt helps only where an earlier request was answered.
    NotSetUp,
    /// The answer is one that no store gives.
    Odd,
    /// It may have been done, or may be another time.
    Unclear,
}

/// Says whether a failed request to a store of this kind is worth another.
pub(super) fn verdict(error: &object_store::Error, kind: Kind) -> Verdict {
    use object_store::Error as E;
    if find::<Tried>(error).is_some() {
        return Verdict::Unclear;
    }
    if kind == Kind::File {
        return verdict_of_folder(error);
    }
    let code = service_code(error);
    let code = code.as_deref().unwrap_or_default();
    match (error, status_of(error).unwrap_or_default()) {
        (E::NotImplemented { .. } | E::NotSupported { .. } | E::InvalidPath { .. }, _) => Verdict::Refused,
        // Where create-only meets another request, S3 says 409; what is there already is 412.
        (_, 409) if is_conflict(error, kind, code) => Verdict::Unclear,
        (
            E::AlreadyExists { .. } | E::Precondition { .. } | E::NotModified { .. } | E::NotFound { .. },
            _,
        ) => Verdict::Refused,
        (_, 400) if ["RequestTimeout", "IncompleteBody", "BadDigest", "SlowDown"].contains(&code) => {
            Verdict::Unclear
        }
        (_, 400) if ["ExpiredToken", "TokenRefreshRequired"].contains(&code) => Verdict::RefusedNow,
        (_, 401 | 403) => Verdict::RefusedNow,
        (_, 408 | 429) => Verdict::Unclear,
        (_, 501 | 505 | 300..=499) => Verdict::Refused,
        (_, 500..) => Verdict::Unclear,
        _ if lacks_credentials(error) || distrusts_certificate(&error.to_string()) => Verdict::NotSetUp,
        _ if find::<HttpError>(error).is_some_and(|http| http.kind() != HttpErrorKind::Decode) => {
            Verdict::Unclear
        }
        // S3 says so below a status of 200.
        _ if ["InternalError", "SlowDown"].contains(&code) => Verdict::Unclear,
        _ => Verdict::Odd,
    }
}

fn is_conflict(error: &object_store::Error, kind: Kind, code: &str) -> bool {
    let said = chain_of(error).iter().any(|e| e.to_string().contains("status code: 409"));
    let is_s3 = matches!(kind, Kind::S3 | Kind::Gcs | Kind::Memory);
    is_s3 && said || ["ConditionalRequestConflict", "OperationAborted", "OperationTimedOut"].contains(&code)
}

/// A folder's failures stay, but for those of a network that it may be on.
fn verdict_of_folder(error: &object_store::Error) -> Verdict {
    use rustix::io::Errno;
    let number = find::<std::io::Error>(error).and_then(std::io::Error::raw_os_error);
    match number.map(Errno::from_raw_os_error) {
        Some(Errno::INTR | Errno::AGAIN | Errno::TIMEDOUT | Errno::STALE) => Verdict::Unclear,
        _ => Verdict::Refused,
    }
}

/// Whether a request that got no answer may have reached the store.
pub(super) fn was_sent(error: &object_store::Error) -> bool {
    !find::<HttpError>(error).is_some_and(|http| http.kind() == HttpErrorKind::Connect)
}

/// Whether a store says that it does not know what it was asked for.
pub(super) fn is_unknown_to_store(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::NotImplemented { .. })
        || status_of(error) == Some(501)
        || service_code(error).as_deref() == Some("NotImplemented")
}

/// The HTTP status that a store answered with; none where no answer came, or where it is not known.
///
/// Which statuses have a variant of their own differs from request to request and from store to store. For the others the
/// library holds the status in a type that it keeps to itself: there it is only to be had from the text.
pub fn status_of(error: &object_store::Error) -> Option<u16> {
    use object_store::Error as E;
    let of_text = || {
        let text = chain_of(error).iter().map(|e| e.to_string()).find(|text| text.contains(STATUS))?;
        text.split(STATUS).nth(1)?.split(' ').next()?.parse().ok()
    };
    match error {
        E::NotFound { .. } => Some(404),
        E::AlreadyExists { .. } => Some(409),
        E::Precondition { .. } => Some(412),
        E::NotModified { .. } => Some(304),
        E::PermissionDenied { .. } => Some(403),
        E::Unauthenticated { .. } => Some(401),
        _ => of_text(),
    }
}

/// What stands before a status in the library's text.
const STATUS: &str = "status code: ";

/// The code in a service's XML answer, `NoSuchBucket`: part of the service's interface, unlike the text beside it.
pub(super) fn service_code(error: &object_store::Error) -> Option<String> {
    xml_value(&error.to_string(), "Code")
}

/// No answer came. A body that cannot be decoded is one.
fn is_transport(error: &object_store::Error) -> bool {
    find::<HttpError>(error)
        .is_some_and(|http| !matches!(http.kind(), HttpErrorKind::Decode | HttpErrorKind::Unknown))
}

/// Whether no credentials were found, or none that can be used: by text, as every provider has an error of its own for
/// that, and none is public.
fn lacks_credentials(error: &object_store::Error) -> bool {
    error.to_string().contains("redential")
}

/// Whether the store's certificate is not trusted: the transport hands on no type for it.
pub(super) fn distrusts_certificate(text: &str) -> bool {
    text.contains("invalid peer certificate")
}

/// An error's innermost text, and of an XML answer its code and message.
pub(super) fn in_short(error: &object_store::Error) -> String {
    if let Some(tried) = find::<Tried>(error) {
        return format!("{} (tried for {})", in_short(&tried.error), clock(tried.elapsed));
    }
    // What the transport says last is often too short to be understood alone.
    let whole = error.to_string();
    let is_xml = whole.contains("<?xml") || whole.contains("<Error>");
    let mut innermost: &dyn StdError = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let text = if is_xml { whole } else { innermost.to_string() };
    let head = text.split('<').next().unwrap_or_default().trim_end_matches([':', ' ']);
    let status = head.split(STATUS).nth(1).unwrap_or(head).to_string();
    let parts = [Some(status), xml_value(&text, "Code"), xml_value(&text, "Message")];
    parts.into_iter().flatten().collect::<Vec<_>>().join(": ")
}

fn xml_value(text: &str, tag: &str) -> Option<String> {
    let from = text.split_once(&format!("<{tag}>"))?.1;
    from.split_once('<').map(|(value, _)| value.trim().to_string()).filter(|value| !value.is_empty())
}

/// The first of an error's causes that is of a type.
pub(super) fn find<E: StdError + 'static>(error: &object_store::Error) -> Option<&E> {
    chain_of(error).into_iter().find_map(|cause| cause.downcast_ref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::Error as E;

    fn generic(source: impl Into<Box<dyn StdError + Send + Sync>>) -> E {
        E::Generic { store: "S3", source: source.into() }
    }

    fn answer(status: &str, body: &str) -> E {
        generic(format!(
            "Error performing PUT http://s3/b/x in 1ms - Server returned non-2xx status code: {status}: {body}"
        ))
    }

    fn xml(code: &str) -> String {
        format!(
            "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>Told you.</Message><Resource>/b</Resource></Error>"
        )
    }

    fn os(code: i32) -> E {
        generic(std::io::Error::from_raw_os_error(code))
    }

    fn http(kind: HttpErrorKind) -> E {
        generic(HttpError::new(kind, std::io::Error::from_raw_os_error(111)))
    }

    #[test]
    fn a_status_is_read_from_the_type_where_there_is_one() {
        let source = || "status code: 500".into();
        let path = String::new;
        for (error, status) in [
            (E::NotFound { path: path(), source: source() }, 404),
            (E::AlreadyExists { path: path(), source: source() }, 409),
            (E::Precondition { path: path(), source: source() }, 412),
            (E::NotModified { path: path(), source: source() }, 304),
            (E::PermissionDenied { path: path(), source: source() }, 403),
            (E::Unauthenticated { path: path(), source: source() }, 401),
        ] {
            assert_eq!(status_of(&error), Some(status), "{error}");
        }
    }

    #[test]
    fn a_status_is_read_from_the_librarys_text_otherwise() {
        assert_eq!(status_of(&answer("503 Service Unavailable", "")), Some(503));
        assert_eq!(status_of(&answer("403 Forbidden", &xml("AccessDenied"))), Some(403));
        let nested = generic(std::io::Error::other(answer("507 Insufficient Storage", "")));
        assert_eq!(status_of(&nested), Some(507));
        for error in [generic("404 files are not there"), os(28), generic("status code: none")] {
            assert_eq!(status_of(&error), None, "{error}");
        }
    }

    #[test]
    fn the_librarys_own_text_has_the_status_where_it_is_looked_for() {
        // The client's real error, from a server that answers so to everything.
        let error =
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(refused());
        assert_eq!(status_of(&error), Some(507), "{error}");
        assert_eq!(in_short(&error), "507 Insufficient Storage: QuotaExceeded: No room.");
    }

    async fn refused() -> E {
        use object_store::ObjectStoreExt;
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0; 4096];
                let _ = stream.read(&mut request).await;
                let body = "<Error><Code>QuotaExceeded</Code><Message>No room.</Message></Error>";
                let head = "HTTP/1.1 507 Insufficient Storage\r\nConnection: close\r\nContent-Length";
                let _ = stream.write_all(format!("{head}: {}\r\n\r\n{body}", body.len()).as_bytes()).await;
            }
        });
        let retry = object_store::RetryConfig { max_retries: 0, ..Default::default() };
        let store = object_store::aws::AmazonS3Builder::new()
            .with_bucket_name("b")
            .with_endpoint(endpoint)
            .with_allow_http(true)
            .with_access_key_id("k")
            .with_secret_access_key("s")
            .with_retry(retry)
            .build()
            .unwrap();
        store.get(&"x".into()).await.unwrap_err()
    }

    #[test]
    fn a_missing_bucket_is_told_from_a_missing_folder() {
        let missing = || E::NotFound { path: "x".into(), source: "gone".into() };
        assert_eq!(classify(&missing(), Kind::File), Failure::NoFolder);
        assert_eq!(classify(&missing(), Kind::S3), Failure::NoBucket);
        assert_eq!(classify(&answer("404 Not Found", ""), Kind::Gcs), Failure::NoBucket);
        assert_eq!(classify(&answer("400 Bad Request", &xml("NoSuchBucket")), Kind::S3), Failure::NoBucket);
        assert_eq!(
            classify(&answer("409 Conflict", &xml("ContainerNotFound")), Kind::Azure),
            Failure::NoBucket
        );
    }

    #[test]
    fn a_folders_failures_are_told_by_their_number() {
        assert_eq!(classify(&os(28), Kind::File), Failure::Full);
        assert_eq!(classify(&os(13), Kind::File), Failure::NotWritable);
        assert_eq!(classify(&os(30), Kind::File), Failure::NotWritable);
        assert_eq!(classify(&os(5), Kind::File), Failure::Other);
        // A text that only looks like it is not believed.
        assert_eq!(classify(&generic("x (os error 28)"), Kind::File), Failure::Other);
    }

    #[test]
    fn refused_credentials_are_told_by_the_status() {
        assert_eq!(
            classify(&answer("403 Forbidden", &xml("SignatureDoesNotMatch")), Kind::S3),
            Failure::Refused
        );
        assert_eq!(classify(&answer("401 Unauthorized", ""), Kind::Azure), Failure::Refused);
        assert_eq!(classify(&generic("No credentials in the environment"), Kind::S3), Failure::Refused);
        let denied = E::PermissionDenied { path: "x".into(), source: "no".into() };
        assert_eq!(classify(&denied, Kind::S3), Failure::Refused);
    }

    #[test]
    fn a_store_that_does_not_answer_is_told_by_the_transports_kind() {
        use HttpErrorKind as K;
        for kind in [K::Connect, K::Request, K::Timeout, K::Interrupted] {
            assert_eq!(classify(&http(kind), Kind::S3), Failure::Unreachable, "{kind:?}");
        }
        for kind in [K::Decode, K::Unknown] {
            assert_eq!(classify(&http(kind), Kind::S3), Failure::Other, "{kind:?}");
        }
    }

    #[test]
    fn an_xml_answer_is_shortened_to_its_code_and_message() {
        let error = answer("403 Forbidden", &xml("AccessDenied"));
        assert_eq!(in_short(&error), "403 Forbidden: AccessDenied: Told you.");
        assert_eq!(in_short(&answer("503 Slow Down", "")), "503 Slow Down");
        assert_eq!(in_short(&generic(std::io::Error::other("refused"))), "refused");
    }
}
