//! Universal Control Plane: by `docker/ucp backup`, whose options differ from version to version.

use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};

use super::metadata::{Metadata, lenient};
use super::steps::{Action, SealedArchive, Step, quoted};
use super::{Component, DataLocation, Preview, sibling};
use crate::archive::Format;
use crate::archive::check::Check;
use crate::archive::whole::Whole;
use crate::docker::Engine;
use crate::docker::inspect::ContainerInfo;
use crate::docker::run::RunSpec;
use crate::error::{Error, Result};
use crate::host::passphrase::{SecretName, Sources};
use crate::report::Reporter;
use crate::source::Source;

const CONTROLLER: &str = "ucp-controller";
/// The documented name: the engine itself then refuses a second backup beside a running one.
const NAME: &str = "ucp";
const SOCKET: &str = "/var/run/docker.sock";
/// The documents: a good backup has more members than this.
const FEWEST: u64 = 100;

/// What UCP seals its own backup with.
pub const UCP_PASSPHRASE: SecretName = SecretName {
    name: "UCP passphrase",
    option: "--ucp-passphrase",
    variables: ["UCP_PASSPHRASE", "UCP_PASSPHRASE_FILE", "UCP_PASSPHRASE_COMMAND"],
};

/// How UCP is backed up.
#[derive(Debug, Clone, Default)]
pub struct UcpOptions {
    /// The image to back up with; otherwise that of the running controller's version.
    pub ucp_image: Option<String>,
    /// The instance's id; otherwise found.
    pub ucp_id: Option<String>,
    /// Where the passphrase of UCP's own sealing comes from, see [`UCP_PASSPHRASE`].
    pub passphrase: Sources,
    /// The engine's socket on its host; otherwise the one that DOCKER_HOST names.
    pub docker_socket: Option<String>,
}

/// What a restore must know of UCP.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UcpMetadata {
    /// Its version.
    #[serde(deserialize_with = "lenient")]
    pub version: String,
    /// What it was backed up with, and is restored by.
    #[serde(deserialize_with = "lenient")]
    pub image: String,
    /// The instance's id, where it was known.
    #[serde(deserialize_with = "lenient")]
    pub id: Option<String>,
    /// UCP sealed the backup itself, too.
    #[serde(deserialize_with = "lenient")]
    pub sealed: bool,
}

pub(super) async fn components(
    options: &UcpOptions,
    engine: &Engine,
    ui: &Reporter,
) -> Result<Vec<Component>> {
    let UcpInstance { controller, version, image } = find(options, engine).await?;
    ui.note(&format!("UCP {version}"));
    if !pauses_nothing(&version) {
        ui.warn(&format!(
            "UCP {version} stops its containers on this node during the backup; from 3.2 on it does not"
        ));
    }
    let passphrase = options.passphrase.given()?;
    let mut command = vec!["backup".to_string()];
    if !pauses_nothing(&version) {
        command.extend(["--id".into(), instance(options, &controller)?]);
    }
    let mut notes = Vec::new();
    match &passphrase {
        Some(passphrase) => {
            ui.warn("UCP takes its passphrase on the container's command line only: `docker inspect` shows it meanwhile");
            command.extend(["--passphrase".into(), passphrase.expose_secret().into()]);
            notes.push("UCP sealed its backup itself, so its members were not checked".into());
        }
        // Before 3.2 there is no such option, and no need of one.
        None if pauses_nothing(&version) => command.push("--no-passphrase".into()),
        None => {}
    }
    let socket = options.docker_socket.clone().unwrap_or_else(own_socket);
    let spec = RunSpec {
        image: image.clone(),
        command,
        name: Some(NAME.into()),
        volumes: vec![format!("{socket}:{SOCKET}")],
        secrets: passphrase.iter().map(|passphrase| passphrase.expose_secret().into()).collect(),
        security_opt: if engine.has_selinux().await? { vec!["label=disable".into()] } else { Vec::new() },
        ..RunSpec::default()
    };
    let (is_message, id) = (passphrase.is_some(), instance(options, &controller).ok());
    let metadata = Metadata::Ucp(UcpMetadata { version, image, id, sealed: is_message });
    let (format, check) = match is_message {
        true => (Format::Raw, Check::default()),
        false => (Format::Tar, layout()?),
    };
    let source = Source::Run(Box::new(spec));
    let whole = is_message.then_some(Whole::OpenPgp);
    Ok(vec![Component { check, whole, notes, ..Component::new(source, format, metadata) }])
}

/// What the archive of a UCP has.
pub(super) fn layout() -> Result<Check> {
    Check::new(&["*ucp-node-certs/key.pem".into()], FEWEST + 1)
}

pub(super) async fn preview(options: &UcpOptions, engine: &Engine) -> Result<Preview> {
    let UcpInstance { controller, version, image } = find(options, engine).await?;
    let mut volumes: Vec<_> =
        controller.volumes.into_values().filter(|name| name.starts_with("ucp-")).collect();
    volumes.retain(|name| name != "ucp-metrics-data");
    volumes.sort();
    let pause =
        if pauses_nothing(&version) { "" } else { ", which stops UCP's containers on this node meanwhile" };
    let words = format!(
        "what {image} backup writes{pause}: users, organisations, teams, grants, certificates, settings"
    );
    let not_in_it = [
        "the swarm's state, its routing mesh and Interlock's settings: these are the swarm's backup",
        "metrics (volume ucp-metrics-data): they begin anew",
        "Kubernetes volumes: back up what lies behind them",
    ];
    Ok(Preview {
        what: format!("UCP {version}"),
        archives: vec![(None, words, DataLocation::Volumes(volumes))],
        not_in_it: not_in_it.map(String::from).into(),
    })
}

/// UCP as it runs on this node.
pub(super) struct UcpInstance {
    controller: ContainerInfo,
    pub version: String,
    /// What it is backed up with.
    pub image: String,
}

pub(super) async fn find(options: &UcpOptions, engine: &Engine) -> Result<UcpInstance> {
    // The whole name: whoever may start a container under another must not choose the image that gets the socket.
    let mut running = engine.containers(CONTROLLER).await?.into_iter();
    let controller = running.find(|container| container.name == CONTROLLER).ok_or_else(|| {
        Error::failed("UCP does not run on this node")
            .hint("run this on a manager: `docker ps -f name=ucp-controller`")
    })?;
    let version = controller.labels.get("com.docker.ucp.version").map(String::as_str).or(controller.tag());
    let version = version.ok_or_else(|| {
        Error::failed("the UCP controller does not say its version")
            .hint("name it: --ucp-image docker/ucp:VERSION")
    })?;
    let image =
        options.ucp_image.clone().unwrap_or_else(|| sibling(&controller.image, "-controller", version));
    Ok(UcpInstance { version: version.into(), image, controller })
}

fn instance(options: &UcpOptions, controller: &ContainerInfo) -> Result<String> {
    let found = options.ucp_id.as_ref().or_else(|| controller.labels.get("com.docker.ucp.InstanceID"));
    found.cloned().ok_or_else(|| {
        Error::failed("the UCP controller does not say its instance's id")
            .hint("give --ucp-id: `docker run --rm -v /var/run/docker.sock:/var/run/docker.sock docker/ucp:VERSION id`")
    })
}

/// From 3.2 on a backup pauses nothing, and wants to be told that no passphrase is wanted.
fn pauses_nothing(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u64>().unwrap_or(0));
    let (major, minor) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    (major, minor) >= (3, 2)
}

/// The engine's socket on its host: a container there needs it under the usual name.
fn own_socket() -> String {
    let host = std::env::var("DOCKER_HOST").unwrap_or_default();
    host.strip_prefix("unix://").filter(|path| !path.is_empty()).unwrap_or(SOCKET).into()
}

/// UCP is restored by its own image, of the same version, into a swarm that runs already.
pub(super) fn restore_steps(archive: &SealedArchive, metadata: &UcpMetadata) -> Step {
    let security = archive.record().run.security_opt;
    let security: String = security.iter().map(|opt| format!(" --security-opt {}", quoted(opt))).collect();
    let run = format!("--name {NAME} -v {SOCKET}:{SOCKET}{security} {}", quoted(&metadata.image));
    let uninstall = format!("docker run --rm -it {run} uninstall-ucp --interactive   # if it is installed");
    let mut actions = vec![Action::ByHand(uninstall)];
    if metadata.sealed {
        actions.push(Action::Note(
            "# UCP sealed this backup itself. gpg asks for that passphrase, so that no command line has it."
                .into(),
        ));
        let target = format!("--to-stdout | gpg --decrypt | docker run -i --rm {run} restore");
        actions.push(archive.restore_by_hand(target));
    } else {
        let socket = format!("{SOCKET}:{SOCKET}");
        let security = archive.record().run.security_opt;
        let security = security.iter().flat_map(|opt| ["--security-opt", opt]);
        let words = ["--to-run", "--name", NAME, "-v", &socket].into_iter().chain(security);
        actions.push(archive.restore(&words.chain([&metadata.image[..], "restore"]).collect::<Vec<_>>()));
    }
    let title = format!("UCP {}: the same version, on a manager of that swarm", metadata.version);
    Step { title, on_condition: true, actions }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preset::steps::lines;
    use serde_json::{Value, json};

    fn archive(source: Value) -> SealedArchive {
        SealedArchive { name: "ucp@id".into(), job: "ucp".into(), source, is_clear: false }
    }

    fn steps(source: Value) -> Step {
        let archive = archive(source);
        match archive.metadata() {
            Some(Metadata::Ucp(metadata)) => restore_steps(&archive, &metadata),
            other => panic!("{other:?}"),
        }
    }

    /// As format 1 writes it.
    const WRITTEN: &str =
        r#"{"ucp":{"id":"ABCD:EFGH","image":"docker/ucp:3.2.6","sealed":true,"version":"3.2.6"}}"#;

    #[test]
    fn metadata_is_written_as_it_always_was() {
        let metadata = UcpMetadata {
            version: "3.2.6".into(),
            image: "docker/ucp:3.2.6".into(),
            id: Some("ABCD:EFGH".into()),
            sealed: true,
        };
        assert_eq!(Metadata::Ucp(metadata.clone()).to_json().to_string(), WRITTEN);
        let unknown = Metadata::Ucp(UcpMetadata { id: None, ..metadata }).to_json();
        assert_eq!(unknown["ucp"]["id"], Value::Null);
        assert!(unknown["ucp"].as_object().unwrap().contains_key("id"));
    }

    #[test]
    fn what_was_written_is_read() {
        let written: Value = serde_json::from_str(WRITTEN).unwrap();
        let read = Metadata::of(&written).unwrap();
        assert_eq!(read.to_json(), written);
        let Metadata::Ucp(ucp) = read else { panic!("{read:?}") };
        assert_eq!((ucp.sealed, ucp.id.as_deref()), (true, Some("ABCD:EFGH")));
    }

    #[test]
    fn what_another_version_says_besides_is_passed_over_and_what_it_does_not_say_is_empty() {
        let read = Metadata::of(&json!({"ucp": {"version": "9", "image": 7, "sealed": "yes", "new": [1]}}));
        let expected = UcpMetadata { version: "9".into(), ..UcpMetadata::default() };
        assert_eq!(read, Some(Metadata::Ucp(expected)));
    }

    #[test]
    fn a_backup_goes_back_through_the_image_that_made_it() {
        let step = steps(json!({
            "run": {"image": "docker/ucp:3.2.6", "security_opt": []},
            "ucp": {"version": "3.2.6", "image": "docker/ucp:3.2.6", "id": null, "sealed": false}}));
        assert_eq!(step.title, "UCP 3.2.6: the same version, on a manager of that swarm");
        let run = "--name ucp -v /var/run/docker.sock:/var/run/docker.sock docker/ucp:3.2.6";
        let uninstall =
            format!("docker run --rm -it {run} uninstall-ucp --interactive   # if it is installed");
        assert_eq!(step.actions[0], Action::ByHand(uninstall));
        assert_eq!(lines(&step)[1], format!("RESTORE ucp@id --to-run {run} restore"));
        assert!(!step.actions[1].is_by_hand());
    }

    #[test]
    fn what_ucp_sealed_is_opened_by_gpg() {
        let step = steps(json!({
            "run": {"security_opt": ["label=disable", "x y"]},
            "ucp": {"version": "3.2.6", "image": "docker/ucp:3.2.6", "sealed": true}}));
        let run = "--name ucp -v /var/run/docker.sock:/var/run/docker.sock --security-opt label=disable \
                   --security-opt 'x y' docker/ucp:3.2.6";
        let restore = format!("--to-stdout | gpg --decrypt | docker run -i --rm {run} restore");
        let [Action::ByHand(uninstall), Action::Note(why), last] = &step.actions[..] else {
            panic!("{step:?}")
        };
        assert!(uninstall.contains(run), "{uninstall}");
        assert!(why.starts_with("# UCP sealed this backup itself."), "{why}");
        assert_eq!(*last, archive(Value::Null).restore_by_hand(restore));
    }

    #[test]
    fn an_image_cannot_smuggle_in_a_command() {
        let step = steps(json!({"ucp": {"version": "1", "image": "x; rm -rf /"}}));
        let Action::ByHand(uninstall) = &step.actions[0] else { panic!("{step:?}") };
        assert!(uninstall.contains("'x; rm -rf /' uninstall-ucp"), "{uninstall}");
    }

    #[test]
    fn the_instance_is_the_one_named_else_the_one_found() {
        let controller = |labels: &[(&str, &str)]| ContainerInfo {
            name: CONTROLLER.into(),
            image: "docker/ucp-controller:3.1.0".into(),
            env: Default::default(),
            labels: labels.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
            volumes: Default::default(),
        };
        let found = controller(&[("com.docker.ucp.InstanceID", "found")]);
        let options = |id: Option<&str>| UcpOptions { ucp_id: id.map(String::from), ..UcpOptions::default() };
        assert_eq!(instance(&options(None), &found).unwrap(), "found");
        assert_eq!(instance(&options(Some("named")), &found).unwrap(), "named");
        let error = instance(&options(None), &controller(&[])).unwrap_err();
        assert_eq!(error.to_string(), "the UCP controller does not say its instance's id");
    }

    #[test]
    fn versions_are_numbers() {
        for (version, pauses) in
            [("3.0.4", true), ("2.2.22", true), ("3.1.16", true), ("3.2.6", false), ("3.10.1", false)]
        {
            assert_eq!(!pauses_nothing(version), pauses, "{version}");
        }
    }
}
