//! This process and its host: where secrets come from, how readily we give way to others, what runs beside us.

pub mod environment;
pub mod hook;
pub mod mounts;
pub mod name;
pub mod notify;
pub mod panics;
pub mod passphrase;
pub mod priority;
pub mod process;
pub mod threads;

/// Makes whatever this process writes readable for its owner alone, from the first byte on: the files of a `file://` store.
///
/// It holds for the whole process and all that it starts. So it is called once, before there are threads, and not where
/// files are restored: folders that are made on the way would become private, too.
pub fn set_private_umask() {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
}
