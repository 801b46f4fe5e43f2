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
    curl_as("", payload)
}

fn curl_as(who: &str, payload: &str) -> Command {
    let mut curl = Command::new("curl");
    let user = format!("{}:{}", variable(&format!("{who}_KEY")), variable(&format!("{who}_SECRET")));
    curl.args(["--silent", "--show-error", "--fail", "--noproxy", "*", "--user", &user]);
    curl.args(["--aws-sigv4", &format!("aws:amz:{}:s3", variable("_REGION"))]);
    curl.args(["--header", &format!("x-amz-content-sha256: {payload}")]);
    curl
}

#[track_caller]
pub fn put(key: &str, bytes: &[u8]) {
    put_at(&format!("{}/{key}", bucket()), &[], bytes);
}

/// PUTs what is at `BUCKET/KEY?QUERY`.
#[track_caller]
fn put_at(path: &str, headers: &[&str], bytes: &[u8]) {
    let sha256 = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let mut curl = curl(&sha256.as_ref().iter().map(|b| format!("{b:02x}")).collect::<String>());
    for header in headers {
        curl.args(["--header", header]);
    }
    curl.args(["--request", "PUT", "--data-binary", "@-"]);
    curl.arg(format!("{}/{path}", endpoint()));
    super::feed(&mut curl, bytes).expect(0);
}

/// A bucket of its own with object lock, and so with versions.
pub struct LockBucket {
    pub name: String,
}

impl LockBucket {
    #[track_caller]
    pub fn new() -> LockBucket {
        let name = super::unique("lock-").to_ascii_lowercase();
        put_at(&name, &["x-amz-bucket-object-lock-enabled: true"], b"");
        LockBucket { name }
    }

    pub fn url(&self) -> String {
        format!("s3://{}/backups", self.name)
    }

    /// Lets the other key do what these actions of S3 are, and nothing else. What is `denied`, it may not even do to
    /// objects of its own.
    #[track_caller]
    pub fn allow_guest(&self, actions: &[&str], denied: &[&str]) {
        let statement = |effect: &str, actions: &[&str]| {
            serde_json::json!({
                "Effect": effect, "Principal": {"AWS": ["arn:aws:iam:::user/guest"]}, "Action": actions,
                "Resource": [format!("arn:aws:s3:::{}", self.name), format!("arn:aws:s3:::{}/*", self.name)],
            })
        };
        let policy = serde_json::json!({
            "Version": "2012-10-17",
            "Statement": [statement("Allow", actions), statement("Deny", denied)],
        });
        put_at(&format!("{}?policy=", self.name), &[], policy.to_string().as_bytes());
    }

    /// Until when each object of a job is locked, by name; empty where it is not. The other key must have stored them.
    #[track_caller]
    pub fn locks(&self, job: &str) -> std::collections::BTreeMap<String, String> {
        let list = self.get("", &format!("list-type=2&prefix=backups%2F{job}%2F"));
        let until = |key: &String| {
            let mut curl = curl_as("_GUEST", NOTHING);
            curl.arg(format!("{}/{}/{key}?retention=", endpoint(), self.name));
            let answer = Ended::from(curl.output().expect("curl runs"));
            all(&answer.stdout, "RetainUntilDate").pop().unwrap_or_default()
        };
        let name = |key: &String| key.rsplit('/').next().unwrap_or_default().to_string();
        let keys = all(&list, "Key").into_iter().filter(|key| is_content(key));
        keys.map(|key| (name(&key), until(&key))).collect()
    }

    /// The objects of a job, by name.
    #[track_caller]
    pub fn names(&self, job: &str) -> Vec<String> {
        let list = self.get("", &format!("list-type=2&prefix=backups%2F{job}%2F"));
        let keys = all(&list, "Key").into_iter().filter(|key| is_content(key));
        keys.filter_map(|key| key.rsplit('/').next().map(String::from)).collect()
    }

    /// The keys of all versions and delete markers.
    #[track_caller]
    pub fn keys_of_versions(&self) -> Vec<String> {
        let keys = all(&self.get("", "versions="), "Key").into_iter();
        keys.filter(|key| is_content(key)).collect()
    }

    /// How many there are.
    #[track_caller]
    pub fn versions(&self) -> usize {
        self.keys_of_versions().len()
    }

    /// Tries to delete the version of an object, as its owner; whether that was done.
    pub fn deletes_version(&self, job: &str, name: &str) -> bool {
        let list = self.get("", &format!("prefix=backups%2F{job}%2F{name}&versions="));
        let version = all(&list, "VersionId").pop().expect("a version");
        let mut curl = curl(NOTHING);
        let key = format!("backups/{job}/{name}?versionId={version}");
        curl.args(["--request", "DELETE"]).arg(format!("{}/{}/{key}", endpoint(), self.name));
        curl.output().expect("curl runs").status.success()
    }

    #[track_caller]
    fn get(&self, path: &str, query: &str) -> Vec<u8> {
        let mut curl = curl(NOTHING);
        curl.arg(format!("{}/{}/{path}?{query}", endpoint(), self.name));
        Ended::from(curl.output().expect("curl runs")).expect(0).stdout
    }
}

/// Whether it is no probe and no lease: a key that may not delete leaves these.
fn is_content(key: &str) -> bool {
    !key.ends_with("/.sealift-probe") && !key.contains(".running-")
}

/// The settings of the other key.
pub fn guest(command: &mut Command) {
    environment(command);
    command
        .env("AWS_ACCESS_KEY_ID", variable("_GUEST_KEY"))
        .env("AWS_SECRET_ACCESS_KEY", variable("_GUEST_SECRET"));
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
