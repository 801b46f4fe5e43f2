//! Every test against real parts: `tests/run` starts them. One binary, one module a promise.

#![allow(
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "tests may fail and write"
)]

mod support;

mod aead;
mod bad_input;
mod config;
mod damage;
mod diff;
mod ee;
mod failures;
mod friendly;
mod golden;
mod off_disk;
mod reader;
mod readme;
mod registry;
mod restore;
mod sequential;
mod sources;
mod standins;
mod stores;
mod verify;
