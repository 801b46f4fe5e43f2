//! The words of the presets: `backup dtr`, `backup ucp`, `backup swarm`.

use clap::{Args, ValueEnum};

use crate::host::passphrase::Sources;
use crate::preset;

/// Half of Docker Trusted Registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DtrPart {
    /// Repositories, tags, permissions, certificates: what `docker/dtr backup` writes
    Metadata,
    /// The volume that holds the images
    Images,
}

/// `backup dtr`
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Docker Trusted Registry")]
pub struct DtrOptions {
    /// One half only: metadata or images
    ///
    /// Both are of the same replica.
    #[arg(long, value_name = "PART")]
    only: Option<DtrPart>,
    /// The replica, where more than one runs here
    #[arg(long, env = "DTR_REPLICA_ID", value_name = "ID")]
    replica: Option<String>,
    /// Image to back up with; otherwise that of the running replica's version
    #[arg(long, value_name = "IMAGE")]
    dtr_image: Option<String>,
    /// UCP's address
    #[arg(long, env = "UCP_URL", value_name = "URL")]
    ucp_url: Option<String>,
    /// A UCP administrator
    #[arg(long, env = "UCP_USERNAME", value_name = "NAME")]
    ucp_username: Option<String>,
    /// File whose first line is the administrator's password (or UCP_PASSWORD, UCP_PASSWORD_FILE, or a prompt)
    #[arg(long, value_name = "FILE", conflicts_with = "ucp_password_command")]
    ucp_password_file: Option<String>,
    /// Command that prints the password
    #[arg(long, value_name = "CMD")]
    ucp_password_command: Option<String>,
    /// File with UCP's CA certificate, PEM: from https://UCP/ca
    #[arg(long, value_name = "FILE", conflicts_with = "ucp_insecure_tls")]
    ucp_ca: Option<std::path::PathBuf>,
    /// Do not check UCP's certificate
    #[arg(long)]
    ucp_insecure_tls: bool,
    /// Stop the replica's database during the backup: consistent, but the replica serves nobody meanwhile
    #[arg(long)]
    offline_backup: bool,
}

impl From<DtrPart> for preset::DtrPart {
    fn from(part: DtrPart) -> Self {
        match part {
            DtrPart::Metadata => preset::DtrPart::Metadata,
            DtrPart::Images => preset::DtrPart::Images,
        }
    }
}

impl From<DtrOptions> for preset::DtrOptions {
    fn from(options: DtrOptions) -> Self {
        preset::DtrOptions {
            only: options.only.map(Into::into),
            replica: options.replica,
            dtr_image: options.dtr_image,
            ucp_url: options.ucp_url,
            ucp_username: options.ucp_username,
            ucp_password: Sources {
                file: options.ucp_password_file,
                command: options.ucp_password_command,
                ..Sources::of(preset::dtr::UCP_PASSWORD)
            },
            ucp_ca: options.ucp_ca,
            ucp_insecure_tls: options.ucp_insecure_tls,
            offline_backup: options.offline_backup,
        }
    }
}

pub(super) const DTR_HELP: &str = "\
Two archives of one replica: JOB/metadata and JOB/images (JOB is dtr unless --job says otherwise). Image, version and
replica are found from what runs on this node. Users and organisations are UCP's; the vulnerability database is
downloaded again after a restore; images in an object store are backed up there.

Checked while the stream passes: the metadata are of the replica's version, and every link of the registry names a blob
that passed by.

Example:
  sealift backup dtr --ucp-url ucp.example.com --ucp-username admin --ucp-password-file /etc/ucp.pass --ucp-ca ucp.pem --to s3://backups/prod";

/// `backup ucp`
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Universal Control Plane")]
pub struct UcpOptions {
    /// Image to back up with; otherwise that of the running controller's version
    #[arg(long, value_name = "IMAGE")]
    ucp_image: Option<String>,
    /// The instance's id; otherwise found
    #[arg(long, value_name = "ID")]
    ucp_id: Option<String>,
    /// Have UCP seal its backup itself, too, with the first line of this file (or UCP_PASSPHRASE, UCP_PASSPHRASE_FILE).
    /// Its containers get a passphrase in no other way than their command line, which `docker inspect` shows
    #[arg(long, value_name = "FILE", conflicts_with = "ucp_passphrase_command")]
    ucp_passphrase_file: Option<String>,
    /// Command that prints that passphrase
    #[arg(long, value_name = "CMD")]
    ucp_passphrase_command: Option<String>,
    /// The engine's socket on its host; otherwise the one that DOCKER_HOST names
    #[arg(long, value_name = "PATH")]
    docker_socket: Option<String>,
}

impl From<UcpOptions> for preset::UcpOptions {
    fn from(options: UcpOptions) -> Self {
        preset::UcpOptions {
            ucp_image: options.ucp_image,
            ucp_id: options.ucp_id,
            passphrase: Sources {
                file: options.ucp_passphrase_file,
                command: options.ucp_passphrase_command,
                ..Sources::of(preset::ucp::UCP_PASSPHRASE)
            },
            docker_socket: options.docker_socket,
        }
    }
}

pub(super) const UCP_HELP: &str = "\
Runs docker/ucp's own backup on this manager; any one manager will do. UCP before 3.2 stops its containers on the node
meanwhile. Checked while the stream passes: more than 100 members, and the node's certificates among them.

Example:
  sealift backup ucp --to s3://backups/prod --passphrase-file /etc/sealift.pass";

/// `backup swarm`
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Swarm")]
pub struct SwarmOptions {
    /// Stop the engine while its folder is read
    ///
    /// As the vendor's guide has it; it is started again whatever happens.
    #[arg(long)]
    stop_engine: bool,
    /// Command that stops the engine [default: systemctl stop docker.socket docker.service]
    #[arg(long, value_name = "CMD")]
    stop_command: Option<String>,
    /// Command that starts it, and ends when it answers [default: systemctl start docker.service]
    #[arg(long, value_name = "CMD")]
    start_command: Option<String>,
    /// Seal the key that unlocks an autolocked swarm, as an archive of its own: JOB/unlock-key
    #[arg(long)]
    with_unlock_key: bool,
}

impl From<SwarmOptions> for preset::SwarmOptions {
    fn from(options: SwarmOptions) -> Self {
        preset::SwarmOptions {
            stop_engine: options.stop_engine,
            stop_command: options.stop_command,
            start_command: options.start_command,
            with_unlock_key: options.with_unlock_key,
        }
    }
}

pub(super) const SWARM_HELP: &str = "\
Reads the swarm's folder (/var/lib/docker/swarm) on a manager, with members swarm/…; run it on that host, as root.
Without --stop-engine the folder is read while the engine writes it; that is noted in the catalog. With it, the swarm
must keep its quorum without this node, unless this is its only manager. An autolocked swarm is unlocked again after the
start; only where sealift itself is killed outright (kill -9) does the engine come back locked: `docker swarm unlock`.

Checked while the stream passes: the raft log and the certificates are there.

Example:
  sealift backup swarm --stop-engine --with-unlock-key --to s3://backups/prod --passphrase-file /etc/sealift.pass";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line<T: Args> {
        #[command(flatten)]
        options: T,
    }

    fn parse<T: Args>(line: &str) -> T {
        Line::try_parse_from(line.split(' ')).map(|line: Line<T>| line.options).unwrap()
    }

    #[test]
    fn every_option_of_dtr_arrives() {
        let line = "x --only images --replica r --dtr-image i --ucp-url u --ucp-username n --ucp-password-file f \
                    --ucp-ca c --offline-backup";
        let options = preset::DtrOptions::from(parse::<DtrOptions>(line));
        assert_eq!(options.only, Some(preset::DtrPart::Images));
        let texts = [options.replica, options.dtr_image, options.ucp_url, options.ucp_username];
        assert_eq!(texts.map(Option::unwrap_or_default), ["r", "i", "u", "n"]);
        assert_eq!(options.ucp_password.secret, preset::dtr::UCP_PASSWORD);
        assert_eq!((options.ucp_password.file.as_deref(), options.ucp_password.command), (Some("f"), None));
        assert_eq!(options.ucp_ca, Some("c".into()));
        assert!(options.offline_backup && !options.ucp_insecure_tls);
        let options = preset::DtrOptions::from(parse::<DtrOptions>("x --only metadata --ucp-insecure-tls"));
        assert!(options.ucp_insecure_tls && !options.offline_backup);
        assert_eq!(options.only, Some(preset::DtrPart::Metadata));
    }

    #[test]
    fn every_option_of_ucp_arrives() {
        let line = "x --ucp-image i --ucp-id d --ucp-passphrase-command c --docker-socket s";
        let options = preset::UcpOptions::from(parse::<UcpOptions>(line));
        let texts = [options.ucp_image, options.ucp_id, options.docker_socket];
        assert_eq!(texts.map(Option::unwrap_or_default), ["i", "d", "s"]);
        assert_eq!(options.passphrase.secret, preset::ucp::UCP_PASSPHRASE);
        assert_eq!((options.passphrase.file, options.passphrase.command.as_deref()), (None, Some("c")));
    }

    #[test]
    fn every_option_of_a_swarm_arrives() {
        let options = preset::SwarmOptions::from(parse::<SwarmOptions>(
            "x --stop-engine --stop-command a --start-command b --with-unlock-key",
        ));
        assert!(options.stop_engine && options.with_unlock_key);
        assert_eq!(
            (options.stop_command.as_deref(), options.start_command.as_deref()),
            (Some("a"), Some("b"))
        );
        let options = preset::SwarmOptions::from(parse::<SwarmOptions>("x"));
        assert!(!options.stop_engine && !options.with_unlock_key && options.stop_command.is_none());
    }

    #[test]
    fn one_way_to_a_password_excludes_the_other() {
        let line = "x --ucp-password-file f --ucp-password-command c";
        assert!(Line::<DtrOptions>::try_parse_from(line.split(' ')).is_err());
        let line = "x --ucp-ca f --ucp-insecure-tls";
        assert!(Line::<DtrOptions>::try_parse_from(line.split(' ')).is_err());
    }
}
