//! `adopt`: commits what lies complete in a store without a manifest.

use crate::cli::Adopt;
use crate::error::Result;
use crate::job::adopt::Adoption;
use crate::job::{self, Outcome};
use crate::report::{Reporter, human_bytes, print, printable};
use crate::store::unfinished::Unfinished;

/// Adopts what is asked for, or prints what could be.
///
/// # Errors
/// As [`job::adopt::adopt`].
pub async fn adopt(options: Adopt, ui: &Reporter) -> Result<Outcome> {
    let Adoption { store, adopted, left, failed } = job::adopt::adopt(&options.request()?, ui).await?;
    for manifest in &adopted {
        let (job, id, stored) = (&manifest.job, &manifest.id, manifest.archive.size + manifest.catalog.size);
        ui.note(&format!("adopted {job}@{id}: {} at {store}", human_bytes(stored)));
    }
    for (name, error) in &failed {
        ui.warn(&format!("{name} is not adopted: {error}"));
    }
    left.iter().try_for_each(|found| print(&line(found)))?;
    match (adopted.is_empty() && failed.is_empty(), left.iter().any(Unfinished::has_both)) {
        (true, true) => ui.note(&format!(
            "`sealift adopt JOB@ID --from {store}` adopts one, --all every one that is complete"
        )),
        (true, false) => ui.note(&format!("there is nothing to adopt at {store}")),
        _ => {}
    }
    Ok(if failed.is_empty() { Outcome::Done } else { Outcome::Warned })
}

fn line(found: &Unfinished) -> String {
    let state = match (&found.suffix, found.has_catalog) {
        (Some(_), true) => "archive and catalog, no manifest",
        (Some(_), false) => "archive without catalog: cannot be adopted",
        (None, _) => "catalog without archive: cannot be adopted",
    };
    // Whoever can write to the store can have named it.
    printable(&format!("{}@{}  {state}", found.job, found.id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_there_is_told_with_what_is_missing() {
        let found = |suffix: Option<&str>, has_catalog| Unfinished {
            job: "db".into(),
            id: "20261122T020000Z-1f2e3d4c".parse().unwrap(),
            suffix: suffix.map(Into::into),
            has_catalog,
        };
        let name = "db@20261122T020000Z-1f2e3d4c  ";
        assert_eq!(line(&found(Some(".raw"), true)), format!("{name}archive and catalog, no manifest"));
        assert!(line(&found(Some(".raw"), false)).contains("without catalog"));
        assert!(line(&found(None, true)).contains("without archive"));
    }
}
