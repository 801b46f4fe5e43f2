//! Sealift streams Docker backups, sealed, straight to off-site storage: source → archive → store, and back.

pub mod archive;
#[expect(missing_docs, reason = "what clap shows as help is the documentation")]
pub mod cli;
pub mod command;
pub mod config;
pub mod docker;
pub mod error;
pub mod host;
pub mod job;
pub mod page;
pub mod preset;
pub mod report;
pub mod sink;
pub mod source;
pub mod store;
pub mod stream;
pub mod tar;
pub mod tell;
