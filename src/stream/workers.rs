//! Threads: one for each stage, or several that share a stage's work, whose results are collected in order.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use super::channel::{Receiver, Sender, channel};
use crate::error::{Error, Result};

/// Runs a stage on a thread of its own.
///
/// # Errors
/// The system gives no thread.
pub fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> Result<()> {
    let spawned = std::thread::Builder::new().name(name.into()).spawn(run);
    spawned.map(drop).map_err(Error::no_more_threads)
}

/// A piece of work, and where its result goes.
type Job<J, R> = (J, oneshot::Sender<Result<R>>);

/// Hands jobs to whichever worker is free, and the tickets for their results on in order.
pub struct Dispatch<J, R> {
    jobs: Sender<Job<J, R>>,
    tickets: Sender<oneshot::Receiver<Result<R>>>,
}

/// The results, in the order of the jobs.
pub struct Results<R>(Receiver<oneshot::Receiver<Result<R>>>);

/// Starts a thread for each of `workers`; up to `depth` jobs wait, and as many results.
///
/// # Errors
/// The system gives no thread.
pub fn workers<J, R, W>(name: &str, depth: usize, workers: Vec<W>) -> Result<(Dispatch<J, R>, Results<R>)>
where
    J: Send + 'static,
    R: Send + 'static,
    W: FnMut(J) -> Result<R> + Send + 'static,
{
    let (jobs, work) = channel(depth);
    let (tickets, results) = channel(depth);
    let work = Arc::new(Mutex::new(work));
    for worker in workers {
        let work = Arc::clone(&work);
        thread(name, move || run(&work, worker))?;
    }
    Ok((Dispatch { jobs, tickets }, Results(results)))
}

fn run<J, R>(work: &Mutex<Receiver<Job<J, R>>>, mut worker: impl FnMut(J) -> Result<R>) {
    loop {
        let job = work.lock().unwrap_or_else(PoisonError::into_inner).recv_blocking();
        let Ok(Some((job, result))) = job else { return };
        // A collector that is gone has its own reason.
        let _ = result.send(worker(job));
    }
}

impl<J, R> Dispatch<J, R> {
    /// Hands one job on.
    ///
    /// # Errors
    /// [`Kind::Disconnected`](crate::error::Kind::Disconnected): nobody collects results any more.
    pub fn send(&self, job: J) -> Result<()> {
        let (result, ticket) = oneshot::channel();
        self.tickets.send_blocking(ticket)?;
        self.jobs.send_blocking((job, result))
    }

    /// Says how it ended, to workers and to whoever collects.
    pub fn finish(self, outcome: Result<()>) {
        self.jobs.finish_blocking(Ok(()));
        self.tickets.finish_blocking(outcome);
    }
}

impl<R> Results<R> {
    /// The next result; `None` only when there are no more jobs.
    ///
    /// # Errors
    /// The job's, or what kept the jobs from coming.
    pub fn next_blocking(&mut self) -> Result<Option<R>> {
        let Some(ticket) = self.0.recv_blocking()? else { return Ok(None) };
        ticket.blocking_recv().map_err(|_| Error::failed("a worker died"))?.map(Some)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::Kind;

    /// What comes of so many jobs; job 7 is special.
    fn results(seven: fn() -> Result<u64>, outcome: Result<()>) -> (Vec<u64>, Result<()>) {
        let work = move |job: u64| {
            // The first are the slowest.
            std::thread::sleep(Duration::from_millis(10_u64.saturating_sub(job)));
            if job == 7 { seven() } else { Ok(job) }
        };
        let (jobs, mut results) = workers("worker", 2, vec![work; 3]).unwrap();
        std::thread::spawn(move || {
            let sent = (0..20).try_for_each(|job| jobs.send(job));
            jobs.finish(sent.and(outcome));
        });
        let mut got = Vec::new();
        loop {
            match results.next_blocking() {
                Ok(Some(result)) => got.push(result),
                Ok(None) => return (got, Ok(())),
                Err(error) => return (got, Err(error)),
            }
        }
    }

    #[test]
    fn results_come_in_order_up_to_the_first_failure() {
        let (got, ended) = results(|| Ok(7), Ok(()));
        assert!(ended.is_ok() && got.into_iter().eq(0..20));
        let (got, ended) = results(|| Err(Error::damaged("seven")), Ok(()));
        assert!(ended.unwrap_err().kind() == Kind::Damaged && got.into_iter().eq(0..7));
        let (got, ended) = results(|| panic!("on purpose"), Ok(()));
        assert!(ended.unwrap_err().to_string().contains("a worker died") && got.into_iter().eq(0..7));
        let (got, ended) = results(|| Ok(7), Err(Error::damaged("the source")));
        assert!(ended.unwrap_err().kind() == Kind::Damaged && got.into_iter().eq(0..20));
    }
}
