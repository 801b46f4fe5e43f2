//! HTML that cannot be broken out of: names are ours, and every text and value is escaped.

use std::fmt::Display;

/// A part of a page.
#[derive(Debug, Default)]
pub(super) struct Html(String);

impl Html {
    /// An element with its attributes and what is in it.
    pub(super) fn element(
        &mut self,
        name: &'static str,
        attributes: &[(&'static str, &str)],
        inside: impl FnOnce(&mut Html),
    ) {
        self.open(name, attributes);
        inside(self);
        self.0 += &format!("</{name}>");
    }

    /// An element that has nothing in it, and no end.
    pub(super) fn open(&mut self, name: &'static str, attributes: &[(&'static str, &str)]) {
        self.0 += &format!("<{name}");
        for (name, value) in attributes {
            self.0 += &format!(" {name}=\"{}\"", escaped(value));
        }
        self.0 += ">";
    }

    /// An element with a text.
    pub(super) fn say(
        &mut self,
        name: &'static str,
        attributes: &[(&'static str, &str)],
        text: impl Display,
    ) {
        self.element(name, attributes, |inside| inside.text(text));
    }

    /// A text.
    pub(super) fn text(&mut self, text: impl Display) {
        self.0 += &escaped(&text.to_string());
    }

    /// What stands in the program itself.
    pub(super) fn ours(&mut self, text: &'static str) {
        self.0 += text;
    }

    pub(super) fn into_text(self) -> String {
        self.0
    }
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            // No document may hold them, and no escape either.
            c if c.is_control() && !matches!(c, '\n' | '\t') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_is_markup() {
        let mut html = Html::default();
        html.say("p", &[("title", "a\" onload='x' <b>")], "<script>&amp;\u{1b}");
        let expected =
            "<p title=\"a&quot; onload=&#39;x&#39; &lt;b&gt;\">&lt;script&gt;&amp;amp;\u{fffd}</p>";
        assert_eq!(html.into_text(), expected);
    }
}
