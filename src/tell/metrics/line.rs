//! A line of the text format of Prometheus, both ways.

use std::fmt;

use super::Labels;

/// A line.
#[derive(Debug, PartialEq)]
pub(super) enum Line {
    Empty,
    /// `# HELP NAME …`, `# TYPE NAME …`: of that family; none where it is only a remark.
    Comment(Option<String>),
    Sample(String, Labels, f64),
}

impl Line {
    /// Reads a line; nothing where it is none.
    pub(super) fn read(text: &str) -> Option<Line> {
        let text = text.trim();
        if text.is_empty() {
            return Some(Line::Empty);
        }
        if let Some(comment) = text.strip_prefix('#') {
            let mut words = comment.split_whitespace();
            let of_family = words.next().is_some_and(|word| matches!(word, "HELP" | "TYPE"));
            return Some(Line::Comment(of_family.then(|| words.next().map(String::from)).flatten()));
        }
        let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':')?;
        let (name, rest) = text.split_at(end);
        let (labels, rest) = match rest.strip_prefix('{') {
            Some(inside) => labels(inside)?,
            None => (Labels::new(), rest),
        };
        let mut words = rest.split_whitespace();
        let value = words.next()?.parse().ok()?;
        let is_whole = words.next().is_none_or(|time| time.parse::<i64>().is_ok()) && words.next().is_none();
        (!name.is_empty() && is_whole).then(|| Line::Sample(name.into(), labels, value))
    }

    /// The family that it is of.
    pub(super) fn family(&self) -> Option<&str> {
        match self {
            Line::Empty => None,
            Line::Comment(name) => name.as_deref(),
            Line::Sample(name, ..) => Some(name),
        }
    }
}

/// Labels up to their closing brace, and what follows it.
fn labels(mut rest: &str) -> Option<(Labels, &str)> {
    let mut found = Labels::new();
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix('}') {
            return Some((found, after));
        }
        let (name, after) = rest.split_once('=')?;
        let name = name.trim();
        let (value, after) = quoted(after.trim_start().strip_prefix('"')?)?;
        let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        is_name.then(|| found.push((name.into(), value)))?;
        rest = after.trim_start();
        rest = match rest.strip_prefix(',') {
            Some(after) => after,
            None => rest.starts_with('}').then_some(rest)?,
        };
    }
}

/// A value up to its closing quote, and what follows that.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                c @ ('\\' | '"') => value.push(c),
                _ => return None,
            },
            c => value.push(c),
        }
    }
    None
}

/// Writes a sample.
pub(super) fn sample(f: &mut fmt::Formatter<'_>, family: &str, labels: &Labels, value: f64) -> fmt::Result {
    write!(f, "{family}")?;
    let escaped = |value: &str| value.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"");
    for (i, (name, value)) in labels.iter().enumerate() {
        let before = if i == 0 { '{' } else { ',' };
        write!(f, "{before}{name}=\"{}\"", escaped(value))?;
    }
    let after = if labels.is_empty() { "" } else { "}" };
    match value.is_infinite() {
        true => writeln!(f, "{after} {}Inf", if value > 0.0 { '+' } else { '-' }),
        false => writeln!(f, "{after} {value}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_read_as_others_write_it() {
        let labels = vec![("a".into(), "x, {y}=\"\\\n".into()), ("b".into(), String::new())];
        let sample = Some(Line::Sample("n_1".into(), labels, 1.5e9));
        assert_eq!(Line::read(r#"n_1{a="x, {y}=\"\\\n",b=""} 1.5e+09"#), sample);
        assert_eq!(Line::read(r#" n_1 { a = "x, {y}=\"\\\n" , b = "" , } 1500000000 1700000000000"#), None);
        assert_eq!(Line::read(r#" n_1{ a = "x, {y}=\"\\\n" , b = "" , } 1500000000 1700000000000"#), sample);
        assert_eq!(Line::read("n +Inf"), Some(Line::Sample("n".into(), vec![], f64::INFINITY)));
        assert_eq!(Line::read("# HELP n x"), Some(Line::Comment(Some("n".into()))));
        assert_eq!(Line::read("# by hand"), Some(Line::Comment(None)));
    }

    #[test]
    fn half_a_line_is_none() {
        for text in [
            "n",
            "n{",
            "n{a=\"b\"}",
            "n{a=\"b} 1",
            "n{a=\"\\x\"} 1",
            "n{=\"b\"} 1",
            "n 1 2 3",
            "n x",
            "{} 1",
            "n{a=\"b\"c=\"d\"} 1",
        ] {
            assert_eq!(Line::read(text), None, "{text}");
        }
    }
}
