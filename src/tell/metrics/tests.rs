use super::*;
use crate::report::event::{FailedStore, Sealed};

fn sealed(stores: &[&str], failed: &[&str]) -> Sealed {
    let failed = failed.iter().map(|store| FailedStore { store: store.to_string(), error: "no".into() });
    Sealed {
        job: "a".into(),
        id: "20261122T020000Z-1f2e3d4c".into(),
        bytes: 1000,
        stored: 300,
        ratio: 3.3,
        seconds: 1.0,
        mb_per_second: 1.0,
        stores: stores.iter().map(ToString::to_string).collect(),
        failed: failed.collect(),
        warnings: Vec::new(),
        notes: Vec::new(),
        kept: None,
        segments: None,
    }
}

fn run(state: RunState, ended: i64, archives: Vec<Sealed>) -> Run {
    let at = |second| jiff::Timestamp::from_second(second).unwrap();
    let (started, ended) = (at(1_764_000_000), Some(at(ended)));
    Run { state, started, ended, archives, ..Run::new("a", "backup", "nas") }
}

/// The value of a series; none where there is no such line.
fn value(metrics: &Metrics, series: &str) -> Option<f64> {
    let text = metrics.to_string();
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn a_run_is_told_as_prometheus_reads_it() {
    let mut metrics = exposition([&run(RunState::Succeeded, 1_764_000_090, vec![sealed(&["s3://b"], &[])])]);
    metrics.expect("backup", "a", "nas", Duration::from_secs(86400));
    let text = metrics.to_string();
    for line in [
        "# HELP sealift_backup_last_success_timestamp_seconds When the last run that succeeded ended, Unix time.",
        "# TYPE sealift_backup_last_success_timestamp_seconds gauge",
        r#"sealift_backup_last_success_timestamp_seconds{job="a",host="nas",store="s3://b"} 1764000090"#,
        r#"sealift_backup_last_run_timestamp_seconds{job="a",host="nas"} 1764000090"#,
        r#"sealift_backup_last_status{job="a",host="nas"} 1"#,
        r#"sealift_backup_duration_seconds{job="a",host="nas"} 90"#,
        r#"sealift_backup_size_bytes{job="a",host="nas",store="s3://b"} 1000"#,
        r#"sealift_backup_added_bytes{job="a",host="nas",store="s3://b"} 300"#,
        r#"sealift_schedule_expected_interval_seconds{job="a",host="nas",verb="backup"} 86400"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert_eq!(Metrics::read(&text).unwrap(), metrics);
}

#[test]
fn a_failure_leaves_when_it_last_succeeded() {
    let good = run(RunState::Warned, 1_764_000_090, vec![sealed(&["s3://b"], &[])]);
    let bad = run(RunState::Failed, 1_764_086_400, Vec::new());
    let metrics = exposition([&good, &bad]);
    let last = r#"sealift_backup_last_success_timestamp_seconds{job="a",host="nas",store="s3://b"}"#;
    assert_eq!(value(&metrics, last), Some(1_764_000_090.0));
    assert_eq!(value(&metrics, r#"sealift_backup_last_status{job="a",host="nas"}"#), Some(0.0));
    // The clock was set back: what lies in the future would never be old.
    let metrics = exposition([&good, &run(RunState::Failed, 1_763_000_000, Vec::new())]);
    assert_eq!(value(&metrics, last), Some(1_763_000_000.0));
    assert_eq!(value(&metrics, r#"sealift_backup_duration_seconds{job="a",host="nas"}"#), Some(0.0));
}

#[test]
fn a_store_that_fell_behind_is_seen() {
    let both = run(RunState::Succeeded, 1_764_000_090, vec![sealed(&["x", "y"], &[])]);
    let one = run(RunState::Warned, 1_764_086_400, vec![sealed(&["x", "y"], &[]), sealed(&["x"], &["y"])]);
    let metrics = exposition([&both, &one]);
    let last = |store| {
        let series =
            format!(r#"sealift_backup_last_success_timestamp_seconds{{job="a",host="nas",store="{store}"}}"#);
        value(&metrics, &series)
    };
    assert_eq!((last("x"), last("y")), (Some(1_764_086_400.0), Some(1_764_000_090.0)));
    // A store that the job has no more is forgotten.
    let metrics = exposition([&both, &run(RunState::Succeeded, 1_764_090_000, vec![sealed(&["x"], &[])])]);
    assert!(!metrics.to_string().contains("store=\"y\""));
}

#[test]
fn jobs_hosts_and_verbs_are_apart() {
    let plain = run(RunState::Succeeded, 1_764_000_090, Vec::new());
    let others = [
        Run { name: "ab".into(), ..plain.clone() },
        Run { host: "other".into(), ..plain.clone() },
        Run { verb: "verify".into(), ..plain.clone() },
    ];
    let mut metrics = exposition(&others);
    let before = metrics.to_string();
    metrics.record(&Run { state: RunState::Failed, ..plain });
    let after = metrics.to_string();
    assert!(before.lines().all(|line| after.contains(line)), "{after}");
    let success = r#"sealift_verify_last_success_timestamp_seconds{job="a",host="nas"}"#;
    assert_eq!(value(&metrics, success), Some(1_764_000_090.0));
}

#[test]
fn any_name_is_a_label_and_no_more() {
    let name = "a\"} 1\n\\nsealift_x{y=\"ü";
    let run = Run {
        name: name.into(),
        verb: "Back-up".into(),
        ..run(RunState::Succeeded, 1_764_000_090, Vec::new())
    };
    let metrics = exposition([&run]);
    assert_eq!(Metrics::read(&metrics.to_string()).unwrap(), metrics);
    assert!(metrics.to_string().contains("sealift_back_up_last_status{"), "{metrics}");
    let runs_on = metrics.0.values().flat_map(BTreeMap::keys).flatten();
    assert!(runs_on.filter(|(label, _)| label == "job").all(|(_, value)| value == name));
}

#[test]
fn a_run_that_goes_on_is_none_yet() {
    assert_eq!(exposition([&Run::new("a", "backup", "nas")]).to_string(), "");
}

/// A file of `fixtures/`.
fn fixture(path: &str) -> String {
    std::fs::read_to_string(format!("{}/fixtures/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// The names of metrics in a text.
fn named(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with(PREFIX) && !word.ends_with('_')).collect()
}

#[test]
fn alerts_and_board_ask_for_what_there_is() {
    let runs = ["backup", "verify", "drill"].map(|verb| {
        let archives = if verb == "backup" { vec![sealed(&["x"], &[])] } else { Vec::new() };
        Run { verb: verb.into(), ..run(RunState::Succeeded, 1_764_000_090, archives) }
    });
    let mut metrics = exposition(&runs);
    metrics.expect("backup", "a", "nas", Duration::from_secs(86400));
    let text = metrics.to_string();
    let exported = named(&text);
    for file in ["prometheus/alerts.yml", "prometheus/alerts.test.yml", "grafana/sealift.json"] {
        let asked = fixture(file);
        let asked = named(&asked);
        assert!(asked.len() >= 5, "{file}: {asked:?}");
        assert_eq!(asked.difference(&exported).collect::<Vec<_>>(), [&""; 0], "{file}");
    }
    let board: serde_json::Value = serde_json::from_str(&fixture("grafana/sealift.json")).unwrap();
    assert!(board["panels"].as_array().unwrap().iter().all(|panel| panel["targets"][0]["expr"].is_string()));
}
