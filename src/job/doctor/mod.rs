//! `doctor`: whether what backups need is there, each part tried out.

use std::time::Duration;

use crate::archive::budget::{BudgetRequest, MemoryBudget};
use crate::archive::openpgp::Cipher;
use crate::docker::Engine;
use crate::error::{Error, Result};
use crate::host::passphrase::Sources;
use crate::report::{Finding, Reporter, Verdict, human_bytes};
use crate::store::{StoreUrl, locate};
use crate::tar::gnu;

mod host;

/// How long a store is asked again: whoever waits for an answer wants to know soon.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is to be looked at.
#[derive(Debug, Clone)]
pub struct DoctorRequest {
    /// The stores.
    pub stores: Vec<StoreUrl>,
    /// How archives are sealed; none: in the clear.
    pub encryption: Option<(Cipher, Sources)>,
    /// What the memory is to be divided among.
    pub budget: BudgetRequest,
    /// What the jobs ask of the engine.
    pub engine: Need,
    /// What they ask of GNU tar.
    pub tar: Need,
    /// Whether archives are to need older ones.
    pub builds_on: bool,
}

/// Whether something has to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// No job of the settings asks for it.
    Never,
    /// No job is known that does, but one may come.
    Perhaps,
    /// A job does.
    Always,
}

impl Need {
    /// What it means that it is not there.
    fn missing(self) -> Verdict {
        match self {
            Need::Never => Verdict::Ok,
            Need::Perhaps => Verdict::Warn,
            Need::Always => Verdict::Fail,
        }
    }
}

/// Looks at everything, one after the other, and tells `each` finding at once.
///
/// # Errors
/// What `each` returns; the system gives no random bytes.
pub async fn doctor(
    request: &DoctorRequest,
    ui: &Reporter,
    each: &mut impl FnMut(Finding) -> Result<()>,
) -> Result<()> {
    each(engine(request.engine).await)?;
    each(tar(request.tar).await)?;
    each(host::memory(request.budget.memory))?;
    match &request.encryption {
        None => each(Finding::warn(
            "passphrase",
            "archives are stored in the clear",
            "leave --no-encrypt out, unless nobody else can read the store",
        ))?,
        Some((cipher, sources)) => {
            for finding in host::passphrase(*cipher, sources).await {
                each(finding)?;
            }
        }
    }
    if request.stores.is_empty() {
        let change = "name one by --to, SEALIFT_STORE, or in a settings file";
        each(Finding::warn("store", "none is named, so that none was looked at", change))?;
    }
    for url in &request.stores {
        let mut quick = url.clone();
        quick.options.retry_for = quick.options.retry_for.min(PATIENCE);
        let opened = quick.open(ui);
        match opened {
            Err(error) => each(failed(&url.url, &error))?,
            Ok(store) => {
                for finding in store.probe(request.builds_on).await? {
                    each(finding)?;
                }
                each(largest(request, url))?;
            }
        }
    }
    Ok(())
}

/// A part that cannot be used.
fn failed(check: &str, error: &Error) -> Finding {
    Finding::fail(check, error.to_string(), error.hint_text().unwrap_or("see `sealift help`"))
}

async fn engine(need: Need) -> Finding {
    let engine = match Engine::connect().await {
        Ok(engine) => engine,
        Err(error) if need == Need::Never => {
            return Finding::ok("engine", format!("{error}; no job of the settings asks for it"));
        }
        Err(error) => return failed("engine", &error).with(need.missing()),
    };
    let facts = engine.probe().await;
    let place = if engine.is_local() { "on this host" } else { "elsewhere" };
    match &facts.refused[..] {
        [] => Finding::ok("engine", format!("{}, {place}, does what backups ask for", facts.version)),
        refused => Finding::fail(
            "engine",
            format!("{}, {place}, refuses: {}", facts.version, refused.join("; ")),
            "allow that at the proxy or the plugin in front of its socket, or have no such jobs",
        )
        .with(need.missing()),
    }
}

async fn tar(need: Need) -> Finding {
    match gnu::version().await {
        Ok(version) => Finding::ok("tar", version),
        Err(error) if need == Need::Never => {
            Finding::ok("tar", format!("{error}; backups here do without, a restore into a folder does not"))
        }
        Err(error) => failed("tar", &error).with(need.missing()),
    }
}

/// The largest archive that a store and the memory allow.
fn largest(request: &DoctorRequest, url: &StoreUrl) -> Finding {
    let check = format!("{} largest archive", url.url);
    let largest = locate(&url.url).and_then(|(kind, _)| MemoryBudget::new(&request.budget, kind.limits()));
    match largest.map(|budget| budget.parts.largest_archive()) {
        Ok(Some(bytes)) => {
            Finding::ok(check, format!("{}, by --memory and the store's parts", human_bytes(bytes)))
        }
        Ok(None) => Finding::ok(check, "as large as the store holds"),
        Err(error) => failed(&check, &error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(stores: &[&str]) -> DoctorRequest {
        DoctorRequest {
            stores: stores.iter().map(|url| StoreUrl::new(*url)).collect(),
            encryption: None,
            budget: BudgetRequest::default(),
            engine: Need::Never,
            tar: Need::Perhaps,
            builds_on: false,
        }
    }

    async fn found(request: &DoctorRequest) -> Vec<Finding> {
        let mut found = Vec::new();
        let mut each = |finding| {
            found.push(finding);
            Ok(())
        };
        doctor(request, &Reporter::silent(), &mut each).await.unwrap();
        found
    }

    #[tokio::test]
    async fn every_store_is_looked_at_though_one_is_not_there() {
        let found = found(&request(&["file:///no/such/folder", "memory://doctor-second"])).await;
        let of = |store: &str| {
            let own = found.iter().filter(|finding| finding.check.starts_with(store));
            own.map(|finding| finding.verdict).collect::<Vec<_>>()
        };
        assert_eq!(of("file://"), [Verdict::Fail]);
        assert_eq!(of("memory://"), [Verdict::Ok; 6]);
    }

    #[tokio::test]
    async fn without_a_store_that_is_said() {
        let found = found(&request(&[])).await;
        assert!(found.iter().any(|finding| finding.check == "store" && finding.verdict == Verdict::Warn));
        let clear = found.iter().find(|finding| finding.check == "passphrase").unwrap();
        assert_eq!(clear.verdict, Verdict::Warn);
    }

    #[test]
    fn a_memory_that_is_too_little_for_the_settings_is_told_with_what_is_enough() {
        let mut little = request(&["memory://x"]);
        little.budget.memory = 1 << 20;
        let finding = largest(&little, &little.stores[0]);
        assert_eq!(finding.verdict, Verdict::Fail);
        assert!(finding.change.unwrap().starts_with("give at least --memory"));
        assert_eq!(largest(&request(&[]), &StoreUrl::new("s3://b/p")).verdict, Verdict::Ok);
    }
}
