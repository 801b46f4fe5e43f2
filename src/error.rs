//! One error type: what failed, why, and what to do next.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

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
    /// Another run of the job is under way.
    Locked,
    /// It is whole, and is not done all the same: a member that may not be unpacked, or that can be read in two ways.
    Refused,
    /// What was stopped for a backup does not run again.
    NotPutBack,
    /// A signal asked us to stop; everything begun was aborted.
    Interrupted,
    /// Nobody reads our stdout any more, and what is printed there was for reading only: `list | head`. No failure.
    ClosedPipe,
    /// A defect of this program: a panic.
    Internal,
    /// A neighbour in the pipeline is gone. Never the cause, only its echo: see [`crate::stream::channel`].
    Disconnected,
}

impl Kind {
    /// The process exit code, as the manual documents it.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::ClosedPipe => 0,
            Kind::Failed | Kind::Disconnected => 1,
            Kind::Usage => 2,
            // The backup itself may well exist.
            Kind::NotPutBack => 3,
            Kind::NotFound => 10,
            Kind::Locked => 11,
            Kind::WrongPassphrase => 12,
            Kind::Damaged => 13,
            Kind::Refused => 14,
            Kind::Internal => 70,
            Kind::Interrupted => 130,
        }
    }
}

/// What to do where the system starts no more threads or processes.
pub const MORE_THREADS: &str =
    "raise the limit: `ulimit -u`, TasksMax= of a systemd service, --pids-limit of a container";

/// Anything that can be the cause of an error, shared so that an [`Error`] can be cloned.
type Cause = Arc<dyn StdError + Send + Sync>;

/// A failure with its causes and, where there is one, the next step to take.
///
/// The causes are kept as they were handed over: [`StdError::source`] leads to the first of them, and [`Error::find`]
/// finds one by its type. What is done about a failure depends on those types, never on a text.
#[derive(Debug, Clone)]
pub struct Error {
    kind: Kind,
    message: String,
    causes: Vec<Cause>,
    hint: Option<String>,
    left: Vec<LeftBehind>,
}

/// What a run that failed could not take back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftBehind {
    /// The store's name.
    pub store: String,
    /// What is left there, or may be.
    pub what: String,
}

/// The result of everything here that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` with its message.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into(), causes: Vec::new(), hint: None, left: Vec::new() }
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

    /// What is whole, but not done for a reason: exit 14.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(Kind::Refused, message)
    }

    /// Stopped by a signal: exit 130.
    pub fn interrupted() -> Self {
        Self::new(Kind::Interrupted, "interrupted")
    }

    /// Nobody reads what is printed any more.
    pub fn closed_pipe() -> Self {
        Self::new(Kind::ClosedPipe, "nobody reads stdout any more")
    }

    /// The system gives no thread, or no process.
    pub fn no_more_threads(cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::failed("the system starts no more threads").because(cause).hint(MORE_THREADS)
    }

    /// The echo of a failure elsewhere.
    pub fn disconnected() -> Self {
        Self::new(Kind::Disconnected, "the other end of the pipeline is gone")
    }

    /// Records why: the cause keeps its own causes. An empty text is none.
    pub fn because(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let cause = cause.into();
        if !cause.to_string().trim().is_empty() {
            self.causes.push(Arc::from(cause));
        }
        self
    }

    /// Puts this error below a new message; kind and hint stay.
    pub fn context(mut self, message: impl Into<String>) -> Self {
        let (kind, hint, left) = (self.kind, self.hint.take(), std::mem::take(&mut self.left));
        Error { kind, message: message.into(), causes: vec![Arc::new(self)], hint, left }
    }

    /// This error and all its causes, outermost first, each as its own type.
    pub fn chain(&self) -> Vec<&(dyn StdError + 'static)> {
        chain_of(self)
    }

    /// The outermost cause of type `E`.
    pub fn find<E: StdError + 'static>(&self) -> Option<&E> {
        self.chain().into_iter().find_map(|error| error.downcast_ref())
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

    /// Says what is left in a store, or may be.
    pub fn leaving(mut self, store: &str, what: impl fmt::Display) -> Self {
        self.left.push(LeftBehind { store: store.into(), what: what.to_string() });
        self.and_hint(what)
    }

    /// Takes over what another error says beside its cause: its hint, and what it names as left.
    pub fn and_hints_of(mut self, other: &Error) -> Self {
        self.left.extend(other.left.iter().cloned());
        match other.hint_text() {
            Some(hint) => self.and_hint(hint),
            None => self,
        }
    }

    /// What is left in stores, or may be.
    pub fn left(&self) -> &[LeftBehind] {
        &self.left
    }

    /// What the error means to the caller.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The hint, if any.
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Whether it is the failure of an archive, and not of its store: others may be in order.
    pub fn is_of_one_archive(&self) -> bool {
        matches!(self.kind, Kind::Damaged | Kind::WrongPassphrase | Kind::NotFound)
    }

    /// Of two failures of one run, the one that is a cause.
    pub fn or_cause(self, other: Error) -> Error {
        if self.kind == Kind::Disconnected { other } else { self }
    }
}

impl fmt::Display for Error {
    /// One line: the message, then its causes, each text once.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut texts: Vec<String> = Vec::new();
        for error in self.chain() {
            let text = match error.downcast_ref::<Error>() {
                Some(ours) => ours.message.trim().to_string(),
                None => error.to_string().trim().to_string(),
            };
            // Libraries often print their source and expose it too. It is only printed once; the source stays.
            if texts.is_empty() || !texts.iter().any(|earlier| contains_words(earlier, &text)) {
                texts.push(text);
            }
        }
        f.write_str(&texts.join(": "))
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.causes.first().map(|cause| cause.as_ref() as &(dyn StdError + 'static))
    }
}

/// An error and all its causes, outermost first; also those that an [`std::io::Error`] wraps and passes over in its
/// `source`.
pub fn chain_of<'a>(error: &'a (dyn StdError + 'static)) -> Vec<&'a (dyn StdError + 'static)> {
    let mut chain = Vec::new();
    push_chain(error, &mut chain);
    chain
}

fn push_chain<'a>(error: &'a (dyn StdError + 'static), chain: &mut Vec<&'a (dyn StdError + 'static)>) {
    chain.push(error);
    if let Some(ours) = error.downcast_ref::<Error>() {
        ours.causes.iter().for_each(|cause| push_chain(cause.as_ref(), chain));
    } else if let Some(inner) = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        push_chain(inner, chain);
    } else if let Some(source) = error.source() {
        push_chain(source, chain);
    }
}

/// Whether `text` stands in `whole`, not as a part of a longer word or number there.
fn contains_words(whole: &str, text: &str) -> bool {
    let is_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let (begins, ends) = (is_word(text.chars().next()), is_word(text.chars().next_back()));
    text.is_empty()
        || whole.match_indices(text).any(|(at, _)| {
            let before = is_word(whole[..at].chars().next_back());
            let after = is_word(whole[at + text.len()..].chars().next());
            !(begins && before || ends && after)
        })
}

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

    /// An error of a library that prints its source and exposes it, too.
    #[derive(Debug)]
    struct Wrapper(&'static str, std::io::Error);

    impl fmt::Display for Wrapper {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{}: {}", self.0, self.1)
        }
    }

    impl StdError for Wrapper {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            Some(&self.1)
        }
    }

    fn full() -> std::io::Error {
        std::io::Error::from_raw_os_error(28)
    }

    #[test]
    fn causes_are_printed_once_each() {
        let inner = std::io::Error::other("connection refused");
        let outer = std::io::Error::other(format!("PUT failed: {inner}"));
        let error = Error::failed("cannot upload").because(outer).because(inner);
        assert_eq!(error.to_string(), "cannot upload: PUT failed: connection refused");
    }

    #[test]
    fn a_source_that_its_wrapper_prints_is_printed_once_and_kept() {
        let error = Error::failed("cannot write").because(Wrapper("rename", full()));
        assert_eq!(error.to_string(), format!("cannot write: rename: {}", full()));
        assert_eq!(error.find::<std::io::Error>().unwrap().raw_os_error(), Some(28));
        assert_eq!(error.find::<Wrapper>().unwrap().0, "rename");
        assert!(error.find::<fmt::Error>().is_none());
    }

    #[test]
    fn sources_lead_from_the_message_to_the_root() {
        let error =
            Error::failed("cannot write").because(Wrapper("rename", full())).context("commit unknown");
        let first = error.source().unwrap();
        assert_eq!(first.downcast_ref::<Error>().unwrap().message, "cannot write");
        let second = first.source().unwrap();
        assert!(second.is::<Wrapper>());
        assert!(second.source().unwrap().is::<std::io::Error>());
        assert!(second.source().unwrap().source().is_none());
        assert!(Error::failed("alone").source().is_none());
    }

    #[test]
    fn what_is_left_is_named_in_the_hint_and_survives_context_and_another_cause() {
        let left = Error::failed("").leaving("s3://b", "parts of x may be left");
        let error = Error::interrupted().hint("run it again").and_hints_of(&left).context("j failed");
        assert_eq!(
            error.left(),
            [LeftBehind { store: "s3://b".into(), what: "parts of x may be left".into() }]
        );
        assert_eq!(error.hint_text(), Some("parts of x may be left; run it again"));
    }

    #[test]
    fn a_cause_is_found_inside_an_io_error() {
        let wrapped = std::io::Error::other(Wrapper("sync", full()));
        let error = Error::failed("x").because(wrapped);
        assert_eq!(error.find::<Wrapper>().unwrap().0, "sync");
        assert_eq!(error.to_string(), format!("x: sync: {}", full()));
    }

    #[test]
    fn one_of_ours_as_a_cause_adds_its_message_and_its_causes() {
        let inner = Error::usage("no such job").because("it was removed").hint("name another");
        let error = Error::failed("cannot begin").because(inner);
        assert_eq!(error.to_string(), "cannot begin: no such job: it was removed");
        // It is a cause only: what it means to the caller, and what to do, is said by the outer one.
        assert_eq!((error.kind(), error.hint_text()), (Kind::Failed, None));
    }

    #[test]
    fn empty_and_blank_causes_are_not_printed() {
        assert_eq!(Error::failed("tar failed").because("").because(" \n").to_string(), "tar failed");
        assert_eq!(Error::failed("").to_string(), "");
        assert_eq!(Error::failed("x").because(" padded\n").to_string(), "x: padded");
    }

    #[test]
    fn a_context_that_says_the_same_is_printed_once() {
        let error = Error::failed("there is no folder /x").context("cannot open: there is no folder /x");
        assert_eq!(error.to_string(), "cannot open: there is no folder /x");
        let error = error.context("backup failed");
        assert_eq!(error.to_string(), "backup failed: cannot open: there is no folder /x");
    }

    #[test]
    fn a_short_cause_is_not_lost_in_a_longer_word() {
        let error = Error::failed("cannot read volume db13").because("13").because("volume");
        assert_eq!(error.to_string(), "cannot read volume db13: 13");
        assert!(contains_words("a: 13 b", "13") && contains_words("(os error 13)", "os error 13"));
        assert!(!contains_words("status 4041", "404") && !contains_words("unix", "nix"));
        assert!(contains_words("größer als", "größer") && !contains_words("größer", "größe"));
    }

    #[test]
    fn a_clone_shares_its_causes() {
        let error = Error::damaged("flipped").because(full());
        let copy = error.clone().context("later");
        assert_eq!(copy.kind(), Kind::Damaged);
        assert!(std::ptr::eq(
            copy.find::<std::io::Error>().unwrap(),
            error.find::<std::io::Error>().unwrap()
        ));
    }

    #[test]
    fn context_keeps_the_type_of_a_foreign_cause() {
        let error = Err::<(), _>(full()).context(|| "cannot write".into()).unwrap_err();
        assert_eq!(error.find::<std::io::Error>().unwrap().raw_os_error(), Some(28));
        assert_eq!(error.kind(), Kind::Failed);
    }

    #[test]
    fn hints_are_kept_nearest_to_the_cause() {
        let error = Error::failed("x").or_hint("first").or_hint("second");
        assert_eq!(error.hint_text(), Some("first"));
        let error = error.and_hint("keep this");
        assert_eq!(error.hint_text(), Some("keep this; first"));
        assert_eq!(Error::failed("x").and_hint("only").hint_text(), Some("only"));
        assert_eq!(error.context("outer").hint_text(), Some("keep this; first"));
    }

    #[test]
    fn every_kind_has_its_exit_code() {
        let codes = [
            (Error::failed("x"), 1),
            (Error::disconnected(), 1),
            (Error::usage("x"), 2),
            (Error::new(Kind::NotPutBack, "x"), 3),
            (Error::new(Kind::NotFound, "x"), 10),
            (Error::new(Kind::WrongPassphrase, "x"), 12),
            (Error::damaged("x"), 13),
            (Error::refused("x"), 14),
            (Error::interrupted(), 130),
        ];
        for (error, code) in codes {
            assert_eq!(error.kind().exit_code(), code, "{error:?}");
        }
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
