//! Who else is told of a run, as the settings say it; and `config tell`, whether they can be.

use std::path::Path;

use serde_json::json;

use crate::config::{self, Config};
use crate::error::{Error, Result};
use crate::host::name::host_name;
use crate::report::run::Run;
use crate::report::{Mode, Reporter, names_hint, print};

/// Sends a test message to everybody whom the settings name, or to these.
///
/// # Errors
/// There is nobody, nobody of that name, or somebody could not be told.
pub async fn tell(named: Option<&Path>, names: &[String], mode: Mode, ui: &Reporter) -> Result<()> {
    let file = config::find(named)?.ok_or_else(|| config::no_file("there is nobody to tell"))?;
    let config = Config::open(file)?;
    let tell = config.tell();
    let known = tell.names();
    if known.is_empty() {
        let hint = "add a [ping.NAME], [webhook.NAME] or [mail.NAME]: `sealift config --help`";
        return Err(Error::usage("the settings name nobody to tell").hint(hint));
    }
    if let Some(name) = names.iter().find(|name| !known.contains(&name.as_str())) {
        let hint = names_hint(name, &known).unwrap_or_default();
        return Err(Error::usage(format!("nobody is called {name}")).hint(hint));
    }
    let told = tell.test(&host_name().unwrap_or_else(|| "this host".into()), names).await;
    for (name, failed) in &told {
        match (mode, failed) {
            (Mode::Json, _) => print(&json!({"name": name, "error": failed}).to_string())?,
            (_, Some(text)) => ui.warn(text),
            (Mode::Human, None) => print(&format!("{name} was told"))?,
            (Mode::Quiet, None) => {}
        }
    }
    let failed = told.iter().filter(|(_, failed)| failed.is_some()).count();
    match failed {
        0 => Ok(()),
        failed => Err(Error::failed(format!("{failed} of {} could not be told", told.len()))),
    }
}

/// Tells how a run ended that could not tell it itself. It fails nothing.
pub async fn ended(run: &Run, config: &Config, ui: &Reporter) {
    config.tell().ended(run).await.iter().for_each(|text| ui.warn(text));
}
