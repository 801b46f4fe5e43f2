//! What an engine lets us do: each request of a kind that backups make is made once, for what does not exist. An engine
//! that would do it says that there is no such thing; a proxy in front of it, or a plugin, refuses.

use bollard::models::{ContainerCreateBody, ExecConfig};
use bollard::query_parameters::{
    CreateContainerOptions, DownloadFromContainerOptions, ListContainersOptions, ListImagesOptions,
    ListVolumesOptions, RemoveContainerOptions,
};
use futures_util::StreamExt;

use super::{Engine, status};

/// What no container and no image is called.
const NOBODY: &str = "sealift-doctor-asks-for-nothing";

/// What an engine is, and what it does not let us do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineFacts {
    /// Its version and that of its API.
    pub version: String,
    /// Requests that are refused, each with what needs it.
    pub refused: Vec<&'static str>,
}

impl Engine {
    /// Asks for its version, and tries what it lets us do. Nothing is made or changed.
    pub async fn probe(&self) -> EngineFacts {
        let version = match self.docker.version().await {
            Ok(version) => format!(
                "Docker Engine {}, API {}",
                version.version.unwrap_or_else(|| "of no version".into()),
                version.api_version.unwrap_or_else(|| "unknown".into())
            ),
            Err(_) => "a Docker Engine that does not say its version".into(),
        };
        let tried = [
            (self.try_lists().await, "lists of containers, volumes and images"),
            (self.try_create().await, "containers (backup run, dtr, ucp; restore into volumes)"),
            (self.try_exec().await, "commands in containers (backup exec)"),
            (self.try_archive().await, "files of containers (volumes of an engine elsewhere)"),
        ];
        let refused = tried.into_iter().filter(|(refused, _)| *refused).map(|(_, what)| what);
        EngineFacts { version, refused: refused.collect() }
    }

    async fn try_lists(&self) -> bool {
        let containers = self.docker.list_containers(None::<ListContainersOptions>).await.err();
        let volumes = self.docker.list_volumes(None::<ListVolumesOptions>).await.err();
        let images = self.docker.list_images(None::<ListImagesOptions>).await.err();
        [containers, volumes, images].iter().flatten().any(is_refusal)
    }

    async fn try_create(&self) -> bool {
        let options =
            CreateContainerOptions { name: Some(NOBODY.into()), ..CreateContainerOptions::default() };
        let body =
            ContainerCreateBody { image: Some(format!("{NOBODY}:none")), ..ContainerCreateBody::default() };
        let created = self.docker.create_container(Some(options), body).await;
        let removed = self.docker.remove_container(NOBODY, None::<RemoveContainerOptions>).await;
        [created.err(), removed.err()].iter().flatten().any(is_refusal)
    }

    async fn try_exec(&self) -> bool {
        let config = ExecConfig { cmd: Some(vec!["true".into()]), ..ExecConfig::default() };
        self.docker.create_exec(NOBODY, config).await.err().as_ref().is_some_and(is_refusal)
    }

    async fn try_archive(&self) -> bool {
        let options = DownloadFromContainerOptions { path: "/".into() };
        let mut archive = self.docker.download_from_container(NOBODY, Some(options));
        archive.next().await.and_then(Result::err).as_ref().is_some_and(is_refusal)
    }
}

/// Whether an error is a no, and not that there is no such thing.
fn is_refusal(error: &bollard::errors::Error) -> bool {
    matches!(status(error), Some(401 | 403 | 405 | 501))
}
