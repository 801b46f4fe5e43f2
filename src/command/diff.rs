//! `diff`: a line for each member that differs.

use serde_json::{Value, json};

use crate::cli::Diff;
use crate::error::{Kind, Result};
use crate::job;
use crate::job::backup::Outcome;
use crate::job::diff::{Change, Field, Name};
use crate::report::{Mode, Reporter, print, printable};

/// Compares, and prints what differs.
///
/// # Errors
/// As [`job::diff::diff`]; what differs cannot be printed.
pub async fn diff(options: Diff, mode: Mode, ui: &Reporter) -> Result<Outcome> {
    let mut count = 0_u64;
    let mut each = |name: &Name, change: &Change| {
        count += 1;
        print(&match mode {
            Mode::Json => json_line(name, change),
            _ => line(name, change),
        })
    };
    match job::diff::diff(&options.request()?, ui, &mut each).await {
        // Who reads no further has seen that there is a difference.
        Err(error) if error.kind() == Kind::ClosedPipe && count > 0 => {}
        compared => compared?,
    }
    Ok(if count == 0 { Outcome::Done } else { Outcome::Exited(1) })
}

fn line(name: &Name, change: &Change) -> String {
    let shown = name.shown();
    match change {
        Change::Added => format!("+ {shown}"),
        Change::Removed => format!("- {shown}"),
        Change::Changed(fields) => {
            let fields: Vec<_> = fields.iter().map(field).collect();
            format!("~ {shown} ({})", fields.join(", "))
        }
        Change::Refused(why) => format!("! {shown} ({why})"),
    }
}

/// `size 10 → 12`
fn field(field: &Field) -> String {
    let text = |value: &Value| match value {
        Value::String(text) => printable(text),
        Value::Null => "none".into(),
        other => other.to_string(),
    };
    match (&field.from, &field.to) {
        (Value::Null, Value::Null) => field.name.into(),
        (from, to) => format!("{} {} → {}", field.name, text(from), text(to)),
    }
}

fn json_line(name: &Name, change: &Change) -> String {
    let mut line = json!({"path": name.text()});
    line["change"] = match change {
        Change::Added => "added",
        Change::Removed => "removed",
        Change::Changed(_) => "changed",
        Change::Refused(_) => "refused",
    }
    .into();
    match change {
        Change::Changed(fields) => {
            for field in fields {
                line["fields"][field.name] = json!([field.from, field.to]);
            }
        }
        Change::Refused(why) => line["reason"] = (*why).into(),
        Change::Added | Change::Removed => {}
    }
    if let Some(hex) = name.hex() {
        line["path_hex"] = hex.into();
    }
    line.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(bytes: &[u8]) -> Name {
        Name::new(bytes)
    }

    fn parsed(name: &Name, change: &Change) -> Value {
        serde_json::from_str(&json_line(name, change)).unwrap()
    }

    #[test]
    fn each_change_has_its_sign() {
        let fields = vec![Field::new("size", json!(10), json!(12)), Field::content()];
        for (change, expected) in [
            (Change::Added, "+ a/b"),
            (Change::Removed, "- a/b"),
            (Change::Changed(fields), "~ a/b (size 10 → 12, content)"),
            (Change::Refused("it leads outside"), "! a/b (it leads outside)"),
        ] {
            assert_eq!(line(&name(b"a/b"), &change), expected);
        }
    }

    #[test]
    fn what_is_not_there_is_none() {
        assert_eq!(field(&Field::new("link", json!("x"), Value::Null)), "link x → none");
        assert_eq!(field(&Field::new("mtime", Value::Null, json!("t"))), "mtime none → t");
    }

    #[test]
    fn no_name_or_value_steers_the_terminal() {
        let fields = vec![Field::new("link", json!("x\x1b[2J"), json!("y\n"))];
        let line = line(&name(b"a\x1b[2J\nb"), &Change::Changed(fields));
        assert!(!line.contains(['\x1b', '\n']), "{line:?}");
    }

    #[test]
    fn programs_get_the_same_as_json() {
        let name = name(b"a");
        assert_eq!(parsed(&name, &Change::Added), json!({"path": "a", "change": "added"}));
        assert_eq!(parsed(&name, &Change::Removed), json!({"path": "a", "change": "removed"}));
        let refused = json!({"path": "a", "change": "refused", "reason": "why"});
        assert_eq!(parsed(&name, &Change::Refused("why")), refused);
        let fields = vec![Field::new("uid", json!(0), json!(7)), Field::content()];
        let changed =
            json!({"path": "a", "change": "changed", "fields": {"uid": [0, 7], "content": [null, null]}});
        assert_eq!(parsed(&name, &Change::Changed(fields)), changed);
    }

    #[test]
    fn a_name_that_is_not_utf8_has_its_bytes_beside() {
        let line = parsed(&name(b"a\xff"), &Change::Added);
        assert_eq!((line["path"].as_str(), line["path_hex"].as_str()), (Some("a\u{fffd}"), Some("61ff")));
        assert_eq!(parsed(&name("grün".as_bytes()), &Change::Added).get("path_hex"), None);
    }
}
