//! What a test asks the S3 server itself, by `curl`: nothing of ours is between.

use std::process::Command;

use super::Ended;
use super::xml::all;

/// The SHA-256 of nothing.
const NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

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
    let mut curl = curl(NOTHING);
    curl.arg(format!("{}/{}/{path}?{query}", endpoint(), bucket()));
    Ended::from(curl.output().expect("curl runs")).expect(0).stdout
}

/// curl, signing; version 7.88 does not send the payload's hash by itself, and the server demands it.
fn curl(payload: &str) -> Command {
    let mut curl = Command::new("curl");
    let user = format!("{}:{}", variable("_KEY"), variable("_SECRET"));
    curl.args(["--silent", "--show-error", "--fail", "--noproxy", "*", "--user", &user]);
    curl.args(["--aws-sigv4", &format!("aws:amz:{}:s3", variable("_REGION"))]);
    curl.args(["--header", &format!("x-amz-content-sha256: {payload}")]);
    curl
}

#[track_caller]
pub fn put(key: &str, bytes: &[u8]) {
    let sha256 = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let mut curl = curl(&sha256.as_ref().iter().map(|b| format!("{b:02x}")).collect::<String>());
    curl.args(["--request", "PUT", "--data-binary", "@-"]);
    curl.arg(format!("{}/{}/{key}", endpoint(), bucket()));
    super::feed(&mut curl, bytes).expect(0);
}

#[track_caller]
pub fn delete(key: &str) {
    let mut curl = curl(NOTHING);
    curl.args(["--request", "DELETE"]).arg(format!("{}/{}/{key}", endpoint(), bucket()));
    Ended::from(curl.output().expect("curl runs")).expect(0);
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
