//! What a restore would do, and would meet where it leads to.

use super::{Handing, Plan, RestoreRequest};
use crate::error::Result;
use crate::job::Outcome;
use crate::report::{Event, Reporter, event};
use crate::sink::target::{self, State};

/// Tells what would be restored; nothing is written anywhere.
///
/// # Errors
/// The restore would be refused.
pub(super) async fn tell(plan: &Plan, request: &RestoreRequest, ui: &Reporter) -> Result<Outcome> {
    let is_partial = plan.left_out.tell(ui);
    let state = target::look(&request.target).await?;
    ui.emit(Event::PlannedRestore(event::PlannedRestore {
        archive: plan.name.clone(),
        target: request.target.to_string(),
        bytes: plan.bytes(),
        members: matches!(plan.handing, Handing::Members(_)).then_some(plan.members),
        target_is: state.map(|state| state.to_string()),
    }));
    match state {
        Some(State::Filled) if !request.overwrite => Err(target::not_empty(&request.target)),
        _ if is_partial => Ok(Outcome::Warned),
        _ => Ok(Outcome::Done),
    }
}
