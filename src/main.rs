//! The `sealift` command.

use std::process::ExitCode;

use clap::CommandFactory;
use sealift::cli::{Backup, Cli, Settings, Subject, Verb};
use sealift::command::{cat, config, list, ls, restore_set, show};
use sealift::config::{Config, ExplicitArg, ParseError, Parsed};
use sealift::error::{Context, Error, Result};
use sealift::job::backup::Outcome;
use sealift::job::{backup, copy, diff, plan, restore, set, until, verify};
use sealift::preset::Preset;
use sealift::report::Reporter;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    let Parsed { cli, config, given } = match sealift::config::parse(std::env::args_os()) {
        Ok(parsed) => parsed,
        Err(ParseError::Words(error)) => error.exit(),
        Err(ParseError::Settings(error, view)) => {
            let (mode, verbose) = view.mode();
            return fail(&Reporter::new(mode, verbose).leaving_stdout(), &error);
        }
    };
    let (mode, verbose) = cli.view.mode();
    let ui = Reporter::new(mode, verbose);
    let ui = if cli.verb.writes_data() { ui.leaving_stdout() } else { ui };
    if let Verb::Completions { shell } = cli.verb {
        clap_complete::generate(shell, &mut Cli::command(), "sealift", &mut std::io::stdout());
        return ExitCode::SUCCESS;
    }
    if let Some(config) = &config {
        ui.detail(&format!("the settings are those of {}", config.path().display()));
    }
    let runtime = match tokio::runtime::Runtime::new().context(|| "cannot start".into()) {
        Ok(runtime) => runtime,
        Err(error) => return fail(&ui, &error),
    };
    let outcome = runtime.block_on(run(cli, config, given, &ui));
    // A thread may still wait for standard input; nobody waits for it.
    runtime.shutdown_background();
    match outcome {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Warned) => ExitCode::from(3),
        Ok(Outcome::Exited(code)) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Err(error) => fail(&ui, &error),
    }
}

fn fail(ui: &Reporter, error: &Error) -> ExitCode {
    ui.error(error);
    ExitCode::from(error.kind().exit_code())
}

async fn run(cli: Cli, config: Option<Config>, given: Vec<ExplicitArg>, ui: &Reporter) -> Result<Outcome> {
    let cancel = on_signals()?;
    let (mode, _) = cli.view.mode();
    match cli.verb {
        // These two clear away what they began.
        Verb::Backup(what) => {
            return backup_what(what, config.as_ref(), given, ui, &cancel).await;
        }
        Verb::Plan(options) => {
            return until(&cancel, plan::plan(options, given, config.as_ref(), mode, ui)).await;
        }
        Verb::Copy(options) => copy::copy(options, ui, &cancel).await?,
        Verb::Restore(options) => return restore::restore(options, ui, &cancel).await,
        Verb::RestoreSet(options) => until(&cancel, restore_set::restore_set(options, ui)).await?,
        Verb::Verify(options) => return until(&cancel, verify::verify(options, ui)).await,
        Verb::Diff(options) => return until(&cancel, diff::diff(options, mode, ui)).await,
        Verb::List(options) => until(&cancel, list::list(options, mode, ui)).await?,
        Verb::Ls(options) => until(&cancel, ls::ls(options, mode, ui)).await?,
        Verb::Cat(options) => until(&cancel, cat::cat(options, ui)).await?,
        Verb::Show(options) => until(&cancel, show::show(options, mode)).await?,
        Verb::Config(Settings::Check) => config::check(cli.config.as_deref(), mode, ui)?,
        Verb::Config(Settings::Show) => config::show(cli.config.as_deref(), mode)?,
        Verb::Completions { .. } => {}
    }
    Ok(Outcome::Done)
}

/// One archive, or several.
async fn backup_what(
    what: Backup,
    config: Option<&Config>,
    given: Vec<ExplicitArg>,
    ui: &Reporter,
    cancel: &CancellationToken,
) -> Result<Outcome> {
    if let Backup::Set { options, swarm, ucp, dtr, keep_going, set_name: name } = what {
        let presets =
            vec![Preset::Swarm(swarm.into()), Preset::Ucp((*ucp).into()), Preset::Dtr((*dtr).into())];
        let request = set::SetRequest { name, options: *options, presets, keep_going, given };
        return set::set(request.find(config)?, ui, cancel).await;
    }
    match what.resolve()? {
        (Subject::Source(source), options) => {
            Ok(backup::backup(backup::Task::new(source, options), ui, cancel).await?.outcome)
        }
        (Subject::Preset(preset), options) => set::preset(preset, options, ui, cancel).await,
    }
}

/// A token that is cancelled by Ctrl-C and SIGTERM: the work then aborts cleanly.
fn on_signals() -> Result<CancellationToken> {
    let cancel = CancellationToken::new();
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        let mut signals = signal(kind).context(|| "cannot wait for signals".into())?;
        let cancel = cancel.clone();
        tokio::spawn(async move {
            signals.recv().await;
            cancel.cancel();
            // Whoever asks twice does not want to wait for what is being cleared away.
            signals.recv().await;
            std::process::exit(130);
        });
    }
    Ok(cancel)
}
