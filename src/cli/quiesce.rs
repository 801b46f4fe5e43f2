//! What is held still while a source is read.

use std::time::Duration;

use clap::Args;

use super::duration;
use crate::docker::quiesce::QuiesceRequest;
use crate::error::{Error, Result};

/// What of containers and services is held still.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Quiesce")]
pub struct QuiesceOptions {
    /// Stop a container while the source is read
    ///
    /// By name, id or Compose service; repeatable. From just before the source is opened to its end, not until the upload's;
    /// then it is started again, whatever became of the backup. What did not run before does not run after. Those that
    /// depend on others (Compose's depends_on, the label sealift.depends-on) are stopped first and started last. What a
    /// killed run has left stopped, the next backup on this engine starts
    #[arg(long, value_name = "CONTAINER")]
    stop: Vec<String>,
    /// The same, but paused: its processes stand still
    #[arg(long, value_name = "CONTAINER")]
    pause: Vec<String>,
    /// Scale a service of the swarm to 0 meanwhile
    ///
    /// And back to its number of replicas. Needs the engine of a manager
    #[arg(long, value_name = "SERVICE")]
    scale_down: Vec<String>,
    /// Do what labels of containers and services say
    ///
    /// sealift.stop-during-backup, sealift.pause-during-backup: true, or jobs with commas between them; of a service below
    /// `deploy`, it is scaled to 0. sealift.exec.before and sealift.exec.after: commands for `sh -c` in the container, as the
    /// user in sealift.exec.before.user, for the jobs in sealift.exec.job; a first one that fails fails the backup, and the
    /// other is run whatever becomes of it. The labels docker-volume-backup.stop-during-backup, -no-restart, archive-pre,
    /// archive-post and exec-label of offen/docker-volume-backup mean the same
    #[arg(long)]
    quiesce: bool,
    /// What a container has to stop before it is killed
    ///
    /// As in 30s; otherwise its own, or 10s
    #[arg(long, value_name = "TIME", value_parser = duration)]
    stop_timeout: Option<Duration>,
    /// Hold nothing longer than this
    ///
    /// As in 10m; then what was stopped is started again, and the rest is read while it runs: the backup has a warning, exit
    /// code 3, or with --strict there is none
    #[arg(long, value_name = "TIME", value_parser = duration)]
    quiesce_limit: Option<Duration>,
}

impl QuiesceOptions {
    /// What is held still, as a plain request; none where nothing is.
    ///
    /// # Errors
    /// An option means nothing without another.
    pub fn request(self) -> Result<Option<QuiesceRequest>> {
        let QuiesceOptions { stop, pause, scale_down, quiesce, stop_timeout, quiesce_limit } = self;
        let request = QuiesceRequest {
            stop,
            pause,
            scale_down,
            labelled: quiesce,
            using: None,
            stop_timeout,
            limit: quiesce_limit,
        };
        let both = request.stop.iter().find(|name| request.pause.contains(name));
        match both {
            Some(name) => {
                Err(Error::usage(format!("{name} is to be stopped and paused")).hint("leave one of them out"))
            }
            None => Ok((!request.is_nothing()).then_some(request)),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        options: QuiesceOptions,
    }

    fn request(line: &str) -> Result<Option<QuiesceRequest>> {
        Line::try_parse_from(line.split(' ')).unwrap().options.request()
    }

    #[test]
    fn nothing_is_held_unless_it_is_said() {
        assert_eq!(request("x").unwrap(), None);
        assert_eq!(request("x --stop-timeout 30s").unwrap(), None);
        assert!(request("x --quiesce").unwrap().unwrap().labelled);
    }

    #[test]
    fn every_option_arrives() {
        let line = "x --stop a --stop b --pause c --scale-down d --stop-timeout 30s --quiesce-limit 10m";
        let found = request(line).unwrap().unwrap();
        let (c, d) = (vec!["c".to_string()], vec!["d".to_string()]);
        assert_eq!((found.stop.join(" ").as_str(), found.pause, found.scale_down), ("a b", c, d));
        assert_eq!(
            found.stop_timeout.zip(found.limit).map(|(a, b)| (a.as_secs(), b.as_secs())),
            Some((30, 600))
        );
        assert_eq!(request("x --stop a --pause a").unwrap_err().kind().exit_code(), 2);
    }
}
