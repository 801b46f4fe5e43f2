//! Products: what `backup dtr`, `backup ucp`, `backup swarm` and those of databases consist of, found on the node they
//! run on.

use crate::archive::Format;
use crate::archive::check::Check;
use crate::archive::whole::Whole;
use crate::docker::Engine;
use crate::error::Result;
use crate::host::passphrase::{PASSPHRASE, SecretName};
use crate::report::Reporter;
use crate::source::Source;

pub mod database;
pub mod dtr;
pub mod metadata;
mod registry;
pub mod steps;
pub mod swarm;
pub mod ucp;

pub use database::{DatabaseKind, DatabaseOptions};
pub use dtr::{DtrOptions, DtrPart};
pub use metadata::{Metadata, public_metadata};
pub use steps::{Action, RestoreTo, SealedArchive, Step};
pub use swarm::SwarmOptions;
pub use ucp::UcpOptions;

/// The vendor's order of an upgrade, each step with its backup.
pub const UPGRADE_ORDER: [&str; 6] = [
    "",
    "Upgrade in this order, each step on all nodes before the next, with its backup before it:",
    "  1. engine and kernel, managers one by one: first `sealift backup swarm --stop-engine` on each manager",
    "  2. UCP: first `sealift backup ucp`; a backup of one version is not restored by another",
    "  3. DTR: first `sealift backup dtr`; metadata are restored by the version that wrote them",
    "Check each backup by `sealift verify` before the step.",
];

/// The secret that a setting leads to: `passphrase_file`, `ucp_password_command`.
pub fn secret_of_setting(setting: &str) -> Option<SecretName> {
    let all = [PASSPHRASE, dtr::UCP_PASSWORD, ucp::UCP_PASSPHRASE];
    all.into_iter().find(|secret| secret.is_led_to_by(setting))
}

/// The steps that bring these archives back, in the documented order. An archive that no preset made has none.
pub fn restore_steps(archives: &[SealedArchive]) -> Vec<Step> {
    let (mut swarms, mut keys, mut ucps, mut dtrs) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut databases = Vec::new();
    for archive in archives {
        match archive.metadata() {
            Some(Metadata::Swarm(metadata)) => swarms.push((archive, metadata)),
            Some(Metadata::SwarmUnlockKey(metadata)) => keys.push((archive, metadata)),
            Some(Metadata::Ucp(metadata)) => ucps.push((archive, metadata)),
            Some(Metadata::Dtr(metadata)) => dtrs.push((archive, metadata)),
            Some(Metadata::Database(metadata)) => databases.push((archive, metadata)),
            None => {}
        }
    }
    let swarms = swarms.iter().map(|(archive, metadata)| {
        let key = keys.iter().find(|(_, key)| key.cluster == metadata.cluster);
        swarm::restore_steps(archive, metadata, key.map(|(key, _)| *key))
    });
    let ucps = ucps.iter().map(|(archive, metadata)| ucp::restore_steps(archive, metadata));
    let mut replicas: Vec<_> = dtrs.iter().map(|(_, metadata)| &metadata.replica).collect();
    replicas.dedup();
    let dtrs = replicas.into_iter().filter_map(|replica| {
        let own = dtrs.iter().filter(|(_, metadata)| metadata.replica == *replica);
        dtr::restore_steps(&own.map(|(archive, metadata)| (*archive, metadata)).collect::<Vec<_>>())
    });
    let databases = databases.iter().map(|(archive, metadata)| database::restore_steps(archive, metadata));
    swarms.chain(ucps).chain(dtrs).chain(databases).collect()
}

/// A product that is backed up as its vendor says.
#[derive(Debug, Clone)]
pub enum Preset {
    /// The swarm's state.
    Swarm(SwarmOptions),
    /// Universal Control Plane.
    Ucp(UcpOptions),
    /// Docker Trusted Registry: metadata and images.
    Dtr(DtrOptions),
    /// A database in a container.
    Database(DatabaseOptions),
}

/// One archive of a preset.
pub struct Component {
    /// What is added to the preset's job; nothing where it has one archive only.
    pub name: Option<&'static str>,
    /// Where its bytes come from.
    pub source: Source,
    /// What they must be; none: found out.
    pub format: Option<Format>,
    /// What a restore will need to know.
    pub metadata: Metadata,
    /// What its members must be.
    pub check: Check,
    /// What its bytes must be as a whole, where that is no tar.
    pub whole: Option<Whole>,
    /// What is known to be wrong with it before it begins.
    pub warnings: Vec<String>,
    /// What the operator should know about it by nature.
    pub notes: Vec<String>,
}

impl Component {
    fn new(source: Source, format: Format, metadata: Metadata) -> Self {
        Component {
            name: None,
            source,
            format: Some(format),
            metadata,
            check: Check::default(),
            whole: None,
            warnings: Vec::new(),
            notes: Vec::new(),
        }
    }
}

/// What a preset would back up on this node.
pub struct Preview {
    /// What it is: name, version, where.
    pub what: String,
    /// What each archive would hold: what is added to the job's name, words, and where the bytes lie.
    pub archives: Vec<(Option<&'static str>, String, DataLocation)>,
    /// What would not be in it, and where that is or comes from.
    pub not_in_it: Vec<String>,
}

/// Where the bytes of an archive lie, as far as that can be measured.
pub enum DataLocation {
    /// In a folder of the engine's host.
    Folder(std::path::PathBuf),
    /// In volumes.
    Volumes(Vec<String>),
    /// Nobody knows how large it is.
    Unknown,
}

impl Preset {
    /// The job under which its archives lie, unless another is asked for.
    pub fn job(&self) -> &str {
        match self {
            Preset::Swarm(_) => "swarm",
            Preset::Ucp(_) => "ucp",
            Preset::Dtr(_) => "dtr",
            Preset::Database(options) => &options.job,
        }
    }

    /// What is added to the job's name for each of its archives, and whether every backup has that one.
    pub fn parts(&self) -> Vec<(Option<&'static str>, bool)> {
        match self {
            // Only an autolocked swarm has a key, and images may lie in an object store.
            Preset::Swarm(_) if self.is_secret() => vec![(None, true), (Some("unlock-key"), false)],
            Preset::Swarm(_) | Preset::Ucp(_) | Preset::Database(_) => vec![(None, true)],
            Preset::Dtr(options) => match options.only {
                Some(DtrPart::Images) => vec![(Some("images"), true)],
                Some(DtrPart::Metadata) => vec![(Some("metadata"), true)],
                None => vec![(Some("metadata"), true), (Some("images"), false)],
            },
        }
    }

    /// Whether it is a component of Docker EE.
    pub fn is_docker_ee(&self) -> bool {
        !matches!(self, Preset::Database(_))
    }

    /// Whether a secret of Docker's own is one of its archives.
    pub fn is_secret(&self) -> bool {
        matches!(self, Preset::Swarm(options) if options.with_unlock_key)
    }

    /// Reads every secret, and looks whether the rest was said: what is missing shows before the first backup.
    ///
    /// # Errors
    /// An option is missing; a secret cannot be read.
    pub fn resolve_secrets(&mut self) -> Result<()> {
        match self {
            Preset::Dtr(options) => dtr::resolve_secrets(options),
            Preset::Swarm(_) | Preset::Ucp(_) | Preset::Database(_) => Ok(()),
        }
    }

    /// Looks at this node and says what a backup would hold, and what not. Asks nobody for a password.
    ///
    /// # Errors
    /// The component does not run here.
    pub async fn preview(&self, engine: &Engine) -> Result<Preview> {
        match self {
            Preset::Swarm(options) => swarm::preview(options, engine).await,
            Preset::Ucp(options) => ucp::preview(options, engine).await,
            Preset::Dtr(options) => dtr::preview(options, engine).await,
            Preset::Database(options) => database::preview(options, engine).await,
        }
    }

    /// Looks at this node and says what is to be backed up, in order.
    ///
    /// # Errors
    /// The component does not run here; what it needs was not given.
    pub async fn components(&self, engine: &Engine, ui: &Reporter) -> Result<Vec<Component>> {
        match self {
            Preset::Swarm(options) => swarm::components(options, engine, ui).await,
            Preset::Ucp(options) => ucp::components(options, engine, ui).await,
            Preset::Dtr(options) => dtr::components(options, engine, ui).await,
            Preset::Database(options) => database::components(options, engine, ui).await,
        }
    }
}

/// `docker/dtr-registry:2.7.5`, `-registry`, `2.7.5` → `docker/dtr:2.7.5`
fn sibling(image: &str, suffix: &str, version: &str) -> String {
    let name = match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => image,
    };
    format!("{}:{version}", name.strip_suffix(suffix).unwrap_or(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::passphrase::{Sources, VARIABLES};
    use serde_json::{Value, json};

    #[test]
    fn the_tools_image_is_its_servers_sibling() {
        assert_eq!(sibling("docker/dtr-registry:2.7.5", "-registry", "2.7.5"), "docker/dtr:2.7.5");
        assert_eq!(sibling("mirantis/ucp-controller", "-controller", "3.4.0"), "mirantis/ucp:3.4.0");
        assert_eq!(sibling("r:5000/msr/dtr-registry:2.9", "-registry", "2.9.1"), "r:5000/msr/dtr:2.9.1");
    }

    #[test]
    fn a_sibling_keeps_its_registry_and_loses_only_its_own_suffix() {
        assert_eq!(sibling("r:5000/docker/dtr-registry", "-registry", "2.7.5"), "r:5000/docker/dtr:2.7.5");
        assert_eq!(sibling("my/registry:1", "-registry", "2.7.5"), "my/registry:2.7.5");
        assert_eq!(sibling("docker/dtr-registry-x:1", "-registry", "2"), "docker/dtr-registry-x:2");
        assert_eq!(sibling("ucp-controller:3.2.6", "-controller", "3.2.6"), "ucp:3.2.6");
    }

    #[test]
    fn a_setting_leads_to_its_own_secret() {
        assert_eq!(secret_of_setting("passphrase_file"), Some(PASSPHRASE));
        assert_eq!(secret_of_setting("ucp_password_command"), Some(dtr::UCP_PASSWORD));
        assert_eq!(secret_of_setting("ucp_passphrase_file"), Some(ucp::UCP_PASSPHRASE));
        assert_eq!((secret_of_setting("stop_command"), secret_of_setting("passphrase")), (None, None));
    }

    #[test]
    fn no_child_inherits_the_variables_of_a_secret() {
        for secret in [PASSPHRASE, dtr::UCP_PASSWORD, ucp::UCP_PASSPHRASE] {
            assert!(secret.variables.iter().all(|name| VARIABLES.contains(name)), "{secret:?}");
        }
    }

    #[test]
    fn an_unlock_key_is_a_secret_and_nothing_else_is() {
        let swarm =
            |with_unlock_key| Preset::Swarm(SwarmOptions { with_unlock_key, ..SwarmOptions::default() });
        assert!(swarm(true).is_secret() && !swarm(false).is_secret());
        let ucp = UcpOptions { passphrase: Sources::of(ucp::UCP_PASSPHRASE), ..UcpOptions::default() };
        assert!(!Preset::Ucp(ucp).is_secret());
    }

    fn sealed(job: &str, source: Value) -> SealedArchive {
        SealedArchive { name: format!("{job}@id"), job: job.into(), source, is_clear: false }
    }

    fn titles(archives: &[SealedArchive]) -> Vec<String> {
        restore_steps(archives).into_iter().map(|step| step.title).collect()
    }

    #[test]
    fn swarm_comes_before_ucp_and_ucp_before_dtr() {
        let titles = titles(&[
            sealed("dtr/metadata", json!({"dtr": {"part": "metadata", "replica": "r", "version": "2.7.5"}})),
            sealed("dtr/images", json!({"dtr": {"part": "images", "replica": "r", "version": "2.7.5"}})),
            sealed("ucp", json!({"ucp": {"version": "3.2.6"}})),
            sealed("db", json!({"volume": ["db"]})),
            sealed("swarm/unlock-key", json!({"swarm_unlock_key": {"cluster": "c"}})),
            sealed("swarm", json!({"swarm": {"cluster": "c", "address": "10.0.0.1", "version": "19.03"}})),
        ]);
        let [swarm, ucp, dtr] = &titles[..] else { panic!("{titles:?}") };
        assert!(swarm.starts_with("Swarm c: ") && ucp.starts_with("UCP 3.2.6: "), "{titles:?}");
        assert!(dtr.starts_with("DTR 2.7.5, replica r: "), "{titles:?}");
    }

    #[test]
    fn replicas_have_a_step_each() {
        let dtr = |replica: &str| json!({"dtr": {"part": "metadata", "replica": replica, "version": "2"}});
        let titles = titles(&[sealed("a", dtr("one")), sealed("b", dtr("one")), sealed("c", dtr("two"))]);
        assert_eq!(titles.len(), 2);
        assert!(titles[0].contains("replica one") && titles[1].contains("replica two"), "{titles:?}");
    }

    #[test]
    fn a_swarm_is_unlocked_by_its_own_key() {
        let swarm = json!({"swarm": {"cluster": "mine", "autolock": true}});
        let key = |cluster: &str| json!({"unlock_key": {}, "swarm_unlock_key": {"cluster": cluster}});
        let steps =
            restore_steps(&[sealed("other", key("c")), sealed("swarm", swarm), sealed("key", key("mine"))]);
        let restored = steps[0].actions.iter().filter_map(|action| match action {
            Action::Restore { archive, .. } => Some(archive.as_str()),
            _ => None,
        });
        assert_eq!(restored.collect::<Vec<_>>(), ["swarm@id", "key@id"]);
    }
}
