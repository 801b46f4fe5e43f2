//! What the operator should look at although a backup was made, and of which kind it is.

/// A warning: its kind is what the work decides by, its text is for people and for the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// What it is about.
    pub kind: WarningKind,
    /// What is said of it.
    pub text: String,
}

/// What a warning is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WarningKind {
    /// A file changed or vanished while it was read.
    Changed,
    /// A file shrank while it was read: what is stored ends with zeros that it never held.
    Shrunk,
    /// A registry's links name blobs that are not in the backup.
    DanglingLinks,
    /// Members are not what they are expected to be.
    UnmetExpectation,
    /// What was read does not hold what it names itself: it is no backup.
    Incomplete,
    /// Bytes follow the end of the tar.
    TrailingBytes,
    /// An engine that was stopped for the backup does not run again as it did.
    Engine,
    /// Anything else.
    Other,
}

impl Warning {
    /// A warning of a kind.
    pub fn new(kind: WarningKind, text: impl Into<String>) -> Self {
        Warning { kind, text: text.into() }
    }

    /// A warning of no kind that anything is decided by.
    pub fn other(text: impl Into<String>) -> Self {
        Warning::new(WarningKind::Other, text)
    }
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_shown_as_its_text_alone() {
        let warning = Warning::new(WarningKind::Changed, "x: file changed as we read it");
        assert_eq!(warning.to_string(), "x: file changed as we read it");
        assert_eq!(Warning::other("x").kind, WarningKind::Other);
    }
}
