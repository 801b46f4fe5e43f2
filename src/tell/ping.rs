//! A ping to a monitor that alarms when none comes: healthchecks.io and what understands its addresses.

use http::Method;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use url::Url;

use super::{Address, Failed, Message, Occasion, text};

/// What a run with warnings is to the monitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WarnedAs {
    /// A success: the backup exists.
    #[default]
    Success,
    /// A failure: somebody is to look.
    Fail,
}

/// What the monitor understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Style {
    /// `URL`, `URL/start`, `URL/fail` and `URL/log`, with a body and a run id.
    #[default]
    Healthchecks,
    /// `URL` alone, asked for after a success: Uptime Kuma, Cronitor, dead man's snitches.
    Plain,
}

/// A monitor.
#[derive(Debug)]
pub struct Ping {
    /// Where it listens.
    pub address: Address,
    /// What it understands.
    pub style: Style,
    /// What a run with warnings is to it.
    pub warning: WarnedAs,
}

impl Ping {
    pub(super) async fn send(&self, message: &Message<'_>) -> Result<(), Failed> {
        let Some(end) = self.end(message.occasion) else { return Ok(()) };
        let url = self.address.url().await?;
        if self.style == Style::Plain {
            return self.address.send(Method::GET, url, HeaderMap::new(), None).await;
        }
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, plain)]);
        let body = format!("{}\n\n{}", text::subject(message), text::body(message));
        self.address.send(Method::POST, addressed(url, end, message), headers, Some(body)).await
    }

    /// What is put behind the address; none where the monitor has no word for it.
    fn end(&self, occasion: Occasion) -> Option<&'static str> {
        let end = match (occasion, self.warning) {
            (Occasion::Success, _) | (Occasion::Warning, WarnedAs::Success) => "",
            (Occasion::Start, _) => "start",
            (Occasion::Failure, _) | (Occasion::Warning, WarnedAs::Fail) => "fail",
            // It is noted, and is neither success nor failure.
            (Occasion::Test, _) => "log",
        };
        let is_known = self.style == Style::Healthchecks || matches!(end, "" | "log");
        is_known.then_some(end)
    }
}

/// The address for an occasion. An address may have parameters of its own.
fn addressed(mut url: Url, end: &str, message: &Message<'_>) -> Url {
    if !end.is_empty() {
        let path = format!("{}/{end}", url.path().trim_end_matches('/'));
        url.set_path(&path);
    }
    url.query_pairs_mut().append_pair("rid", &text::run_id(message.run));
    url
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::run::Run;

    #[test]
    fn start_and_end_belong_together() {
        let run = Run::new("media", "backup", "nas");
        let at = |text: &str, end: &str| {
            addressed(text.parse().unwrap(), end, &Message { run: &run, occasion: Occasion::Start })
        };
        let (start, end) = (at("https://hc/u/", "start"), at("https://hc/u", ""));
        assert_eq!((start.path(), end.path(), start.query()), ("/u/start", "/u", end.query()));
        let id = text::run_id(&run);
        assert_eq!(id.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12], "{id}");
        assert_eq!(
            at("https://hc/p/slug?create=1", "fail").as_str(),
            format!("https://hc/p/slug/fail?create=1&rid={id}")
        );
        assert_ne!(id, text::run_id(&Run::new("media", "verify", "nas")));
    }
}
