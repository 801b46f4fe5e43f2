//! What labels at an engine say of backups: of its volumes and containers, and of services by their containers here.

use std::collections::HashMap;

use bollard::models::ContainerSummaryStateEnum;
use bollard::query_parameters::{ListContainersOptions, ListServicesOptions, ListVolumesOptions};

use super::quiesce::MARKER;
use super::{Engine, LABEL};
use crate::error::{Context, Result};

/// The service of which a container is a task.
const SWARM_SERVICE: &str = "com.docker.swarm.service.name";

/// A volume with its labels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelledVolume {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: HashMap<String, String>,
}

/// A container with its labels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelledContainer {
    /// Its name.
    pub name: String,
    /// The image as it was named.
    pub image: String,
    /// Its labels, and those of its service.
    pub labels: HashMap<String, String>,
    /// The volumes that it uses.
    pub volumes: Vec<String>,
    /// Whether it runs.
    pub runs: bool,
}

impl Engine {
    /// The volumes, by name, but for our own.
    ///
    /// # Errors
    /// The engine does not answer.
    pub async fn labelled_volumes(&self) -> Result<Vec<LabelledVolume>> {
        let listed = self.docker.list_volumes(None::<ListVolumesOptions>).await;
        let listed = listed.context(|| "cannot list the volumes".into())?.volumes.unwrap_or_default();
        let others = listed.into_iter().filter(|volume| !volume.name.starts_with(MARKER));
        let mut volumes: Vec<_> =
            others.map(|volume| LabelledVolume { name: volume.name, labels: volume.labels }).collect();
        volumes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(volumes)
    }

    /// The containers, running or not, by name, but for our own. On a manager of a swarm, one has its service's labels, too.
    ///
    /// # Errors
    /// The engine does not answer.
    pub async fn labelled_containers(&self) -> Result<Vec<LabelledContainer>> {
        // On a node that is no manager nobody knows them.
        let services = self.docker.list_services(None::<ListServicesOptions>).await.unwrap_or_default();
        let specs = services.into_iter().filter_map(|service| service.spec);
        let services: HashMap<_, _> =
            specs.filter_map(|spec| Some((spec.name?, spec.labels.unwrap_or_default()))).collect();
        let options = ListContainersOptions { all: true, ..ListContainersOptions::default() };
        let listed = self.docker.list_containers(Some(options)).await;
        let mut containers = Vec::new();
        for container in listed.context(|| "cannot list the containers".into())? {
            let own = container.labels.unwrap_or_default();
            if own.contains_key(LABEL) {
                continue;
            }
            let mut labels =
                own.get(SWARM_SERVICE).and_then(|service| services.get(service)).cloned().unwrap_or_default();
            labels.extend(own);
            let name = container.names.into_iter().flatten().next().unwrap_or_default();
            let mounts = container.mounts.into_iter().flatten();
            let volumes = mounts.filter(|mount| mount.typ.as_deref() == Some("volume"));
            containers.push(LabelledContainer {
                name: name.rsplit('/').next().unwrap_or_default().into(),
                image: container.image.unwrap_or_default(),
                labels,
                volumes: volumes.filter_map(|mount| mount.name).collect(),
                runs: container.state == Some(ContainerSummaryStateEnum::RUNNING),
            });
        }
        containers.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(containers)
    }
}
