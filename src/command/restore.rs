//! `restore`: catalog → frames, each confirmed → the sink.

use std::io::Write;
use std::sync::Arc;

use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;

use super::Found;
use crate::cli::Restore;
use crate::error::{Context, Error, Result};
use crate::progress::{Counters, Ui};

/// Batches of frames under way at once: each takes up to 32 MiB.
const PARALLEL: usize = 4;

/// Writes an archive's source bytes to stdout.
pub async fn restore(options: Restore, ui: &Ui, cancel: &CancellationToken) -> Result<()> {
    let found = Found::find(&options.archive.from.from, &options.archive.archive).await?;
    let passphrase = found.passphrase(&options.archive)?;
    let archive = found.open(passphrase).await?;
    let counters = Arc::new(Counters::default());
    let tracking = ui.track("restored", Arc::clone(&counters));
    let frames = archive.contents().frames.len();
    let mut opened = std::pin::pin!(archive.frames(0..frames, PARALLEL));
    loop {
        let next = tokio::select! {
            next = opened.next() => next,
            () = cancel.cancelled() => return Err(Error::interrupted()),
        };
        let Some(batch) = next else { break };
        let batch = batch.map_err(|e| incomplete(e, &counters))?;
        counters.stored.add(batch.fetched.len() as u64);
        let written = Arc::clone(&counters);
        let write = tokio::task::spawn_blocking(move || write_out(&batch.frames, &written));
        write.await.map_err(|e| Error::failed("a worker died").because(e))??;
    }
    drop(tracking);
    let end = &archive.contents().end;
    end.warnings.iter().for_each(|warning| ui.warn(&format!("at backup time: {warning}")));
    ui.detail(&format!("restored {}: {} bytes", found.name(), end.bytes));
    Ok(())
}

fn write_out(frames: &[Vec<u8>], counters: &Counters) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    for frame in frames {
        let written = stdout.write_all(frame).and_then(|()| stdout.flush());
        written.context(|| "cannot write to stdout".into())?;
        counters.source.add(frame.len() as u64);
    }
    Ok(())
}

fn incomplete(error: Error, counters: &Counters) -> Error {
    let written = counters.source.get();
    error.or_hint(format!(
        "the {written} bytes that were written are confirmed, but they are not all: discard them"
    ))
}
