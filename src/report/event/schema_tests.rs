//! Events are what `docs/events.schema.json` and `docs/JSON.md` say.

use super::*;

#[path = "../../../tests/support/schema.rs"]
mod schema;

/// What dry runs tell.
fn planned() -> [Event; 3] {
    let text = || "text".to_string();
    [
        Event::PlannedBackup(PlannedBackup {
            job: text(),
            source: text(),
            bytes: None,
            stores: vec![text()],
            last: Some(text()),
            base: None,
            quiesce: vec![text()],
        }),
        Event::PlannedCopy(PlannedCopy { job: text(), id: text(), to: text(), stored: 1 }),
        Event::PlannedRestore(PlannedRestore {
            archive: text(),
            target: text(),
            bytes: 1,
            members: None,
            target_is: Some("empty".into()),
        }),
    ]
}

#[test]
fn every_event_meets_the_schema_and_the_schema_notices() {
    let store = || StoreBytes { store: "s3://b".into(), bytes: 1 };
    let mut sealed = Sealed::new("db", "ID", 3, 1, 1.5);
    sealed.kept = Some(KeptMembers { entries: 1, bytes: 2, needs: vec!["ID".into()] });
    sealed.failed = vec![FailedStore { store: "s3://b".into(), error: "why".into() }];
    (sealed.stores, sealed.segments) = (vec!["file:///a".into()], Some(2));
    let text = || "text".to_string();
    let (archive, target) = (text(), text());
    let all = [
        Event::Note { message: text() },
        Event::Warning { message: text() },
        Event::Source { message: text() },
        Event::Error { message: text(), hint: None, code: 1 },
        Event::Progress {
            job: text(),
            verb: text(),
            seconds: 1,
            bytes: 2,
            stored: 1,
            total: None,
            stores: vec![store()],
        },
        Event::Sealed(Sealed::new("db", "ID", 3, 1, 1.5)),
        Event::Sealed(sealed),
        Event::Restored(Restored { archive, target, bytes: 1, members: Some(2), seconds: 0.5 }),
        Event::Step(Step {
            set: text(),
            step: 1,
            action: 2,
            title: text(),
            command: text(),
            state: StepState::ByHand,
        }),
        Event::Drilled(Drilled {
            job: text(),
            id: text(),
            passed: false,
            level: "restored".into(),
            what: text(),
            counts: [(text(), 1)].into(),
            bytes: 1,
            restore_seconds: 0.5,
            seconds: 1.5,
            cause: Some(text()),
            record: None,
        }),
        Event::Copied(Copied { job: text(), id: text(), to: text(), stored: 1 }),
        Event::Rekeyed(Rekeyed { job: text(), id: text(), object: text() }),
        Event::Checked { file: text(), stores: 1, jobs: 2, sets: 3 },
        Event::Run(Run::new("db", "backup", "host")),
    ];
    for event in all.into_iter().chain(planned()) {
        let mut json: serde_json::Value = serde_json::from_str(&event.to_json()).unwrap();
        assert_eq!(schema::check(&json), Ok(()), "{json}");
        json["another"] = serde_json::json!(1);
        assert!(schema::check(&json).is_err(), "{json}");
        json.as_object_mut().unwrap().retain(|field, _| field == "event");
        assert!(schema::check(&json).is_err(), "{json}");
    }
}

#[test]
fn every_event_and_every_field_of_the_schema_is_documented() {
    let documented = include_str!("../../../docs/JSON.md");
    let schema = schema::events();
    let events = schema["$defs"].as_object().unwrap();
    assert_eq!(schema["oneOf"].as_array().unwrap().len(), events.len());
    for (name, of) in events {
        let section = documented.split(&format!("### `{name}`\n")).nth(1);
        let section = section.unwrap_or_else(|| panic!("{name}")).split("\n#").next().unwrap();
        let fields = of["properties"].as_object().unwrap().keys().filter(|field| *field != "event");
        fields.for_each(|field| assert!(section.contains(&format!("`{field}`")), "{name}.{field}"));
    }
}
