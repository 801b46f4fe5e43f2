//! `show`: what an archive is, and how to restore it by hand.

use jiff::Timestamp;
use serde_json::json;

use crate::archive::Format;
use crate::archive::openpgp::Cipher;
use crate::cli::Show;
use crate::error::Result;
use crate::job;
use crate::job::show::Description;
use crate::preset::Step;
use crate::report::{Mode, Reporter, counted, human_bytes, print, printable};
use crate::source::{besides, in_words};
use crate::tar::owners::IdMap;

/// Prints what the sealed catalog says of an archive.
///
/// # Errors
/// As [`job::show::show`]; nobody reads what is printed.
pub async fn show(options: Show, mode: Mode, ui: &Reporter) -> Result<()> {
    let request = options.request()?;
    let found = job::show::show(&request, ui).await?;
    let from = &request.open.store.url;
    match mode {
        Mode::Json => print(&json_line(&found, from)),
        _ => lines(&found, from).iter().try_for_each(|line| print(line)),
    }
}

fn json_line(found: &Description, from: &str) -> String {
    let needs: Vec<_> =
        found.needs.iter().map(|older| format!("{}@{}", found.archive.job, older.id)).collect();
    let restore: Vec<_> = restore_lines(found, from).into_iter().flatten().collect();
    json!({
        "archive": found.archive, "end": found.end, "needs": needs, "restore": restore, "by_hand": found.by_hand,
    })
    .to_string()
}

fn at(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// `4.00 KiB (4096 bytes)`; few bytes are told once.
fn exact_bytes(bytes: u64) -> String {
    match bytes {
        ..1024 => counted(bytes, "byte"),
        _ => format!("{} ({bytes} bytes)", human_bytes(bytes)),
    }
}

fn lines(found: &Description, from: &str) -> Vec<String> {
    let (record, end, needs) = (&found.archive, &found.end, &found.needs);
    let seconds = end.finished.duration_since(record.started).as_secs_f64();
    let entries = match record.kind {
        Format::Tar => format!("tar with {}", counted(end.entries, "member")),
        Format::Raw => "bytes, no tar".into(),
    };
    let mut lines =
        vec![format!("archive   {}", found.name), format!("source    {}", in_words(&record.source))];
    lines.extend(besides(&record.source).iter().map(|text| format!("          {text}")));
    lines.extend(record.host.as_deref().map(|host| format!("host      {}", printable(host))));
    lines.extend(record.set.as_deref().map(|set| format!("set       {}", printable(set))));
    lines.extend([
        format!("kind      {entries}"),
        format!("started   {}", at(record.started)),
        format!("finished  {} ({seconds:.1} s)", at(end.finished)),
        format!("size      {}", exact_bytes(end.bytes)),
        format!(
            "stored    {} in {}, {}",
            human_bytes(end.stored_bytes),
            counted(end.frames, &format!("{} frame", record.codec)),
            match record.cipher {
                Some(Cipher::Cfb) => "OpenPGP (AES-256)",
                Some(Cipher::Aead) => "OpenPGP (AES-256-GCM)",
                None => "not encrypted",
            },
        ),
        format!("object    {}", found.object),
        format!("blake3    {}", end.blake3),
    ]);
    if !needs.is_empty() {
        let (members, kept) = (end.kept.entries, exact_bytes(end.kept.bytes));
        lines.push(format!("adds to   {}, {kept}, in older archives", counted(members, "member")));
    }
    lines.extend(needs.iter().map(|older| {
        let stored = human_bytes(older.stored_bytes);
        format!("needs     {}@{}, {stored} stored", record.job, older.id)
    }));
    lines.extend(record.id_map.filter(IdMap::remaps).map(|IdMap { uid, gid }| {
        format!(
            "owners    of an engine with userns-remap: users from {} on, groups from {} on",
            uid.first, gid.first
        )
    }));
    lines.extend(end.exit_code.map(|code| format!("exit code {code}")));
    lines.extend(end.warnings.iter().map(|text| format!("warning   {}", printable(text))));
    lines.extend(end.notes.iter().map(|text| format!("note      {}", printable(text))));
    lines.extend(restore_lines(found, from).into_iter().flat_map(|step| {
        let heads = std::iter::once("restore   ").chain(std::iter::repeat("          "));
        heads.zip(step).map(|(head, line)| format!("{head}{line}")).collect::<Vec<_>>()
    }));
    match needs.is_empty() {
        true => lines.push(format!("by hand   {}", found.by_hand)),
        false => {
            lines.push("by hand   by this script (--json has it as by_hand):".into());
            lines.push(found.by_hand.trim_end().into());
        }
    }
    lines
}

/// What brings it back into the product that it is of: the title of each step as a comment, then its lines.
fn restore_lines(found: &Description, from: &str) -> Vec<Vec<String>> {
    let lines = |step: &Step| {
        let title = format!("# {}", printable(&step.title));
        std::iter::once(title).chain(step.actions.iter().map(|action| action.line(from))).collect()
    };
    found.steps.iter().map(lines).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preset::{Action, RestoreTo};
    use serde_json::Value;

    const FROM: &str = "s3://b";

    fn description(kind: &str) -> Description {
        let (started, finished) = ("2026-11-22T02:00:00Z", "2026-11-22T02:00:01.5Z");
        Description {
            needs: Vec::new(),
            name: "db@20261122T020000Z-1f2e3d4c".into(),
            object: "s3://b/db/20261122T020000Z-1f2e3d4c.tar.zst.gpg".into(),
            archive: serde_json::from_value(json!({
                "format": 1, "id": "20261122T020000Z-1f2e3d4c", "job": "db", "source": {"volume": ["v"]},
                "kind": kind, "codec": "zstd", "cipher": "cfb", "frame_len": 4096, "head_len": 9,
                "started": started, "tool": "test",
            }))
            .unwrap(),
            end: serde_json::from_value(json!({
                "frames": 2, "entries": 3, "bytes": 4096, "stored_bytes": 1024, "blake3": "ab", "exit_code": 0,
                "warnings": ["w"], "notes": ["n"], "finished": finished,
            }))
            .unwrap(),
            steps: Vec::new(),
            by_hand: "gpg -d x".into(),
        }
    }

    #[test]
    fn an_archive_is_described_line_by_line() {
        assert_eq!(
            lines(&description("tar"), FROM),
            [
                "archive   db@20261122T020000Z-1f2e3d4c",
                "source    volume v",
                "kind      tar with 3 members",
                "started   2026-11-22 02:00:00Z",
                "finished  2026-11-22 02:00:01Z (1.5 s)",
                "size      4.00 KiB (4096 bytes)",
                "stored    1.00 KiB in 2 zstd frames, OpenPGP (AES-256)",
                "object    s3://b/db/20261122T020000Z-1f2e3d4c.tar.zst.gpg",
                "blake3    ab",
                "exit code 0",
                "warning   w",
                "note      n",
                "by hand   gpg -d x",
            ]
        );
    }

    #[test]
    fn whose_ids_the_owners_are_is_shown_where_an_engine_remaps_them() {
        let mut found = description("tar");
        let id_map = serde_json::json!({"uid": {"first": 300_000, "count": 65_536}, "gid": {"first": 7}});
        found.archive.id_map = Some(serde_json::from_value(id_map).unwrap());
        let line = "owners    of an engine with userns-remap: users from 300000 on, groups from 7 on";
        assert!(lines(&found, FROM).iter().any(|shown| shown == line), "{:?}", lines(&found, FROM));
        found.archive.id_map = Some(IdMap::default());
        assert_eq!(lines(&found, FROM), lines(&description("tar"), FROM));
    }

    #[test]
    fn a_source_that_is_no_tar_has_no_members() {
        assert_eq!(lines(&description("raw"), FROM)[2], "kind      bytes, no tar");
    }

    #[test]
    fn what_a_preset_made_is_shown_with_the_lines_that_restore_it() {
        let mut found = description("raw");
        let restore = Action::Restore {
            archive: found.name.clone(),
            is_clear: false,
            to: RestoreTo::Words(["--to-exec", "db", "psql"].map(Into::into).into()),
        };
        let actions = vec![restore, Action::Note("# look".into())];
        found.steps = vec![Step { title: "PostgreSQL 15\n".into(), on_condition: true, actions }];
        let shown = lines(&found, FROM);
        let expected = [
            "restore   # PostgreSQL 15\\n",
            "          sealift restore db@20261122T020000Z-1f2e3d4c --from s3://b --to-exec db psql",
            "          # look",
            "by hand   gpg -d x",
        ];
        assert_eq!(shown[shown.len() - 4..], expected);
        let json: Value = serde_json::from_str(&json_line(&found, FROM)).unwrap();
        assert_eq!(json["restore"][2], "# look");
    }

    #[test]
    fn programs_get_the_records_of_the_catalog() {
        let line: Value = serde_json::from_str(&json_line(&description("tar"), FROM)).unwrap();
        assert_eq!((&line["archive"]["job"], &line["end"]["bytes"]), (&json!("db"), &json!(4096)));
        assert_eq!(line["by_hand"], "gpg -d x");
    }
}
