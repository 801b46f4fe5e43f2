//! `completions`: a script for a shell.

use crate::cli::{self, Shell};

/// Prints the completion script of a shell.
pub fn completions(shell: Shell) {
    cli::completions(shell, &mut std::io::stdout());
}
