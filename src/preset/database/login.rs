//! Who dumps a database, and how the tool in the container gets the password: from a variable of the container's own
//! environment, which a shell there expands. No password leaves the container or stands on a command line.

/// What the name of a variable ends with that names a file.
pub(super) const FILE: &str = "_FILE";

/// Who dumps a database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Login {
    /// The user's name, where one is needed.
    pub user: Option<String>,
    /// The variable of the container that has the password, or names the file that has it.
    pub password: Option<String>,
}

impl Login {
    /// `--option USER`, where there is one.
    pub fn user_words(&self, option: &str) -> Vec<String> {
        self.user.iter().flat_map(|user| [option.to_string(), user.clone()]).collect()
    }

    /// The command with the password in the variable `target` of its environment.
    pub fn with_password_in(&self, target: &str, command: Vec<String>) -> Vec<String> {
        match self.password_value() {
            Some(value) => in_shell(&format!("export {target}={value}; exec \"$@\""), command),
            None => command,
        }
    }

    /// The password as a shell in the container expands it.
    pub fn password_value(&self) -> Option<String> {
        let is_name = |name: &&str| name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_');
        let name = self.password.as_deref().filter(is_name)?;
        Some(match name.ends_with(FILE) {
            true => format!("\"$(cat \"${name}\")\""),
            false => format!("\"${name}\""),
        })
    }
}

/// The command as the arguments of a script.
pub(super) fn in_shell(script: &str, command: Vec<String>) -> Vec<String> {
    let shell = ["sh", "-c", script, "sh"].map(String::from);
    shell.into_iter().chain(command).collect()
}

/// Words as a command line has them.
pub(super) fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(String::from).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(password: Option<&str>) -> Vec<String> {
        let login = Login { user: None, password: password.map(String::from) };
        login.with_password_in("TARGET", words(["dump", "-x"]))
    }

    #[test]
    fn a_password_is_expanded_in_the_container_alone() {
        assert_eq!(command(None), ["dump", "-x"]);
        let script = "export TARGET=\"$DB_PASSWORD\"; exec \"$@\"";
        assert_eq!(command(Some("DB_PASSWORD")), ["sh", "-c", script, "sh", "dump", "-x"]);
        let script = "export TARGET=\"$(cat \"$DB_PASSWORD_FILE\")\"; exec \"$@\"";
        assert_eq!(command(Some("DB_PASSWORD_FILE")), ["sh", "-c", script, "sh", "dump", "-x"]);
        assert_eq!(command(Some("A; rm -rf /")), ["dump", "-x"], "what is no name is no variable");
    }

    #[test]
    fn a_shell_hands_the_password_to_the_command() {
        for (name, value) in [("DB_PASSWORD", "it's \"$x\" \\"), ("DB_PASSWORD_FILE", "/dev/null")] {
            let login = Login { user: None, password: Some(name.into()) };
            let line = login.with_password_in("TARGET", words(["sh", "-c", "printf %s \"$TARGET\""]));
            let mut shell = std::process::Command::new(&line[0]);
            let said = shell.args(&line[1..]).env(name, value).output().unwrap();
            let expected = if name.ends_with(FILE) { "" } else { value };
            assert_eq!(String::from_utf8_lossy(&said.stdout), expected);
        }
    }
}
