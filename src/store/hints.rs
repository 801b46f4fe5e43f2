//! What to do about a store's refusal, by the code in its answer: a status such as 403 has a dozen meanings.

use super::Kind;
use super::failure::{distrusts_certificate, service_code};

/// The codes of services, and what helps.
const CODES: [(&[&str], &str); 15] = [
    (
        &["RequestTimeTooSkewed", "RequestExpired", "AuthenticationFailedClockSkew"],
        "this host's clock is wrong: set it (timedatectl set-ntp true), then try again",
    ),
    (
        &["InvalidObjectState", "BlobArchived", "ObjectNotInActiveTierError"],
        "the object lies in cold storage: have it brought back first (aws s3api restore-object, or az storage blob \
         set-tier --tier Hot), wait until that is done, then try again",
    ),
    (
        &["BlobBeingRehydrated", "RestoreAlreadyInProgress"],
        "the object is being brought back from cold storage: try again when that is done, which takes hours",
    ),
    (
        &[
            "QuotaExceeded",
            "QuotaExceededException",
            "XMinioStorageFull",
            "XMinioAdminBucketQuotaExceeded",
            "InsufficientStorage",
            "EntityTooLargeForQuota",
            "ServiceQuotaExceeded",
        ],
        "the store is full, or its quota is used up: make room there or have the quota raised",
    ),
    (
        &["SignatureDoesNotMatch"],
        "the secret does not belong to the key: check AWS_SECRET_ACCESS_KEY for missing or additional characters; a proxy \
         that changes requests does this too",
    ),
    (
        &["InvalidAccessKeyId", "InvalidAccessKeyIdError"],
        "there is no such key at this store: check AWS_ACCESS_KEY_ID, and that AWS_ENDPOINT_URL is that of the key's store",
    ),
    (
        &["ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken"],
        "the session's token has expired, or is of another session: get new credentials and set AWS_ACCESS_KEY_ID, \
         AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN together",
    ),
    (
        &["AccessDenied", "AllAccessDisabled", "Forbidden", "UnauthorizedAccess"],
        "the store knows the key, but its policy does not allow this: a backup needs to write and to list, a restore to \
         read and to list",
    ),
    (
        &["AuthorizationFailure", "AuthorizationPermissionMismatch", "InsufficientAccountPermissions"],
        "Azure knows who asks, but does not allow it: check AZURE_STORAGE_ACCOUNT_KEY, the role (Storage Blob \
         Data Contributor), what the SAS token permits, and the storage account's firewall",
    ),
    (
        &[
            "AuthorizationServiceMismatch",
            "AuthorizationResourceTypeMismatch",
            "AuthorizationProtocolMismatch",
        ],
        "the SAS token is for something else: it must be for blobs, for containers and objects, and for this protocol",
    ),
    (
        &["AuthorizationSourceIPMismatch", "PublicAccessNotPermitted", "KeyBasedAuthenticationNotPermitted"],
        "the storage account does not admit this address, or this kind of key: see its networking and configuration",
    ),
    (
        &["AuthenticationFailed", "InvalidAuthenticationInfo"],
        "check AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY (or whether AZURE_STORAGE_SAS_TOKEN has expired), \
         and this host's clock",
    ),
    (
        &["AccountIsDisabled", "AccountProblem", "NotSignedUp", "UserDisabled", "InvalidPayer"],
        "the account is closed or not in order (a bill?): its owner has to see to that",
    ),
    (
        &[
            "KMS.DisabledException",
            "KMS.NotFoundException",
            "KMS.KMSInvalidStateException",
            "KMS.AccessDeniedException",
            "KMSNotFoundException",
            "KMSInvalidStateException",
            "KMSKeyNotFoundException",
            "KMSKeyDisabledException",
        ],
        "the store cannot use the KMS key: check --sse-kms-key-id, that the key is enabled, and that the access key may use \
         it (kms:GenerateDataKey to write, kms:Decrypt to read)",
    ),
    (
        &["PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"],
        "the bucket is in another region: set AWS_REGION to the bucket's",
    ),
];

/// Parts of a service's message that say more than its code.
const MESSAGES: [(&[&str], &str); 3] = [
    (
        &["Content-MD5", "x-amz-checksum-", "x-amz-sdk-checksum-algorithm"],
        "a bucket with object lock wants a checksum on what is written: say --checksum sha256",
    ),
    (
        &["arn:aws:kms", "kms:GenerateDataKey", "kms:Decrypt"],
        "the access key may not use the bucket's KMS key: allow it kms:GenerateDataKey (to write) and kms:Decrypt (to read)",
    ),
    (
        &["bject is WORM protected", "Object is under retention", "legal hold"],
        "the bucket's object lock forbids this until the object's retention is over",
    ),
];

/// What to look at where a key is refused and nothing says why.
pub(super) fn of_credentials(kind: Kind) -> &'static str {
    match kind {
        Kind::Azure => {
            "check AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY (or AZURE_STORAGE_SAS_TOKEN)"
        }
        Kind::Gcs => "check GOOGLE_SERVICE_ACCOUNT, or run `gcloud auth application-default login`",
        _ => {
            "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION, and what the key may do; profiles in ~/.aws are \
             not read: eval \"$(aws configure export-credentials --format env)\""
        }
    }
}

/// What helps, where the store's answer says what is wrong.
pub(super) fn of_answer(error: &object_store::Error, kind: Kind) -> Option<&'static str> {
    if matches!(kind, Kind::File | Kind::Memory) {
        return None;
    }
    let text = error.to_string();
    of_tls(&text).or_else(|| of(&service_code(error)?, &text))
}

fn of(code: &str, text: &str) -> Option<&'static str> {
    let named = |(words, hint): &(&[&str], &'static str)| {
        words.iter().any(|word| text.contains(word)).then_some(*hint)
    };
    let by_code = |(codes, hint): &(&[&str], &'static str)| codes.contains(&code).then_some(*hint);
    MESSAGES.iter().find_map(named).or_else(|| CODES.iter().find_map(by_code))
}

/// Why a certificate is not trusted.
fn of_tls(text: &str) -> Option<&'static str> {
    let is_expired =
        ["certificate expired", "Expired", "NotValidYet"].iter().any(|words| text.contains(words));
    if !distrusts_certificate(text) {
        return None;
    }
    Some(match is_expired {
        true => "the store's certificate is out of date, or this host's clock is wrong",
        false => {
            "the store's certificate is of no authority that this host trusts: name your own by --ca-file FILE, \
             AWS_CA_BUNDLE or SSL_CERT_FILE, in PEM; or the endpoint's name is not the certificate's"
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(code: &str, message: &str) -> String {
        let body =
            format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>");
        let source = format!("Server returned non-2xx status code: 403 Forbidden: {body}").into();
        let error = object_store::Error::PermissionDenied { path: "x".into(), source };
        of_answer(&error, Kind::S3).unwrap_or_default().to_string()
    }

    #[test]
    fn each_403_has_its_own_meaning() {
        for (code, words) in [
            ("RequestTimeTooSkewed", "clock"),
            ("InvalidObjectState", "cold storage"),
            ("QuotaExceeded", "quota"),
            ("SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"),
            ("InvalidAccessKeyId", "AWS_ACCESS_KEY_ID"),
            ("ExpiredToken", "AWS_SESSION_TOKEN"),
            ("AccessDenied", "policy"),
            ("AuthorizationFailure", "firewall"),
            ("AuthorizationPermissionMismatch", "Storage Blob Data Contributor"),
            ("AuthenticationFailed", "AZURE_STORAGE_SAS_TOKEN"),
            ("KMS.DisabledException", "--sse-kms-key-id"),
            ("AccountProblem", "owner"),
            ("BlobArchived", "cold storage"),
            ("AuthorizationHeaderMalformed", "AWS_REGION"),
        ] {
            assert!(hint(code, "No.").contains(words), "{code}: {}", hint(code, "No."));
        }
        assert_eq!(hint("SomethingElse", "No."), "");
    }

    #[test]
    fn no_code_stands_twice() {
        let mut all: Vec<_> = CODES.iter().flat_map(|(codes, _)| *codes).collect();
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn a_message_may_say_more_than_its_code() {
        let lock =
            "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock";
        assert!(hint("InvalidRequest", lock).contains("--checksum sha256"));
        let kms =
            "User is not authorized to perform: kms:GenerateDataKey on resource: arn:aws:kms:eu-1:1:key/x";
        assert!(hint("AccessDenied", kms).contains("kms:GenerateDataKey (to write)"));
        let worm = "Object is WORM protected and cannot be overwritten";
        assert!(hint("AccessDenied", worm).contains("retention"), "{worm}");
    }

    #[test]
    fn a_certificate_that_is_not_trusted_leads_to_the_file_of_authorities() {
        assert!(of_tls("error: invalid peer certificate: UnknownIssuer").unwrap().contains("--ca-file"));
        assert!(of_tls("invalid peer certificate: certificate expired: x").unwrap().contains("clock"));
        assert_eq!(of_tls("connection refused"), None);
    }

    #[test]
    fn a_folder_has_no_codes() {
        let source = "<Error><Code>AccessDenied</Code></Error>".into();
        let error = object_store::Error::Generic { store: "LocalFileSystem", source };
        assert_eq!(of_answer(&error, Kind::File), None);
    }
}
