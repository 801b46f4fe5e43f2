//! An HTTP request with a body that the settings choose: chats, pagers, one's own.

use std::path::PathBuf;

use http::Method;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use secrecy::ExposeSecret;

use super::secret::read_text;
use super::{Address, Failed, Message, Template};
use crate::error::{Error, Result};

/// Somebody who takes requests.
#[derive(Debug)]
pub struct Webhook {
    /// Where.
    pub address: Address,
    /// `POST` or another.
    pub method: Method,
    /// Headers that are no secret.
    pub headers: HeaderMap,
    /// A file of headers that are: a line each.
    pub headers_file: Option<PathBuf>,
    /// The body; the run as JSON, where there is none.
    pub template: Option<Template>,
}

impl Webhook {
    pub(super) async fn send(&self, message: &Message<'_>) -> Result<(), Failed> {
        let run = Template::run();
        let template = self.template.as_ref().unwrap_or(&run);
        let kind = HeaderValue::from_static(template.content_type());
        let mut all = HeaderMap::from_iter([(CONTENT_TYPE, kind)]);
        all.extend(self.headers.clone());
        if let Some(file) = &self.headers_file {
            let text = read_text(file.clone()).await?;
            let lines = text.expose_secret().lines().map(str::trim).filter(|line| !line.is_empty());
            all.extend(headers(lines.map(|line| line.split_once(':').unwrap_or((line, ""))))?);
        }
        let url = self.address.url().await?;
        self.address.send(self.method.clone(), url, all, Some(template.filled(message))).await
    }
}

/// Headers by their names. No error shows a value.
///
/// # Errors
/// A name or a value is none.
pub fn headers<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<HeaderMap> {
    let header = |(i, (name, value)): (usize, (&str, &str))| {
        let wrong = || Error::usage(format!("header {} is none", i + 1)).hint("a line is NAME: VALUE");
        let name: HeaderName = name.trim().parse().map_err(|_| wrong())?;
        let mut value: HeaderValue = value.trim().parse().map_err(|_| wrong())?;
        value.set_sensitive(true);
        Ok((name, value))
    };
    pairs.into_iter().enumerate().map(header).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_is_none_is_told_without_its_value() {
        let read = headers([("Authorization", " Bearer x"), ("X-Title", "grün")]).unwrap();
        assert_eq!(read.get("authorization").unwrap(), "Bearer x");
        for pair in [("a b", "hidden"), ("ok", "hidden\nX: y"), ("", "hidden")] {
            let error = headers([("one", "1"), pair]).unwrap_err();
            assert_eq!(error.to_string(), "header 2 is none");
        }
        assert!(!format!("{read:?}").contains("Bearer"));
    }
}
