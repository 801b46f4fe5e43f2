//! What is shown while a verb does its work.

use clap::Args;

use crate::report::Mode;

/// What is shown while it runs.
#[derive(Debug, Clone, Args)]
pub struct View {
    /// Print events as JSON lines on stdout
    #[arg(long, global = true, conflicts_with = "quiet")]
    json: bool,
    /// Print warnings and errors only
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Print details
    ///
    /// The settings file, the memory bound, the largest archive that it allows.
    #[arg(short, long, global = true)]
    verbose: bool,
}

impl View {
    /// How to show the run.
    pub fn mode(&self) -> (Mode, bool) {
        let mode = match (self.json, self.quiet) {
            (true, _) => Mode::Json,
            (_, true) => Mode::Quiet,
            _ => Mode::Human,
        };
        (mode, self.verbose)
    }
}
