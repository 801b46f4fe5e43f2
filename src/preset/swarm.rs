//! The swarm's state: the folder in which a manager keeps raft log and certificates, read by this host's tar.

use serde_json::json;

use super::{DataLocation, Part, Preview};
use crate::archive::Format;
use crate::archive::check::Check;
use crate::cli::SwarmOptions;
use crate::docker::Engine;
use crate::docker::inspect::Manager;
use crate::error::{Error, Result};
use crate::report::Reporter;
use crate::source::{Source, StopEngine};

/// How systemd stops the engine: its socket too, or the next `docker ps` would start it again.
const STOP: &str = "systemctl stop docker.socket docker.service";
const START: &str = "systemctl start docker.service";

pub(super) async fn parts(options: &SwarmOptions, engine: &Engine, ui: &Reporter) -> Result<Vec<Part>> {
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
    let mut parts = Vec::new();
    if manager.autolock {
        match options.with_unlock_key {
            // First: while the engine is stopped nobody knows the key.
            true => parts.push(unlock_key(&manager)),
            false => ui.warn("the swarm is autolocked, and the key that unlocks it is not in this backup: keep it elsewhere, or say --with-unlock-key"),
        }
    } else if options.with_unlock_key {
        ui.note("the swarm is not autolocked: there is no unlock key");
    }
    let stop = match options.stop_engine {
        true => Some(stop(options, &manager, engine).await?),
        false => None,
    };
    let facts = facts(&manager, if options.stop_engine { "stopped" } else { "online" });
    let source = Source::Folder { below: manager.root.clone(), name: "swarm".into(), stop };
    parts.push(Part {
        check: Check::new(&["swarm/raft/*".into(), "swarm/certificates/*".into()], 0)?,
        notes,
        ..Part::new(source, Format::Tar, facts)
    });
    Ok(parts)
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

fn facts(manager: &Manager, engine: &str) -> serde_json::Value {
    json!({"swarm": {
        "cluster": manager.cluster, "node": manager.node, "address": manager.address, "host": manager.host,
        "version": manager.version, "managers": manager.managers, "autolock": manager.autolock, "engine": engine,
    }})
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

fn unlock_key(manager: &Manager) -> Part {
    let facts = json!({"swarm_unlock_key": {"cluster": manager.cluster}});
    Part { name: Some("unlock-key"), ..Part::new(Source::UnlockKey, Format::Raw, facts) }
}
