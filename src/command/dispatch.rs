//! The whole command: what was asked for goes to its verb, and how that ended becomes the exit code.

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

use super::parse::{self, Invocation};
use super::{
    adopt, backup, cat, clean, complete, completions, config, copy, diff, doctor, drill, list, ls, man, plan,
    prune, rekey, restore, run, serve, show, status, tell, verify,
};
use crate::cli::{Cli, Settings, Verb, help};
use crate::config::{Config, ExplicitArg, ParseError};
use crate::error::{Context, Error, Kind, Result};
use crate::host::panics;
use crate::host::process::ignores_signal;
use crate::host::threads;
use crate::job::{Outcome, until};
use crate::report::{Mode, Reporter, View};

/// Does what this process's arguments ask for.
// Here and not in main.rs, because futures are compiled by the crate that awaits them last: the library's generic code
// would be compiled once more for the binary.
pub fn run() -> ExitCode {
    // Whatever comes before the view is known is shown as to people.
    panics::report_to(Reporter::new(View::new(Mode::Human, false).leaving_stdout()));
    // A panic has been reported when it arrives here.
    std::panic::catch_unwind(start).unwrap_or_else(|_| ExitCode::from(panics::exit_code().unwrap_or(1)))
}

fn start() -> ExitCode {
    if let Some(answered) = complete::complete() {
        return ExitCode::from(answered.map_or(1, |()| 0));
    }
    let Invocation { cli, config, explicit } = match parse::parse(std::env::args_os()) {
        Ok(parsed) => parsed,
        Err(ParseError::Words(error)) => return ExitCode::from(help::print(&error)),
        Err(ParseError::Settings(error, view)) => {
            let (mode, verbose) = view.mode();
            return fail(&Reporter::new(View::new(mode, verbose).leaving_stdout()), &error);
        }
    };
    let (mode, verbose) = cli.view.mode();
    let view = View::new(mode, verbose);
    let ui = Reporter::new(if cli.verb.writes_data() { view.leaving_stdout() } else { view });
    panics::report_to(ui.clone());
    if let Some(generated) = generate(&cli.verb) {
        return generated.map_or_else(|error| fail(&ui, &error), |()| ExitCode::SUCCESS);
    }
    if let Some(config) = &config {
        ui.detail(&format!("the settings are those of {}", config.path().display()));
    }
    // Before there are threads.
    if writes_to_store(&cli.verb) {
        crate::host::set_private_umask();
    }
    let runtime = match threads::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&ui, &error),
    };
    let work = AssertUnwindSafe(|| runtime.block_on(verb(cli, config, explicit, &ui)));
    let ended = std::panic::catch_unwind(work);
    // A thread may still wait for standard input; nobody waits for it.
    runtime.shutdown_background();
    match ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic)) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Warned) => ExitCode::from(3),
        Ok(Outcome::Exited(code)) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Err(error) => fail(&ui, &error),
    }
}

/// Does what needs neither settings nor threads.
fn generate(verb: &Verb) -> Option<Result<()>> {
    match verb {
        Verb::Completions { shell } => Some(completions::completions(*shell)),
        Verb::Man { dir } => Some(man::man(dir)),
        _ => None,
    }
}

/// Whether files of a `file://` store may be made. A restore must not be among them: folders are made with the umask.
fn writes_to_store(verb: &Verb) -> bool {
    matches!(
        verb,
        Verb::Adopt(_)
            | Verb::Backup(_)
            | Verb::Clean(_)
            | Verb::Copy(_)
            | Verb::Delete(_)
            | Verb::Doctor(_)
            | Verb::Pin(_)
            | Verb::Prune(_)
            | Verb::Rekey(_)
            | Verb::Run(_)
            | Verb::Serve(_)
            | Verb::Verify(_)
    )
}

fn fail(ui: &Reporter, error: &Error) -> ExitCode {
    // Whoever closes a pipe has read enough: nothing has failed.
    if error.kind() == Kind::ClosedPipe {
        return ExitCode::SUCCESS;
    }
    let Some(code) = panics::exit_code() else {
        ui.error(error);
        return ExitCode::from(error.kind().exit_code());
    };
    // Somewhere a thread panicked, which was told. What is only the echo of that is not told too.
    if error.kind() != Kind::Disconnected && error.find::<JoinError>().is_none() {
        ui.error(error);
    }
    ExitCode::from(code)
}

async fn verb(
    cli: Cli,
    config: Option<Config>,
    explicit: Vec<ExplicitArg>,
    ui: &Reporter,
) -> Result<Outcome> {
    let (mode, _) = cli.view.mode();
    match cli.verb {
        // What signals mean to it is another matter.
        Verb::Serve(options) => serve::serve(options, config, ui).await,
        Verb::Run(options) => run::run(&options, config.as_ref(), mode, ui, &on_signals(ui)?).await,
        verb => work(Cli { verb, ..cli }, config.as_ref(), explicit, mode, ui, &on_signals(ui)?).await,
    }
}

/// Does the work of a verb, until it is done or cancelled.
pub(super) async fn work(
    cli: Cli,
    config: Option<&Config>,
    explicit: Vec<ExplicitArg>,
    mode: Mode,
    ui: &Reporter,
    cancel: &CancellationToken,
) -> Result<Outcome> {
    match cli.verb {
        // These two clear away what they began.
        Verb::Backup(what) => {
            return backup::backup(what, explicit, config, mode, ui, cancel).await;
        }
        Verb::Plan(options) => {
            return until(cancel, plan::plan(options, explicit, config, mode, ui)).await;
        }
        Verb::Prune(options) => return prune::prune(*options, config, mode, ui, cancel).await,
        Verb::Pin(options) => until(cancel, prune::pin(options, ui)).await?,
        Verb::Unpin(options) => until(cancel, prune::unpin(options, ui)).await?,
        Verb::Delete(options) => until(cancel, prune::delete(options, ui)).await?,
        Verb::Copy(options) => copy::copy(options, ui, cancel).await?,
        Verb::Rekey(options) => until(cancel, rekey::rekey(options, ui)).await?,
        Verb::Adopt(options) => return until(cancel, adopt::adopt(options, ui)).await,
        Verb::Clean(options) => return until(cancel, clean::clean(options, mode, ui)).await,
        Verb::Restore(options) => return restore::restore(options, mode, ui, cancel).await,
        Verb::Drill(options) => return drill::drill(*options, ui, cancel).await,
        Verb::Verify(options) => return until(cancel, verify::verify(options, ui)).await,
        Verb::Diff(options) => return until(cancel, diff::diff(options, mode, ui)).await,
        Verb::List(options) => until(cancel, list::list(options, mode, ui)).await?,
        Verb::Doctor(options) => {
            let settings = (cli.config.as_deref(), config);
            return until(cancel, doctor::doctor(options, &explicit, settings, mode, ui)).await;
        }
        Verb::Status(options) => {
            return until(cancel, status::status(options, &explicit, config, mode, ui)).await;
        }
        Verb::Ls(options) => until(cancel, ls::ls(options, mode, ui)).await?,
        Verb::Cat(options) => until(cancel, cat::cat(options, ui)).await?,
        Verb::Show(options) => until(cancel, show::show(options, mode, ui)).await?,
        Verb::Config(Settings::Check) => config::check(cli.config.as_deref(), mode, ui)?,
        Verb::Config(Settings::Init { file }) => {
            let file = file.or(cli.config);
            until(cancel, config::init(file.as_deref(), ui)).await?;
        }
        Verb::Config(Settings::Tell { names }) => {
            until(cancel, tell::tell(cli.config.as_deref(), &names, mode, ui)).await?;
        }
        Verb::Config(Settings::Show) => config::show(cli.config.as_deref(), mode)?,
        Verb::Completions { .. } | Verb::Man { .. } | Verb::Run(_) | Verb::Serve(_) => {}
    }
    Ok(Outcome::Done)
}

/// SIGXFSZ.
const FILE_SIZE: i32 = rustix::process::Signal::XFSZ.as_raw();

/// A token that is cancelled by Ctrl-C and SIGTERM: the work then aborts cleanly. What we were told to ignore when we
/// were started (`nohup`) stays ignored.
fn on_signals(ui: &Reporter) -> Result<CancellationToken> {
    let cancel = CancellationToken::new();
    // With a handler, a write beyond the limit on a file's size fails, and is told; without one it kills.
    drop(signal(SignalKind::from_raw(FILE_SIZE)).context(|| "cannot wait for signals".into())?);
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    for kind in kinds.into_iter().filter(|kind| !ignores_signal(kind.as_raw_value())) {
        let mut signals = signal(kind).context(|| "cannot wait for signals".into())?;
        let (cancel, ui) = (cancel.clone(), ui.clone());
        tokio::spawn(async move {
            signals.recv().await;
            cancel.cancel();
            // Whoever asks twice does not want to wait for what is being cleared away.
            signals.recv().await;
            ui.clear();
            ui.error(
                &Error::interrupted().hint("twice: what was begun was not cleared away; see `sealift clean`"),
            );
            std::process::exit(130);
        });
    }
    Ok(cancel)
}
