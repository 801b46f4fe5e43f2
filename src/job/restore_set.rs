//! `restore set NAME --plan`: the steps that bring a set back, in order, with the exact words. Whatever is printed
//! comes from the sealed catalogs of the set's archives.

use std::sync::Arc;

use serde_json::Value;

use super::stored::{Secrets, StoredArchive};
use crate::cli::RestoreSet;
use crate::error::{Error, Kind, Result};
use crate::report::{Reporter, print, printable};
use crate::store::Store;
use crate::store::set::{SetRef, SetRun};

/// An archive of the set, as its catalog tells it.
struct Sealed {
    /// `JOB@ID`
    name: String,
    job: String,
    source: Value,
    /// It was stored in the clear.
    is_clear: bool,
}

impl Sealed {
    /// What was found where it was made: `swarm`, `ucp`, `dtr`.
    fn fact(&self, component: &str, name: &str) -> String {
        text(&self.source[component][name])
    }

    fn is(&self, component: &str) -> bool {
        self.source.get(component).is_some()
    }
}

/// Prints the plan.
pub async fn plan(options: RestoreSet, ui: &Reporter) -> Result<()> {
    let open = options.open.request()?;
    let store = Arc::new(open.store.open()?);
    let (set, run) = which(&store, &options.set).await?;
    let mut secrets = Secrets::new(&open);
    let mut archives = Vec::new();
    for (job, id) in &run.archives {
        let manifest = store.manifest(job, id).await?;
        let found = StoredArchive { store: Arc::clone(&store), job: job.clone(), id: id.clone(), manifest };
        let passphrase = secrets.of(&found)?;
        let is_clear = passphrase.is_none();
        let opened = found.open(passphrase).await?;
        let record = &opened.contents().archive;
        // The manifest is anybody's: what belongs to the set is what was sealed so.
        if record.set.as_deref() != Some(set.to_string().as_str()) {
            return Err(Error::damaged(format!("{} was not sealed as part of set {set}", found.name())));
        }
        archives.push(Sealed { name: found.name(), job: found.job, source: record.source.clone(), is_clear });
    }
    if archives.is_empty() {
        return Err(Error::new(Kind::NotFound, format!("set {set} has no archive at {}", store.name))
            .hint("see `sealift list --sets`"));
    }
    if !run.is_complete() {
        ui.warn(&format!("set {set} is not whole: {}", printable(&run.state())));
    }
    lines(&set, &run, &archives, &open.store.url).iter().try_for_each(|line| print(line))
}

/// `NAME@ID`, or the newest run of that name.
async fn which(store: &Store, text: &str) -> Result<(SetRef, SetRun)> {
    let wanted: Option<SetRef> = if text.contains('@') { Some(text.parse()?) } else { None };
    let runs = store.set_runs().await?.into_iter();
    let mut fitting: Vec<_> =
        runs.filter(|(set, _)| wanted.as_ref().map_or(set.name == text, |wanted| set == wanted)).collect();
    fitting.pop().ok_or_else(|| {
        Error::new(Kind::NotFound, format!("there is no set {text} at {}", store.name))
            .hint("see `sealift list --sets`")
    })
}

fn lines(set: &SetRef, run: &SetRun, archives: &[Sealed], from: &str) -> Vec<String> {
    let head =
        format!("# Restore of set {}, in this order. Nothing below was run.", printable(&set.to_string()));
    let mut steps = Steps { lines: vec![head], count: 0, from: quoted(from) };
    if !run.is_complete() {
        steps.lines.push(format!("# {}: what there is stands below.", printable(&run.state())));
    }
    let of = |component: &'static str| archives.iter().filter(move |archive| archive.is(component));
    for archive in of("swarm") {
        let key = of("swarm_unlock_key")
            .find(|key| key.fact("swarm_unlock_key", "cluster") == archive.fact("swarm", "cluster"));
        swarm(&mut steps, archive, key);
    }
    of("ucp").for_each(|archive| ucp(&mut steps, archive));
    let mut replicas: Vec<_> = of("dtr").map(|archive| archive.fact("dtr", "replica")).collect();
    replicas.dedup();
    for replica in replicas {
        let all: Vec<_> = of("dtr").filter(|archive| archive.fact("dtr", "replica") == replica).collect();
        registry(&mut steps, &all);
    }
    let known = ["swarm", "swarm_unlock_key", "ucp", "dtr"];
    for archive in archives.iter().filter(|archive| !known.iter().any(|component| archive.is(component))) {
        steps.step(&format!("{}: {}", archive.job, archive.source));
        steps.restore(archive, &target(&archive.source));
    }
    steps.lines
}

/// Numbered steps, each with its commands.
struct Steps {
    lines: Vec<String>,
    count: usize,
    /// The store, as a word.
    from: String,
}

impl Steps {
    fn step(&mut self, title: &str) {
        self.count += 1;
        // A newline in what a container said of itself would end the comment.
        self.lines.extend([String::new(), format!("# {}. {}", self.count, printable(title))]);
    }

    fn run(&mut self, command: &str) {
        self.lines.push(command.into());
    }

    fn restore(&mut self, archive: &Sealed, rest: &str) {
        let (name, from) = (quoted(&archive.name), &self.from);
        let clear = if archive.is_clear { " --no-encrypt" } else { "" };
        self.lines.push(format!("sealift restore {name} --from {from}{clear} {rest}"));
    }
}

fn swarm(steps: &mut Steps, archive: &Sealed, key: Option<&Sealed>) {
    let fact = |name: &str| archive.fact("swarm", name);
    let (cluster, version, address) = (fact("cluster"), fact("version"), fact("address"));
    let below = archive.fact("folder", "below");
    steps.step(&format!(
        "Swarm {cluster}: on a host with the address {address} and engine {version}, nothing else running"
    ));
    steps.run("systemctl stop docker.socket docker.service");
    steps.run(&format!("rm -rf {}", quoted(&format!("{below}/swarm"))));
    steps.restore(archive, &format!("--to-path {} --overwrite", quoted(&below)));
    steps.run("systemctl start docker.service");
    let is_locked = archive.source["swarm"]["autolock"] == true;
    if is_locked {
        if let Some(key) = key {
            steps.restore(key, "--to-stdout   # the unlock key");
        }
        steps.run("docker swarm unlock   # asks for the key of the day of the backup");
        // ContainerInfo, and moby 36852: an autolocked swarm gets no new cluster, though it was unlocked.
        steps.run("docker swarm update --autolock=false   # the next command fails on an autolocked swarm (moby 36852)");
    }
    steps.run("docker swarm init --force-new-cluster");
    if is_locked {
        steps.run("docker swarm update --autolock=true   # prints a new key: keep it");
    }
    steps.run("docker service ls   # then join the other nodes again");
}

/// The engine's socket as UCP's own commands want it.
const SOCKET: &str = "-v /var/run/docker.sock:/var/run/docker.sock";

fn ucp(steps: &mut Steps, archive: &Sealed) {
    let image = quoted(&archive.fact("ucp", "image"));
    let security = archive.source["run"]["security_opt"].as_array().into_iter().flatten();
    let security: String = security.map(|opt| format!(" --security-opt {}", quoted(&text(opt)))).collect();
    let run = format!("--name ucp {SOCKET}{security} {image}");
    steps.step(&format!(
        "UCP {}: the same version, on a manager of that swarm",
        archive.fact("ucp", "version")
    ));
    steps.run(&format!("docker run --rm -it {run} uninstall-ucp --interactive   # if it is installed"));
    if archive.source["ucp"]["sealed"] == true {
        steps.run(
            "# UCP sealed this backup itself. gpg asks for that passphrase, so that no command line has it.",
        );
        steps.restore(archive, &format!("--to-stdout | gpg --decrypt | docker run -i --rm {run} restore"));
    } else {
        steps.restore(archive, &format!("--to-run {run} restore"));
    }
}

/// The archives of one replica.
fn registry(steps: &mut Steps, archives: &[&Sealed]) {
    let part =
        |part: &'static str| archives.iter().filter(move |archive| archive.fact("dtr", "part") == part);
    let Some(any) = part("metadata").next().or(archives.first()) else { return };
    let fact = |name: &str| any.fact("dtr", name);
    let (image, replica, ucp) = (quoted(&fact("image")), quoted(&fact("replica")), ask_ucp(any));
    steps.step(&format!(
        "DTR {}, replica {}: after UCP, the same version; all replicas removed first",
        fact("version"),
        fact("replica")
    ));
    steps.run(&format!("docker run --rm -it {image} destroy{ucp}   # if it is installed"));
    for images in part("images") {
        if let Some(create) = nfs_volume(images) {
            steps.run(&create);
        }
        let volume = quoted(&text(&images.source["volume"][0]));
        steps.restore(images, &format!("--to-volume {volume}"));
    }
    for metadata in part("metadata") {
        steps.run("read -rsp 'UCP password: ' UCP_PASSWORD; export UCP_PASSWORD");
        let words = format!("restore --replica-id {replica}{ucp} {}", storage(metadata));
        steps.restore(metadata, &format!("--to-run -e UCP_PASSWORD {image} {words}"));
        if metadata.fact("dtr", "storage") == "elsewhere" {
            steps.run("# its images are in an object store: name that store again in DTR's settings");
        }
        steps.run(&format!("docker run --rm -it {image} join{ucp}   # for each further replica"));
        steps.run("# then download the vulnerability database again, in DTR's settings");
    }
}

/// How DTR's commands reach UCP, as far as the backup knew it.
fn ask_ucp(archive: &Sealed) -> String {
    let option = |option: &str, fact: &str| {
        let value = archive.fact("dtr", fact);
        if value.is_empty() { String::new() } else { format!(" {option} {}", quoted(&value)) }
    };
    let tls = match archive.fact("dtr", "ucp_tls").as_str() {
        // Of the day of the restore: https://UCP/ca, held against what is known of it.
        "ca" => " --ucp-ca \"$(cat ucp-ca.pem)\"",
        "insecure" => " --ucp-insecure-tls",
        _ => "",
    };
    [option("--ucp-url", "ucp_url"), option("--ucp-username", "ucp_username"), tls.into()].concat()
}

/// Where DTR is to look for its images: the documents want one of three options, the one that fits.
fn storage(metadata: &Sealed) -> String {
    let fact = |name: &str| metadata.fact("dtr", name);
    match fact("storage").as_str() {
        "volume" => format!("--dtr-storage-volume {}", quoted(&fact("volume"))),
        "nfs" => format!("--nfs-storage-url {}", quoted(&fact("nfs_url"))),
        _ => "--dtr-use-default-storage".into(),
    }
}

/// The volume must be the share again, or the images would fill this host's disk.
fn nfs_volume(images: &Sealed) -> Option<String> {
    let url = images.fact("dtr", "nfs_url");
    let (server, path) = url.strip_prefix("nfs://")?.split_once('/')?;
    let volume = quoted(&images.fact("dtr", "volume"));
    let (address, device) = (quoted(&format!("o=addr={server},rw")), quoted(&format!("device=:/{path}")));
    Some(format!("docker volume create --opt type=nfs --opt {address} --opt {device} {volume}"))
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
    use serde_json::json;

    fn sealed(job: &str, source: Value, is_clear: bool) -> Sealed {
        Sealed { name: format!("{job}@20261122T020000Z-1f2e3d4c"), job: job.into(), source, is_clear }
    }

    fn plan_of(archives: &[Sealed]) -> String {
        let set = "docker-ee@20261122T020000Z-1f2e3d4c".parse().unwrap();
        lines(&set, &SetRun::default(), archives, "s3://backups/prod").join("\n")
    }

    fn dtr(facts: &[(&str, &str)]) -> Value {
        let mut all = json!({"part": "metadata", "version": "2.7.5", "replica": "0123456789ab", "image": "docker/dtr:2.7.5"});
        facts.iter().for_each(|(name, value)| all[*name] = (*value).into());
        json!({"run": {}, "dtr": all})
    }

    #[test]
    fn dtr_is_asked_as_it_was_and_finds_its_images_where_they_were() {
        let ucp = [("ucp_url", "ucp.example.com"), ("ucp_username", "admin")];
        let plan = |more: &[(&str, &str)]| {
            plan_of(&[sealed("dtr/metadata", dtr(&[&ucp[..], more].concat()), false)])
        };
        let usual = plan(&[("storage", "default"), ("ucp_tls", "ca")]);
        let words = "restore --replica-id 0123456789ab --ucp-url ucp.example.com --ucp-username admin \
                     --ucp-ca \"$(cat ucp-ca.pem)\" --dtr-use-default-storage";
        assert!(usual.contains(words), "{usual}");
        assert!(!usual.contains("--ucp-insecure-tls"), "{usual}");
        let named = plan(&[("storage", "volume"), ("volume", "my images"), ("ucp_tls", "insecure")]);
        assert!(named.contains("--ucp-insecure-tls --dtr-storage-volume 'my images'"), "{named}");
        let nfs = plan(&[("storage", "nfs"), ("nfs_url", "nfs://nas/images")]);
        assert!(nfs.contains("--nfs-storage-url nfs://nas/images"), "{nfs}");
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let images = json!({"volume": ["dtr-registry-nfs-0123456789ab"], "dtr": {
            "part": "images", "version": "2.7.5", "replica": "0123456789ab", "image": "docker/dtr:2.7.5",
            "storage": "nfs", "volume": "dtr-registry-nfs-0123456789ab", "nfs_url": "nfs://nas/images"}});
        let plan = plan_of(&[sealed("dtr/images", images, true)]);
        assert!(!plan.contains("--ucp") && plan.contains("destroy   # if"), "{plan}");
        let create = "docker volume create --opt type=nfs --opt o=addr=nas,rw --opt device=:/images";
        assert!(plan.contains(create), "{plan}");
        assert!(
            plan.contains("--from s3://backups/prod --no-encrypt --to-volume dtr-registry-nfs-"),
            "{plan}"
        );
    }

    #[test]
    fn every_archive_has_its_step_and_what_is_missing_is_named() {
        let ucp = |version: &str| {
            let facts = json!({"version": version, "image": format!("docker/ucp:{version}"), "sealed": true});
            json!({"run": {"security_opt": ["label=disable"]}, "ucp": facts})
        };
        let plan = plan_of(&[
            sealed("one", ucp("3.2.6"), false),
            sealed("two", ucp("3.2.7"), false),
            sealed("dtr/metadata", dtr(&[("replica", "0123456789ab")]), false),
            sealed("other/metadata", dtr(&[("replica", "ba9876543210")]), false),
        ]);
        assert!(plan.contains("# INCOMPLETE: broken off"), "{plan}");
        for words in ["# 4. DTR", "replica ba9876543210", "docker/ucp:3.2.7 restore"] {
            assert!(plan.contains(words), "{words:?} is not in {plan}");
        }
        assert!(plan.contains("--to-stdout | gpg --decrypt | docker run -i --rm --name ucp"), "{plan}");
        assert!(plan.contains("--security-opt label=disable docker/ucp:3.2.6 restore"), "{plan}");
        assert!(!plan.contains("--passphrase"), "{plan}");
    }

    #[test]
    fn a_locked_swarm_is_unlocked_for_good_before_it_gets_a_new_cluster() {
        let swarm = json!({"folder": {"below": "/srv/my docker", "name": "swarm"}, "swarm": {
            "cluster": "c", "address": "10.0.0.1\nrm -rf /", "version": "20.10", "autolock": true}});
        let key = json!({"unlock_key": {}, "swarm_unlock_key": {"cluster": "c"}});
        let plan = plan_of(&[sealed("swarm/unlock-key", key, false), sealed("swarm", swarm, false)]);
        let at = |words: &str| plan.find(words).unwrap_or_else(|| panic!("{words:?} is not in {plan}"));
        assert!(at("--to-stdout   # the unlock key") < at("docker swarm unlock "));
        assert!(at("docker swarm unlock ") < at("docker swarm update --autolock=false"));
        assert!(at("docker swarm update --autolock=false") < at("docker swarm init --force-new-cluster"));
        assert!(at("docker swarm init --force-new-cluster") < at("docker swarm update --autolock=true"));
        assert!(at("rm -rf '/srv/my docker/swarm'") < at("--to-path '/srv/my docker' --overwrite"));
        assert!(!plan.lines().any(|line| line.starts_with("rm -rf /")), "{plan}");
    }

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
