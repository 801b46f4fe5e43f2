//! A run that fails says so in its stores, so that whoever looks there can tell it from one that never began; and it names
//! what it could not take back, and how that is done later.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use secrecy::{ExposeSecret, SecretString};

use super::request::{BackupRequest, Task};
use super::secrets;
use crate::archive::Id;
use crate::error::{Error, Kind};
use crate::report::Reporter;
use crate::source::Source;
use crate::store::failed::Failure;
use crate::store::{Store, StoreUrl};

/// How long the stores may take to note a failure: nobody waits for that.
const NOTED: Duration = Duration::from_secs(5);
/// And when somebody asked to stop.
const NOTED_IN_HASTE: Duration = Duration::from_secs(2);
/// Shorter values of variables stand in too many words.
const SHORTEST_SECRET: usize = 4;

/// What is known of a run in case that it fails.
pub(super) struct Failing {
    job: String,
    urls: Vec<StoreUrl>,
    /// What no record may hold.
    secrets: Vec<SecretString>,
}

impl Failing {
    /// A run that is to make an archive; none where its job has no name.
    pub(super) fn of(task: &Task) -> Option<Self> {
        let mut failing = Self::new(task.job()?, &task.request);
        let (given, words): (&[String], _) = match &task.source {
            Source::Run(spec) => (&spec.secrets, [&spec.env[..], &spec.command].concat()),
            Source::Exec { command, .. } | Source::Command(command) => (&[], command.clone()),
            _ => (&[], Vec::new()),
        };
        // What the command says may hold them, without the name that tells what they are.
        let secrets = secrets::given_in(&words).into_iter().map(String::from).chain(given.iter().cloned());
        failing.secrets.extend(secrets.map(SecretString::from));
        Some(failing)
    }

    /// A run of this job.
    pub(super) fn new(job: String, request: &BackupRequest) -> Self {
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            let (name, value) = (name.into_string().ok()?, value.into_string().ok()?);
            if secrets::is_one(&name) { Some(value) } else { secrets::password_in(&value).map(String::from) }
        });
        let secrets = variables.map(SecretString::from).collect();
        Failing { job, urls: request.stores.clone(), secrets }
    }

    /// Adds something that no record may hold.
    pub(super) fn hide(&mut self, secret: Option<&SecretString>) {
        self.secrets.extend(secret.cloned());
    }

    /// Notes a failure before anything was opened; `error` stays the error. A passphrase that is not there is one, too: the
    /// night is lost all the same.
    pub(super) async fn before_it_began(&self, error: Error, ui: &Reporter) -> Error {
        let stores: Vec<_> =
            self.urls.iter().filter_map(|url| url.create(&Reporter::silent()).ok()).map(Arc::new).collect();
        match Id::new(jiff::Timestamp::now()) {
            Ok(id) => self.note(&stores, &id, error, ui).await,
            Err(_) => error,
        }
    }

    /// Notes a failure at each of these stores that answers soon, and says what to do about what is left; `error` stays the
    /// error.
    pub(super) async fn note(&self, stores: &[Arc<Store>], id: &Id, error: Error, ui: &Reporter) -> Error {
        let failure = Failure::of(&error, |text| self.without_secrets(text));
        let limit = if error.kind() == Kind::Interrupted { NOTED_IN_HASTE } else { NOTED };
        let notes = stores.iter().map(|store| async {
            // What concerns another store says nothing here.
            let left = error.left().iter().filter(|left| left.store == store.name);
            let left = left.map(|left| self.without_secrets(&left.what)).collect();
            let failure = Failure { left, ..failure.clone() };
            match tokio::time::timeout(limit, store.put_failure(&self.job, id, &failure)).await {
                Ok(Ok(())) => {}
                Ok(Err(unwritten)) => ui.detail(&format!("the failure is not noted: {unwritten}")),
                Err(_) => ui.detail(&format!("the failure is not noted at {}: no answer", store.name)),
            }
        });
        join_all(notes).await;
        self.with_clean_line(error)
    }

    /// Names the commands that take back what is left.
    fn with_clean_line(&self, error: Error) -> Error {
        let mut stores: Vec<_> = error.left().iter().map(|left| left.store.clone()).collect();
        stores.sort();
        stores.dedup();
        stores.into_iter().fold(error, |error, store| {
            error.and_hint(format!(
                "`sealift clean {} --from {store}` shows what is left, and takes it back with --confirm once it is a day old",
                self.job
            ))
        })
    }

    fn without_secrets(&self, text: &str) -> String {
        let known = self.secrets.iter().map(|secret| secret.expose_secret().trim());
        let all = known.chain(secrets::said_in(text));
        let mut secrets: Vec<_> = all.filter(|secret| secret.len() >= SHORTEST_SECRET).collect();
        // One may begin with another.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.into_iter().fold(text.to_string(), |text, secret| text.replace(secret, "<redacted>"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::tests::request;
    use super::*;

    fn failing(url: &str) -> Failing {
        Failing::new("db".into(), &request(&[url]))
    }

    #[test]
    fn of_secrets_that_begin_alike_nothing_is_left_and_a_url_has_its_password() {
        let mut failing = failing("memory:///");
        for secret in ["hunter2", "hunter2-prod\n", "abc"] {
            failing.secrets.push(SecretString::from(secret));
        }
        assert_eq!(
            failing.without_secrets("no hunter2-prod, hunter2, abc"),
            "no <redacted>, <redacted>, abc"
        );
        assert_eq!(
            failing.without_secrets(
                "GET https://b/k?X-Amz-Signature=0123abcd&x=1: 403, from postgres://u:pass@db/x"
            ),
            "GET https://b/k?X-Amz-Signature=<redacted>&x=1: 403, from postgres://u:<redacted>@db/x"
        );
    }

    #[test]
    fn what_a_commands_words_hold_is_in_no_record_whatever_the_command_says() {
        let words = ["mysqldump", "--password", "hunter2", "--token=s3cret", "MYSQL_PWD=tiger1", "db1"];
        let source = Source::Command(words.map(String::from).into());
        let task = Task::new(source, BackupRequest { job: Some("db".into()), ..request(&["memory:///"]) });
        let failing = Failing::of(&task).unwrap();
        assert_eq!(
            failing.without_secrets("db1: hunter2, s3cret and tiger1 are wrong"),
            "db1: <redacted>, <redacted> and <redacted> are wrong"
        );
    }

    #[tokio::test]
    async fn a_failure_is_noted_without_secrets_and_names_what_is_left_and_the_line_that_takes_it_back() {
        let url = "memory://failing";
        let mut failing = failing(url);
        failing.hide(Some(&"correct horse".to_string().into()));
        let store = Arc::new(Store::open(url, &Default::default()).unwrap());
        let error = Error::failed("the command said: correct horse").leaving(url, "parts of x may be left");
        let error = error.leaving("s3://other", "more is left there");
        let id: Id = "20261122T020000Z-1f2e3d4c".parse().unwrap();
        let error = failing.note(&[Arc::clone(&store)], &id, error, &Reporter::silent()).await;
        let hint = error.hint_text().unwrap();
        for words in
            ["parts of x may be left", "`sealift clean db --from memory://failing`", "--from s3://other`"]
        {
            assert!(hint.contains(words), "{hint}");
        }
        let noted = store.failure("db", &id).await.unwrap().unwrap();
        assert_eq!(noted.cause.as_deref(), Some("the command said: <redacted>"));
        assert_eq!(noted.left, ["parts of x may be left"]);
    }

    #[tokio::test]
    async fn a_failure_before_anything_began_is_noted_and_nothing_is_left_to_clean() {
        let url = "memory://failing-early";
        let store = Store::open(url, &Default::default()).unwrap();
        let (failing, ui) = (failing(url), Reporter::silent());
        let error = failing.before_it_began(Error::usage("the vault is sealed"), &ui).await;
        assert_eq!((error.to_string().as_str(), error.hint_text()), ("the vault is sealed", None));
        assert_eq!(store.sizes("db").await.unwrap().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_does_not_answer_delays_nobody_for_long() {
        use crate::store::faults::{Fault, Op, Rule};
        let (store, _) = Store::faulty("memory://failing-stalls", vec![Rule::on(Op::Put, "", Fault::Stall)]);
        let (failing, id) =
            (failing("memory://failing-stalls"), "20261122T020000Z-1f2e3d4c".parse().unwrap());
        for (error, limit) in [(Error::failed("x"), NOTED), (Error::interrupted(), NOTED_IN_HASTE)] {
            let began = tokio::time::Instant::now();
            failing.note(&[Arc::clone(&store)], &id, error, &Reporter::silent()).await;
            assert_eq!(began.elapsed().as_secs(), limit.as_secs());
        }
    }
}
