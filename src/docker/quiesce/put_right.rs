//! What runs that were killed have left stopped, paused or scaled to zero is put right from what they noted at the engine.

use super::super::Engine;
use super::Target;
use super::hold::Held;
use super::marker::{Life, Marker};
use crate::error::{Error, Result};
use crate::report::Reporter;

/// What a run that was killed has left held still.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftHeld {
    /// The volume in which it is noted.
    pub marker: String,
    /// What it holds, in the order in which it was held.
    pub targets: Vec<Target>,
}

impl Engine {
    /// What runs that have ended hold still; of those on other hosts nobody knows that here.
    ///
    /// # Errors
    /// The engine does not answer.
    pub async fn left_held(&self) -> Result<Vec<LeftHeld>> {
        let dead = self.markers().await?.into_iter().filter(|marker| marker.life == Life::Dead);
        Ok(dead.map(|marker| LeftHeld { marker: marker.name, targets: marker.targets }).collect())
    }

    /// Puts right what runs that were killed have left: what they stopped runs again, unless another run holds it. Called
    /// at the start of whatever may stop something, and safe at any time. Gives what could not be put right; that the
    /// engine does not say what is noted there is one of these.
    pub async fn put_right(&self, ui: &Reporter) -> Vec<Error> {
        let markers = match self.markers().await {
            Ok(markers) => markers,
            Err(error) => {
                return vec![error.context("cannot see what runs that were killed have left stopped")];
            }
        };
        let mut errors = Vec::new();
        for marker in markers.into_iter().filter(|marker| marker.life == Life::Dead) {
            tell(&marker, ui);
            errors.extend(Held::of_dead(self, marker).let_go(ui).await);
        }
        errors
    }
}

fn tell(marker: &Marker, ui: &Reporter) {
    let what: Vec<_> = marker.targets.iter().map(Target::what).collect();
    if !what.is_empty() {
        let what = what.join(", ");
        ui.warn(&format!("a run that was killed has left stopped what is now put right: {what}"));
    }
}
