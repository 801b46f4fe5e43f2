//! What a killed run left undone at this host's engine.

use crate::report::Reporter;

/// Puts it right, before another run begins. There is nothing of that kind yet: what runs start ends with them, and what they
/// leave in a store is the matter of `clean`.
pub async fn put_right(_ui: &Reporter) {}
