//! The `sealift` command.

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use sealift::cli::{Cli, Verb};
use sealift::command::backup::Outcome;
use sealift::command::{backup, cat, copy, list, ls, restore, show, verify};
use sealift::error::{Context, Error, Result};
use sealift::progress::Ui;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let (mode, verbose) = cli.view.mode();
    let ui = Ui::new(mode, verbose);
    let ui = if cli.verb.writes_data() { ui.leaving_stdout() } else { ui };
    if let Verb::Completions { shell } = cli.verb {
        clap_complete::generate(shell, &mut Cli::command(), "sealift", &mut std::io::stdout());
        return ExitCode::SUCCESS;
    }
    let runtime = match tokio::runtime::Runtime::new().context(|| "cannot start".into()) {
        Ok(runtime) => runtime,
        Err(error) => return fail(&ui, &error),
    };
    let outcome = runtime.block_on(run(cli, &ui));
    // A thread may still wait for standard input; nobody waits for it.
    runtime.shutdown_background();
    match outcome {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Warned) => ExitCode::from(3),
        Ok(Outcome::Exited(code)) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Err(error) => fail(&ui, &error),
    }
}

fn fail(ui: &Ui, error: &Error) -> ExitCode {
    ui.error(error);
    ExitCode::from(error.kind().exit_code())
}

async fn run(cli: Cli, ui: &Ui) -> Result<Outcome> {
    let cancel = on_signals()?;
    let (mode, _) = cli.view.mode();
    match cli.verb {
        // These two clear away what they began.
        Verb::Backup(what) => {
            let (source, options) = what.resolve()?;
            return backup::backup(source, options, ui, &cancel).await;
        }
        Verb::Copy(options) => copy::copy(options, ui, &cancel).await?,
        Verb::Restore(options) => return restore::restore(options, ui, &cancel).await,
        Verb::Verify(options) => until(&cancel, verify::verify(options, ui)).await?,
        Verb::List(options) => until(&cancel, list::list(options, mode, ui)).await?,
        Verb::Ls(options) => until(&cancel, ls::ls(options, mode, ui)).await?,
        Verb::Cat(options) => until(&cancel, cat::cat(options, ui)).await?,
        Verb::Show(options) => until(&cancel, show::show(options, mode)).await?,
        Verb::Completions { .. } => {}
    }
    Ok(Outcome::Done)
}

/// Work that only reads can be left at any point.
async fn until(cancel: &CancellationToken, work: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(Error::interrupted()),
        done = work => done,
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
