use std::time::Duration;

use super::*;

const DAY: i64 = 86_400;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_764_000_000 + second).unwrap()
}

fn night(day: i64, ended: Ended, text: &str) -> Night {
    Night { at: at(day * DAY), ended, seconds: 75.0, bytes: 1 << (20 + day), text: text.into() }
}

fn schedule(name: &str, verb: &str, nights: Vec<Night>) -> Schedule {
    let interval = Some(Duration::from_secs(86_400));
    Schedule {
        name: name.into(),
        verb: verb.into(),
        next: Some(at(4 * DAY)),
        interval,
        nights,
        running: None,
    }
}

/// A board with something of everything.
fn board() -> Board {
    let nights = vec![
        night(0, Ended::Well, ""),
        night(1, Ended::Warned, "a file changed"),
        night(2, Ended::Missed, ""),
        night(3, Ended::Failed, "no <b>key</b> for \"s3\""),
    ];
    let running = Some(Progress { since: at(3 * DAY), bytes: 1 << 20, total: Some(4 << 20) });
    Board {
        host: "nas".into(),
        schedules: vec![
            schedule("media", "backup", nights),
            Schedule { running, ..schedule("db", "backup", vec![night(3, Ended::Well, "")]) },
            schedule("media", "drill", vec![night(3, Ended::Well, "")]),
            schedule("all", "prune", Vec::new()),
        ],
        alarms: vec!["mail.ops was not told: <no answer>".into()],
        ..Board::default()
    }
}

/// What stands between tags.
fn words(html: &str) -> String {
    let texts = html.split('<').filter_map(|part| part.split_once('>')).map(|(_, text)| text.trim());
    texts.filter(|text| !text.is_empty()).collect::<Vec<_>>().join("|")
}

#[test]
fn a_page_says_how_it_stands() {
    let html = page(&board(), at(3 * DAY + 3600));
    let words = words(&html);
    for part in [
        "Sealift on nas|1 of 4 failed or late, 1 to look at|",
        "To look at|mail.ops was not told: &lt;no answer&gt;|",
        "backup of db: 1.00 MiB of 4.00 MiB, for 60m|",
        "|media|✓|",
        "|no &lt;b&gt;key&lt;/b&gt; for &quot;s3&quot;|49h|",
        "late: every 24h",
        "|60m ago|took 1:15|",
        "|all|prune|none yet|never|",
    ] {
        assert!(words.replace("2d|", "49h|").contains(part), "{part} is not in {words}");
    }
    // A drill of a job stands with the job.
    assert!(!words.contains("|media|drill|"), "{words}");
}

#[test]
fn what_is_shown_is_said_too() {
    let html = page(&board(), at(3 * DAY + 3600));
    assert_eq!(html.matches("<li class=").count(), html.matches("<span class=\"sr\">").count());
    for part in [
        "<html lang=\"en\">",
        "role=\"img\"",
        "aria-label=\"size over 4 runs: from 1.00 MiB to 8.00 MiB\"",
        "scope=\"row\"",
        "<h1>",
        "<main>",
    ] {
        assert!(html.contains(part), "{part}");
    }
    for part in ["failed: no &lt;b&gt;", "Z: missed</span>", "Z: warning: a file changed</span>"] {
        assert!(html.contains(part), "{part} is not in {html}");
    }
    for part in ["<script", "style=\"", "http://", "https://", "onload"] {
        assert!(!html.contains(part), "{part}");
    }
}

#[test]
fn every_element_is_closed() {
    let html = page(&board(), at(3 * DAY));
    let mut open = Vec::new();
    for tag in html.split('<').skip(2).filter_map(|part| part.split('>').next()) {
        match tag.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name)),
            None if tag.starts_with("meta") => {}
            None => open.push(tag.split(' ').next().unwrap()),
        }
    }
    assert_eq!(open, [""; 0]);
}

#[test]
fn a_clock_that_was_set_back_makes_no_age() {
    let html = page(&board(), at(-DAY));
    assert!(html.contains(">0m<"), "{html}");
}
