//! The pages of a list, as they arrive: what is no list, or leads nowhere, is an error and never a short list.
//!
//! The library takes any XML for a page without entries, and asks for the next page as long as it is told that there is
//! one.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use object_store::client::{HttpError, HttpErrorKind};

/// Tokens whose way is remembered: as many lists may be under way at once.
const REMEMBERED: usize = 64;

/// A page that is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// The element that its answer is.
    root: &'static str,
    /// The element that leads to the page after it.
    next: &'static str,
    /// What leads to it; none: it is the first.
    token: Option<String>,
}

impl Asked {
    /// What a request asks for, by its query; none where that is no list.
    pub(super) fn of(query: &str) -> Option<Self> {
        let pairs: Vec<_> = url::form_urlencoded::parse(query.as_bytes()).collect();
        let value =
            |name: &str| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.to_string());
        let (root, next, token) = match (value("list-type"), value("comp")) {
            (Some(_), _) => ("ListBucketResult", "NextContinuationToken", value("continuation-token")),
            (_, Some(comp)) if comp == "list" => ("EnumerationResults", "NextMarker", value("marker")),
            _ => return None,
        };
        Some(Asked { root, next, token: token.filter(|token| !token.is_empty()) })
    }

    /// Whether a list begins with it.
    pub(super) fn is_first(&self) -> bool {
        self.token.is_none()
    }
}

/// The way to a page: the tokens before it.
#[derive(Debug)]
struct Way {
    token: String,
    before: Option<Arc<Way>>,
}

/// The lists that are under way.
#[derive(Debug, Default)]
pub(super) struct Pages(Mutex<VecDeque<Arc<Way>>>);

impl Pages {
    /// Whether the answer is a page, and the next one a page that the list has not had yet.
    pub(super) fn check(&self, asked: &Asked, answer: &[u8]) -> Result<(), HttpError> {
        let text = String::from_utf8_lossy(answer);
        if !is_root(&text, asked.root) {
            return Err(odd("the answer is no list: is this a store's address, or a web page's?"));
        }
        match element(&text, asked.next) {
            Some(next) => self.follow(asked, unescaped(next)),
            None if element(&text, "IsTruncated") == Some("true") => {
                Err(odd("the list is cut off: the store says that there is more, but not where"))
            }
            None => Ok(()),
        }
    }

    /// Remembers the way to the next page. Ways are shared and never changed: two lists at once may have the same tokens.
    fn follow(&self, asked: &Asked, next: String) -> Result<(), HttpError> {
        let mut ways = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let here = asked.token.as_ref().map(|token| {
            let known = ways.iter().find(|way| way.token == *token).map(Arc::clone);
            known.unwrap_or_else(|| Arc::new(Way { token: token.clone(), before: None }))
        });
        let mut at = here.as_ref();
        while let Some(way) = at {
            if way.token == next {
                return Err(odd("the list leads back to a page that it has had"));
            }
            at = way.before.as_ref();
        }
        ways.retain(|way| way.token != next);
        ways.truncate(REMEMBERED - 1);
        ways.push_front(Arc::new(Way { token: next, before: here }));
        Ok(())
    }
}

impl Drop for Way {
    /// One after the other: a long list's way is too deep for recursion.
    fn drop(&mut self) {
        let mut before = self.before.take();
        while let Some(mut way) = before.and_then(Arc::into_inner) {
            before = way.before.take();
        }
    }
}

/// Whether `name` is the outermost element.
fn is_root(text: &str, name: &str) -> bool {
    let mut rest = text.trim_start_matches('\u{feff}').trim_start();
    while rest.starts_with("<?") || rest.starts_with("<!--") {
        let end = if rest.starts_with("<?") { "?>" } else { "-->" };
        let Some((_, after)) = rest.split_once(end) else { return false };
        rest = after.trim_start();
    }
    let after = rest.strip_prefix('<').and_then(|rest| rest.strip_prefix(name));
    after.is_some_and(|after| after.starts_with([' ', '>', '/', '\t', '\r', '\n']))
}

/// The text of an element that has one.
pub(super) fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let after = text.split_once(&format!("<{name}>"))?.1;
    after.split_once("</").map(|(value, _)| value.trim()).filter(|value| !value.is_empty())
}

pub(super) fn unescaped(text: &str) -> String {
    let plain = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
    plain.replace("&apos;", "'").replace("&amp;", "&")
}

fn odd(text: &'static str) -> HttpError {
    #[derive(Debug)]
    struct Odd(&'static str);
    impl fmt::Display for Odd {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }
    impl std::error::Error for Odd {}
    HttpError::new(HttpErrorKind::Decode, Odd(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(token: Option<&str>) -> Asked {
        let token = token.map_or(String::new(), |token| format!("&continuation-token={token}"));
        Asked::of(&format!("list-type=2&prefix=p%2F{token}")).unwrap()
    }

    fn answer(next: Option<&str>) -> Vec<u8> {
        let next = next.map_or(String::new(), |next| {
            format!("<IsTruncated>true</IsTruncated><NextContinuationToken>{next}</NextContinuationToken>")
        });
        format!("<?xml version=\"1.0\"?>\n<ListBucketResult xmlns=\"x\">{next}</ListBucketResult>")
            .into_bytes()
    }

    #[test]
    fn a_page_of_html_is_no_list() {
        let pages = Pages::default();
        for text in
            ["<html><body>log in</body></html>", "", "{}", "<ListBucketResults/>", "<?xml", "<Error/>"]
        {
            assert!(pages.check(&page(None), text.as_bytes()).is_err(), "{text}");
        }
        for text in
            ["<ListBucketResult/>", "\u{feff}<?xml?><!-- x --><ListBucketResult a='b'></ListBucketResult>"]
        {
            assert!(pages.check(&page(None), text.as_bytes()).is_ok(), "{text}");
        }
        let azure = Asked::of("restype=container&comp=list").unwrap();
        assert!(pages.check(&azure, b"<EnumerationResults><NextMarker/></EnumerationResults>").is_ok());
        assert!(pages.check(&azure, b"<ListBucketResult/>").is_err());
    }

    #[test]
    fn the_same_token_again_is_an_error_however_long_the_circle() {
        let pages = Pages::default();
        pages.check(&page(None), &answer(Some("a"))).unwrap();
        assert!(pages.check(&page(Some("a")), &answer(Some("a"))).is_err());
        pages.check(&page(Some("a")), &answer(Some("b"))).unwrap();
        pages.check(&page(Some("b")), &answer(Some("c&amp;d"))).unwrap();
        assert!(pages.check(&page(Some("c%26d")), &answer(Some("a"))).is_err());
    }

    #[test]
    fn two_lists_at_once_do_not_disturb_each_other() {
        let pages = Pages::default();
        let tokens = [None, Some("a"), Some("b"), Some("c")];
        for (token, next) in tokens.into_iter().zip(tokens.into_iter().skip(1)) {
            for _ in 0..2 {
                pages.check(&page(token), &answer(next)).unwrap();
            }
        }
    }

    #[test]
    fn a_list_that_is_cut_off_is_an_error() {
        let cut = b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>";
        assert!(Pages::default().check(&page(None), cut).is_err());
    }

    #[test]
    fn other_requests_are_no_lists() {
        for query in ["", "uploads=", "partNumber=1&uploadId=x", "comp=block"] {
            assert_eq!(Asked::of(query), None, "{query}");
        }
    }
}
