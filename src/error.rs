//! One error type: what failed, why, and what to do next.

use std::error::Error as StdError;
use std::fmt;

/// What an error means to the caller; each has its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The work failed and nothing was committed.
    Failed,
    /// The command line, the configuration or an input file is wrong.
    Usage,
    /// No such archive.
    NotFound,
    /// The passphrase does not open the archive.
    WrongPassphrase,
    /// Stored bytes are not what was sealed.
    Damaged,
    /// A signal asked us to stop; everything begun was aborted.
    Interrupted,
    /// A neighbour in the pipeline is gone. Never the cause, only its echo: see [`crate::stream::channel`].
    Disconnected,
}

impl Kind {
    /// The process exit code, as the README documents it.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Failed | Kind::Disconnected => 1,
            Kind::Usage => 2,
            Kind::NotFound => 10,
            Kind::WrongPassphrase => 12,
            Kind::Damaged => 13,
            Kind::Interrupted => 130,
        }
    }
}

/// A failure with its causes and, where there is one, the next step to take.
#[derive(Debug, Clone)]
pub struct Error {
    kind: Kind,
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
}

/// The result of everything here that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` with its message.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into(), causes: Vec::new(), hint: None }
    }

    /// A failure of the work itself: exit 1.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, message)
    }

    /// A wrong request: exit 2.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// Stored bytes that are not what was sealed: exit 13.
    pub fn damaged(message: impl Into<String>) -> Self {
        Self::new(Kind::Damaged, message)
    }

    /// Stopped by a signal: exit 130.
    pub fn interrupted() -> Self {
        Self::new(Kind::Interrupted, "interrupted")
    }

    /// The echo of a failure elsewhere.
    pub fn disconnected() -> Self {
        Self::new(Kind::Disconnected, "the other end of the pipeline is gone")
    }

    /// Records why: the error and its own causes, each text once.
    pub fn because(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let cause = cause.into();
        let mut next: Option<&(dyn StdError + 'static)> = Some(cause.as_ref());
        while let Some(error) = next {
            self.push_cause(error.to_string());
            next = error.source();
        }
        self
    }

    // Libraries often print their source and expose it too: a text that an earlier one contains says nothing new.
    fn push_cause(&mut self, text: String) {
        let text = text.trim().to_string();
        let known = self.causes.iter().chain([&self.message]).any(|t| t.contains(&text));
        if !known && !text.is_empty() {
            self.causes.push(text);
        }
    }

    /// Puts this error below a new message; kind and hint stay.
    pub fn context(mut self, message: impl Into<String>) -> Self {
        let old = std::mem::replace(&mut self.message, message.into());
        if !self.message.contains(&old) {
            self.causes.insert(0, old);
        }
        self
    }

    /// Says what to do next.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says what to do next, unless a hint nearer to the cause is there.
    pub fn or_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// Says something that must be known whatever else is to be done.
    pub fn and_hint(mut self, hint: impl std::fmt::Display) -> Self {
        self.hint = Some(match self.hint {
            Some(nearer) => format!("{hint}; {nearer}"),
            None => hint.to_string(),
        });
        self
    }

    /// What the error means to the caller.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The hint, if any.
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Of two failures of one run, the one that is a cause.
    pub fn or_cause(self, other: Error) -> Error {
        if self.kind == Kind::Disconnected { other } else { self }
    }
}

impl fmt::Display for Error {
    /// One line: the message, then its causes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.causes.iter().try_for_each(|cause| write!(f, ": {cause}"))
    }
}

impl StdError for Error {}

/// Turns a foreign error into ours, with a message that says what was being done.
pub trait Context<T> {
    /// The message is only made when it is needed.
    fn context(self, message: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Box<dyn StdError + Send + Sync>>> Context<T> for std::result::Result<T, E> {
    fn context(self, message: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| {
            let e = e.into();
            match e.downcast::<Error>() {
                Ok(ours) => ours.context(message()),
                Err(other) => Error::failed(message()).because(other),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_printed_once_each() {
        let inner = std::io::Error::other("connection refused");
        let outer = std::io::Error::other(format!("PUT failed: {inner}"));
        let error = Error::failed("cannot upload").because(outer).because(inner);
        assert_eq!(error.to_string(), "cannot upload: PUT failed: connection refused");
    }

    #[test]
    fn an_echo_gives_way_to_the_cause() {
        let cause = Error::disconnected().or_cause(Error::damaged("flipped"));
        assert_eq!(cause.kind(), Kind::Damaged);
        assert_eq!(Error::interrupted().or_cause(Error::disconnected()).kind(), Kind::Interrupted);
    }

    #[test]
    fn context_keeps_kind_and_hint() {
        let error: Result<()> = Err(Error::usage("no such file").hint("create it"));
        let error = error.context(|| "cannot read the passphrase".into()).unwrap_err();
        assert_eq!(error.kind().exit_code(), 2);
        assert_eq!(error.hint_text(), Some("create it"));
        assert_eq!(error.to_string(), "cannot read the passphrase: no such file");
    }
}
