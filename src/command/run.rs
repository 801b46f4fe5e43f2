//! `run`: a job, a set or a schedule of the settings once, with its hooks and within its time.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::dispatch::work;
use crate::cli::{Prescan, RunOptions};
use crate::config::{self, Config, Entry, ParseError};
use crate::error::{Error, Kind, Result};
use crate::host::name::host_name;
use crate::job::Outcome;
use crate::job::put_right::put_right;
use crate::report::run::{Run, RunState};
use crate::report::{Event, Mode, Recording, Reporter};
use crate::tell::Telling;

/// How long a run that is over its time has to abort what it has begun.
const ENDING: Duration = Duration::from_secs(60);

/// Runs what the settings call by this name.
///
/// # Errors
/// There is none of that name; its own; it took too long; its hook `before` failed.
pub async fn run(
    options: &RunOptions,
    config: Option<&Config>,
    mode: Mode,
    ui: &Reporter,
    cancel: &CancellationToken,
) -> Result<Outcome> {
    let name = &options.run_name;
    let config = config.ok_or_else(|| config::no_file(&format!("no job, set or schedule {name}")))?;
    let entry = config.entry(name)?;
    let new = Run::new(name, entry.verb(), &host_name().unwrap_or_default());
    let record = Recording::new(new, ui.clone());
    let ui = &Reporter::new(record.clone());
    put_right(ui).await;
    ui.emit(Event::Run(record.run()));
    let telling = Telling::of(&Arc::new(config.tell()), &record.run());
    let ended = carry_out(&entry, config, mode, ui, cancel, &record).await;
    close(&record, &ended);
    ui.emit(Event::Run(record.run()));
    telling.end(&record.run()).await.iter().for_each(|text| ui.warn(text));
    ended
}

/// Does it, with the hooks around it.
async fn carry_out(
    entry: &Entry,
    config: &Config,
    mode: Mode,
    ui: &Reporter,
    cancel: &CancellationToken,
    record: &Recording,
) -> Result<Outcome> {
    let (hooks, run) = (&entry.hooks, record.run());
    let before = match hooks.get("before") {
        Some(command) => tokio::select! {
            biased;
            () = cancel.cancelled() => Err(Error::interrupted()),
            ended = command.run("before", &run, hooks.limit, ui) => ended,
        },
        None => Ok(()),
    };
    let mut ended = match before {
        Ok(()) => within_limit(entry, config, mode, ui, cancel).await,
        Err(error) => Err(error),
    };
    // What `before` stopped goes on first of all.
    for after in [true, false] {
        close(record, &ended);
        let run = record.run();
        let hook = match run.state {
            _ if after => "after",
            RunState::Succeeded => "success",
            RunState::Warned => "warning",
            RunState::Started | RunState::Failed => "failure",
        };
        let Some(command) = hooks.get(hook) else { continue };
        if let Err(error) = command.run(hook, &run, hooks.limit, ui).await {
            ui.warn(&error.to_string());
            ended = ended.map(|outcome| if outcome == Outcome::Done { Outcome::Warned } else { outcome });
        }
    }
    ended
}

/// Writes down how it ended.
fn close(record: &Recording, ended: &Result<Outcome>) {
    let code = match ended {
        Ok(Outcome::Done) => 0,
        Ok(Outcome::Warned) => 3,
        Ok(Outcome::Exited(code)) => u8::try_from(*code).unwrap_or(1),
        Err(error) => error.kind().exit_code(),
    };
    record.with(|run| {
        if let Err(error) = ended {
            run.error = Some(error.to_string());
            run.hint = error.hint_text().map(String::from);
        }
        run.end(code);
    });
}

/// Does the work; over its time it is stopped as by Ctrl-C, and when that takes too long it is left to the process's end.
async fn within_limit(
    entry: &Entry,
    config: &Config,
    mode: Mode,
    ui: &Reporter,
    cancel: &CancellationToken,
) -> Result<Outcome> {
    let stop = cancel.child_token();
    let words = std::iter::once("sealift").chain(entry.words.iter().map(String::as_str));
    let words: Vec<OsString> = words.map(OsString::from).collect();
    let parsed = config::read(Some(config), Prescan::of(&words).as_ref(), &words);
    let config::Parsed { cli, explicit } = parsed.map_err(|error| match error {
        ParseError::Settings(error, _) => error,
        ParseError::Words(error) => Error::usage(error.to_string()).hint("`sealift config check`"),
    })?;
    let mut work = Box::pin(work(cli, Some(config), explicit, mode, ui, &stop));
    let Some(limit) = entry.time_limit else { return work.await };
    tokio::select! {
        biased;
        ended = &mut work => return ended,
        () = tokio::time::sleep(limit) => {}
    }
    let over = || {
        let name = &entry.name;
        Error::failed(format!("{name} took longer than {limit:?}, its time_limit, and was stopped"))
    };
    ui.note(&format!("{} has reached its time_limit: it is stopped", entry.name));
    stop.cancel();
    match tokio::time::timeout(ENDING, work).await {
        // It had just come to its end.
        Ok(Ok(outcome)) => Ok(outcome),
        Ok(Err(error)) if error.kind() == Kind::Interrupted && !cancel.is_cancelled() => {
            Err(over().and_hints_of(&error).and_hint("give it more time, or find out what it waited for"))
        }
        Ok(Err(error)) => Err(error),
        Err(_) => Err(over().hint("it did not even stop: what it began may be left; see `sealift clean`")),
    }
}
