//! What a store says in XML.

/// The text of every `<tag>` in an answer.
pub fn all(xml: &[u8], tag: &str) -> Vec<String> {
    let text = String::from_utf8_lossy(xml).into_owned();
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    text.split(&open).skip(1).filter_map(|rest| rest.split(&close).next()).map(String::from).collect()
}
