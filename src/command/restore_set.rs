//! `restore set NAME --plan`: the steps that bring a set back, in order, with the exact words. Whatever is printed
//! comes from the sealed catalogs of the set's archives.

use std::sync::Arc;

use serde_json::Value;

use super::{Found, Secrets};
use crate::cli::{RestoreSet, StoreAt};
use crate::error::{Error, Kind, Result};
use crate::progress::{Ui, print, printable};
use crate::store::Store;
use crate::store::set::SetRef;

/// An archive of the set, as its catalog tells it.
struct Sealed {
    /// `JOB@ID`
    name: String,
    job: String,
    source: Value,
}

/// Prints the plan.
pub async fn plan(options: RestoreSet, ui: &Ui) -> Result<()> {
    let from = &options.open.from.from;
    let store = Arc::new(Store::open(from, &from.options()?)?);
    let set = which(&store, &options.set).await?;
    let mut secrets = Secrets::new(&options.open);
    let mut archives = Vec::new();
    for listed in store.archives(None).await? {
        let Ok(manifest) = listed.manifest else { continue };
        if manifest.set.as_deref() != Some(set.to_string().as_str()) {
            continue;
        }
        let found = Found { store: Arc::clone(&store), job: listed.job, id: listed.id, manifest };
        let passphrase = secrets.of(&found)?;
        let opened = found.open(passphrase).await?;
        let record = &opened.contents().archive;
        // The manifest is anybody's: what belongs to the set is what was sealed so.
        if record.set.as_deref() != Some(set.to_string().as_str()) {
            return Err(Error::damaged(format!("{} was not sealed as part of set {set}", found.name())));
        }
        archives.push(Sealed { name: found.name(), job: found.job, source: record.source.clone() });
    }
    if archives.is_empty() {
        return Err(Error::new(Kind::NotFound, format!("set {set} has no archive at {}", store.name))
            .hint("see `sealift list --sets`"));
    }
    let ended = store.sets().await?.into_iter().find(|(known, _)| *known == set);
    if !ended.is_some_and(|(_, manifest)| manifest.is_ok_and(|manifest| manifest.complete)) {
        ui.warn(&format!("set {set} is not complete: some of its archives were never made"));
    }
    lines(&set, &archives, from).iter().try_for_each(|line| print(line))
}

/// `NAME@ID`, or the newest run of that name.
async fn which(store: &Store, text: &str) -> Result<SetRef> {
    if text.contains('@') {
        return text.parse();
    }
    let ended = store.sets().await?.into_iter().map(|(set, _)| set);
    let named: Vec<_> = store.archives(None).await?;
    let begun = named.iter().filter_map(|listed| listed.manifest.as_ref().ok()?.set.as_ref()?.parse().ok());
    let newest = ended.chain(begun).filter(|set: &SetRef| set.name == text).max_by(|a, b| a.id.cmp(&b.id));
    newest.ok_or_else(|| {
        Error::new(Kind::NotFound, format!("there is no set {text} at {}", store.name))
            .hint("see `sealift list --sets`")
    })
}

fn lines(set: &SetRef, archives: &[Sealed], from: &StoreAt) -> Vec<String> {
    let from = quoted(from);
    let has = |fact: &str| archives.iter().find(|archive| archive.source.get(fact).is_some());
    let dtr = |part: &str| archives.iter().find(|archive| archive.source["dtr"]["part"] == part);
    let mut steps = Steps {
        lines: vec![format!("# Restore of set {set}, in this order. Nothing below was run.")],
        count: 0,
    };
    if let Some(archive) = has("swarm") {
        swarm(&mut steps, archive, has("swarm_unlock_key"), &from);
    }
    if let Some(archive) = has("ucp") {
        ucp(&mut steps, archive, &from);
    }
    if dtr("metadata").is_some() || dtr("images").is_some() {
        registry(&mut steps, dtr("metadata"), dtr("images"), &from);
    }
    let known = ["swarm", "swarm_unlock_key", "ucp", "dtr"];
    for archive in
        archives.iter().filter(|archive| known.iter().all(|fact| archive.source.get(fact).is_none()))
    {
        steps.step(&format!("{}: {}", archive.job, printable(&archive.source.to_string())));
        steps.run(&format!(
            "sealift restore {} --from {from} {}",
            quoted(&archive.name),
            target(&archive.source)
        ));
    }
    steps.lines
}

/// Numbered steps, each with its commands.
struct Steps {
    lines: Vec<String>,
    count: usize,
}

impl Steps {
    fn step(&mut self, title: &str) {
        self.count += 1;
        self.lines.extend([String::new(), format!("# {}. {title}", self.count)]);
    }

    fn run(&mut self, command: &str) {
        self.lines.push(command.into());
    }
}

fn swarm(steps: &mut Steps, archive: &Sealed, key: Option<&Sealed>, from: &str) {
    let fact = |name: &str| text(&archive.source["swarm"][name]);
    let (cluster, version, address) = (fact("cluster"), fact("version"), fact("address"));
    steps.step(&format!(
        "Swarm {cluster}: on a host with the address {address} and engine {version}, nothing else running"
    ));
    steps.run("systemctl stop docker.socket docker.service");
    steps.run("rm -rf /var/lib/docker/swarm");
    steps.run(&format!(
        "sealift restore {} --from {from} --to-path /var/lib/docker --overwrite",
        quoted(&archive.name)
    ));
    steps.run("systemctl start docker.service");
    if archive.source["swarm"]["autolock"] == true {
        if let Some(key) = key {
            steps.run(&format!(
                "sealift restore {} --from {from} --to-stdout   # the unlock key",
                quoted(&key.name)
            ));
        }
        steps.run("docker swarm unlock");
        steps.run("docker swarm update --autolock=false   # --force-new-cluster fails on a locked swarm (moby 36852)");
    }
    steps.run("docker swarm init --force-new-cluster");
    steps.run("docker service ls   # then join the other nodes again");
}

fn ucp(steps: &mut Steps, archive: &Sealed, from: &str) {
    let fact = |name: &str| text(&archive.source["ucp"][name]);
    let (image, socket) = (quoted(&fact("image")), "-v /var/run/docker.sock:/var/run/docker.sock");
    steps.step(&format!("UCP {}: the same version, on a manager of that swarm", fact("version")));
    steps.run(&format!(
        "docker run --rm -it --name ucp {socket} {image} uninstall-ucp --interactive   # if it is installed"
    ));
    let sealed = if archive.source["ucp"]["sealed"] == true { " --passphrase PASSPHRASE" } else { "" };
    let name = quoted(&archive.name);
    steps.run(&format!(
        "sealift restore {name} --from {from} --to-run --name ucp {socket} {image} restore{sealed}"
    ));
}

fn registry(steps: &mut Steps, metadata: Option<&Sealed>, images: Option<&Sealed>, from: &str) {
    let Some(either) = metadata.or(images) else { return };
    let fact = |name: &str| text(&either.source["dtr"][name]);
    let (image, replica) = (quoted(&fact("image")), quoted(&fact("replica")));
    let ucp = format!(
        "--ucp-url {} --ucp-username {} --ucp-insecure-tls",
        quoted(&fact("ucp_url")),
        quoted(&fact("ucp_username"))
    );
    steps.step(&format!(
        "DTR {}, replica {replica}: after UCP, the same version; all replicas removed first",
        fact("version")
    ));
    steps.run(&format!("docker run --rm -it {image} destroy {ucp}   # if it is installed"));
    if let Some(images) = images {
        let volume = text(&images.source["volume"][0]);
        let name = quoted(&images.name);
        steps.run(&format!("sealift restore {name} --from {from} --to-volume {}", quoted(&volume)));
    }
    if let Some(metadata) = metadata {
        let name = quoted(&metadata.name);
        steps.run("read -rsp 'UCP password: ' UCP_PASSWORD; export UCP_PASSWORD");
        steps.run(&format!(
            "sealift restore {name} --from {from} --to-run -e UCP_PASSWORD {image} restore --replica-id {replica} {ucp} --dtr-use-default-storage"
        ));
        steps.run(&format!("docker run --rm -it {image} join {ucp}   # for each further replica"));
        steps.run("# then download the vulnerability database again, in DTR's settings");
    }
}

/// Where an archive of another source goes back to.
fn target(source: &Value) -> String {
    match (&source["volume"], &source["image"]) {
        (Value::Array(names), _) if names.len() == 1 => format!("--to-volume {}", quoted(&text(&names[0]))),
        (_, Value::Array(_)) => "--to-image".into(),
        _ => "--to-stdout   # or --to-path, --to-run, --to-exec: see `sealift restore --help`".into(),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_string()
}

/// A word as a shell reads it; without control characters, which no shell should be given.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,".contains(c);
    let word = printable(word);
    match !word.is_empty() && word.chars().all(plain) {
        true => word,
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shell_would_take_for_more_than_a_word_is_quoted() {
        assert_eq!(quoted("docker/dtr:2.7.5"), "docker/dtr:2.7.5");
        assert_eq!(quoted("x; rm -rf /"), "'x; rm -rf /'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted("$(id)"), "'$(id)'");
        assert_eq!(quoted(""), "''");
        assert!(!quoted("a\nb\x1b[2J").contains(['\n', '\x1b']));
    }
}
