//! What an S3 bucket says of itself: versioning, object lock, lifecycle rules.

use super::failure::{service_code, status_of};
use crate::error::{Error, Result};

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

impl Answer {
    /// What came of asking for one of its settings.
    ///
    /// # Errors
    /// It does not answer.
    pub(super) fn of(setting: &str, asked: object_store::Result<String>) -> Result<Answer> {
        let error = match asked {
            Ok(text) => return Ok(Answer::Text(text)),
            Err(error) => error,
        };
        match (status_of(&error), service_code(&error)) {
            (Some(404), Some(code)) if code.starts_with("NoSuch") && code != "NoSuchBucket" => {
                Ok(Answer::None)
            }
            (Some(404), Some(code)) if code.starts_with("ObjectLockConfigurationNotFound") => {
                Ok(Answer::None)
            }
            (Some(status @ (401 | 403 | 405 | 400 | 404 | 501)), code) => {
                Ok(Answer::Refused(code.unwrap_or_else(|| format!("HTTP {status}"))))
            }
            _ => Err(Error::failed(format!("asking the bucket for its {setting} failed")).because(error)),
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
