//! Docker EE: what `backup dtr`, `backup ucp` and `backup swarm` consist of, found on the node they run on.

use serde_json::Value;

use crate::archive::Format;
use crate::archive::check::Check;
use crate::cli::{DtrOptions, SwarmOptions, UcpOptions};
use crate::docker::Engine;
use crate::error::Result;
use crate::report::Reporter;
use crate::source::Source;

mod dtr;
mod swarm;
mod ucp;

/// A component of Docker EE.
#[derive(Debug, Clone)]
pub enum Preset {
    /// The swarm's state.
    Swarm(SwarmOptions),
    /// Universal Control Plane.
    Ucp(UcpOptions),
    /// Docker Trusted Registry: metadata and images.
    Dtr(DtrOptions),
}

/// One archive of a preset.
pub struct Part {
    /// What is added to the preset's job; nothing where it has one archive only.
    pub name: Option<&'static str>,
    /// Where its bytes come from.
    pub source: Source,
    /// What they must be; none: found out.
    pub format: Option<Format>,
    /// What a restore will need to know. Sealed in the catalog, and never a secret.
    pub facts: Value,
    /// What its members must be.
    pub check: Check,
    /// Whether its bytes must be a whole OpenPGP message.
    pub is_message: bool,
    /// What is known to be wrong with it before it begins.
    pub warnings: Vec<String>,
    /// What the operator should know about it by nature.
    pub notes: Vec<String>,
}

impl Part {
    fn new(source: Source, format: Format, facts: Value) -> Self {
        Part {
            name: None,
            source,
            format: Some(format),
            facts,
            check: Check::default(),
            is_message: false,
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

/// What of a part's facts a manifest may say: not who asks UCP, nor where.
pub fn public(facts: &Value) -> Value {
    let mut public = facts.clone();
    for fact in public.as_object_mut().into_iter().flat_map(|facts| facts.values_mut()) {
        if let Some(fact) = fact.as_object_mut() {
            fact.retain(|name, _| !name.starts_with("ucp_"));
        }
    }
    public
}

impl Preset {
    /// The job under which its archives lie, unless another is asked for.
    pub fn job(&self) -> &'static str {
        match self {
            Preset::Swarm(_) => "swarm",
            Preset::Ucp(_) => "ucp",
            Preset::Dtr(_) => "dtr",
        }
    }

    /// Whether a secret of Docker's own is one of its archives.
    pub fn is_secret(&self) -> bool {
        matches!(self, Preset::Swarm(options) if options.with_unlock_key)
    }

    /// Settles what can be settled before anything is asked of anyone: what is missing shows before the first backup.
    ///
    /// # Errors
    /// An option is missing; a secret cannot be read.
    pub fn settle(&mut self) -> Result<()> {
        match self {
            Preset::Dtr(options) => dtr::settle(options),
            Preset::Swarm(_) | Preset::Ucp(_) => Ok(()),
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
        }
    }

    /// Looks at this node and says what is to be backed up, in order.
    ///
    /// # Errors
    /// The component does not run here; what it needs was not given.
    pub async fn parts(&self, engine: &Engine, ui: &Reporter) -> Result<Vec<Part>> {
        match self {
            Preset::Swarm(options) => swarm::parts(options, engine, ui).await,
            Preset::Ucp(options) => ucp::parts(options, engine, ui).await,
            Preset::Dtr(options) => dtr::parts(options, engine, ui).await,
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

    #[test]
    fn who_asks_ucp_stands_in_no_manifest() {
        let facts =
            serde_json::json!({"dtr": {"replica": "0123456789ab", "ucp_url": "u", "ucp_username": "n"}});
        assert_eq!(public(&facts), serde_json::json!({"dtr": {"replica": "0123456789ab"}}));
        assert_eq!(public(&Value::Null), Value::Null);
    }

    #[test]
    fn the_tools_image_is_its_servers_sibling() {
        assert_eq!(sibling("docker/dtr-registry:2.7.5", "-registry", "2.7.5"), "docker/dtr:2.7.5");
        assert_eq!(sibling("mirantis/ucp-controller", "-controller", "3.4.0"), "mirantis/ucp:3.4.0");
        assert_eq!(sibling("r:5000/msr/dtr-registry:2.9", "-registry", "2.9.1"), "r:5000/msr/dtr:2.9.1");
    }
}
