//! `completions`: a script for a shell.

use crate::cli::{Shell, complete};
use crate::error::Result;
use crate::report::print_text;

/// Prints the completion script of a shell.
///
/// # Errors
/// It cannot be printed.
pub fn completions(shell: Shell) -> Result<()> {
    print_text(&complete::script(shell)?)
}
