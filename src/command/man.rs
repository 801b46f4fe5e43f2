//! `man`: the man pages, for whoever packages sealift.

use std::path::Path;

use crate::cli;
use crate::error::{Context, Result};

/// Writes every man page into a folder.
///
/// # Errors
/// It cannot be made, or a page cannot be written.
#[allow(
    clippy::disallowed_methods,
    reason = "these files are what was asked for, and hold no bytes of a backup"
)]
pub fn man(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).context(|| format!("cannot make {}", dir.display()))?;
    for (name, text) in cli::man_pages()? {
        let file = dir.join(name);
        std::fs::write(&file, text).context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}
