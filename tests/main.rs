//! Every test against real parts: `tests/run` starts them. One binary, one module a promise.

mod support;

mod bad_input;
mod failures;
mod off_disk;
mod registry;
mod sources;
mod stores;
