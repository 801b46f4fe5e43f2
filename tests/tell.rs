//! Those who are told of runs: by the binary, and by Prometheus's own tool.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::thread::{JoinHandle, spawn};

use crate::needs;
use crate::support::{Ended, Lab};

const SECRET: &str = "5ec2e7";

/// Takes so many requests, and answers each with this status.
fn server(requests: usize, status: u16) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("an address").to_string();
    let request = move || {
        let mut stream = BufReader::new(listener.accept().expect("a connection").0);
        let (mut text, mut length) = (String::new(), 0);
        while !text.ends_with("\r\n\r\n") {
            let mut line = String::new();
            assert_ne!(stream.read_line(&mut line).expect("a line"), 0, "{text}");
            let size =
                line.to_ascii_lowercase().strip_prefix("content-length: ").map(|size| size.trim().parse());
            length = size.map_or(length, |size| size.expect("a number"));
            text += &line;
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).expect("the body");
        let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        stream.get_mut().write_all(answer.as_bytes()).expect("answered");
        text + std::str::from_utf8(&body).expect("UTF-8")
    };
    (at, spawn(move || (0..requests).map(|_| request()).collect()))
}

fn run(lab: &Lab, line: &str) -> Ended {
    let mut command = lab.sealift();
    command.env_remove("SEALIFT_CONFIG").env("XDG_CONFIG_HOME", lab.path("home"));
    command.env("NO_PROXY", "127.0.0.1");
    Ended::from(command.args(line.split_whitespace()).output().expect("sealift runs"))
}

#[test]
fn a_message_is_sent_by_hand() {
    let lab = Lab::new();
    let (at, requests) = server(2, 200);
    lab.write("url", format!("http://{at}/{SECRET}\n").as_bytes());
    lab.write("headers", format!("Authorization: Bearer {SECRET}\n").as_bytes());
    let settings = "[ping.watch]\nurl_file = \"url\"\n[webhook.chat]\nurl_file = \"url\"\nheaders_file = \"headers\"\n\
                    template = '{\"text\": \"{subject}\"}'\n";
    lab.write("sealift.toml", settings.as_bytes());
    run(&lab, "config check").expect(0);
    let told = run(&lab, "config tell --verbose").expect(0);
    assert_eq!(told.text(), "ping.watch was told\nwebhook.chat was told\n");
    let mut sent = requests.join().expect("two requests");
    sent.sort();
    assert!(sent[0].starts_with(&format!("POST /{SECRET} ")), "{}", sent[0]);
    assert!(sent[0].contains("\r\n\r\n{\"text\": \"sealift: a test from "), "{}", sent[0]);
    assert!(sent[0].contains(&format!("authorization: Bearer {SECRET}")), "{}", sent[0]);
    assert!(sent[1].starts_with(&format!("POST /{SECRET}/log?rid=")), "{}", sent[1]);
    assert!(!format!("{}{}", told.text(), told.stderr).contains(SECRET), "{}", told.stderr);
}

#[test]
fn whoever_cannot_be_told_is_named_without_secrets() {
    let lab = Lab::new();
    let (at, requests) = server(1, 404);
    let settings = format!(
        "[ping.watch]\nurl = \"http://{at}/{SECRET}\"\n[webhook.chat]\nurl_file = \"none\"\nheaders = {{ X = \"{SECRET}\" }}\n"
    );
    lab.write("sealift.toml", settings.as_bytes());
    let told = run(&lab, "config tell -v --json").expect(1);
    requests.join().expect("one request");
    let all = format!("{}{}", told.text(), told.stderr);
    assert!(
        all.contains("ping.watch was not told: it answered 404") && all.contains("cannot read none"),
        "{all}"
    );
    assert!(!all.contains(SECRET), "{all}");
    for line in ["config show", "config show --json"] {
        let shown = run(&lab, line).expect(0).text();
        assert!(shown.contains("<redacted>") && !shown.contains(SECRET), "{shown}");
    }
    run(&lab, "config check").expect(2);
    run(&lab, "config tell ping.wach").expect_error(2, "nobody is called ping.wach").hint("ping.watch");
    lab.write("sealift.toml", b"");
    run(&lab, "config tell").expect_error(2, "the settings name nobody to tell").hint("[ping.NAME]");
}

#[test]
fn the_alerts_fire_when_they_should() {
    needs!("promtool");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/prometheus");
    for words in [["check", "rules", "alerts.yml"], ["test", "rules", "alerts.test.yml"]] {
        let ended = Command::new("promtool").args(words).current_dir(folder).output().expect("promtool runs");
        let told = String::from_utf8_lossy(&[ended.stdout, ended.stderr].concat()).into_owned();
        assert!(ended.status.success() && told.contains("SUCCESS"), "{words:?}: {told}");
    }
}
