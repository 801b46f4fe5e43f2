//! One HTTP request of a ping or a webhook. Its address is a secret: whoever knows it can send, too.

use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client};
use secrecy::ExposeSecret;
use url::Url;

use super::{Failed, Secret};
use crate::error::{Error, Result};

/// The longest time until a connection is there.
const CONNECT: Duration = Duration::from_secs(5);

/// Where requests go to.
#[derive(Debug)]
pub struct Address {
    /// The URL.
    pub url: Secret,
    /// Authorities that are trusted beside those of the system.
    pub ca_file: Option<PathBuf>,
}

impl Address {
    /// Reads a URL, whose text no error shows.
    ///
    /// # Errors
    /// It is none of a web server.
    pub fn parsed(text: &str) -> Result<Url> {
        let none = || Error::usage("this is no http:// or https:// URL").hint("https://HOST/PATH");
        let url: Url = text.parse().map_err(|_| none())?;
        (matches!(url.scheme(), "http" | "https") && url.has_host()).then_some(url).ok_or_else(none)
    }

    pub(super) async fn url(&self) -> Result<Url> {
        Address::parsed(self.url.read().await?.expose_secret())
    }

    /// Sends a request; with the body, if any. The proxy is that of the environment.
    pub(super) async fn send(
        &self,
        method: Method,
        url: Url,
        headers: HeaderMap,
        body: Option<String>,
    ) -> Result<(), Failed> {
        let mut request = self.client()?.request(method, url).headers(headers);
        if let Some(body) = body {
            request = request.body(body);
        }
        match request.send().await {
            Ok(answer) => judged(answer.status()),
            Err(error) => Err(Failed::for_now(Error::failed("no answer").because(error.without_url()))),
        }
    }

    fn client(&self) -> Result<Client> {
        let mut builder = Client::builder()
            .user_agent(concat!("sealift/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            // What is sent on elsewhere would be sent without its body, and to whom nobody has named.
            .redirect(Policy::none())
            .retry(reqwest::retry::never());
        if let Some(file) = &self.ca_file {
            let shown = file.display();
            let hint = "ca_file names a file of certificates in PEM (-----BEGIN CERTIFICATE-----)";
            let pem = std::fs::read(file)
                .map_err(|e| Error::usage(format!("cannot read {shown}")).because(e).hint(hint))?;
            let read = Certificate::from_pem_bundle(&pem);
            let read = read.ok().filter(|read| !read.is_empty());
            builder = builder.tls_certs_merge(
                read.ok_or_else(|| Error::usage(format!("{shown} holds no certificates")).hint(hint))?,
            );
        }
        builder.build().map_err(|e| Error::failed("no HTTP client can be made").because(e))
    }
}

/// What an answer means. Its body is not looked at: it may hold anything.
fn judged(status: StatusCode) -> Result<(), Failed> {
    let failed = Error::failed(format!("it answered {status}"));
    match status {
        _ if status.is_success() => Ok(()),
        _ if status.is_redirection() => Err(failed.hint("it sends elsewhere: name that URL (https?)").into()),
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Err(Failed::for_now(failed)),
        StatusCode::NOT_FOUND | StatusCode::GONE => {
            Err(failed.hint("is its URL still the right one?").into())
        }
        _ if status.is_client_error() => Err(failed.hint("check its URL, headers and template").into()),
        _ => Err(Failed::for_now(failed)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_pass_is_tried_again() {
        let again =
            |status: u16| judged(StatusCode::from_u16(status).unwrap()).err().map(|failed| failed.again);
        assert_eq!([200, 204].map(again), [None, None]);
        assert_eq!([301, 308, 400, 401, 404, 410].map(again), [Some(false); 6]);
        assert_eq!([408, 429, 500, 502, 503].map(again), [Some(true); 5]);
    }

    #[test]
    fn what_is_no_url_is_not_shown() {
        for text in ["hidden", "ftp://hidden/x", "https://", "http//hidden", ""] {
            let error = Address::parsed(text).unwrap_err();
            assert!(!error.to_string().contains("hidden"), "{error}");
        }
        assert!(Address::parsed("http://127.0.0.1:8000/ping/uuid").is_ok());
    }
}
