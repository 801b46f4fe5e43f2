//! The swarm's state: the folder in which a manager keeps raft log and certificates, read by this host's tar.

use serde::{Deserialize, Serialize};

use super::metadata::{Metadata, lenient};
use super::steps::{Action, SealedArchive, Step, quoted};
use super::{Component, DataLocation, Preview};
use crate::archive::Format;
use crate::archive::check::Check;
use crate::docker::Engine;
use crate::docker::inspect::Manager;
use crate::error::{Error, Result};
use crate::report::Reporter;
use crate::source::{Source, StopEngine};

/// How systemd stops the engine: its socket too, or the next `docker ps` would start it again.
const STOP: &str = "systemctl stop docker.socket docker.service";
const START: &str = "systemctl start docker.service";

/// How a swarm's state is backed up.
#[derive(Debug, Clone, Default)]
pub struct SwarmOptions {
    /// Stop the engine while its folder is read.
    pub stop_engine: bool,
    /// The command that stops it, unless it is the usual one.
    pub stop_command: Option<String>,
    /// The command that starts it, and ends when it answers, unless it is the usual one.
    pub start_command: Option<String>,
    /// Seal the key that unlocks an autolocked swarm, as an archive of its own.
    pub with_unlock_key: bool,
}

/// What a restore must know of a swarm, and of the manager whose folder was read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SwarmMetadata {
    /// The cluster's id.
    #[serde(deserialize_with = "lenient")]
    pub cluster: String,
    /// The node's id.
    #[serde(deserialize_with = "lenient")]
    pub node: String,
    /// The node's address, as the other managers know it.
    #[serde(deserialize_with = "lenient")]
    pub address: String,
    /// The host's name.
    #[serde(deserialize_with = "lenient")]
    pub host: String,
    /// The engine's version.
    #[serde(deserialize_with = "lenient")]
    pub version: String,
    /// Managers of the swarm.
    #[serde(deserialize_with = "lenient")]
    pub managers: u64,
    /// After a restart somebody must give the unlock key.
    #[serde(deserialize_with = "lenient")]
    pub autolock: bool,
    /// Whether the engine ran while its folder was read.
    #[serde(deserialize_with = "lenient")]
    pub engine: EngineState,
}

/// Whether an engine ran while its folder was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineState {
    /// It ran.
    #[default]
    Online,
    /// It was stopped.
    Stopped,
}

/// What a restore must know of a swarm's unlock key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UnlockKeyMetadata {
    /// The cluster's id.
    #[serde(deserialize_with = "lenient")]
    pub cluster: String,
}

pub(super) async fn components(
    options: &SwarmOptions,
    engine: &Engine,
    ui: &Reporter,
) -> Result<Vec<Component>> {
    let manager = engine.manager().await?.ok_or_else(|| {
        Error::failed("this node is no manager of a swarm")
            .hint("run this on a manager: `docker node ls` shows them")
    })?;
    let folder = manager.root.join("swarm");
    if !engine.is_local() || !folder.is_dir() {
        return Err(Error::failed(format!("cannot read {}", folder.display()))
            .hint("run sealift on the manager itself, as root: no container can read that folder while the engine is stopped"));
    }
    if options.stop_engine {
        may_be_stopped(&manager, ui)?;
    }
    let mut notes = Vec::new();
    if !options.stop_engine {
        if options.stop_command.is_some() || options.start_command.is_some() {
            ui.note(
                "without --stop-engine nothing is stopped: --stop-command and --start-command have no effect",
            );
        }
        notes.push("taken while the engine ran: a change of that moment may be in it by half (--stop-engine avoids that)".into());
    }
    let mut components = Vec::new();
    if manager.autolock {
        match options.with_unlock_key {
            // First: while the engine is stopped nobody knows the key.
            true => components.push(unlock_key(&manager)),
            false => ui.warn("the swarm is autolocked, and the key that unlocks it is not in this backup: keep it elsewhere, or say --with-unlock-key"),
        }
    } else if options.with_unlock_key {
        ui.note("the swarm is not autolocked: there is no unlock key");
    }
    let stop = match options.stop_engine {
        true => Some(stop(options, &manager, engine).await?),
        false => None,
    };
    let state = if options.stop_engine { EngineState::Stopped } else { EngineState::Online };
    let metadata = metadata(&manager, state);
    let source = Source::Folder { below: manager.root.clone(), name: "swarm".into(), stop };
    components.push(Component { check: layout()?, notes, ..Component::new(source, Format::Tar, metadata) });
    Ok(components)
}

/// What the archive of a swarm has.
pub(super) fn layout() -> Result<Check> {
    Check::new(&["swarm/raft/*".into(), "swarm/certificates/*".into()], 0)
}

/// How the engine is stopped and started; a swarm that is locked after a start is unlocked, with the key of now.
async fn stop(options: &SwarmOptions, manager: &Manager, engine: &Engine) -> Result<StopEngine> {
    let unlock = match manager.autolock {
        true => Some(engine.unlock().await?),
        false => None,
    };
    let or = |command: &Option<String>, usual: &str| command.clone().unwrap_or_else(|| usual.into());
    Ok(StopEngine { stop: or(&options.stop_command, STOP), start: or(&options.start_command, START), unlock })
}

pub(super) async fn preview(options: &SwarmOptions, engine: &Engine) -> Result<Preview> {
    let manager =
        engine.manager().await?.ok_or_else(|| Error::failed("this node is no manager of a swarm"))?;
    let folder = manager.root.join("swarm");
    let state = if options.stop_engine { "with the engine stopped" } else { "while the engine runs" };
    let words =
        format!("{} read {state}: services, configs, secrets, networks, certificates", folder.display());
    let mut archives = vec![(None, words, DataLocation::Folder(folder))];
    let mut not_in_it = vec![
        "the contents of containers, volumes and images: back volumes up by `sealift backup volume`".into(),
        "the other managers' folders: each has its own node's identity; run this on each manager".into(),
    ];
    match (manager.autolock, options.with_unlock_key) {
        (true, true) => {
            archives.push((Some("unlock-key"), "the swarm's unlock key".into(), DataLocation::Unknown))
        }
        (true, false) => not_in_it
            .push("the key that unlocks the swarm: keep it elsewhere, or say --with-unlock-key".into()),
        (false, _) => {}
    }
    let lead = if manager.leader { ", the leader" } else { "" };
    let Manager { cluster, managers, reachable, version, .. } = manager;
    let what = format!(
        "swarm {cluster}, engine {version}: this manager{lead}; {reachable} of {managers} managers answer"
    );
    Ok(Preview { what, archives, not_in_it })
}

fn metadata(manager: &Manager, engine: EngineState) -> Metadata {
    Metadata::Swarm(SwarmMetadata {
        cluster: manager.cluster.clone(),
        node: manager.node.clone(),
        address: manager.address.clone(),
        host: manager.host.clone(),
        version: manager.version.clone(),
        managers: manager.managers,
        autolock: manager.autolock,
        engine,
    })
}

/// The swarm must be managed while this node is away.
fn may_be_stopped(manager: &Manager, ui: &Reporter) -> Result<()> {
    let Manager { managers, reachable, .. } = manager;
    if *managers == 1 {
        ui.warn("this is the swarm's only manager: nobody manages it while the engine is stopped");
        return Ok(());
    }
    if !manager.can_be_missed() {
        return Err(Error::failed(format!(
            "the swarm would lose its quorum: {reachable} of {managers} managers answer, and {} must",
            manager.quorum()
        ))
        .hint("bring the other managers back first, or leave --stop-engine out"));
    }
    if manager.leader {
        ui.warn(
            "this node leads the swarm, which will choose another leader: better back up another manager",
        );
    }
    Ok(())
}

fn unlock_key(manager: &Manager) -> Component {
    let metadata = Metadata::SwarmUnlockKey(UnlockKeyMetadata { cluster: manager.cluster.clone() });
    Component { name: Some("unlock-key"), ..Component::new(Source::UnlockKey, Format::Raw, metadata) }
}

/// A swarm is restored on one host, as a new cluster with the old state; the other nodes then join it.
pub(super) fn restore_steps(
    archive: &SealedArchive,
    metadata: &SwarmMetadata,
    key: Option<&SealedArchive>,
) -> Step {
    let SwarmMetadata { cluster, version, address, autolock, .. } = metadata;
    let below = archive.record().folder.below;
    let mut actions = vec![
        Action::Shell(STOP.into()),
        Action::Delete(format!("rm -rf {}", quoted(&format!("{below}/swarm")))),
        archive.restore(&["--to-path", &below, "--overwrite"]),
        Action::Shell(START.into()),
    ];
    if *autolock {
        if let Some(key) = key {
            actions.push(Action::Note("# the unlock key:".into()));
            actions.push(key.restore(&["--to-stdout"]));
        }
        actions
            .push(Action::ByHand("docker swarm unlock   # asks for the key of the day of the backup".into()));
        // Seen, and moby 36852: an autolocked swarm gets no new cluster, though it was unlocked.
        actions.push(Action::Note(
            "# the second of these commands fails on an autolocked swarm (moby 36852):".into(),
        ));
        actions.push(Action::Shell("docker swarm update --autolock=false".into()));
    }
    actions.push(Action::Shell("docker swarm init --force-new-cluster".into()));
    if *autolock {
        actions
            .push(Action::Shell("docker swarm update --autolock=true   # prints a new key: keep it".into()));
    }
    actions.push(Action::Shell("docker service ls".into()));
    actions.push(Action::ByHand("# then join the other nodes again".into()));
    let title = format!(
        "Swarm {cluster}: on a host with the address {address} and engine {version}, nothing else running"
    );
    Step { title, on_condition: true, actions }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preset::steps::lines;
    use serde_json::{Value, json};

    /// As format 1 writes it.
    const WRITTEN: &str = r#"{"swarm":{"address":"10.0.0.1","autolock":true,"cluster":"c1","engine":"stopped","host":"m1","managers":3,"node":"n1","version":"19.03.5"}}"#;

    fn manager() -> Manager {
        Manager {
            cluster: "c1".into(),
            node: "n1".into(),
            address: "10.0.0.1".into(),
            host: "m1".into(),
            version: "19.03.5".into(),
            root: "/var/lib/docker".into(),
            managers: 3,
            reachable: 3,
            leader: false,
            autolock: true,
        }
    }

    fn archive(name: &str, source: Value) -> SealedArchive {
        SealedArchive { name: name.into(), job: "swarm".into(), source, is_clear: false }
    }

    fn swarm(autolock: bool, below: &str) -> (SealedArchive, SwarmMetadata) {
        let source = json!({"folder": {"below": below, "name": "swarm"}});
        let metadata = SwarmMetadata {
            cluster: "c1".into(),
            address: "10.0.0.1".into(),
            version: "19.03.5".into(),
            autolock,
            ..SwarmMetadata::default()
        };
        (archive("swarm@id", source), metadata)
    }

    #[test]
    fn metadata_is_written_as_it_always_was() {
        assert_eq!(metadata(&manager(), EngineState::Stopped).to_json().to_string(), WRITTEN);
        assert_eq!(metadata(&manager(), EngineState::Online).to_json()["swarm"]["engine"], "online");
        let key = unlock_key(&manager()).metadata;
        assert_eq!(key.to_json().to_string(), r#"{"swarm_unlock_key":{"cluster":"c1"}}"#);
    }

    #[test]
    fn what_was_written_is_read() {
        let written: Value = serde_json::from_str(WRITTEN).unwrap();
        assert_eq!(Metadata::of(&written), Some(metadata(&manager(), EngineState::Stopped)));
    }

    #[test]
    fn what_is_missing_or_of_another_kind_is_as_good_as_not_said() {
        let read = Metadata::of(&json!({"swarm": {"cluster": "c", "managers": "three", "engine": "paused"}}));
        let expected = SwarmMetadata { cluster: "c".into(), ..SwarmMetadata::default() };
        assert_eq!(read, Some(Metadata::Swarm(expected)));
    }

    #[test]
    fn a_swarm_comes_back_as_a_new_cluster() {
        let (archive, metadata) = swarm(false, "/var/lib/docker");
        let step = restore_steps(&archive, &metadata, None);
        assert_eq!(
            step.title,
            "Swarm c1: on a host with the address 10.0.0.1 and engine 19.03.5, nothing else running"
        );
        assert_eq!(
            lines(&step),
            [
                "systemctl stop docker.socket docker.service",
                "rm -rf /var/lib/docker/swarm",
                "RESTORE swarm@id --to-path /var/lib/docker --overwrite",
                "systemctl start docker.service",
                "docker swarm init --force-new-cluster",
                "docker service ls",
                "# then join the other nodes again",
            ]
        );
    }

    #[test]
    fn a_locked_swarm_is_unlocked_for_good_before_it_gets_a_new_cluster() {
        let (own, metadata) = swarm(true, "/srv/my docker");
        let key = archive("key@id", Value::Null);
        let lines = lines(&restore_steps(&own, &metadata, Some(&key)));
        assert_eq!(
            lines[1..],
            [
                "rm -rf '/srv/my docker/swarm'",
                "RESTORE swarm@id --to-path '/srv/my docker' --overwrite",
                "systemctl start docker.service",
                "# the unlock key:",
                "RESTORE key@id --to-stdout",
                "docker swarm unlock   # asks for the key of the day of the backup",
                "# the second of these commands fails on an autolocked swarm (moby 36852):",
                "docker swarm update --autolock=false",
                "docker swarm init --force-new-cluster",
                "docker swarm update --autolock=true   # prints a new key: keep it",
                "docker service ls",
                "# then join the other nodes again",
            ]
        );
    }

    #[test]
    fn without_its_key_in_the_set_a_locked_swarm_is_unlocked_by_hand() {
        let (archive, metadata) = swarm(true, "/var/lib/docker");
        let lines = lines(&restore_steps(&archive, &metadata, None));
        assert!(!lines.iter().any(|line| line.contains("--to-stdout")), "{lines:?}");
        assert!(lines.iter().any(|line| line.starts_with("docker swarm unlock ")), "{lines:?}");
    }

    #[test]
    fn a_key_that_is_not_needed_is_not_restored() {
        let (own, metadata) = swarm(false, "/var/lib/docker");
        let key = archive("key@id", Value::Null);
        assert_eq!(restore_steps(&own, &metadata, Some(&key)), restore_steps(&own, &metadata, None));
    }

    #[test]
    fn a_manager_may_be_stopped_as_long_as_the_others_are_a_quorum() {
        let ui = Reporter::silent();
        assert!(may_be_stopped(&Manager { managers: 1, reachable: 1, ..manager() }, &ui).is_ok());
        assert!(may_be_stopped(&manager(), &ui).is_ok());
        let error = may_be_stopped(&Manager { reachable: 2, ..manager() }, &ui).unwrap_err();
        assert_eq!(error.to_string(), "the swarm would lose its quorum: 2 of 3 managers answer, and 2 must");
        assert!(may_be_stopped(&Manager { managers: 2, reachable: 2, ..manager() }, &ui).is_err());
    }
}
