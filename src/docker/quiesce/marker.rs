//! What a run holds still, noted at the engine before it does: an empty volume whose labels say who holds what. It goes
//! when all is let go; one whose owner has ended says what has to be put right.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use bollard::models::VolumeCreateRequest;
use bollard::query_parameters::{InspectContainerOptions, ListVolumesOptions, RemoveVolumeOptions};
use serde::{Deserialize, Serialize};

use super::super::{Engine, MAKER, status};
use super::Target;
use crate::error::{Context, Error, Result};
use crate::host::process::{ProcessName, own_container};

/// How the names of markers begin.
pub const MARKER: &str = "sealift-quiesced-";
/// What is held.
const TARGETS: &str = "sealift.quiesced";
/// Who holds it, beside [`MAKER`].
const OWNER: &str = "sealift.quiesced.owner";
/// The marker whose targets are being let go.
const ENDING: &str = "sealift.quiesced.ending";

/// The markers of runs of this process.
static OWN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Where a run runs, as far as that tells later whether it still does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Owner {
    /// On the engine's own host.
    local: bool,
    /// The container that it runs in, and when that was started.
    container: Option<(String, String)>,
}

/// Whether somebody still holds what a marker names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    Lives,
    Dead,
    /// On another host, of which nobody here knows.
    Unknown,
}

/// A marker.
#[derive(Debug, Clone)]
pub(super) struct Marker {
    pub name: String,
    pub targets: Vec<Target>,
    pub life: Life,
    /// Its targets are being let go.
    pub is_ending: bool,
}

impl Engine {
    /// Notes what this run will hold.
    pub(super) async fn mark(&self, run: &str, targets: &[Target]) -> Result<String> {
        let name = format!("{MARKER}{run}");
        let text = |value: serde_json::Result<String>| value.context(|| "cannot note what is stopped".into());
        let owner = Owner { local: self.local, container: self.own_container().await };
        let labels = HashMap::from([
            (TARGETS.to_string(), text(serde_json::to_string(targets))?),
            (OWNER.to_string(), text(serde_json::to_string(&owner))?),
            (MAKER.to_string(), text(serde_json::to_string(&ProcessName::own()))?),
        ]);
        own(|own| own.insert(name.clone()));
        let made = self.make_marker(&name, labels).await;
        made.inspect_err(|_| disown(&name))?;
        Ok(name)
    }

    /// Says to others that what a marker names is being let go from now on.
    pub(super) async fn mark_ending(&self, marker: &str) -> Result<()> {
        self.make_marker(&ending(marker), HashMap::from([(ENDING.to_string(), marker.to_string())])).await
    }

    async fn make_marker(&self, name: &str, labels: HashMap<String, String>) -> Result<()> {
        let request = VolumeCreateRequest {
            name: Some(name.into()),
            driver: Some("local".into()),
            labels: Some(labels),
            ..VolumeCreateRequest::default()
        };
        let made = self.docker.create_volume(request).await;
        made.map(drop).map_err(|error| {
            Error::failed("cannot note at the engine what is to be stopped")
                .because(error)
                .hint("the note is an empty volume, without which nothing is stopped")
        })
    }

    /// Removes a marker, and the word that it is ending.
    pub(super) async fn unmark(&self, marker: &str) -> Result<()> {
        for name in [marker.to_string(), ending(marker)] {
            self.unmark_one(&name).await?;
        }
        Ok(())
    }

    /// Takes back the word that a marker is ending: something of it is held still.
    pub(super) async fn unmark_ending(&self, marker: &str) -> Result<()> {
        self.unmark_one(&ending(marker)).await
    }

    async fn unmark_one(&self, name: &str) -> Result<()> {
        match self.docker.remove_volume(name, None::<RemoveVolumeOptions>).await {
            Err(error) if status(&error) != Some(404) => {
                Err(Error::failed(format!("cannot remove volume {name}"))
                    .because(error)
                    .hint(format!("docker volume rm {name}")))
            }
            _ => Ok(()),
        }
    }

    /// All markers at the engine.
    pub(super) async fn markers(&self) -> Result<Vec<Marker>> {
        let mut markers = Vec::new();
        let (mut found, mut endings) = (Vec::new(), BTreeSet::new());
        for label in [TARGETS, ENDING] {
            let filters = HashMap::from([("label".to_string(), vec![label.to_string()])]);
            let listed = self.docker.list_volumes(Some(ListVolumesOptions { filters: Some(filters) })).await;
            let listed = listed.context(|| "cannot list the volumes".into())?.volumes.unwrap_or_default();
            let listed = listed.into_iter().filter(|volume| volume.name.starts_with(MARKER));
            match label {
                TARGETS => found.extend(listed),
                _ => endings.extend(listed.filter_map(|mut volume| volume.labels.remove(ENDING))),
            }
        }
        for volume in found {
            let said = volume.labels.get(TARGETS).map(|said| serde_json::from_str(said));
            // One of a version that says it otherwise, or of somebody else's making.
            let Some(Ok(targets)) = said else { continue };
            let life = self.life(&volume.name, &volume.labels).await;
            let is_ending = endings.contains(&volume.name);
            markers.push(Marker { name: volume.name, targets, life, is_ending });
        }
        for left in endings.iter().filter(|of| markers.iter().all(|marker| marker.name != **of)) {
            self.unmark_ending(left).await?;
        }
        Ok(markers)
    }

    /// What runs hold that are still under way, or may be.
    pub(super) async fn live_targets(&self) -> Result<Vec<Target>> {
        let live = self.markers().await?.into_iter().filter(|marker| marker.life != Life::Dead);
        Ok(live.flat_map(|marker| marker.targets).collect())
    }

    async fn life(&self, name: &str, labels: &HashMap<String, String>) -> Life {
        let maker = labels.get(MAKER).and_then(|maker| serde_json::from_str::<ProcessName>(maker).ok());
        let Some(maker) = maker else { return Life::Unknown };
        let owner = labels.get(OWNER).and_then(|owner| serde_json::from_str::<Owner>(owner).ok());
        let owner = owner.unwrap_or_default();
        if maker.is_own() {
            return if own(|own| own.contains(name)) { Life::Lives } else { Life::Dead };
        }
        match maker.lives() {
            Some(true) => Life::Lives,
            Some(false) => Life::Dead,
            None => match owner.container {
                // The engine itself knows whether that one still runs.
                Some((id, started)) => match self.started(&id).await {
                    Ok(Some(now)) if now == started => Life::Lives,
                    Ok(_) => Life::Dead,
                    Err(_) => Life::Unknown,
                },
                // Both of us are on the engine's host, which was started again since.
                None if owner.local && self.local && maker.is_of_another_boot() => Life::Dead,
                None => Life::Unknown,
            },
        }
    }

    /// The container of this engine that we run in, and when it was started.
    async fn own_container(&self) -> Option<(String, String)> {
        let id = own_container()?;
        let started = self.started(&id).await.ok()??;
        Some((id, started))
    }

    /// When a container was started, if it runs.
    async fn started(&self, id: &str) -> Result<Option<String>, bollard::errors::Error> {
        match self.docker.inspect_container(id, None::<InspectContainerOptions>).await {
            Ok(container) => {
                let state = container.state.filter(|state| state.running == Some(true));
                Ok(state.and_then(|state| state.started_at))
            }
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn ending(marker: &str) -> String {
    format!("{marker}-ending")
}

fn own<T>(with: impl FnOnce(&mut BTreeSet<String>) -> T) -> T {
    with(&mut OWN.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The run of this process to which a marker belonged has ended.
pub(super) fn disown(marker: &str) {
    own(|own| own.remove(marker));
}
