//! The verbs, one a file: what was asked for goes to the work, what it found is printed.

pub mod adopt;
pub mod backup;
pub mod cat;
mod clean;
pub mod completions;
pub mod config;
pub mod copy;
pub mod diff;
pub mod dispatch;
pub mod doctor;
pub mod drill;
pub mod list;
mod list_table;
pub mod ls;
pub mod man;
pub mod parse;
pub mod plan;
pub mod prune;
pub mod rekey;
pub mod restore;
pub mod restore_set;
pub mod show;
pub mod status;
pub mod verify;
