//! What becomes of the steps that bring a set back.

use std::fmt;

use serde::Serialize;

/// A part of a plan that brings a set back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// The run of the set: `NAME@ID`.
    pub set: String,
    /// The step, from 1.
    pub step: usize,
    /// What is done in it, from 1.
    pub action: usize,
    /// What the step brings back, and what must be so before it.
    pub title: String,
    /// The line for a shell, or a comment.
    pub command: String,
    /// What becomes of it.
    pub state: StepState,
}

/// What becomes of a part of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepState {
    /// It is only shown.
    Planned,
    /// It is being done.
    Begun,
    /// It was done.
    Done,
    /// It is for a person to do.
    ByHand,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Step { step, action, command, .. } = self;
        match self.state {
            StepState::Planned | StepState::Begun => write!(f, "step {step}.{action}: {command}"),
            StepState::Done => write!(f, "step {step}.{action}: done"),
            StepState::ByHand => write!(f, "step {step}.{action}, by hand: {command}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_says_where_in_the_plan_it_is_and_what_becomes_of_it() {
        let shown = |state| {
            let (set, title, command) = ("s@ID".into(), "Swarm".into(), "systemctl stop docker".into());
            Step { set, step: 2, action: 3, title, command, state }.to_string()
        };
        assert_eq!(shown(StepState::Begun), "step 2.3: systemctl stop docker");
        assert_eq!(shown(StepState::Done), "step 2.3: done");
        assert_eq!(shown(StepState::ByHand), "step 2.3, by hand: systemctl stop docker");
    }
}
