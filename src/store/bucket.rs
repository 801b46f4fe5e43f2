//! What an S3 bucket says of itself: versioning, object lock, lifecycle rules. The client library asks for objects only, so
//! these requests are made here, and signed by the library's own code. They only read.

use std::fmt;
use std::sync::Arc;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsAuthorizer, AwsCredentialProvider};
use object_store::client::{ClientOptions, HttpClient, HttpConnector, HttpRequestBody};

use super::http::Watching;
use crate::error::{Context, Error, Result};

/// The largest answer that is read: a bucket has a thousand lifecycle rules at most.
const LARGEST: usize = 4 << 20;

/// Asks a bucket about itself.
#[derive(Clone)]
pub(super) struct Bucket {
    client: HttpClient,
    credentials: AwsCredentialProvider,
    region: String,
    url: String,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket").field("url", &self.url).finish_non_exhaustive()
    }
}

/// What a bucket answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// The text of its answer.
    Text(String),
    /// There is no such setting.
    None,
    /// The key may not ask, or the server does not know the question.
    Refused(String),
}

impl Bucket {
    /// Of the bucket that `builder` is for; none where requests are not signed.
    pub(super) fn of(
        builder: &AmazonS3Builder,
        bucket: &str,
        credentials: &AwsCredentialProvider,
        watching: &Watching,
    ) -> Result<Option<Self>> {
        let value = |key| builder.get_config_value(&key).filter(|value| !value.is_empty());
        let is_true = |key| value(key).as_deref() == Some("true");
        if is_true(AmazonS3ConfigKey::SkipSignature) {
            return Ok(None);
        }
        let region = value(AmazonS3ConfigKey::Region).unwrap_or_else(|| "us-east-1".into());
        let endpoint = value(AmazonS3ConfigKey::Endpoint);
        let url = match endpoint.as_deref().map(|endpoint| endpoint.trim_end_matches('/')) {
            Some(endpoint) if is_true(AmazonS3ConfigKey::VirtualHostedStyleRequest) => endpoint.into(),
            Some(endpoint) => format!("{endpoint}/{bucket}"),
            None => format!("https://s3.{region}.amazonaws.com/{bucket}"),
        };
        let options = ClientOptions::new().with_allow_http(url.starts_with("http://"));
        let client = watching.connect(&options).context(|| "cannot make a client".into())?;
        Ok(Some(Bucket { client, credentials: Arc::clone(credentials), region, url }))
    }

    /// Asks for one of its settings: `versioning`, `object-lock`, `lifecycle`.
    ///
    /// # Errors
    /// It does not answer.
    pub(super) async fn ask(&self, setting: &str) -> Result<Answer> {
        let cannot = || format!("asking the bucket for its {setting} failed");
        let credential = self.credentials.get_credential().await.context(cannot)?;
        let request = http::Request::builder().uri(format!("{}?{setting}=", self.url));
        let mut request = request.body(HttpRequestBody::empty()).context(cannot)?;
        let signer = AwsAuthorizer::new(&credential, "s3", &self.region);
        signer.try_authorize(&mut request, None).context(cannot)?;
        let response = self.client.execute(request).await.context(cannot)?;
        let status = response.status();
        let bytes = response.into_body().bytes().await.context(cannot)?;
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(LARGEST)]).into_owned();
        match (status.as_u16(), element(&text, "Code")) {
            (200..300, _) => Ok(Answer::Text(text)),
            (404, Some(code)) if code.starts_with("NoSuch") && code != "NoSuchBucket" => Ok(Answer::None),
            (404, Some(code)) if code.starts_with("ObjectLockConfigurationNotFound") => Ok(Answer::None),
            (401 | 403 | 405 | 400 | 404 | 501, code) => {
                Ok(Answer::Refused(code.map_or(format!("HTTP {status}"), String::from)))
            }
            (_, code) => Err(Error::failed(cannot()).because(code.map_or(status.to_string(), String::from))),
        }
    }
}

/// The text of the first element of this name.
pub(super) fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let after = text.split_once(&format!("<{name}>"))?.1;
    after.split_once("</").map(|(value, _)| value.trim()).filter(|value| !value.is_empty())
}

/// A rule that takes objects away, or puts them where they cannot be read at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    /// Its name.
    pub(super) id: String,
    /// What it does, with its time.
    pub(super) does: String,
    /// Whether objects are gone then; otherwise they are only moved.
    pub(super) deletes: bool,
}

/// The rules of a lifecycle configuration that concern objects below `prefix`: expirations of current objects, and moves
/// to classes that have to be thawed. A rule for tags alone concerns none of ours.
pub(super) fn rules(lifecycle: &str, prefix: &str) -> Vec<Rule> {
    let rules = lifecycle.split("<Rule>").skip(1).filter_map(|rest| rest.split_once("</Rule>"));
    rules.flat_map(|(rule, _)| rule_of(rule, prefix)).collect()
}

fn rule_of(rule: &str, prefix: &str) -> Vec<Rule> {
    let own = element(rule, "Prefix").map(plain).unwrap_or_default();
    let concerns = prefix.starts_with(&own) || own.starts_with(prefix);
    if element(rule, "Status") != Some("Enabled") || rule.contains("<Tag>") || !concerns {
        return Vec::new();
    }
    let id = element(rule, "ID").map_or("without a name".into(), plain);
    let (mut found, time) = (Vec::new(), |inside: &str| match element(inside, "Days") {
        Some(days) => Some(format!("after {days} days")),
        None => element(inside, "Date").map(|date| format!("at {date}")),
    });
    for expiration in inside(rule, "Expiration") {
        // What only takes delete markers away has no time.
        let rule = |when| Rule { id: id.clone(), does: format!("deletes objects {when}"), deletes: true };
        found.extend(time(expiration).map(rule));
    }
    for transition in inside(rule, "Transition") {
        let class = element(transition, "StorageClass").unwrap_or_default();
        if let Some(when) = time(transition).filter(|_| matches!(class, "GLACIER" | "DEEP_ARCHIVE")) {
            let does = format!("moves objects to {class} {when}");
            found.push(Rule { id: id.clone(), does, deletes: false });
        }
    }
    found
}

/// The insides of all elements of this name.
fn inside<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let parts = text.split(open.as_str()).skip(1);
    parts.filter_map(|rest| Some(rest.split_once(close.as_str())?.0)).collect()
}

fn plain(text: &str) -> String {
    let plain = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
    plain.replace("&apos;", "'").replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lifecycle(rules: &[&str]) -> String {
        let rules = rules.iter().map(|rule| format!("<Rule>{rule}</Rule>")).collect::<String>();
        format!("<?xml?><LifecycleConfiguration>{rules}</LifecycleConfiguration>")
    }

    fn told(rule: &str, prefix: &str) -> Vec<String> {
        let rules = rules(&lifecycle(&[rule]), prefix);
        rules.into_iter().map(|rule| format!("{} {} {}", rule.id, rule.does, rule.deletes)).collect()
    }

    #[test]
    fn a_rule_that_deletes_below_or_above_the_prefix_is_found() {
        let rule = "<ID>old</ID><Filter><Prefix>prod/</Prefix></Filter><Status>Enabled</Status>\
                    <Expiration><Days>30</Days></Expiration>";
        let found = ["old deletes objects after 30 days true".to_string()];
        for prefix in ["", "prod", "prod/db"] {
            assert_eq!(told(rule, prefix), found, "{prefix}");
        }
        assert_eq!(told(rule, "test"), [""; 0]);
        assert_eq!(told(&rule.replace("Enabled", "Disabled"), "prod"), [""; 0]);
        let all = "<Status>Enabled</Status><Prefix/><Expiration><Date>2027-01-01</Date></Expiration>";
        assert_eq!(told(all, "x"), ["without a name deletes objects at 2027-01-01 true"]);
    }

    #[test]
    fn what_only_clears_up_is_no_danger() {
        for rule in [
            "<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>",
            "<NoncurrentVersionExpiration><NoncurrentDays>3</NoncurrentDays></NoncurrentVersionExpiration>",
            "<AbortIncompleteMultipartUpload><DaysAfterInitiation>7</DaysAfterInitiation></AbortIncompleteMultipartUpload>",
            "<Transition><Days>3</Days><StorageClass>STANDARD_IA</StorageClass></Transition>",
            "<Filter><Tag><Key>a</Key></Tag></Filter><Expiration><Days>1</Days></Expiration>",
        ] {
            assert_eq!(told(&format!("<Status>Enabled</Status>{rule}"), "p"), [""; 0], "{rule}");
        }
    }

    #[test]
    fn a_move_to_cold_storage_is_found_among_others() {
        let cold = "<ID>a&amp;b</ID><Status>Enabled</Status>\
            <Transition><Days>1</Days><StorageClass>STANDARD_IA</StorageClass></Transition>\
            <Transition><Days>90</Days><StorageClass>DEEP_ARCHIVE</StorageClass></Transition>\
            <Expiration><Days>400</Days></Expiration>";
        assert_eq!(
            told(cold, "p"),
            [
                "a&b deletes objects after 400 days true",
                "a&b moves objects to DEEP_ARCHIVE after 90 days false"
            ]
        );
    }
}
