//! Containers that backups of this host which were killed have left at the engine.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::ContainerSummaryStateEnum;
use bollard::query_parameters::ListContainersOptions;

use super::{Engine, LABEL, is_waited_for};
use crate::error::{Context, Result};

/// A container of ours that nobody waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftContainer {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// How long ago it was made.
    pub age: Duration,
}

impl Engine {
    /// The containers with our label whose maker has ended; none where the engine is another host's, for nobody knows of
    /// its processes here.
    ///
    /// # Errors
    /// The engine does not answer.
    pub async fn left_containers(&self) -> Result<Vec<LeftContainer>> {
        if !self.local {
            return Ok(Vec::new());
        }
        let filters = HashMap::from([("label".to_string(), vec![LABEL.to_string()])]);
        let options = ListContainersOptions { all: true, filters: Some(filters), ..Default::default() };
        let listed = self.docker.list_containers(Some(options)).await;
        let listed = listed.context(|| "cannot list the containers".into())?;
        let now = jiff::Timestamp::now().as_second();
        let left = listed.into_iter().filter_map(|container| {
            let runs = container.state == Some(ContainerSummaryStateEnum::RUNNING);
            let is_left = !is_waited_for(&container.labels?, true, runs);
            let id = container.id.filter(|_| is_left)?;
            let name = container.names.into_iter().flatten().next().unwrap_or_default();
            let age = now.saturating_sub(container.created.unwrap_or(now));
            let (name, age) =
                (name.trim_start_matches('/').into(), Duration::from_secs(age.try_into().ok()?));
            Some(LeftContainer { id, name, age })
        });
        Ok(left.collect())
    }

    /// Removes one.
    ///
    /// # Errors
    /// The engine does not do it.
    pub async fn remove_left(&self, container: &LeftContainer) -> Result<()> {
        self.remove(&container.id).await
    }
}
