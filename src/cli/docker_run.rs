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
    /// As for every verb; -v is docker's here
    #[arg(long = "verbose", id = "verbose")]
    own_verbose: bool,
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
    use std::io::Write;
    use std::os::fd::AsRawFd;

    use super::*;

    fn spec(line: &str) -> Result<RunSpec> {
        parse(&line.split(' ').map(String::from).collect::<Vec<_>>())
    }

    #[test]
    fn options_stand_before_the_image_and_its_command_behind() {
        let spec =
            spec("-u 0:0 -w /d --name n --net host -v a:/a -v b:/b:ro img:1 sh -c x --name y").unwrap();
        assert_eq!((spec.image.as_str(), spec.command.join(" ").as_str()), ("img:1", "sh -c x --name y"));
        assert_eq!((spec.user.as_deref(), spec.workdir.as_deref()), (Some("0:0"), Some("/d")));
        assert_eq!((spec.name.as_deref(), spec.network.as_deref()), (Some("n"), Some("host")));
        assert_eq!(spec.volumes, ["a:/a", "b:/b:ro"]);
    }

    #[test]
    fn an_image_is_needed() {
        let error = spec("--name x").unwrap_err();
        assert!(error.to_string().starts_with("--to-run: the following required"), "{error}");
        assert_eq!(error.kind().exit_code(), 2);
    }

    #[test]
    fn a_log_of_the_backup_is_refused() {
        let error = spec("--log-driver json-file img").unwrap_err();
        assert_eq!(error.to_string(), "--log-driver json-file would copy the whole backup into a log");
        assert!(spec("--log-driver none --rm -i img").is_ok());
    }

    #[test]
    fn a_mount_is_read_field_by_field() {
        let spec =
            spec("--mount type=bind,source=/s,target=/t,readonly --mount src=v,dst=/u,ro=false img").unwrap();
        let [bind, volume] = &spec.mounts[..] else { panic!("two mounts") };
        assert_eq!(
            (bind.typ, bind.source.as_deref(), bind.target.as_deref()),
            (Some(MountType::BIND), Some("/s"), Some("/t"))
        );
        assert_eq!((bind.read_only, volume.read_only), (Some(true), Some(false)));
        assert_eq!((volume.typ, volume.target.as_deref()), (Some(MountType::VOLUME), Some("/u")));
    }

    #[test]
    fn a_mount_that_is_wrong_is_named() {
        for (spec, reason) in [
            ("type=x,target=/t", "unknown type"),
            ("what=x,target=/t", "unknown field"),
            ("source=v", "no target"),
        ] {
            let error = mount(spec).unwrap_err();
            assert_eq!(error.to_string(), format!("--mount {spec:?}: {reason}"));
        }
    }

    #[test]
    fn a_variable_without_a_value_is_our_own_or_left_out() {
        assert_eq!(variable("A=b=c").as_deref(), Some("A=b=c"));
        assert_eq!(variable("A=").as_deref(), Some("A="));
        assert_eq!(variable("SEALIFT_NO_SUCH_VARIABLE"), None);
        let path = std::env::var("PATH").unwrap();
        assert_eq!(variable("PATH"), Some(format!("PATH={path}")));
    }

    #[test]
    fn a_file_of_variables_comes_before_those_that_are_given() {
        let (file, mut text) = std::io::pipe().unwrap();
        text.write_all(b"# a comment\n\n  A=1\nSEALIFT_NO_SUCH_VARIABLE\nB=x y\n").unwrap();
        drop(text);
        let spec = spec(&format!("-e A=2 --env-file /dev/fd/{} img", file.as_raw_fd()));
        assert_eq!(spec.unwrap().env, ["A=1", "B=x y", "A=2"]);
        let error = self::spec("--env-file /none img").unwrap_err();
        assert!(error.to_string().starts_with("cannot read --env-file /none"), "{error}");
    }
}
