//! What a test asks the S3 server itself, by `curl`: nothing of ours is between.

use std::process::Command;

use super::Ended;

fn variable(name: &str) -> String {
    std::env::var(format!("SEALIFT_TEST_S3{name}")).unwrap_or_default()
}

pub fn endpoint() -> String {
    variable("")
}

pub fn bucket() -> String {
    variable("_BUCKET")
}

/// The settings that the command under test reads.
pub fn environment(command: &mut Command) {
    command
        .env("AWS_ENDPOINT_URL", endpoint())
        .env("AWS_ACCESS_KEY_ID", variable("_KEY"))
        .env("AWS_SECRET_ACCESS_KEY", variable("_SECRET"))
        .env("AWS_REGION", variable("_REGION"));
}

/// GETs `path?query` of the bucket.
#[track_caller]
fn request(path: &str, query: &str) -> Vec<u8> {
    let (key, secret) = (variable("_KEY"), variable("_SECRET"));
    let region = variable("_REGION");
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail", "--noproxy", "*", "--user", &format!("{key}:{secret}")]);
    curl.args(["--aws-sigv4", &format!("aws:amz:{region}:s3")]);
    // curl 7.88 does not send it by itself, and the server demands it: the SHA-256 of nothing.
    let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    curl.args(["--header", &format!("x-amz-content-sha256: {nothing}")]);
    curl.arg(format!("{}/{}/{path}?{query}", endpoint(), bucket()));
    Ended::from(curl.output().expect("curl runs")).expect(0).stdout
}

/// The text of every `<tag>` in an answer.
pub fn all(xml: &[u8], tag: &str) -> Vec<String> {
    let text = String::from_utf8_lossy(xml).into_owned();
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    text.split(&open).skip(1).filter_map(|rest| rest.split(&close).next()).map(String::from).collect()
}

/// Objects below a prefix, without it.
#[track_caller]
pub fn names(prefix: &str) -> Vec<String> {
    below(prefix, all(&request("", &format!("list-type=2&prefix={prefix}%2F")), "Key"))
}

/// Multipart uploads below a prefix that were neither completed nor aborted.
#[track_caller]
pub fn uploads(prefix: &str) -> Vec<String> {
    below(prefix, all(&request("", &format!("prefix={prefix}%2F&uploads=")), "Key"))
}

pub fn below(prefix: &str, names: Vec<String>) -> Vec<String> {
    names.iter().filter_map(|name| name.strip_prefix(&format!("{prefix}/"))).map(String::from).collect()
}

#[track_caller]
pub fn get(key: &str) -> Vec<u8> {
    request(key, "")
}
