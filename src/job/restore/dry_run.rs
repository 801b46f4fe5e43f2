//! What a restore would do, and would meet where it leads to.

use super::{Handing, Plan, RestoreRequest};
use crate::error::Result;
use crate::report::{Event, Reporter, event};
use crate::sink::target::{self, RestoreTarget, State};

/// Tells what would be restored; nothing is written anywhere.
///
/// # Errors
/// The restore would be refused.
pub(super) async fn tell(plan: &Plan, request: &RestoreRequest, ui: &Reporter) -> Result<()> {
    if let RestoreTarget::Volume(volume) = &request.target {
        plan.original_volume(volume)?;
    }
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
        _ => Ok(()),
    }
}
