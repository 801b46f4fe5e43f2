//! What a node says of itself: its containers, and its part in a swarm.

use std::collections::HashMap;
use std::path::PathBuf;

use bollard::models::{ContainerInspectResponse, Node, Reachability, SwarmInfo};
use bollard::query_parameters::{
    InspectContainerOptions, ListContainersOptions, ListNodesOptions, ListVolumesOptions,
};

use super::{Engine, status};
use crate::error::{Context, Result};

/// A running container, as far as it tells what runs on a node.
#[derive(Debug, Clone)]
pub struct ContainerInfo {
    /// Its name, without the node's name that UCP puts before it.
    pub name: String,
    /// The image as it was named.
    pub image: String,
    /// Its environment.
    pub env: HashMap<String, String>,
    /// Its labels.
    pub labels: HashMap<String, String>,
    /// The volumes that it uses, by the folder in which it sees them.
    pub volumes: HashMap<String, String>,
}

impl ContainerInfo {
    pub(super) fn new(container: ContainerInspectResponse) -> Self {
        let config = container.config.unwrap_or_default();
        let pairs = config.env.unwrap_or_default();
        let env = pairs.iter().filter_map(|pair| pair.split_once('=')).map(|(k, v)| (k.into(), v.into()));
        let name = container.name.unwrap_or_default();
        let mounts = container.mounts.unwrap_or_default().into_iter();
        let volumes = mounts.filter(|mount| mount.typ.as_deref() == Some("volume"));
        ContainerInfo {
            name: name.rsplit('/').next().unwrap_or_default().into(),
            image: config.image.unwrap_or_default(),
            env: env.collect(),
            labels: config.labels.unwrap_or_default(),
            volumes: volumes.filter_map(|mount| Some((mount.destination?, mount.name?))).collect(),
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
    pub async fn containers(&self, name: &str) -> Result<Vec<ContainerInfo>> {
        let filters = HashMap::from([("name".to_string(), vec![name.to_string()])]);
        let options = ListContainersOptions { filters: Some(filters), ..ListContainersOptions::default() };
        let listed = self.docker.list_containers(Some(options)).await;
        let mut seen = Vec::new();
        for container in listed.context(|| "cannot list the containers".into())?.into_iter().rev() {
            let id = container.id.unwrap_or_default();
            match self.docker.inspect_container(&id, None::<InspectContainerOptions>).await {
                Ok(container) => seen.push(ContainerInfo::new(container)),
                // It has ended since.
                Err(e) if status(&e) == Some(404) => {}
                Err(e) => return Err(e).context(|| format!("cannot look at container {id}")),
            }
        }
        seen.retain(|container| container.name.starts_with(name));
        Ok(seen)
    }

    /// The volumes, by name.
    ///
    /// # Errors
    /// The engine does not say.
    pub async fn volume_names(&self) -> Result<Vec<String>> {
        let listed = self.docker.list_volumes(None::<ListVolumesOptions>).await;
        let listed = listed.context(|| "cannot list the volumes".into())?.volumes.unwrap_or_default();
        let mut names: Vec<_> = listed.into_iter().map(|volume| volume.name).collect();
        names.sort();
        Ok(names)
    }

    /// What the engine's host is called, where it says so.
    pub async fn host_name(&self) -> Option<String> {
        self.docker.info().await.ok()?.name.filter(|name| !name.is_empty())
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
        let seen = |image: &str| ContainerInfo {
            name: String::new(),
            image: image.into(),
            env: HashMap::new(),
            labels: HashMap::new(),
            volumes: HashMap::new(),
        };
        assert_eq!(seen("docker/dtr-registry:2.7.5").tag(), Some("2.7.5"));
        assert_eq!(seen("registry:5000/dtr").tag(), None);
    }

    #[test]
    fn a_container_is_read_without_the_node_before_its_name() {
        let container: ContainerInspectResponse = serde_json::from_value(serde_json::json!({
            "Name": "/node1/ucp-controller",
            "Config": {"Image": "docker/ucp:3.2.6", "Env": ["A=1", "B=x=y", "C"], "Labels": {"l": "v"}},
            "Mounts": [
                {"Type": "volume", "Name": "ucp-data", "Destination": "/data"},
                {"Type": "bind", "Source": "/etc", "Destination": "/etc"},
            ],
        }))
        .unwrap();
        let info = ContainerInfo::new(container);
        assert_eq!((info.name.as_str(), info.tag()), ("ucp-controller", Some("3.2.6")));
        assert_eq!((info.env["A"].as_str(), info.env["B"].as_str(), info.env.len()), ("1", "x=y", 2));
        assert_eq!(info.volumes, HashMap::from([("/data".to_string(), "ucp-data".to_string())]));
        assert_eq!(info.labels["l"], "v");
    }

    #[test]
    fn managers_are_counted_and_the_leader_is_known() {
        let node = |id: &str, reachability: &str, leader: bool| -> Node {
            let status = serde_json::json!({"Reachability": reachability, "Leader": leader});
            serde_json::from_value(serde_json::json!({"ID": id, "ManagerStatus": status})).unwrap()
        };
        let worker: Node = serde_json::from_value(serde_json::json!({"ID": "w"})).unwrap();
        let nodes = [node("a", "reachable", true), node("b", "unreachable", false), worker];
        let swarm = |id: &str| SwarmInfo { node_id: Some(id.into()), ..SwarmInfo::default() };
        let leader = among(&nodes, swarm("a"));
        assert_eq!((leader.managers, leader.reachable, leader.leader), (2, 1, true));
        assert!(!among(&nodes, swarm("b")).leader);
        assert_eq!(leader.quorum(), 2);
    }
}
