//! `rekey`: archives that open with a new passphrase, too.

use crate::cli::Rekey;
use crate::error::Result;
use crate::job::rekey::{self as job_rekey, Fate, Rekeyed};
use crate::report::{Event, Reporter, event};

/// Makes archives open with a new passphrase, and tells of each.
///
/// # Errors
/// As [`job_rekey::rekey`].
pub async fn rekey(options: Rekey, ui: &Reporter) -> Result<()> {
    let request = options.request()?;
    let mut written = 0;
    let ended = job_rekey::rekey(&request, ui, |rekeyed| {
        written += u64::from(matches!(rekeyed.fate, Fate::Written(_)));
        ui.emit(told(rekeyed, request.dry_run));
    })
    .await;
    if written > 0 && !request.dry_run {
        ui.note(
            "the old passphrase still opens these archives, for whoever has it and can read the store: only new backups with the \
             new one, and `sealift prune` of these, end that",
        );
    }
    ended
}

fn told(Rekeyed { job, id, fate }: Rekeyed, dry_run: bool) -> Event {
    let name = format!("{job}@{id}");
    let message = match fate {
        Fate::Written(object) if !dry_run => {
            return Event::Rekeyed(event::Rekeyed { job, id: id.to_string(), object });
        }
        Fate::Written(object) => format!("{name}: {job}/{object} would be written"),
        Fate::Opens => format!("{name} opens with the new passphrase already"),
        Fate::Clear => format!("{name} is not encrypted"),
    };
    Event::Note { message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_told_from_what_would_be_and_from_what_opens() {
        let rekeyed =
            |fate| Rekeyed { job: "db".into(), id: "20261122T020000Z-1f2e3d4c".parse().unwrap(), fate };
        let written = || rekeyed(Fate::Written("x.skesk".into()));
        let name = "db@20261122T020000Z-1f2e3d4c";
        for (event, text) in [
            (told(written(), false), format!("rekeyed {name}: db/x.skesk")),
            (told(written(), true), format!("note: {name}: db/x.skesk would be written")),
            (
                told(rekeyed(Fate::Opens), false),
                format!("note: {name} opens with the new passphrase already"),
            ),
            (told(rekeyed(Fate::Clear), false), format!("note: {name} is not encrypted")),
        ] {
            assert_eq!(event.to_string(), text);
        }
    }
}
