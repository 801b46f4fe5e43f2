//! The verbs, one a file: what was asked for goes to the work, what it found is printed.

pub mod cat;
pub mod config;
pub mod list;
pub mod ls;
pub mod restore_set;
pub mod show;
