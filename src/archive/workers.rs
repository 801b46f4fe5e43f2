//! Threads: one for each stage, or several that share a stage's work, whose results are collected in order.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use super::pipe::{Receiver, Sender, pipe};
use crate::error::{Context, Error, Result};

/// Runs a stage on a thread of its own.
pub fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> Result<()> {
    let spawned = std::thread::Builder::new().name(name.into()).spawn(run);
    spawned.map(drop).context(|| "cannot start a thread".into())
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
pub fn workers<J, R, W>(name: &str, depth: usize, workers: Vec<W>) -> Result<(Dispatch<J, R>, Results<R>)>
where
    J: Send + 'static,
    R: Send + 'static,
    W: FnMut(J) -> Result<R> + Send + 'static,
{
    let (jobs, work) = pipe(depth);
    let (tickets, results) = pipe(depth);
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
