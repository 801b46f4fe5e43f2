//! Bytes on their way between threads and tasks: channels whose end is said, sources with a proof, sinks with an exit code,
//! pools that bound the memory, workers that keep the order.

pub mod channel;
pub mod counters;
pub mod pool;
pub mod sink;
pub mod source;
pub mod warning;
pub mod workers;
