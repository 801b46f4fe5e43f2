//! `diff`: how two archives, or an archive and a folder, differ.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use super::backup::Outcome;
use super::stored::{Secrets, StoredArchive};
use crate::archive::Format;
use crate::archive::open::Archive;
use crate::cli::{Diff, DiffTarget};
use crate::error::{Error, Result};
use crate::report::{Mode, Reporter, human_bytes, print, printable};
use crate::stream::counters::Counters;
use crate::tar::select::Patterns;
use member::{Field, Member, Name};

mod content;
mod folder;
mod host;
mod member;

/// How one member differs.
#[derive(Debug, PartialEq)]
enum Change {
    /// Only in the second archive, or in the folder.
    Added,
    /// Only in the first.
    Removed,
    /// In both, and different.
    Changed(Vec<Field>),
    /// Not compared, and why.
    Refused(&'static str),
}

/// Differences, by name.
type Changes = BTreeMap<Name, Change>;

/// An archive whose catalog was read to its proved end, and its members.
struct Side {
    archive: Arc<Archive>,
    members: BTreeMap<Name, Member>,
}

/// Compares, and prints what differs.
pub async fn diff(options: Diff, mode: Mode, ui: &Reporter) -> Result<Outcome> {
    let (against, globs) = options.against()?;
    let patterns = Patterns::new(globs, &[])?;
    let mut secrets = Secrets::new(&options.archive.open);
    let from = &options.archive.open.from.from;
    let first = Side::read(StoredArchive::find(from, &options.archive.archive).await?, &mut secrets).await?;
    let counters = Arc::new(Counters::default());
    let tracking = ui.track("compared", Arc::clone(&counters));
    let changes = match against {
        DiffTarget::Folder(dir) => folder::compare(first, &dir, &patterns, &counters).await?,
        DiffTarget::Archive(second) => {
            let second = Side::read(StoredArchive::find(from, &second).await?, &mut secrets).await?;
            archives(first, second, &patterns, options.content, &counters).await?
        }
    };
    drop(tracking);
    ui.detail(&format!("{} of contents were compared", human_bytes(counters.source.get())));
    for (name, change) in &changes {
        print(&if mode == Mode::Json { json_line(name, change) } else { line(name, change) })?;
    }
    Ok(if changes.is_empty() { Outcome::Done } else { Outcome::Exited(1) })
}

impl Side {
    async fn read(found: StoredArchive, secrets: &mut Secrets<'_>) -> Result<Side> {
        let mut members = BTreeMap::new();
        let passphrase = secrets.of(&found)?;
        let archive = found
            .open_with(passphrase, |entry| {
                // The last of a name is the one that a restore leaves.
                members.insert(Name::of(entry), Member::of(entry));
            })
            .await?;
        if archive.contents().archive.kind != Format::Tar {
            return Err(Error::usage(format!("{} is no tar: it has no members", found.name()))
                .hint("compare its bytes: `sealift restore … --to-stdout | cmp - FILE`"));
        }
        Ok(Side { archive, members })
    }
}

/// By the catalogs; contents only where that was asked for, and the sizes are the same.
async fn archives(
    first: Side,
    second: Side,
    patterns: &Patterns,
    content: bool,
    counters: &Counters,
) -> Result<Changes> {
    let mut changes = Changes::new();
    let mut alike = Vec::new();
    for (name, old) in first.members.iter().filter(|(name, _)| name.taken_by(patterns)) {
        let Some(new) = second.members.get(name) else {
            changes.insert(name.clone(), Change::Removed);
            continue;
        };
        let fields = old.differs(new);
        if let (Some(old), Some(new)) = (old.data.clone(), new.data.clone())
            && old.end - old.start == new.end - new.start
            && !old.is_empty()
        {
            alike.push((name, old, new));
        }
        if !fields.is_empty() {
            changes.insert(name.clone(), Change::Changed(fields));
        }
    }
    let added = second.members.keys().filter(|name| !first.members.contains_key(*name));
    changes.extend(added.filter(|name| name.taken_by(patterns)).map(|name| (name.clone(), Change::Added)));
    if content {
        let ranges = |pick: fn(&(_, _, _)) -> _| alike.iter().map(pick).collect::<Vec<_>>();
        let old = content::digests(&first.archive, ranges(|(_, old, _)| old.clone()), counters).await?;
        let new = content::digests(&second.archive, ranges(|(_, _, new)| new.clone()), counters).await?;
        let differ = alike.iter().zip(old.iter().zip(&new)).filter(|(_, (old, new))| old != new);
        differ.for_each(|((name, ..), _)| add(&mut changes, name, Field::content()));
    }
    Ok(changes)
}

/// One more field in which a member differs.
fn add(changes: &mut Changes, name: &Name, field: Field) {
    let change = changes.entry(name.clone()).or_insert_with(|| Change::Changed(Vec::new()));
    if let Change::Changed(fields) = change {
        fields.push(field);
    }
}

fn line(name: &Name, change: &Change) -> String {
    let shown = printable(&name.text());
    match change {
        Change::Added => format!("+ {shown}"),
        Change::Removed => format!("- {shown}"),
        Change::Changed(fields) => {
            let fields: Vec<_> = fields.iter().map(Field::to_string).collect();
            format!("~ {shown} ({})", fields.join(", "))
        }
        Change::Refused(why) => format!("! {shown} ({why})"),
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
