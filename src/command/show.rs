//! `show`: what an archive is, and how to restore it by hand.

use serde_json::json;

use crate::archive::Format;
use crate::archive::frame::Codec;
use crate::archive::openpgp::Cipher;
use crate::cli::Show;
use crate::error::Result;
use crate::job::stored::StoredArchive;
use crate::report::{Mode, human_bytes, print};

/// Prints what the sealed catalog says of an archive.
pub async fn show(options: Show, mode: Mode) -> Result<()> {
    let found = StoredArchive::find(&options.archive.open.from.from, &options.archive.archive).await?;
    let archive = found.open(found.passphrase(&options.archive.open)?).await?;
    let contents = archive.contents();
    let (record, end) = (&contents.archive, &contents.end);
    let by_hand = by_hand(&found, record.codec, record.kind);
    if mode == Mode::Json {
        return print(&json!({"archive": record, "end": end, "by_hand": by_hand}).to_string());
    }
    let seconds = end.finished.duration_since(record.started).as_secs_f64();
    let object = format!("{}/{}", found.store.name, archive.object().name());
    let entries = match record.kind {
        Format::Tar => format!("tar with {} members", end.entries),
        Format::Raw => "bytes, no tar".into(),
    };
    let mut lines = vec![
        format!("archive   {}", found.name()),
        format!("source    {}", record.source),
        format!("kind      {entries}"),
        format!("started   {}", record.started),
        format!("finished  {} ({seconds:.1} s)", end.finished),
        format!("size      {} ({} bytes)", human_bytes(end.bytes), end.bytes),
        format!(
            "stored    {} in {} {} frames, at {object}",
            human_bytes(end.stored_bytes),
            end.frames,
            record.codec
        ),
        format!("blake3    {}", end.blake3),
    ];
    lines.extend(end.exit_code.map(|code| format!("exit code {code}")));
    lines.extend(end.warnings.iter().map(|text| format!("warning   {text}")));
    lines.extend(end.notes.iter().map(|text| format!("note      {text}")));
    lines.push(format!("by hand   {by_hand}"));
    lines.iter().try_for_each(|line| print(line))
}

/// The commands that restore it without us, from a copy of the object in this folder.
fn by_hand(found: &StoredArchive, codec: Codec, kind: Format) -> String {
    let object = format!("{}{}", found.id, found.manifest.suffix);
    let first = match found.cipher() {
        Some(Cipher::Cfb) => format!("gpg -d {object}"),
        Some(Cipher::Aead) => format!("sq decrypt {object}"),
        None => format!("cat {object}"),
    };
    let unpack = match codec {
        Codec::Zstd => " | zstd -d",
        Codec::Gzip => " | gzip -d",
        Codec::Xz => " | xz -d",
        Codec::None => "",
    };
    let last = if kind == Format::Tar {
        " | tar -x -p --xattrs --xattrs-include='*' --acls --numeric-owner -C TARGET"
    } else {
        " > TARGET"
    };
    format!("{first}{unpack}{last}")
}
