use std::time::Instant;

use super::servers::{Answer, Server};
use super::*;
use crate::report::run::RunState;

const SECRET: &str = "5ec2e7";

fn run(state: RunState) -> Run {
    let ended = (state != RunState::Started).then(jiff::Timestamp::now);
    Run { state, ended, error: Some("the \"vol\"\nis gone".into()), ..Run::new("médía", "backup", "nas") }
}

fn address(server: &Server) -> Address {
    Address { url: Secret::Given(format!("http://{}/{SECRET}", server.at).into()), ca_file: None }
}

fn ping(server: &Server) -> Way {
    Way::Ping(Ping { address: address(server), style: Style::default(), warning: WarnedAs::Fail })
}

fn webhook(server: &Server, template: &str) -> Way {
    Way::Webhook(Webhook {
        address: address(server),
        method: ::http::Method::POST,
        headers: headers([("X-Token", SECRET)]).unwrap(),
        headers_file: None,
        template: Some(Template::new(template).unwrap()),
    })
}

fn mail(server: &Server) -> Way {
    Way::Mail(Mail {
        server: format!("smtp-plain://{}", server.at).parse().unwrap(),
        login: Some(("ops".into(), Secret::Given(SECRET.into()))),
        from: "sealift@nas.example".parse().unwrap(),
        to: vec!["ops@example.com".parse().unwrap()],
        ca_file: None,
    })
}

/// Tells these of everything, and waits no time between tries.
fn telling(ways: Vec<Way>) -> Tell {
    let on = Occasion::OF_RUNS.map(|(_, occasion)| occasion);
    let target = |(i, way)| Target { name: format!("to.{i}"), jobs: Vec::new(), on: on.into(), way };
    let mut tell = Tell::new(ways.into_iter().enumerate().map(target).collect(), None);
    tell.patience.wait = Duration::ZERO;
    tell
}

#[tokio::test]
async fn a_monitor_hears_how_it_goes() {
    let server = Server::http(&[Answer::Status(200)]).await;
    let tell = telling(vec![ping(&server)]);
    let [started, good, warned, failed] =
        [RunState::Started, RunState::Succeeded, RunState::Warned, RunState::Failed].map(run);
    assert_eq!(tell.started(&started).await, [""; 0]);
    for run in [&good, &warned, &failed] {
        assert_eq!(tell.ended(run).await, [""; 0]);
    }
    assert_eq!(tell.test("nas", &[]).await, [("to.0", None)]);
    let paths = server
        .sent()
        .iter()
        .map(|text| text.split(['?', ' ']).nth(1).unwrap().to_string())
        .collect::<Vec<_>>();
    let expected = ["/start", "", "/fail", "/fail", "/log"].map(|end| format!("/{SECRET}{end}"));
    assert_eq!(paths, expected);
    assert!(server.sent()[3].contains("error: the \"vol\"\nis gone\n"), "{}", server.sent()[3]);
}

#[tokio::test]
async fn a_plain_monitor_is_asked_after_a_success_only() {
    let server = Server::http(&[Answer::Status(200)]).await;
    let way = Way::Ping(Ping { address: address(&server), style: Style::Plain, warning: WarnedAs::Fail });
    let tell = telling(vec![way]);
    for state in [RunState::Started, RunState::Succeeded, RunState::Warned, RunState::Failed] {
        assert_eq!(tell.ended(&run(state)).await, [""; 0]);
    }
    let sent = server.sent();
    assert_eq!(sent.len(), 1);
    assert!(sent[0].starts_with(&format!("GET /{SECRET} HTTP/1.1\r\n")), "{}", sent[0]);
}

#[tokio::test]
async fn what_passes_is_tried_again() {
    let server = Server::http(&[Answer::Status(500), Answer::Close, Answer::Status(200)]).await;
    let tell = telling(vec![webhook(&server, "{\"text\": \"{subject} {error}\"}")]);
    assert_eq!(tell.ended(&run(RunState::Failed)).await, [""; 0]);
    let sent = server.sent();
    assert_eq!(sent.len(), 3);
    let (head, body) = sent[2].split_once("\r\n\r\n").unwrap();
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["text"], "sealift: médía FAILED on nas the \"vol\"\nis gone");
    assert!(
        head.contains("content-type: application/json") && head.contains(&format!("x-token: {SECRET}")),
        "{head}"
    );
}

#[tokio::test]
async fn what_does_not_pass_is_told_without_secrets() {
    for (answer, count, why) in [
        (Answer::Status(503), 3, "it answered 503 Service Unavailable"),
        (Answer::Status(404), 1, "it answered 404 Not Found; is its URL still the right one?"),
        (Answer::Status(302), 1, "it answered 302 Found; it sends elsewhere: name that URL (https?)"),
        (Answer::Close, 3, "no answer"),
    ] {
        let answers: &'static [Answer] = Box::leak(Box::new([answer]));
        let server = Server::http(answers).await;
        let told = telling(vec![ping(&server), webhook(&server, "x")]).ended(&run(RunState::Failed)).await;
        assert_eq!(server.sent().len(), 2 * count, "{answer:?}");
        assert!(
            told.iter()
                .zip(["to.0", "to.1"])
                .all(|(text, name)| text.starts_with(&format!("{name} was not told: {why}"))),
            "{told:?}"
        );
        assert!(!format!("{told:?}").contains(SECRET), "{told:?}");
    }
}

#[tokio::test]
async fn nobody_listens_at_an_address() {
    let closed = Server { at: "127.0.0.1:1".into(), ..Server::http(&[Answer::Close]).await };
    let told = telling(vec![ping(&closed), mail(&closed)]).ended(&run(RunState::Failed)).await;
    assert_eq!(told.len(), 2);
    assert!(!format!("{told:?}").contains(SECRET), "{told:?}");
}

// Time that is paused goes on as soon as all wait: ten seconds for each try pass at once.
#[tokio::test(start_paused = true)]
async fn one_who_never_answers_holds_up_nobody_else() {
    let (silent, began) = (Server::http(&[Answer::Never]).await, Instant::now());
    let tell = telling(vec![ping(&silent), webhook(&silent, "x")]);
    let clock = tokio::time::Instant::now();
    let told = tell.ended(&run(RunState::Failed)).await;
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(clock.elapsed() <= tell.patience.limit + Duration::from_secs(1), "{:?}", clock.elapsed());
    assert!(began.elapsed() < clock.elapsed(), "nobody really waited");
}

#[tokio::test]
async fn those_are_told_who_want_to_know() {
    let server = Server::http(&[Answer::Status(204)]).await;
    let mut tell = telling(vec![webhook(&server, "one"), webhook(&server, "two"), webhook(&server, "three")]);
    tell.targets[0].jobs = vec!["other".into()];
    tell.targets[1].on = vec![Occasion::Success];
    tell.ended(&run(RunState::Failed)).await;
    assert_eq!(server.sent().iter().filter(|text| text.ends_with("three")).count(), 1);
    assert_eq!(server.sent().len(), 1);
    assert_eq!(tell.test("nas", &["to.1".into()]).await, [("to.1", None)]);
    assert!(server.sent()[1].ends_with("two"));
}

#[tokio::test]
async fn a_letter_arrives_in_any_language() {
    let server = Server::smtp(&["250 taken"]).await;
    assert_eq!(telling(vec![mail(&server)]).ended(&run(RunState::Failed)).await, [""; 0]);
    let letter = server.sent().remove(0);
    for part in
        ["AUTH PLAIN", "RCPT TO:<ops@example.com>", "From: sealift@nas.example", "Subject: ", "Date: "]
    {
        assert!(letter.contains(part), "{part}: {letter}");
    }
    assert!(letter.is_ascii() && !letter.contains("médía"), "{letter}");
}

#[tokio::test]
async fn a_letter_is_tried_again_while_that_can_help() {
    let busy = Server::smtp(&["451 later", "250 taken"]).await;
    assert_eq!(telling(vec![mail(&busy)]).ended(&run(RunState::Failed)).await, [""; 0]);
    assert_eq!(busy.sent().len(), 2);
    let strict = Server::smtp(&["554 no"]).await;
    let told = telling(vec![mail(&strict)]).ended(&run(RunState::Failed)).await;
    assert_eq!(strict.sent().len(), 1);
    assert!(told[0].contains("was not told: 127.0.0.1:") && told[0].contains("554"), "{told:?}");
}

#[tokio::test]
async fn a_server_that_answers_with_the_password_makes_no_warning_of_it() {
    let server = Server::smtp(&["AUTH 535 no"]).await;
    let told = telling(vec![mail(&server)]).ended(&run(RunState::Failed)).await;
    assert!(told[0].contains("535") && told[0].contains("<redacted>"), "{told:?}");
    assert!(told[0].ends_with("; check user and the password"), "{told:?}");
}

#[tokio::test]
async fn a_server_without_starttls_hears_nothing() {
    let server = Server::smtp(&["250 taken"]).await;
    let Way::Mail(plain) = mail(&server) else { panic!("no mail") };
    let tls = Mail { server: format!("smtp://{}", server.at).parse().unwrap(), ..plain };
    let told = telling(vec![Way::Mail(tls)]).ended(&run(RunState::Failed)).await;
    assert_eq!((told.len(), server.sent().len()), (1, 0), "{told:?}");
}

#[tokio::test]
async fn the_end_is_told_after_the_start() {
    let server = Server::http(&[Answer::Status(500), Answer::Status(200)]).await;
    let tell = Arc::new(telling(vec![ping(&server)]));
    let telling = Telling::of(&tell, &run(RunState::Started));
    assert_eq!(telling.end(&run(RunState::Succeeded)).await, [""; 0]);
    let starts = server.sent().iter().map(|text| text.contains("/start?")).collect::<Vec<_>>();
    assert_eq!(starts, [true, true, false]);
}

#[tokio::test]
async fn metrics_that_cannot_be_written_are_a_warning() {
    let tell = Tell::new(Vec::new(), Some(Textfile::new("/nowhere/sealift.prom")));
    let told = tell.ended(&run(RunState::Succeeded)).await;
    assert!(told[0].starts_with("the metrics were not written: cannot write /nowhere"), "{told:?}");
}
