//! Containers and volumes that runs of this host which were killed have left at the engine.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::ContainerSummaryStateEnum;
use bollard::query_parameters::{ListContainersOptions, ListVolumesOptions};

use super::scratch::KEPT;
use super::{Engine, LABEL, is_waited_for};
use crate::error::{Context, Result};

/// A container of ours that nobody waits for, or a volume of a drill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftContainer {
    /// Its id; a volume has its name alone.
    pub id: Option<String>,
    /// Its name.
    pub name: String,
    /// How long ago it was made.
    pub age: Duration,
}

impl Engine {
    /// The containers and volumes with our label whose maker has ended, containers first; none where the engine is another host's, for nobody knows of
    /// its processes here.
    ///
    /// # Errors
    /// The engine does not answer.
    pub async fn left_containers(&self) -> Result<Vec<LeftContainer>> {
        if !self.local {
            return Ok(Vec::new());
        }
        let filters = Some(HashMap::from([("label".to_string(), vec![LABEL.to_string()])]));
        let options =
            ListContainersOptions { all: true, filters: filters.clone(), ..ListContainersOptions::default() };
        let listed = self.docker.list_containers(Some(options)).await;
        let listed = listed.context(|| "cannot list the containers".into())?;
        let now = jiff::Timestamp::now().as_second();
        let left = listed.into_iter().filter_map(|container| {
            let runs = container.state == Some(ContainerSummaryStateEnum::RUNNING);
            let id = container.id.filter(|_| is_left(container.labels.as_ref(), runs))?;
            let name = container.names.into_iter().flatten().next().unwrap_or_default();
            let age = now.saturating_sub(container.created.unwrap_or(now));
            let (name, age) =
                (name.trim_start_matches('/').into(), Duration::from_secs(age.try_into().ok()?));
            Some(LeftContainer { id: Some(id), name, age })
        });
        let mut left: Vec<_> = left.collect();
        let listed = self.docker.list_volumes(Some(ListVolumesOptions { filters })).await;
        let listed = listed.context(|| "cannot list the volumes".into())?.volumes.unwrap_or_default();
        left.extend(listed.into_iter().filter(|volume| is_left(Some(&volume.labels), false)).map(|volume| {
            let made = volume.created_at.and_then(|at| at.to_string().parse::<jiff::Timestamp>().ok());
            let age = made.map_or(0, |at| now.saturating_sub(at.as_second()));
            LeftContainer {
                id: None,
                name: volume.name,
                age: Duration::from_secs(age.try_into().unwrap_or_default()),
            }
        }));
        Ok(left)
    }

    /// Removes one.
    ///
    /// # Errors
    /// The engine does not do it.
    pub async fn remove_left(&self, container: &LeftContainer) -> Result<()> {
        match &container.id {
            Some(id) => self.remove(id).await,
            None => self.remove_volume(&container.name).await,
        }
    }
}

/// Whether nobody waits for what has these labels, nor asked for it to stay.
fn is_left(labels: Option<&HashMap<String, String>>, runs: bool) -> bool {
    labels.is_some_and(|labels| !labels.contains_key(KEPT) && !is_waited_for(labels, true, runs))
}
