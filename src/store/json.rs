//! Small plain JSON objects that carry their own SHA-256, as their last field `self`: manifests and records.

use aws_lc_rs::digest;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::report::hex;

/// The text that is stored; `what` names it in errors.
pub(super) fn to_text(value: &impl Serialize, what: &str) -> Result<String> {
    let cannot = |e| Error::failed(format!("cannot write a {what}")).because(e);
    let json = serde_json::to_string(value).map_err(cannot)?;
    let open = json.strip_suffix('}').unwrap_or(&json);
    Ok(format!("{open},\"self\":\"{}\"}}\n", sha256(open)))
}

/// Reads a stored text back.
///
/// # Errors
/// [`Kind::Damaged`](crate::error::Kind::Damaged) when it is not what was written.
pub(super) fn from_text<T: DeserializeOwned>(text: &str, what: &str) -> Result<T> {
    let damaged = || Error::damaged(format!("the {what} is damaged"));
    let (open, close) = text.rsplit_once(",\"self\":\"").ok_or_else(damaged)?;
    if close != format!("{}\"}}\n", sha256(open)) {
        return Err(damaged());
    }
    serde_json::from_str(&format!("{open}}}")).map_err(|e| damaged().because(e))
}

fn sha256(text: &str) -> String {
    hex(digest::digest(&digest::SHA256, text.as_bytes()).as_ref())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::error::Kind;

    type Map = BTreeMap<String, String>;

    #[test]
    fn a_value_that_holds_the_name_of_the_digest_reads_back() {
        let value: Map = [("a", "\",\"self\":\"x"), ("self", "y")].map(|(k, v)| (k.into(), v.into())).into();
        let text = to_text(&value, "map").unwrap();
        assert_eq!(from_text::<Map>(&text, "map").unwrap(), value);
        assert!(text.ends_with("\"}\n"));
    }

    #[test]
    fn anything_but_the_text_that_was_written_is_damage() {
        let text = to_text(&Map::from([("a".into(), "b".into())]), "map").unwrap();
        let others = [
            String::new(),
            "{}".into(),
            text.trim_end().into(),
            format!("{text}\n"),
            format!(" {text}"),
            text.replace("\"b\"", "\"c\""),
            text.to_uppercase(),
        ];
        for other in others {
            let error = from_text::<Map>(&other, "map").unwrap_err();
            assert_eq!(
                (error.kind(), error.to_string()),
                (Kind::Damaged, "the map is damaged".into()),
                "{other:?}"
            );
        }
    }
}
