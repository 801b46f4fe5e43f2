//! What a check found.

use std::fmt;

/// What a check means for backups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Nothing is to be done.
    Ok,
    /// Backups can be made, but something should be changed.
    Warn,
    /// Backups cannot be made, or not be relied on.
    Fail,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "fail",
        })
    }
}

/// One check: what was looked at, what was found, and what is to be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub check: String,
    /// What that means.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to change; nothing where all is well.
    pub change: Option<String>,
}

impl Finding {
    /// All is well.
    pub fn ok(check: impl Into<String>, found: impl Into<String>) -> Self {
        Finding { check: check.into(), verdict: Verdict::Ok, found: found.into(), change: None }
    }

    /// Something should be changed.
    pub fn warn(check: impl Into<String>, found: impl Into<String>, change: impl Into<String>) -> Self {
        Finding { verdict: Verdict::Warn, change: Some(change.into()), ..Self::ok(check, found) }
    }

    /// Something must be changed.
    pub fn fail(check: impl Into<String>, found: impl Into<String>, change: impl Into<String>) -> Self {
        Finding { verdict: Verdict::Fail, ..Self::warn(check, found, change) }
    }

    /// The same with another verdict.
    pub fn with(self, verdict: Verdict) -> Self {
        Finding { verdict, ..self }
    }
}

/// `warn  store: what was found; what to change`
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:4}  {}: {}", self.verdict, self.check, self.found)?;
        match &self.change {
            Some(change) => write!(f, "; {change}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line_and_the_worst_counts() {
        let finding = Finding::warn("gpg", "none", "install it");
        assert_eq!(finding.to_string(), "warn  gpg: none; install it");
        assert_eq!(Finding::ok("gpg", "2.4").to_string(), "ok    gpg: 2.4");
        let all = [Finding::ok("a", "b"), Finding::fail("a", "b", "c"), finding];
        assert_eq!(all.iter().map(|finding| finding.verdict).max(), Some(Verdict::Fail));
    }
}
