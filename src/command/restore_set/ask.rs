//! Questions before a step, and what was answered.

use std::io::BufRead;

use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::job::until;
use crate::preset::{Action, Step};
use crate::report::relay_stderr;

/// What is to become of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is done.
    Do,
    /// The next one is asked for.
    Skip,
    /// Its commands are printed, and it is asked for again.
    Print,
    /// Nothing more is done.
    Quit,
}

impl Answer {
    /// What was typed; none where that is no answer. Whoever types nothing wants nothing done.
    fn of(typed: &str, deletes: bool) -> Option<Answer> {
        match typed.trim() {
            "yes" => Some(Answer::Do),
            "y" if !deletes => Some(Answer::Do),
            "s" | "skip" => Some(Answer::Skip),
            "p" | "print" => Some(Answer::Print),
            "" | "q" | "quit" => Some(Answer::Quit),
            _ => None,
        }
    }
}

/// Asks what is to become of the actions of a step that are left.
pub(super) async fn about(
    number: usize,
    step: &Step,
    actions: &[Action],
    cancel: &CancellationToken,
) -> Result<Answer> {
    let deleting = actions.iter().filter_map(|action| match action {
        Action::Delete(line) => Some(line.as_str()),
        _ => None,
    });
    let deleting: Vec<_> = deleting.collect();
    let deletes = !deleting.is_empty();
    let mut question = String::new();
    if step.on_condition {
        question.push_str("Do it only where that is so.\n");
    }
    match deletes {
        true => question.push_str(&format!(
            "It DELETES what is there: {}\nDo step {number}? [yes] do it, [s]kip, [p]rint, [Q]uit: ",
            deleting.join("; ")
        )),
        false => question.push_str(&format!("Do step {number}? [y]es, [s]kip, [p]rint, [Q]uit: ")),
    }
    loop {
        let typed = line(&question, cancel).await?;
        // The end of the input is nobody's consent.
        let answer = typed.map_or(Some(Answer::Quit), |typed| Answer::of(&typed, deletes));
        if let Some(answer) = answer {
            return Ok(answer);
        }
    }
}

/// Asks whether something was done by hand.
pub(super) async fn is_done(cancel: &CancellationToken) -> Result<bool> {
    let typed = line("Is it done, or not needed? [y/N]: ", cancel).await?;
    Ok(typed.is_some_and(|typed| ["y", "yes"].contains(&typed.trim())))
}

/// What is typed behind a question; none at the end of the input.
async fn line(question: &str, cancel: &CancellationToken) -> Result<Option<String>> {
    relay_stderr(question.as_bytes());
    let read = tokio::task::spawn_blocking(|| {
        let mut typed = String::new();
        std::io::stdin().lock().read_line(&mut typed).map(|len| (len > 0).then_some(typed))
    });
    until(cancel, async {
        let typed = read.await.map_err(|e| Error::failed("a worker died").because(e))?;
        typed.map_err(|e| Error::failed("cannot read the answer").because(e))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_types_nothing_wants_nothing_done() {
        for (typed, answer) in [
            ("y\n", Some(Answer::Do)),
            ("yes", Some(Answer::Do)),
            (" s \n", Some(Answer::Skip)),
            ("p", Some(Answer::Print)),
            ("\n", Some(Answer::Quit)),
            ("quit", Some(Answer::Quit)),
            ("Y?", None),
        ] {
            assert_eq!(Answer::of(typed, false), answer, "{typed:?}");
        }
    }

    #[test]
    fn a_step_that_deletes_takes_the_whole_word() {
        assert_eq!((Answer::of("y", true), Answer::of("yes\n", true)), (None, Some(Answer::Do)));
    }
}
