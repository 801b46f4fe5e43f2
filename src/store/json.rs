//! Small plain JSON objects that carry their own SHA-256, as their last field `self`: manifests and records.

use aws_lc_rs::digest;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::archive::hex;
use crate::error::{Error, Result};

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
