//! `docker run`'s own words, as far as a backup or a restore needs them.

use bollard::models::{Mount, MountType};
use clap::{Args, FromArgMatches};

use crate::docker::run::RunSpec;
use crate::error::{Error, Result};

pub const EXAMPLES: &str = "\
The words of `docker run` stand before IMAGE; what follows IMAGE goes to the container. `--log-driver none`, `-i` and
`--rm` are accepted and always so. `-t` is refused: a terminal changes the bytes.

Example:
  sealift backup run --to s3://backups/prod --job dtr/metadata --env-file ucp.env docker/dtr:2.7.5 backup \\
    --existing-replica-id 0123456789ab";

/// Options of `docker run`.
#[derive(Debug, Args)]
#[command(next_help_heading = "docker run options")]
pub struct RunOptions {
    /// KEY=VALUE, or KEY to pass ours on (a value given here shows in `ps`: pass secrets by KEY or --env-file)
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    env: Vec<String>,
    /// File of KEY=VALUE lines
    #[arg(long, value_name = "FILE")]
    env_file: Vec<String>,
    /// VOLUME-OR-PATH:TARGET[:ro]
    #[arg(short, long, value_name = "SPEC")]
    volume: Vec<String>,
    /// type=bind|volume|tmpfs,source=…,target=…[,readonly]
    #[arg(long, value_name = "SPEC")]
    mount: Vec<String>,
    /// Network to connect to
    #[arg(long, alias = "net", value_name = "NAME")]
    network: Option<String>,
    /// Name of the container
    #[arg(long)]
    name: Option<String>,
    /// Replaces the image's entrypoint
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// USER[:GROUP]
    #[arg(short, long)]
    user: Option<String>,
    /// Folder to start in
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// Security option, as label=disable
    #[arg(long, value_name = "OPT")]
    security_opt: Vec<String>,
    /// Extended privileges
    #[arg(long)]
    privileged: bool,
    /// HOST:IP
    #[arg(long, value_name = "HOST:IP")]
    add_host: Vec<String>,
    #[arg(short, long, hide = true)]
    interactive: bool,
    #[arg(short, long, hide = true)]
    tty: bool,
    #[arg(long, hide = true)]
    rm: bool,
    #[arg(long, hide = true)]
    log_driver: Option<String>,
    /// The image
    image: String,
    /// Command and arguments for the container
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARG")]
    command: Vec<String>,
}

/// Reads the words of `docker run` that follow `--to-run`.
pub fn parse(words: &[String]) -> Result<RunSpec> {
    let command = RunOptions::augment_args(clap::Command::new("--to-run").no_binary_name(true));
    let parsed =
        command.try_get_matches_from(words).and_then(|matches| RunOptions::from_arg_matches(&matches));
    let options = parsed.map_err(|e| {
        let first = e.to_string().lines().next().unwrap_or_default().replace("error: ", "");
        Error::usage(format!("--to-run: {first}"))
            .hint("--to-run [docker run options] IMAGE [ARG…], at the very end")
    })?;
    RunSpec::try_from(options)
}

impl TryFrom<RunOptions> for RunSpec {
    type Error = Error;

    fn try_from(options: RunOptions) -> Result<RunSpec> {
        if options.tty {
            return Err(Error::usage(
                "-t (--tty) is refused: a terminal turns every newline into two bytes and damages the backup",
            )
            .hint("leave -t out; -i alone is fine"));
        }
        if let Some(driver) = options.log_driver.filter(|driver| driver != "none") {
            return Err(Error::usage(format!(
                "--log-driver {driver} would copy the whole backup into a log"
            ))
            .hint("leave it out: sealift always uses none"));
        }
        let mut env = Vec::new();
        for file in &options.env_file {
            let text = std::fs::read_to_string(file).map_err(|e| {
                Error::usage(format!("cannot read --env-file {file}")).because(e).hint("does it exist?")
            })?;
            let lines =
                text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'));
            env.extend(lines.filter_map(variable));
        }
        env.extend(options.env.iter().filter_map(|e| variable(e)));
        Ok(RunSpec {
            image: options.image,
            command: options.command,
            name: options.name,
            env,
            volumes: options.volume,
            mounts: options.mount.iter().map(|spec| mount(spec)).collect::<Result<_>>()?,
            network: options.network,
            entrypoint: options.entrypoint,
            user: options.user,
            workdir: options.workdir,
            security_opt: options.security_opt,
            privileged: options.privileged,
            add_host: options.add_host,
            secrets: Vec::new(),
        })
    }
}

/// `KEY=VALUE` as it is; `KEY` with our own value, or nothing where we have none, as docker does.
fn variable(text: &str) -> Option<String> {
    if text.contains('=') {
        return Some(text.into());
    }
    std::env::var(text).ok().map(|value| format!("{text}={value}"))
}

fn mount(spec: &str) -> Result<Mount> {
    let wrong = |what: &str| {
        Error::usage(format!("--mount {spec:?}: {what}"))
            .hint("write type=volume,source=NAME,target=/path[,readonly]")
    };
    let mut mount = Mount { typ: Some(MountType::VOLUME), ..Mount::default() };
    for field in spec.split(',') {
        let (key, value) = field.split_once('=').unwrap_or((field, "true"));
        match key {
            "type" => {
                mount.typ = Some(match value {
                    "bind" => MountType::BIND,
                    "volume" => MountType::VOLUME,
                    "tmpfs" => MountType::TMPFS,
                    _ => return Err(wrong("unknown type")),
                });
            }
            "source" | "src" => mount.source = Some(value.into()),
            "target" | "dst" | "destination" => mount.target = Some(value.into()),
            "readonly" | "ro" => mount.read_only = Some(matches!(value, "true" | "1")),
            _ => return Err(wrong("unknown field")),
        }
    }
    match mount.target {
        Some(_) => Ok(mount),
        None => Err(wrong("no target")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(words: &[&str]) -> Result<RunSpec> {
        parse(&words.iter().map(|word| word.to_string()).collect::<Vec<_>>())
    }

    #[test]
    fn options_of_docker_run_stand_before_the_image_and_arguments_after_it() {
        let spec =
            spec(&["-v", "data:/data", "-e", "A=1", "--name", "x", "db:1", "dump", "-v", "all"]).unwrap();
        assert_eq!((spec.image.as_str(), spec.name.as_deref()), ("db:1", Some("x")));
        assert_eq!((spec.volumes, spec.env), (vec!["data:/data".to_string()], vec!["A=1".to_string()]));
        assert_eq!(spec.command, ["dump", "-v", "all"]);
    }

    #[test]
    fn a_variable_without_a_value_takes_ours() {
        assert_eq!(variable("A=b=c").as_deref(), Some("A=b=c"));
        assert_eq!(variable("A=").as_deref(), Some("A="));
        let path = std::env::var("PATH").unwrap();
        assert_eq!(variable("PATH"), Some(format!("PATH={path}")));
        assert_eq!(variable("SEALIFT_NO_SUCH_VARIABLE"), None);
    }

    #[test]
    fn an_env_file_loses_comments_and_blank_lines() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/run.env");
        let spec = spec(&["--env-file", file, "-e", "LAST=1", "db"]).unwrap();
        assert_eq!(spec.env, ["A=1", "B=two words # no comment", "LAST=1"]);
        let error = parse(&["--env-file".into(), "/no/such/file".into(), "db".into()]).unwrap_err();
        assert!(error.to_string().starts_with("cannot read --env-file /no/such/file: "), "{error}");
    }

    #[test]
    fn a_mount_needs_a_target_and_known_fields() {
        let made = mount("type=bind,src=/srv,dst=/data,ro").unwrap();
        assert_eq!((made.typ, made.read_only), (Some(MountType::BIND), Some(true)));
        assert_eq!((made.source.as_deref(), made.target.as_deref()), (Some("/srv"), Some("/data")));
        for wrong in ["type=volume,source=x", "type=nfs,target=/x", "target=/x,colour=red"] {
            assert_eq!(mount(wrong).unwrap_err().kind().exit_code(), 2, "{wrong}");
        }
    }

    #[test]
    fn what_would_damage_or_copy_the_stream_is_refused() {
        assert!(spec(&["-t", "db"]).unwrap_err().to_string().starts_with("-t (--tty) is refused"));
        assert!(spec(&["--log-driver", "json-file", "db"]).unwrap_err().to_string().contains("json-file"));
        assert!(spec(&["--log-driver", "none", "db"]).is_ok());
        assert!(spec(&[]).unwrap_err().to_string().starts_with("--to-run: "));
    }
}
