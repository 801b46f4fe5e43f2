//! How every process is made that runs beside us: without our secrets, and where we read what it says, without what else
//! the environment would change about it.

use std::process::Command;

use super::passphrase::VARIABLES;

/// Variables that change what tar and the programs below it do or say.
const BEHAVIOUR: [&str; 12] = [
    "TAR_OPTIONS",
    "TAPE",
    "POSIXLY_CORRECT",
    "QUOTING_STYLE",
    "GZIP",
    "BZIP",
    "BZIP2",
    "XZ_DEFAULTS",
    "XZ_OPT",
    "ZSTD_CLEVEL",
    "ZSTD_NBTHREADS",
    "LANGUAGE",
];

/// A program whose options and messages are known here: it has none of our secrets, nothing in the environment adds to its
/// options, and it speaks as in the C locale.
pub fn command(program: &str) -> Command {
    let mut command = without_secrets(program);
    for name in BEHAVIOUR {
        command.env_remove(name);
    }
    // It wins over LANG and every other LC_….
    command.env("LC_ALL", "C");
    command
}

/// A shell for a command of the operator's: it has none of our secrets, and everything else as it was given to us.
pub fn shell(script: &str) -> Command {
    let mut shell = without_secrets("sh");
    shell.args(["-c", script]);
    shell
}

fn without_secrets(program: &str) -> Command {
    let mut command = Command::new(program);
    for secret in VARIABLES {
        command.env_remove(secret);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `env` prints when it is run as `command` would be, by a process that has everything set that must not get
    /// through. A test cannot safely set its own environment: that process's is set here, then changed as `command` says.
    fn seen_by(command: &Command) -> Vec<String> {
        let set = BEHAVIOUR.iter().chain(&VARIABLES).chain(&["LC_MESSAGES", "KEPT"]);
        let mut env = Command::new("env");
        env.envs(set.map(|name| (name, "set")));
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => env.env(name, value),
                None => env.env_remove(name),
            };
        }
        let output = env.output().unwrap();
        let lines = String::from_utf8_lossy(&output.stdout).into_owned();
        lines.lines().map(String::from).collect()
    }

    fn has(lines: &[String], name: &str) -> bool {
        lines.iter().any(|line| line.split_once('=').is_some_and(|(left, _)| left == name))
    }

    #[test]
    fn no_process_gets_our_secrets() {
        for command in [command("tar"), shell("true")] {
            let seen = seen_by(&command);
            assert!(has(&seen, "KEPT"), "{seen:?}");
            for secret in VARIABLES {
                assert!(!has(&seen, secret), "{secret} in {command:?}");
            }
        }
    }

    #[test]
    fn a_tool_does_what_its_options_say_and_no_more() {
        let seen = seen_by(&command("tar"));
        for name in BEHAVIOUR {
            assert!(!has(&seen, name), "{name} in {seen:?}");
        }
        assert!(seen.contains(&"LC_ALL=C".to_string()), "{seen:?}");
        assert!(!has(&seen_by(&command("env")), "TAR_OPTIONS"));
    }

    #[test]
    fn the_operators_command_keeps_the_operators_environment() {
        let seen = seen_by(&shell("true"));
        for name in ["TAR_OPTIONS", "XZ_OPT", "LANG", "LC_MESSAGES", "PATH"] {
            assert!(has(&seen, name), "{name} in {seen:?}");
        }
    }

    #[test]
    fn a_shell_runs_its_script_with_arguments() {
        let mut shell = shell("echo \"$0 $1\"; exit 3");
        let output = shell.args(["sh", "hello"]).output().unwrap();
        assert_eq!((&output.stdout[..], output.status.code()), (&b"sh hello\n"[..], Some(3)));
    }
}
