//! All that a run holds still, from the note at the engine to the last container that runs again.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::super::Engine;
use super::marker::{Life, Marker, disown};
use super::{Hold, QuiescePlan, QuiesceRequest, Target};
use crate::error::{Error, Result};
use crate::report::Reporter;

/// How long others may take to let go what this run will hold, too.
const OTHERS: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(200);

/// What is held still. It has to be let go by [`Held::let_go`]; if it is not, the next run does that.
pub struct Held {
    engine: Engine,
    /// The note at the engine.
    marker: String,
    /// What is noted there, in the order in which it was held.
    targets: Vec<Target>,
    /// The ids of those that ran when we came.
    ours: BTreeSet<String>,
    /// Notes of others of whom nobody knows, which were there when we came.
    unknown: BTreeSet<String>,
}

impl Engine {
    /// Holds still what a plan says, under the name of a run. `stop` ends it early.
    ///
    /// # Errors
    /// Something cannot be held; all that was is let go.
    pub async fn quiesce(
        &self,
        plan: &QuiescePlan,
        request: &QuiesceRequest,
        run: &str,
        ui: &Reporter,
        stop: &CancellationToken,
    ) -> Result<Held> {
        let targets: Vec<_> = plan.targets.iter().filter(|target| !target.stays).cloned().collect();
        let marker = self.mark(run, &targets).await?;
        let (ours, unknown) = (BTreeSet::new(), BTreeSet::new());
        let mut held = Held { engine: self.clone(), marker, targets, ours, unknown };
        let began = Instant::now();
        let is_over = || request.limit.is_some_and(|limit| began.elapsed() >= limit);
        match held.hold_all(plan, request, ui, stop, &is_over).await {
            Ok(()) => Ok(held),
            Err((error, reached)) => {
                // A hook that was not reached has nothing to undo.
                held.targets.retain(|target| reached.iter().any(|it| it.is_same(target)));
                held.let_go(ui).await.iter().for_each(|error| ui.error(error));
                Err(error)
            }
        }
    }
}

impl Held {
    async fn hold_all(
        &mut self,
        plan: &QuiescePlan,
        request: &QuiesceRequest,
        ui: &Reporter,
        stop: &CancellationToken,
        is_over: &(impl Fn() -> bool + Sync),
    ) -> Result<(), (Error, Vec<Target>)> {
        let mut reached = Vec::new();
        if let Err(error) = self.wait_for_endings(ui, stop).await {
            return Err((error, reached));
        }
        for target in &plan.targets {
            if stop.is_cancelled() {
                return Err((Error::interrupted(), reached));
            }
            if is_over() {
                let error = Error::failed("--quiesce-limit was over before everything was stopped");
                return Err((error.hint("give it longer, or --stop-timeout less"), reached));
            }
            ui.detail(&target.in_words());
            reached.push(target.clone());
            // A stop that is under way is waited for: what is started before it has stopped would stop all the same.
            let held = match target.before {
                None => self.engine.hold(target, request.stop_timeout).await,
                Some(_) => tokio::select! {
                    held = self.engine.hold(target, request.stop_timeout) => held,
                    () = stop.cancelled() => Err(Error::interrupted()),
                },
            };
            match held {
                Ok(true) => drop(self.ours.insert(target.id.clone())),
                Ok(false) => {}
                Err(error) => return Err((error, reached)),
            }
        }
        Ok(())
    }

    /// Others who are about to let go what this run will hold end that first: they may not have seen our note.
    async fn wait_for_endings(&mut self, ui: &Reporter, stop: &CancellationToken) -> Result<()> {
        let began = Instant::now();
        loop {
            let others = self.others().await?;
            let is_in_the_way = |marker: &&Marker| {
                let shared = marker.targets.iter().any(|it| self.targets.iter().any(|own| own.is_same(it)));
                marker.is_ending && shared
            };
            let Some(ending) = others.iter().find(is_in_the_way) else {
                let unknown = others.into_iter().filter(|marker| marker.life == Life::Unknown);
                self.unknown = unknown.map(|marker| marker.name).collect();
                return Ok(());
            };
            if stop.is_cancelled() {
                return Err(Error::interrupted());
            }
            if began.elapsed() > OTHERS {
                ui.warn(&format!("{} is not gone after {} s", ending.name, OTHERS.as_secs()));
                return Ok(());
            }
            sleep(LOOK).await;
        }
    }

    async fn others(&self) -> Result<Vec<Marker>> {
        let mut markers = self.engine.markers().await?;
        markers.retain(|marker| marker.name != self.marker && marker.life != Life::Dead);
        Ok(markers)
    }

    /// What another run left when it was killed.
    pub(super) fn of_dead(engine: &Engine, marker: Marker) -> Held {
        let (ours, unknown) = (BTreeSet::new(), BTreeSet::new());
        Held { engine: engine.clone(), marker: marker.name, targets: marker.targets, ours, unknown }
    }

    /// Whether another run holds it still, and will let it go.
    fn is_held_by(&self, target: &Target, other: &Marker) -> bool {
        let is_stale = self.unknown.contains(&other.name) && self.ours.contains(&target.id);
        !is_stale && other.targets.iter().any(|it| it.is_same(target))
    }

    /// Lets everything go, in the reverse order. Gives what could not be put back: for that the note stays, and the next
    /// run tries again.
    pub async fn let_go(self, ui: &Reporter) -> Vec<Error> {
        let (mut errors, mut is_left) = (Vec::new(), false);
        // From now on nobody relies on what we hold; whoever notes something later waits for our end.
        if let Err(error) = self.engine.mark_ending(&self.marker).await {
            ui.warn(&error.to_string());
        }
        let others = match self.others().await {
            Ok(others) => others,
            Err(error) => {
                ui.warn(&format!("{error}: nobody knows whether another run holds the same"));
                Vec::new()
            }
        };
        for target in self.targets.iter().rev() {
            if let Some(other) = others.iter().find(|other| self.is_held_by(target, other)) {
                tell_left(target, other, ui);
                continue;
            }
            match self.engine.let_go(target).await {
                Ok(note) => note.iter().for_each(|note| ui.warn(note)),
                Err(error) => {
                    // A hook that was run and said no has had its say.
                    let was_run =
                        target.hold == Hold::Exec && error.find::<bollard::errors::Error>().is_none();
                    is_left |= !was_run;
                    errors.push(error);
                }
            }
        }
        let unmarked = match is_left {
            false => self.engine.unmark(&self.marker).await,
            true => self.engine.unmark_ending(&self.marker).await,
        };
        unmarked.unwrap_or_else(|error| ui.warn(&error.to_string()));
        disown(&self.marker);
        errors
    }
}

fn tell_left(target: &Target, other: &Marker, ui: &Reporter) {
    let what = target.what();
    match other.life {
        Life::Unknown => ui.warn(&format!(
            "{what} stays as it is: a run on another host may hold it still; when that is gone: {} and docker volume rm {}",
            target.by_hand(),
            other.name
        )),
        _ => ui.note(&format!("{what} stays as it is: another run still holds it, and lets it go")),
    }
}
