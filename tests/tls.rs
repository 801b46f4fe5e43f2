//! A store whose certificate is of an authority of one's own: whoever names it is served, nobody else.

use std::process::Command;

use crate::needs;
use crate::support::tls::{TlsFront, authority};
use crate::support::{Ended, JOB, Lab, feed, s3, unique};

/// The command under test, for the S3 server behind `front`, without a word on authorities.
fn sealift(lab: &Lab, front: &TlsFront) -> Command {
    let mut command = lab.sealift();
    command.env("AWS_ENDPOINT_URL", &front.endpoint);
    for name in ["AWS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"] {
        command.env_remove(name);
    }
    command
}

#[test]
fn an_own_authority_is_trusted_by_option_and_by_either_variable() {
    needs!("s3");
    let lab = Lab::new();
    let front = TlsFront::start(&lab, &s3::endpoint());
    let ca = front.authority.display().to_string();
    let store = format!("s3://{}/{}", s3::bucket(), unique("p"));
    let (option, none) = (["--ca-file", &ca], [""; 0]);
    let ways: [(&[&str], Option<&str>); 3] =
        [(&option, None), (&none, Some("AWS_CA_BUNDLE")), (&none, Some("SSL_CERT_FILE"))];
    for (n, (words, variable)) in ways.into_iter().enumerate() {
        let run = |verb: &[&str], input: &[u8]| {
            let mut command = sealift(&lab, &front);
            command.envs(variable.map(|name| (name, &ca)));
            feed(command.args(verb).args(words), input)
        };
        let job = format!("{JOB}{n}");
        run(&["backup", "stdin", "--job", &job, "--to", &store], job.as_bytes()).expect(0);
        let listed = run(&["list", "--from", &store], b"").expect(0).text();
        assert!(listed.contains(&job), "{variable:?}: {listed}");
        let restored = run(&["restore", &job, "--from", &store, "--to-stdout"], b"").expect(0);
        assert_eq!(restored.text(), job, "{variable:?}");
    }
}

#[test]
fn an_authority_that_nobody_named_is_refused_at_once_with_the_way_out() {
    let lab = Lab::new();
    // The handshake fails: what is behind it does not matter.
    let front = TlsFront::start(&lab, "http://127.0.0.1:9");
    let other = authority(&lab, "other");
    let list = |more: &[&str]| {
        let mut command = sealift(&lab, &front);
        command.env("AWS_ACCESS_KEY_ID", "key").env("AWS_SECRET_ACCESS_KEY", "secret");
        command.args(["list", "--from", "s3://bucket/p"]).args(more);
        Ended::from(command.output().expect("sealift runs"))
    };
    let other = other.display().to_string();
    for more in [&[][..], &["--ca-file", &other]] {
        let started = std::time::Instant::now();
        let ended = list(more).expect_error(1, "invalid peer certificate");
        for way in ["--ca-file FILE", "AWS_CA_BUNDLE", "SSL_CERT_FILE"] {
            assert!(ended.stderr.contains(way), "{way}: {}", ended.stderr);
        }
        // `--retry-for` is five minutes, and would change nothing.
        assert!(started.elapsed().as_secs() < 60, "{more:?}: {:?}", started.elapsed());
    }
    list(&["--ca-file", "no-such.pem"]).expect_error(2, "cannot read no-such.pem");
}
