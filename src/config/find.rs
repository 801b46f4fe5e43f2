//! Where the settings file lies.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::{Context, Error, Result};

/// The settings file: the one that is named, or the first that is there.
///
/// # Errors
/// The one that is named is not there.
pub fn find(named: Option<&Path>) -> Result<Option<PathBuf>> {
    match named {
        Some(file) if file.exists() => Ok(Some(file.into())),
        Some(file) => Err(Error::usage(format!("there is no settings file {}", file.display()))
            .hint("--config and SEALIFT_CONFIG name a file that is there")),
        None => places().into_iter().find(|place| place.exists()).map(trusted).transpose(),
    }
}

/// A file that nobody named must not be anybody's: it can name commands to run.
fn trusted(file: PathBuf) -> Result<PathBuf> {
    let meta = std::fs::metadata(&file).context(|| format!("cannot look at {}", file.display()))?;
    let own = [0, rustix::process::geteuid().as_raw()].contains(&meta.uid());
    match own && meta.mode() & 0o002 == 0 {
        true => Ok(file),
        false => Err(Error::usage(format!("{} may have been written by somebody else", file.display()))
            .hint("it can name commands to run: name it by --config if you trust it, or change its owner and mode")),
    }
}

/// Where a settings file is looked for.
pub fn places() -> Vec<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let own = folder("XDG_CONFIG_HOME").or_else(|| Some(folder("HOME")?.join(".config")));
    let own = own.map(|own| own.join("sealift/sealift.toml"));
    [Some("sealift.toml".into()), own, Some("/etc/sealift/sealift.toml".into())]
        .into_iter()
        .flatten()
        .collect()
}

/// That there is none: no job, nothing to show.
pub fn no_file(so: &str) -> Error {
    let places = places().iter().map(|place| place.display().to_string()).collect::<Vec<_>>();
    Error::usage(format!("there is no settings file, so {so}"))
        .hint(format!("make one of {}, or name one by --config", places.join(", ")))
}
