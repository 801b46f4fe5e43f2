//! What a node says of itself: its containers, and its part in a swarm.

use std::collections::HashMap;
use std::path::PathBuf;

use bollard::models::{ContainerInspectResponse, Node, Reachability, SwarmInfo};
use bollard::query_parameters::{InspectContainerOptions, ListContainersOptions, ListNodesOptions};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Engine, context, running, status};
use crate::error::{Context, Error, Result};
use crate::source::{Proof, Running};

/// A running container, as far as it tells what runs on a node.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its name, without the node's name that UCP puts before it.
    pub name: String,
    /// The image as it was named.
    pub image: String,
    /// Its environment.
    pub env: HashMap<String, String>,
    /// Its labels.
    pub labels: HashMap<String, String>,
}

impl Seen {
    fn new(container: ContainerInspectResponse) -> Self {
        let config = container.config.unwrap_or_default();
        let pairs = config.env.unwrap_or_default();
        let env = pairs.iter().filter_map(|pair| pair.split_once('=')).map(|(k, v)| (k.into(), v.into()));
        let name = container.name.unwrap_or_default();
        Seen {
            name: name.rsplit('/').next().unwrap_or_default().into(),
            image: config.image.unwrap_or_default(),
            env: env.collect(),
            labels: config.labels.unwrap_or_default(),
        }
    }

    /// What stands behind the colon of its image.
    pub fn tag(&self) -> Option<&str> {
        let (_, tag) = self.image.rsplit_once(':')?;
        Some(tag).filter(|tag| !tag.contains('/'))
    }
}

/// A manager of a swarm, seen from itself.
#[derive(Debug, Clone)]
pub struct Manager {
    /// The cluster's id.
    pub cluster: String,
    /// The node's id.
    pub node: String,
    /// The node's address, as the other managers know it.
    pub address: String,
    /// The host's name.
    pub host: String,
    /// The engine's version.
    pub version: String,
    /// Where the engine keeps its data: the swarm's are in `swarm` there.
    pub root: PathBuf,
    /// Managers of the swarm.
    pub managers: u64,
    /// Managers that answer.
    pub reachable: u64,
    /// This one leads.
    pub leader: bool,
    /// After a restart, the swarm's data are locked until somebody gives the unlock key.
    pub autolock: bool,
}

impl Manager {
    /// Managers that must answer for the swarm to be managed at all.
    pub fn quorum(&self) -> u64 {
        self.managers / 2 + 1
    }

    /// Whether the swarm is still managed while this node is away.
    pub fn can_be_missed(&self) -> bool {
        self.reachable > self.quorum()
    }
}

impl Engine {
    /// The running containers whose name begins with `name`, oldest first.
    pub async fn containers(&self, name: &str) -> Result<Vec<Seen>> {
        let filters = HashMap::from([("name".to_string(), vec![name.to_string()])]);
        let options = ListContainersOptions { filters: Some(filters), ..ListContainersOptions::default() };
        let listed = self.docker.list_containers(Some(options)).await;
        let mut seen = Vec::new();
        for container in listed.context(|| "cannot list the containers".into())?.into_iter().rev() {
            let id = container.id.unwrap_or_default();
            match self.docker.inspect_container(&id, None::<InspectContainerOptions>).await {
                Ok(container) => seen.push(Seen::new(container)),
                // It has ended since.
                Err(e) if status(&e) == Some(404) => {}
                Err(e) => return Err(e).context(|| format!("cannot look at container {id}")),
            }
        }
        seen.retain(|container| container.name.starts_with(name));
        Ok(seen)
    }

    /// Whether containers are confined by SELinux here.
    pub async fn has_selinux(&self) -> Result<bool> {
        let info = self.docker.info().await.context(|| "cannot ask the engine about itself".into())?;
        Ok(info.security_options.unwrap_or_default().iter().any(|option| option.contains("selinux")))
    }

    /// This node as a manager of its swarm; none where it is no manager.
    pub async fn manager(&self) -> Result<Option<Manager>> {
        let info = self.docker.info().await.context(|| "cannot ask the engine about itself".into())?;
        let swarm = info.swarm.clone().unwrap_or_default();
        if swarm.control_available != Some(true) {
            return Ok(None);
        }
        let cannot = || "the swarm does not answer".to_string();
        let spec = self.docker.inspect_swarm().await.context(cannot)?;
        let nodes = self.docker.list_nodes(None::<ListNodesOptions>).await.context(cannot)?;
        let autolock = spec.spec.and_then(|spec| spec.encryption_config?.auto_lock_managers);
        Ok(Some(Manager {
            cluster: spec.id.unwrap_or_default(),
            host: info.name.unwrap_or_default(),
            version: info.server_version.unwrap_or_default(),
            root: info.docker_root_dir.unwrap_or_default().into(),
            autolock: autolock.unwrap_or(false),
            ..among(&nodes, swarm)
        }))
    }

    /// Streams the key that unlocks the swarm, as a line.
    pub fn send_unlock_key(&self) -> Running {
        let engine = self.clone();
        running(move |sender| async move {
            let sent = async {
                let key = engine.unlock_key().await?;
                sender.send(format!("{key}\n").into()).await?;
                Ok(Proof::default())
            };
            let outcome = sent.await;
            (sender, outcome)
        })
    }

    /// The key that unlocks the swarm of an engine on this host (Engine API, `GET /swarm/unlockkey`).
    async fn unlock_key(&self) -> Result<String> {
        // The client library does not know this request.
        let host = context::endpoint()?.host;
        let socket = host.strip_prefix("unix://").ok_or_else(|| {
            Error::usage("the unlock key is only asked for where the engine runs")
                .hint("run sealift on that host")
        })?;
        let cannot = || "cannot ask for the swarm's unlock key".to_string();
        let mut stream = tokio::net::UnixStream::connect(socket).await.context(cannot)?;
        let request = b"GET /swarm/unlockkey HTTP/1.0\r\nHost: docker\r\n\r\n";
        stream.write_all(request).await.context(cannot)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.context(cannot)?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        if head.split(' ').nth(1) != Some("200") {
            return Err(Error::failed(cannot()).because(body.trim().to_string()));
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Answer {
            unlock_key: String,
        }
        let answer: Answer = serde_json::from_str(body).context(cannot)?;
        Ok(answer.unlock_key)
    }
}

/// What the list of nodes says of this one, and of all managers.
fn among(nodes: &[Node], swarm: SwarmInfo) -> Manager {
    let own = swarm.node_id.unwrap_or_default();
    let managers: Vec<_> =
        nodes.iter().filter_map(|n| Some((n.id.clone()?, n.manager_status.clone()?))).collect();
    let answers = managers.iter().filter(|(_, m)| m.reachability == Some(Reachability::REACHABLE));
    Manager {
        reachable: answers.count() as u64,
        leader: managers.iter().any(|(id, m)| *id == own && m.leader == Some(true)),
        managers: managers.len() as u64,
        node: own,
        address: swarm.node_addr.unwrap_or_default(),
        cluster: String::new(),
        host: String::new(),
        version: String::new(),
        root: PathBuf::new(),
        autolock: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manager(managers: u64, reachable: u64) -> Manager {
        let swarm = SwarmInfo::default();
        Manager { managers, reachable, ..among(&[], swarm) }
    }

    #[test]
    fn a_manager_can_be_missed_while_a_majority_of_all_is_left() {
        for (managers, reachable, missed) in
            [(1, 1, false), (2, 2, false), (3, 3, true), (3, 2, false), (5, 4, true), (5, 3, false)]
        {
            assert_eq!(manager(managers, reachable).can_be_missed(), missed, "{reachable} of {managers}");
        }
    }

    #[test]
    fn a_tag_is_not_a_registrys_port() {
        let seen = |image: &str| Seen {
            name: String::new(),
            image: image.into(),
            env: HashMap::new(),
            labels: HashMap::new(),
        };
        assert_eq!(seen("docker/dtr-registry:2.7.5").tag(), Some("2.7.5"));
        assert_eq!(seen("registry:5000/dtr").tag(), None);
    }
}
