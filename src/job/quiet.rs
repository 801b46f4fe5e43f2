//! What is held still for a backup, for as long as its source is read: let go when the source's end is proved or has failed,
//! whatever else becomes of the run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::docker::Engine;
use crate::docker::quiesce::{QuiescePlan, QuiesceRequest};
use crate::error::{Error, Result};
use crate::report::Reporter;
use crate::stream::source::{ByteStream, Proof};
use crate::stream::warning::Warning;

/// How long a run that panics waits for what it holds to be let go.
const PANIC: Duration = Duration::from_secs(120);

/// What a source is read under.
pub(super) struct Quiet {
    /// Lets everything go.
    release: CancellationToken,
    /// What could not be put back, once all is let go.
    ended: Option<JoinHandle<Vec<Error>>>,
    /// Hangs up when all is let go.
    gone: mpsc::Receiver<()>,
    since: Instant,
    /// It was let go before all was read.
    is_over: Arc<AtomicBool>,
    /// What is held, in words.
    held: String,
    strict: bool,
}

impl Quiet {
    /// Holds still what is asked for; nothing, where nothing is found that could be. A signal lets it go at once.
    ///
    /// # Errors
    /// Something is not there, or cannot be held still: what was held is let go.
    pub(super) async fn begin(
        engine: &Engine,
        request: &QuiesceRequest,
        (job, run): (&str, &str),
        strict: bool,
        ui: &Reporter,
        cancel: &CancellationToken,
    ) -> Result<Option<Quiet>> {
        let plan = engine.plan_quiesce(request, job).await?;
        plan.notes.iter().for_each(|text| ui.note(text));
        plan.warnings.iter().for_each(|text| ui.warn(text));
        if plan.targets.is_empty() {
            ui.note("nothing is to be stopped, paused or scaled down");
            return Ok(None);
        }
        let (release, is_over) = (cancel.child_token(), Arc::new(AtomicBool::new(false)));
        let (hang_up, gone) = mpsc::channel();
        let (tell, told) = oneshot::channel();
        let (since, held) = (Instant::now(), plan.held());
        let holding = Holding {
            engine: engine.clone(),
            request: request.clone(),
            plan,
            run: run.into(),
            release: release.clone(),
            is_over: Arc::clone(&is_over),
            since,
        };
        let shown = ui.clone();
        // In a task of its own: whoever stops waiting for it does not lose sight of what is held.
        let ended = tokio::spawn(async move {
            let _hang_up = hang_up;
            holding.hold(tell, &shown).await
        });
        let quiet = Quiet { release, ended: Some(ended), gone, since, is_over, held, strict };
        told.await.map_err(|_| Error::failed("a worker died"))??;
        Ok(Some(quiet))
    }

    /// Lets everything go when the end of this stream is proved, or that there will be none; a part of a run that goes on
    /// changes nothing.
    pub(super) fn watch(&self, stream: &mut ByteStream) {
        let (told, telling) = stream.intercept_proof();
        let (release, is_over, since) = (self.release.clone(), Arc::clone(&self.is_over), self.since);
        let (held, strict) = (self.held.clone(), self.strict);
        tokio::spawn(async move {
            let own =
                telling.await.unwrap_or_else(|_| Err(Error::failed("the source vanished without a word")));
            let is_partial = own.as_ref().is_ok_and(|proof| proof.is_partial);
            let own = match (is_partial, is_over.load(Ordering::SeqCst)) {
                (true, _) => own,
                (false, is_over) => {
                    own.and_then(|proof| said(proof, &held, since.elapsed(), is_over, strict))
                }
            };
            if !is_partial {
                release.cancel();
            }
            let _ = told.send(own);
        });
    }

    /// Lets everything go, and gives what could not be put back.
    pub(super) async fn end(mut self) -> Vec<Error> {
        self.release.cancel();
        match self.ended.take() {
            Some(ended) => ended.await.unwrap_or_else(|e| vec![Error::failed("a worker died").because(e)]),
            None => Vec::new(),
        }
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        self.release.cancel();
        // After a panic the process ends with this thread; the task lets go on another one.
        if self.ended.is_some() && std::thread::panicking() {
            let _ = self.gone.recv_timeout(PANIC);
        }
    }
}

/// What the proof says of that, too.
fn said(mut proof: Proof, held: &str, time: Duration, is_over: bool, strict: bool) -> Result<Proof> {
    if held.is_empty() {
        return Ok(proof);
    }
    if !is_over {
        proof.notes.push(format!("{held}, for {:.1} s, while it was read", time.as_secs_f64()));
        return Ok(proof);
    }
    let text = "--quiesce-limit was over before all was read: what was stopped ran again meanwhile";
    if strict {
        return Err(Error::failed(text).hint("give it longer, or read less at once"));
    }
    proof.warnings.push(Warning::other(text));
    Ok(proof)
}

/// The task that holds.
struct Holding {
    engine: Engine,
    request: QuiesceRequest,
    plan: QuiescePlan,
    run: String,
    release: CancellationToken,
    is_over: Arc<AtomicBool>,
    since: Instant,
}

impl Holding {
    async fn hold(self, tell: oneshot::Sender<Result<()>>, ui: &Reporter) -> Vec<Error> {
        let Holding { engine, request, plan, run, release, is_over, since } = self;
        let held = match engine.quiesce(&plan, &request, &run, ui, &release).await {
            Ok(held) => held,
            Err(error) => {
                let _ = tell.send(Err(error));
                return Vec::new();
            }
        };
        // Nobody reads under it.
        if tell.send(Ok(())).is_err() {
            release.cancel();
        }
        let limit = async {
            match request.limit {
                Some(limit) => tokio::time::sleep_until(since + limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = release.cancelled() => {}
            () = limit => is_over.store(true, Ordering::SeqCst),
        }
        held.let_go(ui).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_says_what_was_held_and_for_how_long() {
        let time = Duration::from_millis(12_340);
        let proof = said(Proof::default(), "stopped web, worker", time, false, true).unwrap();
        assert_eq!(proof.notes, ["stopped web, worker, for 12.3 s, while it was read"]);
        assert!(said(Proof::default(), "", time, false, false).unwrap().notes.is_empty());
    }

    #[test]
    fn a_limit_that_was_over_is_a_warning_or_a_failure() {
        let proof = said(Proof::default(), "stopped web", Duration::ZERO, true, false).unwrap();
        assert!(proof.warnings[0].text.contains("--quiesce-limit") && proof.notes.is_empty());
        assert!(said(Proof::default(), "stopped web", Duration::ZERO, true, true).is_err());
    }
}
