//! What a killed run left undone at this host's engine.

use crate::docker::Engine;
use crate::report::Reporter;

/// Starts, before another run begins, what a killed one left stopped. An engine that is not there has nothing of that kind.
pub async fn put_right(ui: &Reporter) {
    let engine = match Engine::connect().await {
        Ok(engine) => engine,
        Err(error) => return ui.detail(&format!("nothing is put right at the engine: {error}")),
    };
    for error in engine.put_right(ui).await {
        ui.warn(&error.to_string());
    }
}
