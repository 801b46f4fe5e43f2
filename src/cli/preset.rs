//! The words of the presets: `backup dtr`, `backup ucp`, `backup swarm`.

use clap::{Args, ValueEnum};
use secrecy::SecretString;

use crate::host::passphrase::{Secret, Sources};

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
    /// One half only; both are of the same replica
    #[arg(long, value_name = "PART")]
    pub only: Option<DtrPart>,
    /// The replica, where more than one runs here
    #[arg(long, env = "DTR_REPLICA_ID", value_name = "ID")]
    pub replica: Option<String>,
    /// Image to back up with; otherwise that of the running replica's version
    #[arg(long, value_name = "IMAGE")]
    pub dtr_image: Option<String>,
    /// UCP's address
    #[arg(long, env = "UCP_URL", value_name = "URL")]
    pub ucp_url: Option<String>,
    /// A UCP administrator
    #[arg(long, env = "UCP_USERNAME", value_name = "NAME")]
    pub ucp_username: Option<String>,
    /// File whose first line is the administrator's password (or UCP_PASSWORD, UCP_PASSWORD_FILE, or a prompt)
    #[arg(long, value_name = "FILE", conflicts_with = "ucp_password_command")]
    ucp_password_file: Option<String>,
    /// Command that prints the password
    #[arg(long, value_name = "CMD")]
    ucp_password_command: Option<String>,
    /// File with UCP's CA certificate, PEM: from https://UCP/ca
    #[arg(long, value_name = "FILE", conflicts_with = "ucp_insecure_tls")]
    pub ucp_ca: Option<std::path::PathBuf>,
    /// Do not check UCP's certificate
    #[arg(long)]
    pub ucp_insecure_tls: bool,
    /// Stop the replica's database during the backup: consistent, but the replica serves nobody meanwhile
    #[arg(long)]
    pub offline_backup: bool,
    /// Read already.
    #[arg(skip)]
    pub known_password: Option<SecretString>,
}

impl DtrOptions {
    /// Where the administrator's password comes from.
    pub fn password(&self) -> Sources {
        Sources {
            secret: Secret::UcpPassword,
            known: self.known_password.clone(),
            file: self.ucp_password_file.clone(),
            command: self.ucp_password_command.clone(),
            ..Sources::default()
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
    pub ucp_image: Option<String>,
    /// The instance's id; otherwise found
    #[arg(long, value_name = "ID")]
    pub ucp_id: Option<String>,
    /// Have UCP seal its backup itself, too, with the first line of this file (or UCP_PASSPHRASE, UCP_PASSPHRASE_FILE).
    /// Its containers get a passphrase in no other way than their command line, which `docker inspect` shows
    #[arg(long, value_name = "FILE", conflicts_with = "ucp_passphrase_command")]
    ucp_passphrase_file: Option<String>,
    /// Command that prints that passphrase
    #[arg(long, value_name = "CMD")]
    ucp_passphrase_command: Option<String>,
    /// The engine's socket on its host; otherwise the one that DOCKER_HOST names
    #[arg(long, value_name = "PATH")]
    pub docker_socket: Option<String>,
}

impl UcpOptions {
    /// Where the passphrase of UCP's own sealing comes from.
    pub fn passphrase(&self) -> Sources {
        Sources {
            secret: Secret::UcpPassphrase,
            file: self.ucp_passphrase_file.clone(),
            command: self.ucp_passphrase_command.clone(),
            ..Sources::default()
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
    /// Stop the engine while its folder is read, as the vendor's guide has it; it is started again whatever happens
    #[arg(long)]
    pub stop_engine: bool,
    /// Command that stops the engine [default: systemctl stop docker.socket docker.service]
    #[arg(long, value_name = "CMD")]
    pub stop_command: Option<String>,
    /// Command that starts it, and ends when it answers [default: systemctl start docker.service]
    #[arg(long, value_name = "CMD")]
    pub start_command: Option<String>,
    /// Seal the key that unlocks an autolocked swarm, as an archive of its own: JOB/unlock-key
    #[arg(long)]
    pub with_unlock_key: bool,
}

pub(super) const SWARM_HELP: &str = "\
Reads the swarm's folder (/var/lib/docker/swarm) on a manager, with members swarm/…; run it on that host, as root.
Without --stop-engine the folder is read while the engine writes it; that is noted in the catalog. With it, the swarm
must keep its quorum without this node, unless this is its only manager. An autolocked swarm is unlocked again after the
start; only where sealift itself is killed outright (kill -9) does the engine come back locked: `docker swarm unlock`.

Checked while the stream passes: the raft log and the certificates are there.

Example:
  sealift backup swarm --stop-engine --with-unlock-key --to s3://backups/prod --passphrase-file /etc/sealift.pass";
