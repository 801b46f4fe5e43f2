//! A container or a service, as far as it may be held still.

use std::collections::HashMap;

use bollard::models::{ContainerSummary, ContainerSummaryStateEnum as State, Service};

use super::super::LABEL;
use super::order::Node;
use super::{Hold, Target};

/// Names of what a container depends on, with commas between them.
pub(super) const DEPENDS_ON: &str = "sealift.depends-on";
/// `db:service_started:false,cache:service_healthy:true`
pub(super) const COMPOSE_DEPENDS_ON: &str = "com.docker.compose.depends_on";
/// The service of which a container is a task.
pub(super) const SWARM_SERVICE: &str = "com.docker.swarm.service.name";
const STACK: &str = "com.docker.stack.namespace";

pub(super) type Labels = HashMap<String, String>;

/// A container or a service, as far as it may be held still.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    pub id: String,
    pub name: String,
    pub labels: Labels,
    /// Of a container: it runs, or stands still because another backup holds it.
    pub is_held: bool,
    pub runs: bool,
    /// Of a service: how many replicas it has, where it can have several; or had, before another backup came.
    pub replicas: Option<u64>,
    pub is_service: bool,
    /// The volumes that it uses.
    pub volumes: Vec<String>,
}

pub(super) fn seen(container: ContainerSummary, held: &[Target]) -> Option<Seen> {
    let labels = container.labels.unwrap_or_default();
    let id = container.id?;
    let name = container.names.into_iter().flatten().next().unwrap_or_else(|| id.clone());
    let name = name.rsplit('/').next().unwrap_or_default().to_string();
    let runs = matches!(container.state, Some(State::RUNNING | State::RESTARTING));
    let is_held = held.iter().any(|target| target.hold != Hold::Exec && target.id == id);
    let own = labels.contains_key(LABEL);
    let volumes = container.mounts.into_iter().flatten().filter_map(|mount| mount.name).collect();
    (!own).then_some(Seen { id, name, labels, runs, is_held, volumes, ..Seen::default() })
}

pub(super) fn seen_service(service: Service, held: &[Target]) -> Option<Seen> {
    let (id, spec) = (service.id?, service.spec?);
    let replicas = spec.mode?.replicated.map(|mode| u64::try_from(mode.replicas.unwrap_or(1)).unwrap_or(0));
    // What another backup has scaled down had these before.
    let before = held.iter().find(|target| target.hold == Hold::Scale && target.id == id);
    let replicas = replicas.map(|now| before.filter(|_| now == 0).map_or(now, |target| target.replicas));
    let (name, labels) = (spec.name.unwrap_or_default(), spec.labels.unwrap_or_default());
    let mounts = spec.task_template.and_then(|task| task.container_spec?.mounts);
    let volumes = mounts.into_iter().flatten().filter_map(|mount| mount.source).collect();
    Some(Seen { id, name, labels, replicas, is_service: true, volumes, ..Seen::default() })
}

impl Seen {
    pub(super) fn compose(&self, what: &str) -> Option<&str> {
        self.labels.get(&format!("com.docker.compose.{what}")).map(String::as_str)
    }

    pub(super) fn target(&self, hold: Hold) -> Target {
        let compose = || {
            let number = self.compose("container-number").unwrap_or("1");
            Some((self.compose("project")?.into(), self.compose("service")?.into(), number.into()))
        };
        Target {
            hold,
            id: self.id.clone(),
            name: self.name.clone(),
            compose: compose(),
            replicas: self.replicas.filter(|_| hold == Hold::Scale).unwrap_or(0),
            before: None,
            after: None,
            user: None,
            stays: false,
        }
    }

    /// What it is called, and what it needs.
    pub(super) fn node(&self) -> Node {
        let groups = [self.compose("project"), self.labels.get(STACK).map(String::as_str)];
        let within = |name: &str| {
            let grouped = groups.into_iter().flatten().map(|group| format!("{group}/{name}"));
            grouped.chain([name.to_string()]).collect::<Vec<_>>()
        };
        let mut names = vec![self.name.clone()];
        if let (Some(project), Some(service)) = (self.compose("project"), self.compose("service")) {
            names.push(format!("{project}/{service}"));
        }
        let stack = self.labels.get(STACK);
        let in_stack = stack.and_then(|stack| self.name.strip_prefix(stack)?.strip_prefix('_'));
        names.extend(stack.zip(in_stack).map(|(stack, name)| format!("{stack}/{name}")));
        let list = |key: &str| self.labels.get(key).map_or("", String::as_str).split(',');
        let compose = list(COMPOSE_DEPENDS_ON).map(|entry| entry.split(':').next().unwrap_or_default());
        let needs = list(DEPENDS_ON).chain(compose).map(str::trim).filter(|name| !name.is_empty());
        Node { name: self.name.clone(), needs: needs.map(within).collect(), names }
    }
}
