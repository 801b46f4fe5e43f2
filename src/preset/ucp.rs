//! Universal Control Plane: by `docker/ucp backup`, whose options differ from version to version.

use secrecy::ExposeSecret;
use serde_json::json;

use super::{DataLocation, Part, Preview, sibling};
use crate::archive::Format;
use crate::archive::check::Check;
use crate::cli::UcpOptions;
use crate::docker::Engine;
use crate::docker::inspect::ContainerInfo;
use crate::docker::run::RunSpec;
use crate::error::{Error, Result};
use crate::report::Reporter;
use crate::source::Source;

const CONTROLLER: &str = "ucp-controller";
/// The documented name: the engine itself then refuses a second backup beside a running one.
const NAME: &str = "ucp";
const SOCKET: &str = "/var/run/docker.sock";
/// The documents: a good backup has more members than this.
const FEWEST: u64 = 100;

pub(super) async fn parts(options: &UcpOptions, engine: &Engine, ui: &Reporter) -> Result<Vec<Part>> {
    let Found { controller, version, image } = find(options, engine).await?;
    ui.note(&format!("UCP {version}"));
    if !pauses_nothing(&version) {
        ui.warn(&format!(
            "UCP {version} stops its containers on this node during the backup; from 3.2 on it does not"
        ));
    }
    let passphrase = options.passphrase().given()?;
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
    let facts = json!({"ucp": {"version": version, "image": image, "id": id, "sealed": is_message}});
    let (format, check) = match is_message {
        true => (Format::Raw, Check::default()),
        false => (Format::Tar, Check::new(&["*ucp-node-certs/key.pem".into()], FEWEST + 1)?),
    };
    Ok(vec![Part { check, is_message, notes, ..Part::new(Source::Run(Box::new(spec)), format, facts) }])
}

pub(super) async fn preview(options: &UcpOptions, engine: &Engine) -> Result<Preview> {
    let Found { controller, version, image } = find(options, engine).await?;
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
pub(super) struct Found {
    controller: ContainerInfo,
    pub version: String,
    /// What it is backed up with.
    pub image: String,
}

pub(super) async fn find(options: &UcpOptions, engine: &Engine) -> Result<Found> {
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
    Ok(Found { version: version.into(), image, controller })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers() {
        for (version, pauses) in
            [("3.0.4", true), ("2.2.22", true), ("3.1.16", true), ("3.2.6", false), ("3.10.1", false)]
        {
            assert_eq!(!pauses_nothing(version), pauses, "{version}");
        }
    }
}
