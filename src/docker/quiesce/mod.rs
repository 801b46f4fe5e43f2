//! Containers and services that are held still while a source is read: stopped, paused or scaled to zero, with hooks in
//! containers before and after. What is held is noted at the engine first, so that whoever comes after a run that was
//! killed can put it right.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::report::quoted;

mod act;
mod find;
mod hold;
mod marker;
mod order;
mod put_right;
mod seen;

pub use hold::Held;
pub use marker::MARKER;
pub use put_right::LeftHeld;

/// What is to be held still.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QuiesceRequest {
    /// Containers to stop, by name, id or Compose service.
    pub stop: Vec<String>,
    /// Containers to pause.
    pub pause: Vec<String>,
    /// Services of the swarm to scale to zero.
    pub scale_down: Vec<String>,
    /// Whatever has labels that say so.
    pub labelled: bool,
    /// Of labels that name no job, those of whatever uses one of these volumes count; otherwise all.
    pub using: Option<Vec<String>>,
    /// How long a container may take to stop before it is killed; otherwise its own, or the engine's 10 s.
    pub stop_timeout: Option<Duration>,
    /// How long all that may be held; no end where none is given.
    pub limit: Option<Duration>,
}

impl QuiesceRequest {
    /// Whether anything is asked for.
    pub fn is_nothing(&self) -> bool {
        self.stop.is_empty() && self.pause.is_empty() && self.scale_down.is_empty() && !self.labelled
    }
}

/// How something is held still.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hold {
    /// A container is stopped, and started again.
    Stop,
    /// A container is paused.
    Pause,
    /// A service is scaled to zero.
    Scale,
    /// A command is run in a container before, another one after.
    Exec,
}

/// Something that is held still, with all that is needed to let it go again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// How.
    pub hold: Hold,
    /// The container's or the service's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Of a container of Compose: its project, its service and its number there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compose: Option<(String, String, String)>,
    /// Of a service: how many replicas it had.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub replicas: u64,
    /// Of a hook: the command that is run before.
    #[serde(skip)]
    pub before: Option<String>,
    /// Of a hook: the command that is run after, whatever became of the read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Of a hook: who runs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// It stays stopped.
    #[serde(skip)]
    pub stays: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(replicas: &u64) -> bool {
    *replicas == 0
}

impl Target {
    /// Whether two of them are of one container or service, and in the way of each other.
    fn is_same(&self, other: &Target) -> bool {
        self.id == other.id && (self.hold == Hold::Exec) == (other.hold == Hold::Exec)
    }

    /// What is done to it: `stop web`.
    pub fn in_words(&self) -> String {
        let Target { name, replicas, .. } = self;
        match self.hold {
            Hold::Stop if self.stays => format!("stop {name}, which stays stopped"),
            Hold::Stop => format!("stop {name}"),
            Hold::Pause => format!("pause {name}"),
            Hold::Scale if self.stays => format!("scale {name} from {replicas} to 0, where it stays"),
            Hold::Scale => format!("scale {name} from {replicas} to 0"),
            Hold::Exec => match (&self.before, &self.after) {
                (Some(before), _) => format!("exec {name}: {before}"),
                (None, after) => format!("exec {name} after it: {}", after.as_deref().unwrap_or_default()),
            },
        }
    }

    /// The command that lets it go by hand.
    pub fn by_hand(&self) -> String {
        let name = quoted(&self.name);
        match self.hold {
            Hold::Stop => format!("docker start {name}"),
            Hold::Pause => format!("docker unpause {name}"),
            Hold::Scale => format!("docker service scale {name}={}", self.replicas),
            Hold::Exec => {
                let user = self.user.iter().map(|user| format!("-u {} ", quoted(user))).collect::<String>();
                let command = quoted(self.after.as_deref().unwrap_or_default());
                format!("docker exec {user}{name} sh -c {command}")
            }
        }
    }

    /// What it is: `container web`.
    fn what(&self) -> String {
        match self.hold {
            Hold::Stop | Hold::Pause => format!("container {}", self.name),
            Hold::Scale => format!("service {}", self.name),
            Hold::Exec => format!("the hook after the read in container {}", self.name),
        }
    }
}

/// What will be held still, in order: hooks first, then those that others do not depend on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QuiescePlan {
    /// What is held, in the order in which that is done.
    pub targets: Vec<Target>,
    /// What is as it should be, but worth knowing.
    pub notes: Vec<String>,
    /// What needs a look.
    pub warnings: Vec<String>,
}

impl QuiescePlan {
    /// What is held in a few words: `stopped web, worker; paused db`.
    pub fn held(&self) -> String {
        let kinds = [(Hold::Stop, "stopped"), (Hold::Pause, "paused"), (Hold::Scale, "scaled to 0")];
        let of = |(hold, done): (Hold, &str)| {
            let names: Vec<_> =
                self.targets.iter().filter(|t| t.hold == hold).map(|t| t.name.as_str()).collect();
            (!names.is_empty()).then(|| format!("{done} {}", names.join(", ")))
        };
        kinds.into_iter().filter_map(of).collect::<Vec<_>>().join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn target(hold: Hold, name: &str) -> Target {
        let id = format!("id-{name}");
        let (compose, user) = (None, None);
        let (before, after, stays) = (None, None, false);
        Target { hold, id, name: name.into(), compose, replicas: 0, before, after, user, stays }
    }

    #[test]
    fn what_is_held_is_told_and_how_it_is_let_go_by_hand() {
        let web = target(Hold::Stop, "web");
        assert_eq!((web.in_words().as_str(), web.by_hand().as_str()), ("stop web", "docker start web"));
        let api = Target { replicas: 3, ..target(Hold::Scale, "api") };
        assert_eq!(api.in_words(), "scale api from 3 to 0");
        assert_eq!(api.by_hand(), "docker service scale api=3");
        let (after, user) = (Some("thaw 'all'".to_string()), Some("db".to_string()));
        let hook = Target { after, user, ..target(Hold::Exec, "db") };
        assert_eq!(hook.by_hand(), r#"docker exec -u db db sh -c 'thaw '\''all'\'''"#);
        let plan = QuiescePlan { targets: vec![hook, web, api], ..QuiescePlan::default() };
        assert_eq!(plan.held(), "stopped web; scaled to 0 api");
    }

    #[test]
    fn a_hook_and_a_stop_of_one_container_are_two_things() {
        let (stop, pause) = (target(Hold::Stop, "a"), target(Hold::Pause, "a"));
        assert!(stop.is_same(&pause) && !stop.is_same(&target(Hold::Exec, "a")));
        assert!(!stop.is_same(&target(Hold::Stop, "b")));
    }
}
