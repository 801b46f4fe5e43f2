//! What a preset found where it made an archive, and a restore will need to know: sealed in the catalog beside the
//! source, and said by the manifest of a set as far as it is anybody's business. Never a secret.

use serde::de::{DeserializeOwned, Deserializer};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::database::DatabaseMetadata;
use super::dtr::{self, DtrMetadata, DtrPart};
use super::swarm::{self, SwarmMetadata, UnlockKeyMetadata};
use super::ucp::{self, UcpMetadata};
use crate::archive::check::Check;
use crate::error::Result;

/// What was found of a product. It is written as an object with one key, the product's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metadata {
    /// A swarm's state.
    Swarm(SwarmMetadata),
    /// The key that unlocks a swarm.
    SwarmUnlockKey(UnlockKeyMetadata),
    /// Universal Control Plane.
    Ucp(UcpMetadata),
    /// Half of Docker Trusted Registry.
    Dtr(DtrMetadata),
    /// A dump of a database.
    Database(DatabaseMetadata),
}

impl Metadata {
    /// What a catalog says of a source, or a set's manifest of a member; none where no preset made it. Of what another
    /// version wrote, what is missing or of another kind is as good as not said, and what is not known is passed over.
    pub fn of(source: &Value) -> Option<Metadata> {
        fn read<T: DeserializeOwned + Default>(value: &Value) -> T {
            T::deserialize(value).unwrap_or_default()
        }
        let source = source.as_object()?;
        let swarm = || source.get("swarm").map(|value| Metadata::Swarm(read(value)));
        let key = || source.get("swarm_unlock_key").map(|value| Metadata::SwarmUnlockKey(read(value)));
        let ucp = || source.get("ucp").map(|value| Metadata::Ucp(read(value)));
        let dtr = || source.get("dtr").map(|value| Metadata::Dtr(read(value)));
        let database = || source.get("database").map(|value| Metadata::Database(read(value)));
        swarm().or_else(key).or_else(ucp).or_else(dtr).or_else(database)
    }

    /// As catalogs and manifests say it.
    pub fn to_json(&self) -> Value {
        // Strings, numbers and truth values: there is nothing that could not be written.
        serde_json::to_value(self).unwrap_or_default()
    }

    /// What the members of its archive must be: of what only a product's own tool brings back, on a host of its own. None
    /// where a scratch place can take it.
    ///
    /// # Errors
    /// What it says of itself makes no pattern.
    pub fn layout(&self) -> Result<Option<Check>> {
        Ok(match self {
            Metadata::Swarm(_) => Some(swarm::layout()?),
            Metadata::Ucp(UcpMetadata { sealed: false, .. }) => Some(ucp::layout()?),
            Metadata::Dtr(dtr) if dtr.part == Some(DtrPart::Metadata) => Some(dtr::layout(&dtr.version)?),
            Metadata::SwarmUnlockKey(_) | Metadata::Ucp(_) => Some(Check::default()),
            Metadata::Dtr(_) | Metadata::Database(_) => None,
        })
    }

    /// What of it anybody may read: not who asks a product, nor where.
    pub fn public(self) -> Metadata {
        match self {
            Metadata::Dtr(dtr) => Metadata::Dtr(dtr.public()),
            Metadata::Database(database) => Metadata::Database(database.public()),
            other => other,
        }
    }
}

/// What the manifest of a set may say of what a catalog says.
pub fn public_metadata(metadata: &Value) -> Value {
    Metadata::of(metadata).map_or(Value::Null, |metadata| metadata.public().to_json())
}

/// A field as far as it is of the kind that is expected; else it is as if it were not there.
pub(super) fn lenient<'de, D, T>(deserializer: D) -> std::result::Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned + Default,
{
    Ok(serde_json::from_value(Value::deserialize(deserializer)?).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn who_asks_ucp_stands_in_no_manifest() {
        let dtr = json!({"dtr": {
            "part": "metadata", "version": "2.7.5", "replica": "0123456789ab", "image": "docker/dtr:2.7.5",
            "storage": "default", "volume": "dtr-registry-0123456789ab", "nfs_url": null,
            "ucp_url": "u", "ucp_username": "n", "ucp_tls": "ca"}});
        let mut expected = dtr.clone();
        for secret in ["ucp_url", "ucp_username", "ucp_tls"] {
            expected["dtr"].as_object_mut().unwrap().remove(secret);
        }
        assert_eq!(public_metadata(&dtr), expected);
        assert_eq!(public_metadata(&Value::Null), Value::Null);
    }

    #[test]
    fn what_is_nobodys_secret_stands_in_the_manifest_as_it_is() {
        let ucp =
            json!({"ucp": {"version": "3.2.6", "image": "docker/ucp:3.2.6", "id": null, "sealed": false}});
        assert_eq!(public_metadata(&ucp), ucp);
        let key = json!({"swarm_unlock_key": {"cluster": "c"}});
        assert_eq!(public_metadata(&key), key);
    }

    #[test]
    fn a_source_that_no_preset_made_has_no_metadata() {
        for source in [json!({"volume": ["dtr"]}), json!({"stdin": {}}), json!({}), json!(null), json!("ucp")]
        {
            assert_eq!(Metadata::of(&source), None, "{source}");
        }
    }

    #[test]
    fn metadata_is_found_beside_the_source() {
        let source = json!({"unlock_key": {}, "swarm_unlock_key": {"cluster": "c"}});
        let expected = Metadata::SwarmUnlockKey(UnlockKeyMetadata { cluster: "c".into() });
        assert_eq!(Metadata::of(&source), Some(expected));
        let source = json!({"run": {"image": "docker/ucp:3.2.6"}, "ucp": {"version": "3.2.6"}});
        assert!(matches!(Metadata::of(&source), Some(Metadata::Ucp(ucp)) if ucp.version == "3.2.6"));
    }

    #[test]
    fn a_product_that_says_nothing_readable_is_still_that_product() {
        for nothing in [json!(null), json!({}), json!("x"), json!([1])] {
            let of = |product: &str| Metadata::of(&json!({product: nothing}));
            assert_eq!(of("dtr"), Some(Metadata::Dtr(DtrMetadata::default())), "{nothing}");
            assert_eq!(of("ucp"), Some(Metadata::Ucp(UcpMetadata::default())), "{nothing}");
            assert_eq!(of("swarm"), Some(Metadata::Swarm(SwarmMetadata::default())), "{nothing}");
        }
    }

    #[test]
    fn it_is_an_object_with_the_products_key() {
        let metadata = Metadata::SwarmUnlockKey(UnlockKeyMetadata { cluster: "c".into() });
        assert_eq!(metadata.to_json().to_string(), r#"{"swarm_unlock_key":{"cluster":"c"}}"#);
        let read: Metadata = serde_json::from_value(metadata.to_json()).unwrap();
        assert_eq!(read, metadata);
    }
}
