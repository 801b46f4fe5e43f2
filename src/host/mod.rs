//! This process and its host: where secrets come from, and how readily we give way to others.

pub mod passphrase;
pub mod priority;
