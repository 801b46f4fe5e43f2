//! What there is on this host that a backup may be wanted of: databases, volumes, Docker EE.

use std::path::Path;

use super::plan::measure;
use crate::docker::Engine;
use crate::docker::inspect::ContainerInfo;
use crate::error::Result;
use crate::preset::{DataLocation, DatabaseKind};

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Running containers of databases.
    pub databases: Vec<Database>,
    /// Named volumes.
    pub volumes: Vec<FoundVolume>,
    /// Volumes that nobody gave a name.
    pub nameless: usize,
    /// Components of Docker EE, in the order of their backup: `swarm`, `ucp`, `dtr`.
    pub ee: Vec<&'static str>,
    /// Folders of this host.
    pub folders: Vec<String>,
    /// Why the engine could not be asked.
    pub unreachable: Option<String>,
}

/// A container that runs a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// The container.
    pub container: String,
    /// Which database.
    pub kind: DatabaseKind,
}

/// A volume with a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundVolume {
    /// Its name.
    pub name: String,
    /// Bytes in it, where they can be counted.
    pub size: Option<u64>,
    /// A database that writes into it: a copy of its files is no backup.
    pub database: Option<String>,
}

/// Looks at this host. Nothing is changed; an engine that does not answer is said.
pub async fn inventory() -> Inventory {
    let folders = ["/etc"].into_iter().filter(|folder| std::fs::read_dir(Path::new(folder)).is_ok());
    let found = Inventory { folders: folders.map(String::from).collect(), ..Inventory::default() };
    let engine = match Engine::connect().await {
        Ok(engine) => engine,
        Err(error) => return Inventory { unreachable: Some(error.to_string()), ..found },
    };
    match of_engine(&engine, found.clone()).await {
        Ok(found) => found,
        Err(error) => Inventory { unreachable: Some(error.to_string()), ..found },
    }
}

async fn of_engine(engine: &Engine, found: Inventory) -> Result<Inventory> {
    let containers = engine.containers("").await?;
    let is_manager = matches!(engine.manager().await, Ok(Some(_)));
    let mut found = of_containers(&containers, is_manager, found);
    for name in engine.volume_names().await? {
        if is_nameless(&name) {
            found.nameless += 1;
        } else if !is_of_ee(&name, &found.ee) {
            let size = measure(DataLocation::Volumes(vec![name.clone()]), Some(engine)).await;
            let database = database_of(&name, &containers, &found.databases);
            found.volumes.push(FoundVolume { name, size, database });
        }
    }
    Ok(found)
}

fn of_containers(containers: &[ContainerInfo], is_manager: bool, found: Inventory) -> Inventory {
    let databases = containers.iter().filter_map(|container| {
        let kind = DatabaseKind::of_image(&container.image)?;
        Some(Database { container: container.name.clone(), kind })
    });
    let runs = |name: &str| containers.iter().any(|container| container.name.starts_with(name));
    let ee = [("swarm", is_manager), ("ucp", runs("ucp-controller")), ("dtr", runs("dtr-registry-"))];
    Inventory {
        databases: databases.collect(),
        ee: ee.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect(),
        ..found
    }
}

/// The database that a volume belongs to.
fn database_of(volume: &str, containers: &[ContainerInfo], databases: &[Database]) -> Option<String> {
    let uses = |container: &&ContainerInfo| container.volumes.values().any(|name| name == volume);
    let mut names = containers.iter().filter(uses).map(|container| container.name.clone());
    names.find(|name| databases.iter().any(|database| database.container == *name))
}

/// The engine's own names are 64 hexadecimal digits.
fn is_nameless(volume: &str) -> bool {
    volume.len() == 64 && volume.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether a volume is one that a preset backs up as the vendor wants it.
fn is_of_ee(volume: &str, ee: &[&str]) -> bool {
    ee.iter().any(|component| *component != "swarm" && volume.starts_with(&format!("{component}-")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(name: &str, image: &str, volume: &str) -> ContainerInfo {
        ContainerInfo {
            name: name.into(),
            image: image.into(),
            env: Default::default(),
            labels: Default::default(),
            volumes: [("/data".to_string(), volume.to_string())].into(),
        }
    }

    #[test]
    fn a_volume_of_a_database_is_its_and_components_have_their_presets() {
        let containers = [
            container("db", "postgres:16", "pgdata"),
            container("web", "nginx", "html"),
            container("ucp-controller", "docker/ucp-controller:3.2.6", "x"),
            container("dtr-registry-0123456789ab", "docker/dtr-registry:2.7.5", "y"),
        ];
        let found = of_containers(&containers, true, Inventory::default());
        assert_eq!(found.ee, ["swarm", "ucp", "dtr"]);
        assert_eq!(database_of("pgdata", &containers, &found.databases).as_deref(), Some("db"));
        assert_eq!(database_of("html", &containers, &found.databases), None);
        assert!(
            is_of_ee("dtr-registry-0123456789ab", &found.ee) && is_of_ee("ucp-auth-store-data", &found.ee)
        );
        assert!(!is_of_ee("swarm-thing", &found.ee) && !is_of_ee("dtr-x", &["swarm"]));
        assert!(is_nameless(&"a1".repeat(32)) && !is_nameless("pgdata"));
    }
}
