//! The swarm's state: the folder in which a manager keeps raft log and certificates, read by this host's tar.

use serde_json::json;

use super::Part;
use crate::archive::Format;
use crate::archive::check::Check;
use crate::cli::SwarmOptions;
use crate::docker::Engine;
use crate::docker::node::Manager;
use crate::error::{Error, Result};
use crate::progress::Ui;
use crate::source::{Source, StopEngine};

pub(super) async fn parts(options: &SwarmOptions, engine: &Engine, ui: &Ui) -> Result<Vec<Part>> {
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
        notes.push("taken while the engine ran: a change of that moment may be in it by half (--stop-engine avoids that)".into());
    }
    let mut parts = Vec::new();
    if manager.autolock {
        match options.with_unlock_key {
            true => parts.push(unlock_key(&manager)?),
            false => ui.warn("the swarm is autolocked, and the key that unlocks it is not in this backup: keep it elsewhere, or say --with-unlock-key"),
        }
    } else if options.with_unlock_key {
        ui.note("the swarm is not autolocked: there is no unlock key");
    }
    let stop = options
        .stop_engine
        .then(|| StopEngine { stop: options.stop_command.clone(), start: options.start_command.clone() });
    parts.insert(
        0,
        Part {
            name: None,
            source: Source::Folder { below: manager.root.clone(), name: "swarm".into(), stop },
            format: Some(Format::Tar),
            facts: facts(&manager, if options.stop_engine { "stopped" } else { "online" }),
            check: Check::new(&["swarm/raft/*".into(), "swarm/certificates/*".into()], 0)?,
            notes,
        },
    );
    Ok(parts)
}

fn facts(manager: &Manager, engine: &str) -> serde_json::Value {
    json!({"swarm": {
        "cluster": manager.cluster, "node": manager.node, "address": manager.address, "host": manager.host,
        "version": manager.version, "managers": manager.managers, "autolock": manager.autolock, "engine": engine,
    }})
}

/// The swarm must be managed while this node is away.
fn may_be_stopped(manager: &Manager, ui: &Ui) -> Result<()> {
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

fn unlock_key(manager: &Manager) -> Result<Part> {
    Ok(Part {
        name: Some("unlock-key"),
        source: Source::UnlockKey,
        format: Some(Format::Raw),
        facts: json!({"swarm_unlock_key": {"cluster": manager.cluster}}),
        check: Check::default(),
        notes: Vec::new(),
    })
}
