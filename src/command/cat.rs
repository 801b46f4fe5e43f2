//! `cat`: one file of an archive; only the frames that hold it are fetched.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;

use crate::archive::open::Archive;
use crate::cli::Cat;
use crate::error::{Error, Kind, Result};
use crate::job::restore::PARALLEL;
use crate::job::stored::StoredArchive;
use crate::report::Reporter;
use crate::sink;
use crate::stream::sink::Sink;
use crate::tar::{Entry, EntryType};

/// Prints one file.
pub async fn cat(options: Cat, ui: &Reporter) -> Result<()> {
    let found = StoredArchive::find(&options.archive.open.from.from, &options.archive.archive).await?;
    let passphrase = found.passphrase(&options.archive.open)?;
    let mut wanted = options.path.trim_start_matches("./").to_string();
    let mut member = None;
    let mut archive = None;
    // A hard link has no data: a second look finds the member that has.
    for _ in 0..2 {
        let look = |entry: &Entry| {
            if entry.path.trim_start_matches("./") == wanted {
                // The last of that name is the one that a restore leaves.
                member = Some(entry.clone());
            }
        };
        archive = Some(found.open_with(passphrase.clone(), look).await?);
        match &member {
            Some(Entry { kind: EntryType::Link, link: Some(target), .. }) => {
                wanted = target.trim_start_matches("./").to_string();
            }
            _ => break,
        }
    }
    let (Some(member), Some(archive)) = (member, archive) else {
        return Err(Error::new(Kind::NotFound, format!("there is no member {}", options.path))
            .hint("`sealift ls` shows their names"));
    };
    if member.kind != EntryType::File {
        return Err(
            Error::usage(format!("{} is no file", options.path)).hint("`sealift ls --long` shows what it is")
        );
    }
    let mut sink = if member.sparse { sink::expand(ui)? } else { sink::stdout() };
    match deliver(&archive, &member, &sink).await {
        Ok(()) => sink.finish().await.map(drop),
        Err(error) => Err(sink.fail(error).await),
    }
}

/// A file's data; of a sparse one the whole member, which GNU tar expands.
async fn deliver(archive: &Arc<Archive>, member: &Entry, sink: &Sink) -> Result<()> {
    let end = member.at + member.len;
    let range = match member.sparse {
        true => member.at..end,
        false => {
            member.data().ok_or_else(|| Error::damaged("the catalog says what cannot be of this file"))?
        }
    };
    let ranges = [range];
    let mut opened = std::pin::pin!(archive.frames(&ranges, PARALLEL));
    while let Some(batch) = opened.next().await {
        for piece in batch?.pieces(&ranges) {
            sink.write(piece).await?;
        }
    }
    if member.sparse {
        sink.write(Bytes::from_static(&[0; 2 * crate::tar::BLOCK])).await?;
    }
    Ok(())
}
