//! Where the passphrase comes from: a file, a command, the environment, a prompt. Never the command line.

use std::ffi::OsString;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::process::Stdio;

use secrecy::SecretString;

use super::environment::variable;
use crate::error::{Context, Error, Result};

/// Environment variables that hold or lead to a secret; the children that we start do not inherit them.
pub const VARIABLES: [&str; 12] = [
    "SEALIFT_PASSPHRASE",
    "SEALIFT_PASSPHRASE_FILE",
    "SEALIFT_PASSPHRASE_COMMAND",
    "SEALIFT_NEW_PASSPHRASE",
    "SEALIFT_NEW_PASSPHRASE_FILE",
    "SEALIFT_NEW_PASSPHRASE_COMMAND",
    "UCP_PASSWORD",
    "UCP_PASSWORD_FILE",
    "UCP_PASSWORD_COMMAND",
    "UCP_PASSPHRASE",
    "UCP_PASSPHRASE_FILE",
    "UCP_PASSPHRASE_COMMAND",
];

/// A secret that may be asked for: what it is called, and what leads to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecretName {
    /// What it is called in messages.
    pub name: &'static str,
    /// The option's name, without `-file` and `-command`.
    pub option: &'static str,
    /// The variables that hold it, name a file, name a command; all of them are among [`VARIABLES`].
    pub variables: [&'static str; 3],
}

/// What archives are sealed with.
pub const PASSPHRASE: SecretName = SecretName {
    name: "passphrase",
    option: "--passphrase",
    variables: ["SEALIFT_PASSPHRASE", "SEALIFT_PASSPHRASE_FILE", "SEALIFT_PASSPHRASE_COMMAND"],
};

/// What archives that exist are to open with, too.
pub const NEW_PASSPHRASE: SecretName = SecretName {
    name: "new passphrase",
    option: "--new-passphrase",
    variables: ["SEALIFT_NEW_PASSPHRASE", "SEALIFT_NEW_PASSPHRASE_FILE", "SEALIFT_NEW_PASSPHRASE_COMMAND"],
};

impl SecretName {
    /// Whether a setting leads to it: `passphrase_file`, `passphrase_command`.
    pub fn is_led_to_by(&self, setting: &str) -> bool {
        let stem = setting.strip_suffix("_file").or(setting.strip_suffix("_command"));
        stem.is_some_and(|stem| stem == self.option.trim_start_matches('-').replace('-', "_"))
    }

    /// The variable that leads to it, where one is set: it wins over the settings file.
    pub fn variable(&self) -> Option<&'static str> {
        self.variables.into_iter().find(|name| std::env::var_os(name).is_some())
    }
}

impl Default for SecretName {
    fn default() -> Self {
        PASSPHRASE
    }
}

/// More than this is no passphrase but some other file.
const LONGEST: u64 = 64 << 10;

/// Where to take the passphrase from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// Which secret it is.
    pub secret: SecretName,
    /// It was read already.
    pub known: Option<SecretString>,
    /// `--passphrase-file`
    pub file: Option<String>,
    /// `--passphrase-command`
    pub command: Option<String>,
    /// Standard input is data, so that no passphrase can come from it.
    pub stdin_is_data: bool,
    /// Asked for twice, because a typing error would seal a backup for ever.
    pub twice: bool,
}

impl Sources {
    /// Nothing is known yet of where this secret comes from.
    pub fn of(secret: SecretName) -> Self {
        Sources { secret, ..Sources::default() }
    }

    /// Reads the secret: flags first, then the environment, then a prompt.
    ///
    /// # Errors
    /// It is empty, cannot be read, or there is no terminal to ask at.
    pub fn read(&self) -> Result<SecretString> {
        match self.given()? {
            Some(secret) => Ok(secret),
            None => self.prompt(),
        }
    }

    /// [`Sources::read`] without a prompt: none where no source is given.
    pub fn given(&self) -> Result<Option<SecretString>> {
        if self.known.is_some() {
            return Ok(self.known.clone());
        }
        let [own, in_file, by_command] = self.secret.variables;
        let value = |name: &str| std::env::var_os(name).map(OsString::into_vec);
        let secret = if let Some(file) = &self.file {
            self.read_file(file)?
        } else if let Some(command) = &self.command {
            self.run_command(command)?
        } else if let Some(secret) = value(own) {
            self.first_line(secret, own)?
        } else if let Some(file) = variable(in_file)? {
            self.read_file(&file)?
        } else if let Some(command) = variable(by_command)? {
            self.run_command(&command)?
        } else {
            return Ok(None);
        };
        Ok(Some(secret))
    }

    fn read_file(&self, file: &str) -> Result<SecretString> {
        let is_stdin = matches!(file, "-" | "/dev/stdin" | "/dev/fd/0" | "/proc/self/fd/0");
        let SecretName { name, option, .. } = self.secret;
        if is_stdin && self.stdin_is_data {
            return Err(Error::usage(format!(
                "standard input is the data: the {name} cannot come from it too"
            ))
            .hint(format!("put it into a file of its own, or use {option}-command")));
        }
        let cannot = |e: std::io::Error| {
            Error::usage(format!("cannot read the {name} file {file}"))
                .because(e)
                .hint("does it exist, and may this user read it?")
        };
        let mut bytes = Vec::new();
        if file == "-" {
            std::io::stdin().take(LONGEST).read_to_end(&mut bytes).map_err(cannot)?;
        } else {
            bytes = std::fs::read(file).map_err(cannot)?;
        }
        self.first_line(bytes, file)
    }

    fn prompt(&self) -> Result<SecretString> {
        let SecretName { name, option, variables: [variable, ..] } = self.secret;
        let ask = |prompt: &str| {
            rpassword::prompt_password(prompt).map_err(|e| {
                if e.kind() == std::io::ErrorKind::Interrupted {
                    return Error::interrupted();
                }
                Error::usage(format!("no {name} was given, and there is no terminal to ask at"))
                    .because(e)
                    .hint(format!("give {option}-file FILE, {option}-command CMD or {variable}"))
            })
        };
        let mut first = name.to_string();
        first[..1].make_ascii_uppercase();
        let secret = ask(&format!("{first}: "))?;
        if self.twice && ask("Again: ")? != secret {
            return Err(Error::usage(format!("the two {name}s differ")).hint("run it again"));
        }
        self.first_line(secret.into_bytes(), "what was typed")
    }

    fn run_command(&self, command: &str) -> Result<SecretString> {
        let name = self.secret.name;
        let output = super::process::shell(command).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
        let output = output.context(|| format!("cannot run the {name} command"))?;
        if !output.status.success() {
            return Err(Error::usage(format!("the {name} command failed ({})", output.status))
                .hint(format!("run it by hand; it must print the {name} and exit with 0")));
        }
        self.first_line(output.stdout, &format!("the {name} command's output"))
    }

    /// The first line without its newline, as gpg reads a passphrase file; the same wherever it comes from.
    fn first_line(&self, bytes: Vec<u8>, from: &str) -> Result<SecretString> {
        let line = bytes.split(|&b| b == b'\n').next().unwrap_or_default().to_vec();
        let hint = "other tools would read another one: use text without such bytes";
        // gpg would end it there.
        if line.contains(&0) {
            let name = self.secret.name;
            return Err(Error::usage(format!("the {name} has a NUL in it: {from}")).hint(hint));
        }
        let text = String::from_utf8(line).map_err(|_| {
            Error::usage(format!("{from} does not begin with a line of UTF-8 text")).hint(hint)
        })?;
        self.not_empty(text, from)
    }

    fn not_empty(&self, secret: String, from: &str) -> Result<SecretString> {
        if !secret.is_empty() {
            return Ok(SecretString::from(secret));
        }
        let hint = match self.secret == PASSPHRASE {
            true => {
                "an empty passphrase protects nothing; --no-encrypt stores in the clear, if that is wanted"
                    .into()
            }
            false => format!("put it into the first line of {}-file FILE", self.secret.option),
        };
        Err(Error::usage(format!("the {} is empty: {from}", self.secret.name)).hint(hint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    #[test]
    fn the_first_line_counts() {
        let any = Sources::default();
        let read = |text: &str| any.first_line(text.into(), "x").map(|p| p.expose_secret().to_string());
        assert_eq!(read("secret\nmore\n").unwrap(), "secret");
        assert_eq!(read("secret").unwrap(), "secret");
        assert_eq!(read(" spaced \n").unwrap(), " spaced ");
        assert_eq!(read("\nsecond\n").unwrap_err().kind().exit_code(), 2);
        // As gpg, which keeps what other systems end their lines with.
        assert_eq!(read("secret\r\n").unwrap(), "secret\r");
    }

    #[test]
    fn what_other_tools_would_read_in_another_way_is_refused_with_a_hint() {
        for bytes in [&b"\xff\n"[..], b"a\0b", b"\0"] {
            let error = Sources::default().first_line(bytes.to_vec(), "x").unwrap_err();
            assert_eq!(error.kind().exit_code(), 2, "{error}");
            assert!(error.hint_text().is_some_and(|hint| hint.contains("other tools")), "{error:?}");
        }
        // What stands below the first line is no part of it.
        assert!(Sources::default().first_line(b"a\n\0\xff".to_vec(), "x").is_ok());
    }

    const OTHER: SecretName = SecretName {
        name: "door code",
        option: "--door-code",
        variables: ["DOOR_CODE", "DOOR_CODE_FILE", "DOOR_CODE_COMMAND"],
    };

    #[test]
    fn an_empty_secret_is_called_by_its_name() {
        let error = Sources::of(OTHER).first_line(Vec::new(), "x").unwrap_err();
        assert_eq!(error.to_string(), "the door code is empty: x");
        assert_eq!(error.hint_text(), Some("put it into the first line of --door-code-file FILE"));
        let error = Sources::default().first_line(Vec::new(), "x").unwrap_err();
        assert_eq!(error.to_string(), "the passphrase is empty: x");
        assert!(error.hint_text().unwrap().contains("--no-encrypt stores in the clear"));
    }

    #[test]
    fn a_setting_leads_to_its_own_secret() {
        assert!(OTHER.is_led_to_by("door_code_file") && OTHER.is_led_to_by("door_code_command"));
        for other in ["door_code", "door_file", "code_file", "passphrase_file", "stop_command", "_file"] {
            assert!(!OTHER.is_led_to_by(other), "{other}");
        }
        assert!(PASSPHRASE.is_led_to_by("passphrase_command"));
    }

    #[test]
    fn no_child_inherits_the_variables_of_the_passphrase() {
        assert!(
            [PASSPHRASE, NEW_PASSPHRASE]
                .iter()
                .all(|secret| { secret.variables.iter().all(|name| VARIABLES.contains(name)) })
        );
    }

    #[test]
    fn standard_input_that_is_data_gives_no_secret() {
        let file = Some("-".to_string());
        let error = Sources { file, stdin_is_data: true, ..Sources::of(OTHER) }.read().unwrap_err();
        assert_eq!(error.to_string(), "standard input is the data: the door code cannot come from it too");
        assert_eq!(error.hint_text(), Some("put it into a file of its own, or use --door-code-command"));
    }

    #[test]
    fn a_command_must_succeed() {
        let run = |command: &str| Sources::default().run_command(command);
        assert_eq!(run("echo hidden").unwrap().expose_secret(), "hidden");
        assert!(run("echo hidden; exit 1").is_err());
        assert!(run("true").is_err());
    }
}
