//! The threads that everything runs on: all of them at once, or none. The runtime queues work for a thread that the system
//! refused, and waits for one that may never come.

use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

use super::panics;
use crate::error::{Context, Error, Result};

/// Threads that are always there for calls that block. Fewer of these wait for others at any time (a source's or a sink's
/// bytes, what a process says), so that the rest is always served.
const BLOCKING: usize = 8;
/// How long a thread is not given up once it has ended its work.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);
/// How often it is asked why not all threads run yet.
const ASKED: Duration = Duration::from_millis(100);
/// How long a system may take to start threads that it does not refuse.
const STARTING: Duration = Duration::from_secs(60);

/// A runtime whose threads run.
///
/// # Errors
/// The system does not start as many.
pub fn runtime() -> Result<Runtime> {
    let runtime = build()?;
    match start(&runtime, BLOCKING) {
        Ok(()) => Ok(runtime),
        Err(error) => {
            // To drop it would be to wait for threads that do not end.
            runtime.shutdown_background();
            Err(error)
        }
    }
}

/// Where it is refused one of its own threads, the runtime panics, and then waits for ever for those that it has. So it is
/// made where nobody waits for that.
fn build() -> Result<Runtime> {
    let (tell, told) = mpsc::channel();
    let make = move || {
        let mut builder = Builder::new_multi_thread();
        let _ = tell.send(builder.enable_all().thread_keep_alive(FOREVER).build());
    };
    std::thread::Builder::new().spawn(make).map_err(Error::no_more_threads)?;
    loop {
        match told.recv_timeout(ASKED) {
            Ok(built) => return built.context(|| "cannot start".into()),
            // It has panicked, which was told.
            Err(RecvTimeoutError::Disconnected) => return Err(Error::disconnected()),
            Err(RecvTimeoutError::Timeout) if panics::exit_code().is_some() => {
                return Err(Error::disconnected());
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// Has the runtime start so many threads for blocking calls, each of which waits until all run.
fn start(runtime: &Runtime, count: usize) -> Result<()> {
    let gate = Arc::new(Mutex::new(()));
    let closed = gate.lock().unwrap_or_else(PoisonError::into_inner);
    let (tell, told) = mpsc::channel();
    for _ in 0..count {
        let (gate, tell) = (Arc::clone(&gate), tell.clone());
        runtime.spawn_blocking(move || {
            let _ = tell.send(());
            drop(gate.lock());
        });
    }
    let (began, mut running) = (Instant::now(), 0);
    while running < count {
        if told.recv_timeout(ASKED).is_ok() {
            running += 1;
            continue;
        }
        // The runtime keeps it to itself that it was refused one.
        let one = std::thread::Builder::new().spawn(|| ());
        one.map_err(Error::no_more_threads)?.join().ok();
        if began.elapsed() > STARTING {
            return Err(Error::no_more_threads(format!("{running} of {count} run after a minute")));
        }
        // It tries again when it is given something to do.
        runtime.spawn_blocking(|| ());
    }
    drop(closed);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_block_do_not_wait_for_each_other() {
        let runtime = runtime().unwrap();
        let (tell, told) = mpsc::channel();
        let together = Arc::new(std::sync::Barrier::new(BLOCKING));
        for _ in 0..BLOCKING {
            let (tell, together) = (tell.clone(), Arc::clone(&together));
            runtime.spawn_blocking(move || {
                together.wait();
                tell.send(()).unwrap();
            });
        }
        for _ in 0..BLOCKING {
            told.recv_timeout(Duration::from_secs(30)).unwrap();
        }
    }
}
