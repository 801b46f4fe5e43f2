//! Variables of the environment as text. What is not UTF-8 is refused: to pass over it would be to use something else.

use std::ffi::OsString;

use crate::error::{Error, Result};

/// The value of a variable; none where it is not set.
///
/// # Errors
/// It is not UTF-8 text.
pub fn variable(name: &str) -> Result<Option<String>> {
    text(name, std::env::var_os(name))
}

fn text(name: &str, value: Option<OsString>) -> Result<Option<String>> {
    value.map(OsString::into_string).transpose().map_err(|_| {
        Error::usage(format!("{name} is not UTF-8 text")).hint("set it again in UTF-8, or unset it")
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn a_value_that_is_not_utf8_is_refused_not_passed_over() {
        assert_eq!(text("X", None).unwrap(), None);
        assert_eq!(text("X", Some("grün".into())).unwrap().as_deref(), Some("grün"));
        let error = text("X", Some(OsString::from_vec(vec![b'a', 0xff]))).unwrap_err();
        assert_eq!((error.to_string().as_str(), error.kind().exit_code()), ("X is not UTF-8 text", 2));
        assert!(error.hint_text().is_some());
    }
}
