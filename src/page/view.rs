//! The page: a table of jobs with their last nights, what runs now, and what needs a look.

use jiff::Timestamp;

use super::board::{Board, Ended, Night, Progress, Schedule};
use super::html::Html;
use crate::report::{clock, human_bytes, short_time};

/// The one style sheet.
pub(super) const STYLE: &str = include_str!("style.css");

/// Seconds after which a browser asks again.
const REFRESH: &str = "30";

/// Nights that a strip shows at most.
const NIGHTS: usize = 21;

/// The whole page, at this time.
pub(super) fn page(board: &Board, now: Timestamp) -> String {
    let mut html = Html::default();
    html.ours("<!DOCTYPE html>\n");
    html.element("html", &[("lang", "en")], |html| {
        html.element("head", &[], |html| head(html, board, now));
        html.element("body", &[], |html| {
            html.element("header", &[], |html| {
                html.say("h1", &[], format!("Sealift on {}", board.host));
                html.say("p", &[("role", "status")], summary(board, now));
                html.say("p", &[("class", "dim")], format!("{now:.0}, every {REFRESH} s anew"));
            });
            html.element("main", &[], |html| {
                alarms(html, board);
                running(html, board, now);
                jobs(html, board, now);
            });
        });
    });
    html.into_text()
}

fn head(html: &mut Html, board: &Board, now: Timestamp) {
    html.open("meta", &[("charset", "utf-8")]);
    html.open("meta", &[("name", "viewport"), ("content", "width=device-width, initial-scale=1")]);
    html.open("meta", &[("http-equiv", "refresh"), ("content", REFRESH)]);
    html.say("title", &[], format!("{} · sealift on {}", summary(board, now), board.host));
    html.element("style", &[], |html| html.ours(STYLE));
}

/// What is wrong in all, in a few words.
fn summary(board: &Board, now: Timestamp) -> String {
    let is_bad = |schedule: &&Schedule| {
        let last = schedule.nights.last().map(|night| night.ended);
        schedule.is_late(now) || matches!(last, Some(Ended::Failed | Ended::Missed))
    };
    match (board.schedules.iter().filter(is_bad).count(), board.alarms.len()) {
        (0, 0) if board.schedules.is_empty() => "nothing is scheduled".into(),
        (0, 0) => "all is well".into(),
        (bad, alarms) => {
            let bad = (bad > 0).then(|| format!("{bad} of {} failed or late", board.schedules.len()));
            let alarms = (alarms > 0).then(|| format!("{alarms} to look at"));
            bad.into_iter().chain(alarms).collect::<Vec<_>>().join(", ")
        }
    }
}

fn alarms(html: &mut Html, board: &Board) {
    if board.alarms.is_empty() {
        return;
    }
    html.element("section", &[("aria-labelledby", "look")], |html| {
        html.say("h2", &[("id", "look")], "To look at");
        html.element("ul", &[], |html| board.alarms.iter().for_each(|alarm| html.say("li", &[], alarm)));
    });
}

fn running(html: &mut Html, board: &Board, now: Timestamp) {
    let running =
        || board.schedules.iter().filter_map(|schedule| Some((schedule, schedule.running.as_ref()?)));
    if running().next().is_none() {
        return;
    }
    html.element("section", &[("aria-labelledby", "now")], |html| {
        html.say("h2", &[("id", "now")], "Running now");
        for (Schedule { name, verb, .. }, Progress { since, bytes, total }) in running() {
            let of = total.map(|total| format!(" of {}", human_bytes(total))).unwrap_or_default();
            let text = format!("{verb} of {name}: {}{of}, for {}", human_bytes(*bytes), ago(*since, now));
            html.say("p", &[], &text);
            if let Some(total) = total.filter(|total| *total > 0) {
                let (value, max) = (bytes.to_string(), total.to_string());
                html.say("progress", &[("value", &value), ("max", &max), ("aria-label", &text)], "");
            }
        }
    });
}

fn jobs(html: &mut Html, board: &Board, now: Timestamp) {
    html.element("section", &[("aria-labelledby", "jobs")], |html| {
        html.say("h2", &[("id", "jobs")], "Jobs");
        // The roles are said, because on a phone the table is laid out as a list.
        html.element("table", &[("role", "table"), ("aria-labelledby", "jobs")], |html| {
            html.element("thead", &[("role", "rowgroup")], |html| {
                html.element("tr", &[("role", "row")], |html| {
                    for title in ["Job", "Last runs", "Age", "Next", "Size", "Verified", "Drilled"] {
                        html.say("th", &[("role", "columnheader"), ("scope", "col")], title);
                    }
                });
            });
            html.element("tbody", &[("role", "rowgroup")], |html| {
                let is_check = |it: &Schedule| {
                    let has_backup = |other: &Schedule| other.verb == "backup" && other.name == it.name;
                    matches!(it.verb.as_str(), "verify" | "drill") && board.schedules.iter().any(has_backup)
                };
                for schedule in board.schedules.iter().filter(|it| !is_check(it)) {
                    html.element("tr", &[("role", "row")], |html| row(html, board, schedule, now));
                }
            });
        });
    });
}

fn row(html: &mut Html, board: &Board, schedule: &Schedule, now: Timestamp) {
    html.element("th", &[("role", "rowheader"), ("scope", "row")], |html| {
        html.text(&schedule.name);
        if schedule.verb != "backup" {
            html.say("small", &[], format!(" {}", schedule.verb));
        }
    });
    cell(html, "Last runs", |html| {
        strip(html, &schedule.nights);
        let last = schedule.nights.last().filter(|night| !night.text.is_empty());
        if let Some(night) = last {
            html.say("p", &[("class", word(night.ended))], &night.text);
        }
    });
    cell(html, "Age", |html| age(html, schedule, now));
    let next = schedule.next.map_or("never".into(), |next| format!("{next:.0}"));
    cell(html, "Next", |html| html.text(next));
    cell(html, "Size", |html| size(html, &schedule.nights));
    for (title, verb) in [("Verified", "verify"), ("Drilled", "drill")] {
        let check = board.schedules.iter().find(|it| it.verb == verb && it.name == schedule.name);
        cell(html, title, |html| checked(html, check, now));
    }
}

fn cell(html: &mut Html, title: &'static str, inside: impl FnOnce(&mut Html)) {
    html.element("td", &[("role", "cell"), ("data-label", title)], inside);
}

/// A mark for each run; what it says in colour, it says in words, too.
fn strip(html: &mut Html, nights: &[Night]) {
    if nights.is_empty() {
        return html.say("span", &[("class", "dim")], "none yet");
    }
    html.element("ol", &[("class", "strip")], |html| {
        for night in &nights[nights.len().saturating_sub(NIGHTS)..] {
            let mark = match night.ended {
                Ended::Well => "✓",
                Ended::Warned => "!",
                Ended::Failed => "✗",
                Ended::Missed => "–",
            };
            let why = if night.text.is_empty() { String::new() } else { format!(": {}", night.text) };
            let text = format!("{:.0}: {}{why}", night.at, word(night.ended));
            html.element("li", &[("class", word(night.ended)), ("title", &text)], |html| {
                html.say("span", &[("aria-hidden", "true")], mark);
                html.say("span", &[("class", "sr")], &text);
            });
        }
    });
}

fn word(ended: Ended) -> &'static str {
    match ended {
        Ended::Well => "ok",
        Ended::Warned => "warning",
        Ended::Failed => "failed",
        Ended::Missed => "missed",
    }
}

fn age(html: &mut Html, schedule: &Schedule, now: Timestamp) {
    let class = if schedule.is_late(now) { "late" } else { "ok" };
    match schedule.last_good() {
        None => html.say("span", &[("class", "late")], "never"),
        Some(good) => html.say("span", &[("class", class)], ago(good.at, now)),
    }
    if let Some(interval) = schedule.interval {
        let late = if class == "late" { "late: " } else { "" };
        html.say("small", &[], format!(" {late}every {}", short_time(interval)));
    }
}

/// The last size, and all of them as a plot.
fn size(html: &mut Html, nights: &[Night]) {
    let sizes: Vec<_> = nights.iter().filter(|night| night.bytes > 0).map(|night| night.bytes).collect();
    let (Some(first), Some(last)) = (sizes.first(), sizes.last()) else { return html.text("–") };
    html.text(human_bytes(*last));
    if sizes.len() < 2 {
        return;
    }
    let most = sizes.iter().copied().max().unwrap_or(1) as f64;
    let step = 100.0 / (sizes.len() - 1) as f64;
    let point =
        |(i, size): (usize, &u64)| format!("{:.1},{:.1}", i as f64 * step, 29.0 - *size as f64 / most * 28.0);
    let points = sizes.iter().enumerate().map(point).collect::<Vec<_>>().join(" ");
    let label =
        format!("size over {} runs: from {} to {}", sizes.len(), human_bytes(*first), human_bytes(*last));
    let view =
        [("viewBox", "0 0 100 30"), ("role", "img"), ("preserveAspectRatio", "none"), ("aria-label", &label)];
    html.element("svg", &view, |html| {
        let line = [("points", points.as_str()), ("fill", "none"), ("stroke", "currentColor")];
        let line = [&line[..], &[("stroke-width", "2"), ("vector-effect", "non-scaling-stroke")]].concat();
        html.element("polyline", &line, |_| {});
    });
}

/// When a check last succeeded, how long it took, and whether the last one failed.
fn checked(html: &mut Html, check: Option<&Schedule>, now: Timestamp) {
    let Some(check) = check else { return html.say("span", &[("class", "dim")], "not scheduled") };
    match check.last_good() {
        None => html.say("span", &[("class", "late")], "never"),
        Some(good) => {
            let took = clock(std::time::Duration::try_from_secs_f64(good.seconds).unwrap_or_default());
            let class = if check.is_late(now) { "late" } else { "ok" };
            html.say("span", &[("class", class)], format!("{} ago", ago(good.at, now)));
            html.say("small", &[], format!(" took {took}"));
        }
    }
    if let Some(night) =
        check.nights.last().filter(|night| matches!(night.ended, Ended::Failed | Ended::Missed))
    {
        html.say("p", &[("class", "failed")], format!("{}: {}", word(night.ended), night.text));
    }
}

/// The time since then; none where the clock was set back.
fn ago(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(then).as_secs().max(0);
    short_time(std::time::Duration::from_secs(seconds.unsigned_abs()))
}

#[cfg(test)]
mod tests;
