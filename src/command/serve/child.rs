//! A run as a process of its own: what befalls it befalls no other, and not the supervisor.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc::Sender;

use super::Told;
use crate::error::{Context, Result};
use crate::host::{notify, process};
use crate::report::event::Sealed;
use crate::report::run::Run;

/// This program, also when its file was replaced since by another version.
const OWN: &str = "/proc/self/exe";
/// Where a run reads the settings: those that hold, whatever stands in the file meanwhile.
const SETTINGS: &str = "/proc/self/fd/0";
/// How long it is read what a run that has ended still says: what it left behind may have its stdout open.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// The last lines of stderr that are kept: what a crash says, and no event does.
const LINES: usize = 8;

/// What a run tells.
#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Line {
    Note {
        message: String,
    },
    Warning {
        message: String,
    },
    Source {
        message: String,
    },
    Error {
        message: String,
        hint: Option<String>,
        code: u8,
    },
    Progress(Moved),
    Sealed(Box<Sealed>),
    Run(Box<Run>),
    #[serde(other)]
    Other,
}

/// What a run has moved so far.
#[derive(Debug, Deserialize)]
pub struct Moved {
    /// Bytes of source.
    pub bytes: u64,
    /// How many there will be, where that is known.
    pub total: Option<u64>,
}

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    pub status: std::io::Result<ExitStatus>,
    /// The last that it wrote to stderr.
    pub said: Vec<String>,
}

impl Ended {
    /// The exit code, and why it did not end by itself.
    pub fn code(&self) -> (u8, Option<String>) {
        match &self.status {
            Ok(status) => match (status.code(), status.signal()) {
                (Some(code), _) => (u8::try_from(code).unwrap_or(1), None),
                (_, signal) => {
                    let signal = signal.unwrap_or_default();
                    let text = format!("its process was killed by signal {signal}");
                    (u8::try_from(128 + signal).unwrap_or(1), Some(text))
                }
            },
            Err(error) => (1, Some(format!("nobody knows how its process ended: {error}"))),
        }
    }
}

/// A process that does a run.
#[derive(Debug)]
pub struct Process(Option<Pid>);

impl Process {
    /// Starts `sealift run NAME`; what it says, and that it has ended, is told.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(name: &str, settings: &str, told: Sender<Told>) -> Result<Self> {
        let mut command = std::process::Command::new(OWN);
        command.arg0("sealift").args(["--config", SETTINGS, "--json", "run", name]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        notify::VARIABLES.iter().for_each(|name| {
            command.env_remove(name);
        });
        let mut child =
            Command::from(command).spawn().context(|| format!("cannot start the run of {name}"))?;
        let pid = process::pid(&child);
        if let Some(mut stdin) = child.stdin.take() {
            let settings = settings.to_string();
            tokio::spawn(async move { stdin.write_all(settings.as_bytes()).await });
        }
        tokio::spawn(watch(name.to_string(), child, told));
        Ok(Process(pid))
    }

    /// Asks it to abort what it has begun. By SIGTERM: whoever runs in the background may have been told to ignore SIGINT.
    pub fn stop(&self) {
        let _ = self.0.map(|pid| kill_process(pid, Signal::TERM));
    }

    /// Kills it, and what it started beside it.
    pub fn kill(&self) {
        let _ = self.0.map(|pid| kill_process_group(pid, Signal::KILL));
    }
}

async fn watch(name: String, mut child: Child, told: Sender<Told>) {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let lines = tokio::spawn({
        let (told, name) = (told.clone(), name.clone());
        async move {
            let Some(stdout) = stdout else { return };
            let mut lines = BufReader::new(stdout).split(b'\n');
            while let Ok(Some(line)) = lines.next_segment().await {
                let text = String::from_utf8_lossy(&line).into_owned();
                let _ = told.send(Told::Line(name.clone(), text)).await;
            }
        }
    });
    let said = tokio::spawn(last_lines(stderr));
    let status = child.wait().await;
    let stop = lines.abort_handle();
    if tokio::time::timeout(LAST_WORDS, lines).await.is_err() {
        stop.abort();
    }
    let stop = said.abort_handle();
    let said = tokio::time::timeout(LAST_WORDS, said).await;
    stop.abort();
    let said = said.ok().and_then(|said| said.ok()).unwrap_or_default();
    let _ = told.send(Told::Ended(name, Ended { status, said })).await;
}

async fn last_lines(from: Option<impl AsyncRead + Unpin>) -> Vec<String> {
    let mut last = Vec::new();
    let Some(from) = from else { return last };
    let mut lines = BufReader::new(from).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        if last.len() == LINES {
            last.remove(0);
        }
        last.push(String::from_utf8_lossy(&line).into_owned());
    }
    last
}
