//! Panics: those of a library, caught where it is called, and those that are defects of ours.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::sync::atomic::{AtomicU8, Ordering};

use crate::error::{Error, Kind};
use crate::report::Reporter;

thread_local! {
    /// How many calls of [`catch`] this thread is in.
    static CATCHING: Cell<usize> = const { Cell::new(0) };
}

/// The exit code of the first panic that nobody caught; 0 where there was none.
static EXIT_CODE: AtomicU8 = AtomicU8::new(0);

/// What tokio panics with when the system starts no more threads: it has no error for that.
const NO_THREAD: &str = "can't spawn worker thread";

/// Runs a library that panics on some of what comes from outside. A panic is returned as its text, and not reported.
///
/// What `work` had in its hands is not to be used after a panic.
///
/// # Errors
/// It panicked.
pub fn catch<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    CATCHING.set(CATCHING.get() + 1);
    let caught = catch_unwind(AssertUnwindSafe(work));
    CATCHING.set(CATCHING.get() - 1);
    caught.map_err(|payload| text_of(payload.as_ref()))
}

/// From now on, tells `ui` of every panic that is not caught by [`catch`], instead of Rust's own message.
pub fn report_to(ui: Reporter) {
    std::panic::set_hook(Box::new(move |panic| {
        if CATCHING.get() > 0 {
            return;
        }
        let error = explain(&text_of(panic.payload()), panic.location());
        let code = error.kind().exit_code();
        let first = EXIT_CODE.compare_exchange(0, code, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        // What follows from the first one says nothing new.
        if first {
            ui.error(&error);
        }
    }));
}

/// The exit code of a run in which something panicked that nobody caught.
pub fn exit_code() -> Option<u8> {
    Some(EXIT_CODE.load(Ordering::Relaxed)).filter(|&code| code != 0)
}

fn text_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic").to_string()
}

fn explain(text: &str, location: Option<&Location<'_>>) -> Error {
    if text.contains(NO_THREAD) {
        let why = text.split_once(NO_THREAD).map_or(text, |(_, why)| why.trim_start_matches([':', ' ']));
        return Error::no_more_threads(why);
    }
    let at = location.map(|at| format!(" at {}:{}", short(at.file()), at.line())).unwrap_or_default();
    Error::new(Kind::Internal, format!("internal error{at}")).because(text).hint(
        "this is a defect of sealift: please report it with this message, the command and `sealift --version`",
    )
}

/// A source file without the folders of the machine that built it: `object_store-0.14.2/src/lib.rs`.
fn short(file: &str) -> &str {
    match file.rfind("/src/").map(|src| &file[..src]) {
        Some(before) => &file[before.rfind('/').map_or(0, |slash| slash + 1)..],
        None => file,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caught_panic_is_its_text() {
        assert_eq!(catch(|| 7), Ok(7));
        assert_eq!(catch(|| panic!("a text")), Err::<(), _>("a text".into()));
        assert_eq!(catch(|| panic!("{} texts", 2)), Err::<(), _>("2 texts".into()));
        let odd = catch(|| std::panic::panic_any(7));
        assert_eq!(odd, Err::<(), _>("a panic".into()));
        assert_eq!(CATCHING.get(), 0);
    }

    #[test]
    fn a_defect_is_an_internal_error_with_its_place() {
        let error = explain("index out of bounds", Some(Location::caller()));
        assert_eq!(error.kind().exit_code(), 70);
        assert!(error.to_string().starts_with("internal error at src/host/panics.rs:"), "{error}");
        assert!(error.to_string().ends_with(": index out of bounds") && error.hint_text().is_some());
    }

    #[test]
    fn a_full_thread_table_is_no_defect() {
        let error = explain("OS can't spawn worker thread: Resource temporarily unavailable", None);
        assert_eq!(error.kind().exit_code(), 1);
        assert_eq!(error.to_string(), "the system starts no more threads: Resource temporarily unavailable");
        assert!(error.hint_text().unwrap().contains("ulimit -u"));
    }

    #[test]
    fn no_folder_of_the_building_machine_is_shown() {
        assert_eq!(short("/home/x/.cargo/registry/src/index/a-1.0/src/b/c.rs"), "a-1.0/src/b/c.rs");
        assert_eq!(short("src/main.rs"), "src/main.rs");
    }
}
