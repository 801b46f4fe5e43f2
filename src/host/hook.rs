//! Commands of the operator's that are run around a run, on this host.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::process::{pid, program, shell};
use crate::error::{Context, Error, Result};
use crate::report::run::Run;
use crate::report::{Lines, Reporter};

/// How long a hook that is over its time has to end by itself.
const ENDING: Duration = Duration::from_secs(5);
/// How long it is read what a hook that has ended still says: a process that it left may have its stdout open for ever.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookCommand {
    /// A program and its arguments.
    Words(Vec<String>),
    /// A line for the shell.
    Line(String),
}

impl HookCommand {
    /// Runs it to its end: it reads `run` as JSON, and what it says is shown. `hook` is what it is called.
    ///
    /// # Errors
    /// It cannot be started, does not end with 0, or not within the limit: then it and all that it started is killed.
    pub async fn run(&self, hook: &str, run: &Run, limit: Duration, ui: &Reporter) -> Result<()> {
        let mut child = self.start(run).context(|| format!("cannot start the hook `{hook}`"))?;
        // Nobody has to read it: a closed pipe is no failure.
        let json = serde_json::to_vec(run).unwrap_or_default();
        let stdin = child.stdin.take();
        let fed = tokio::spawn(async move {
            if let Some(mut stdin) = stdin {
                let _ = stdin.write_all(&json).await;
            }
        });
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let mut shown = tokio::spawn({
            let ui = ui.clone();
            async move { tokio::join!(show(stdout, &ui), show(stderr, &ui)) }
        });
        let ended = match tokio::time::timeout(limit, child.wait()).await {
            Ok(ended) => ended.context(|| format!("cannot wait for the hook `{hook}`")).map(Some),
            Err(_) => end(&mut child).await.map(|()| None),
        };
        if tokio::time::timeout(LAST_WORDS, &mut shown).await.is_err() {
            shown.abort();
        }
        fed.abort();
        match ended? {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(Error::failed(format!("the hook `{hook}` failed: {status}"))
                .hint("what it said stands above, as `source:`")),
            None => {
                Err(Error::failed(format!("the hook `{hook}` was killed: it took longer than {limit:?}"))
                    .hint("hook_time_limit gives it more time"))
            }
        }
    }

    fn start(&self, run: &Run) -> std::io::Result<Child> {
        let command = match self {
            HookCommand::Line(line) => shell(line),
            HookCommand::Words(words) => {
                let (first, rest) = words.split_first().map_or(("", &[][..]), |(first, rest)| (first, rest));
                let mut command = program(first);
                command.args(rest);
                command
            }
        };
        let mut command = Command::from(command);
        command
            .env("SEALIFT_RUN_NAME", &run.name)
            .env("SEALIFT_RUN_STATE", run.state.word())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // What it starts can be ended with it, and Ctrl-C does not reach it: what it has begun it ends.
            .process_group(0)
            .kill_on_drop(true);
        command.spawn()
    }
}

/// Ends a hook and all that it started.
async fn end(child: &mut Child) -> Result<()> {
    let Some(group) = pid(child) else { return Ok(()) };
    let _ = kill_process_group(group, Signal::TERM);
    let _ = tokio::time::timeout(ENDING, child.wait()).await;
    // Also those that its first process has left behind.
    let _ = kill_process_group(group, Signal::KILL);
    child.wait().await.context(|| "cannot wait for a hook".into())?;
    Ok(())
}

/// Shows what a hook says, line by line.
async fn show(from: Option<impl AsyncRead + Unpin>, ui: &Reporter) {
    if let Some(from) = from {
        Lines::default().read(from, ui).await;
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::Pid;

    use super::*;
    use crate::report::Recorder;

    const LIMIT: Duration = Duration::from_secs(60);

    async fn run(command: HookCommand, limit: Duration) -> (Result<()>, Vec<String>) {
        let recorder = Recorder::default();
        let ended = command
            .run("before", &Run::new("db", "backup", "host"), limit, &Reporter::new(recorder.clone()))
            .await;
        (ended, recorder.texts())
    }

    fn line(text: &str) -> HookCommand {
        HookCommand::Line(text.into())
    }

    #[tokio::test]
    async fn it_reads_the_run_and_what_it_says_is_shown() {
        let script = "cat; echo; echo \"$SEALIFT_RUN_NAME $SEALIFT_RUN_STATE\"; echo no >&2";
        let (ended, texts) = run(line(script), LIMIT).await;
        assert!(ended.is_ok(), "{ended:?}");
        let json = texts.iter().find_map(|text| text.strip_prefix("source: {")).unwrap();
        let read: Run = serde_json::from_str(&format!("{{{json}")).unwrap();
        assert_eq!((read.name.as_str(), read.verb.as_str()), ("db", "backup"));
        assert!(
            texts.contains(&"source: db started".into()) && texts.contains(&"source: no".into()),
            "{texts:?}"
        );
    }

    #[tokio::test]
    async fn words_are_no_line_for_a_shell() {
        let words = HookCommand::Words(["echo", "$HOME", "a b"].map(String::from).into());
        assert_eq!(run(words, LIMIT).await.1, ["source: $HOME a b"]);
        let none = HookCommand::Words(vec!["/none".into()]);
        let error = run(none, LIMIT).await.0.unwrap_err().to_string();
        assert!(error.starts_with("cannot start the hook `before`: "), "{error}");
    }

    #[tokio::test]
    async fn one_that_fails_or_reads_nothing_or_leaves_a_process_is_ended_with() {
        let (ended, _) = run(line("exit 7"), LIMIT).await;
        assert_eq!(ended.unwrap_err().to_string(), "the hook `before` failed: exit status: 7");
        assert!(run(line("exec <&-"), LIMIT).await.0.is_ok());
        // It has our pipe for an hour.
        let began = std::time::Instant::now();
        let (ended, texts) = run(line("sleep 3600 & echo $!"), LIMIT).await;
        assert!(ended.is_ok() && began.elapsed() < LIMIT, "{ended:?}");
        let pid = texts[0].trim_start_matches("source: ").parse().unwrap();
        rustix::process::kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    }

    #[tokio::test]
    async fn over_its_limit_it_is_killed_with_all_that_it_started() {
        let script = "sleep 3600 & echo $!; wait";
        let (ended, texts) = run(line(script), Duration::from_secs(1)).await;
        let error = ended.unwrap_err();
        assert!(error.to_string().contains("took longer than 1s"), "{error}");
        let pid: u32 = texts[0].trim_start_matches("source: ").parse().unwrap();
        let is_gone =
            || !std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z"));
        while !is_gone() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
