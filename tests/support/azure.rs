//! What a test asks the Azure server itself, signed by hand ("Authorize with Shared Key").

use std::process::Command;

use aws_lc_rs::hmac;

use super::Ended;
use super::s3::below;
use super::xml::all;

fn variable(name: &str) -> String {
    std::env::var(format!("SEALIFT_TEST_AZURE{name}")).unwrap_or_default()
}

pub fn endpoint() -> String {
    variable("")
}

pub fn container() -> String {
    variable("_CONTAINER")
}

/// The settings that the command under test reads.
pub fn environment(command: &mut Command) {
    command
        .env("AZURE_STORAGE_ENDPOINT", endpoint())
        .env("AZURE_STORAGE_ACCOUNT_NAME", variable("_ACCOUNT"))
        .env("AZURE_STORAGE_ACCOUNT_KEY", variable("_KEY"));
}

/// GETs a path of the container.
#[track_caller]
fn request(path: &str, query: &[(&str, &str)]) -> Vec<u8> {
    Ended::from(curl("GET", path, query, &[], 0).output().expect("curl runs")).expect(0).stdout
}

/// A signed request; `more` are headers whose names sort before `x-ms-date`.
fn curl(method: &str, path: &str, query: &[(&str, &str)], more: &[(&str, &str)], len: usize) -> Command {
    let (account, version) = (variable("_ACCOUNT"), "2021-08-06");
    let date = super::sh("TZ=GMT LC_ALL=C date '+%a, %d %b %Y %H:%M:%S GMT'").trim().to_string();
    // The emulator's paths begin with the account, so that it stands there twice.
    let mut resource = format!("/{account}/{account}/{}{path}", container());
    query.iter().for_each(|(name, value)| resource += &format!("\n{name}:{value}"));
    let always = [("x-ms-date", date.as_str()), ("x-ms-version", version)];
    let headers = [more, &always].concat();
    let signed: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let len = if len == 0 { String::new() } else { len.to_string() };
    let to_sign = format!("{method}\n\n\n{len}\n\n\n\n\n\n\n\n\n{signed}{resource}");
    let key = hmac::Key::new(hmac::HMAC_SHA256, &unbase64(&variable("_KEY")));
    let signature = base64(hmac::sign(&key, to_sign.as_bytes()).as_ref());
    let query: Vec<_> =
        query.iter().map(|(name, value)| format!("{name}={}", value.replace('/', "%2F"))).collect();
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail", "--noproxy", "*", "--request", method]);
    for (name, value) in headers {
        curl.args(["--header", &format!("{name}: {value}")]);
    }
    curl.args(["--header", &format!("Authorization: SharedKey {account}:{signature}")]);
    let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
    curl.arg(format!("{}/{}{path}{query}", endpoint(), container()));
    curl
}

#[track_caller]
pub fn put(name: &str, bytes: &[u8]) {
    let mut curl = curl("PUT", &format!("/{name}"), &[], &[("x-ms-blob-type", "BlockBlob")], bytes.len());
    curl.args(["--header", "Content-Type:", "--header", "Expect:", "--data-binary", "@-"]);
    super::feed(&mut curl, bytes).expect(0);
}

#[track_caller]
pub fn delete(name: &str) {
    let mut curl = curl("DELETE", &format!("/{name}"), &[], &[], 0);
    Ended::from(curl.output().expect("curl runs")).expect(0);
}

/// Blobs below a prefix, without it; on request those of which only blocks are there.
#[track_caller]
pub fn names(prefix: &str, uncommitted: bool) -> Vec<String> {
    let prefixed = format!("{prefix}/");
    let mut query = vec![("comp", "list"), ("prefix", prefixed.as_str()), ("restype", "container")];
    if uncommitted {
        query.insert(1, ("include", "uncommittedblobs"));
    }
    below(prefix, all(&request("", &query), "Name"))
}

/// The access tiers of the blobs below a prefix.
#[track_caller]
pub fn tiers(prefix: &str) -> Vec<String> {
    let query = [("comp", "list"), ("prefix", prefix), ("restype", "container")];
    all(&request("", &query), "AccessTier")
}

#[track_caller]
pub fn get(name: &str) -> Vec<u8> {
    request(&format!("/{name}"), &[])
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let n = three.iter().enumerate().fold(0u32, |n, (i, &byte)| n | u32::from(byte) << (16 - 8 * i));
        for digit in 0..4 {
            let used = digit <= three.len();
            text.push(if used { char::from(DIGITS[(n >> (18 - 6 * digit)) as usize & 63]) } else { '=' });
        }
    }
    text
}

fn unbase64(text: &str) -> Vec<u8> {
    let digits: Vec<_> =
        text.bytes().filter_map(|c| DIGITS.iter().position(|&digit| digit == c)).map(|n| n as u32).collect();
    let mut bytes = Vec::new();
    for four in digits.chunks(4) {
        let n = four.iter().enumerate().fold(0, |n, (i, digit)| n | digit << (18 - 6 * i));
        bytes.extend((0..four.len() - 1).map(|i| (n >> (16 - 8 * i)) as u8));
    }
    bytes
}
