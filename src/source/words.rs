//! A source in words: what the catalog says of it, as it would stand behind `backup`.

use serde_json::Value;

use crate::report::{printable, quoted};

/// What is said of one kind of source; none where its record is not as expected.
type Said = fn(&Value) -> Option<String>;

/// `exec db: pg_dumpall -U postgres`, `volume data`, `path /etc /srv`: what is read, of what the catalog says of a source.
/// A kind that a later version may know is shown as it is written.
pub fn in_words(source: &Value) -> String {
    let kinds: [(&str, Said); 10] = [
        // What a preset says of a database is more than the command that dumps it.
        ("database", database),
        ("run", run),
        ("exec", exec),
        ("command", |words_of| some(words(words_of)).map(|words| format!("command -- {words}"))),
        ("volume", |names| some(words(names)).map(|names| format!("volume {names}"))),
        ("image", |names| some(words(names)).map(|names| format!("image {names}"))),
        ("path", |names| some(words(names)).map(|names| format!("path {names}"))),
        ("folder", folder),
        ("unlock_key", |_| Some("the key that unlocks the swarm".into())),
        ("stdin", |_| Some("stdin".into())),
    ];
    let known = kinds.iter().find_map(|(kind, said)| said(source.get(kind)?));
    known.unwrap_or_else(|| printable(&source.to_string()))
}

/// What stands beside the source in the catalog: which product it is of, and what is left out of it.
pub fn besides(source: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    let database = source["database"]["product"].as_str().unwrap_or_default();
    for (product, name) in [("ucp", "UCP"), ("dtr", "DTR"), ("swarm", "engine"), ("database", database)] {
        let version = source.get(product).and_then(|product| product.get("version")).and_then(Value::as_str);
        lines.extend(version.map(|version| printable(&format!("{name} {version}"))));
    }
    let Some(filter) = source.get("filter") else { return lines };
    let patterns = filter["exclude"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut options: Vec<String> = patterns.map(|pattern| format!("--exclude {}", quoted(pattern))).collect();
    for (field, option) in [("exclude_caches", "--exclude-caches"), ("one_file_system", "--one-file-system")]
    {
        options.extend((filter[field] == true).then(|| option.to_string()));
    }
    if !options.is_empty() {
        lines.push(options.join(" "));
    }
    lines
}

fn some(words: String) -> Option<String> {
    (!words.is_empty()).then_some(words)
}

/// The texts of a list, each as a shell reads it.
fn words(list: &Value) -> String {
    let words = list.as_array().into_iter().flatten().filter_map(Value::as_str);
    words.map(quoted).collect::<Vec<_>>().join(" ")
}

/// `of: command`
fn with_command(kind: &str, of: &Value, command: &Value) -> Option<String> {
    let command = words(command);
    let of = quoted(of.as_str()?);
    Some(if command.is_empty() { format!("{kind} {of}") } else { format!("{kind} {of}: {command}") })
}

fn database(database: &Value) -> Option<String> {
    let (kind, container) = (database["kind"].as_str()?, database["container"].as_str()?);
    let options = [("user", "--user"), ("database", "--database")];
    let options = options
        .iter()
        .filter_map(|(field, option)| Some(format!(" {option} {}", quoted(database[field].as_str()?))));
    Some(format!("{}{} {}", quoted(kind), options.collect::<String>(), quoted(container)))
}

fn exec(exec: &Value) -> Option<String> {
    with_command("exec", &exec["container"], &exec["command"])
}

fn run(run: &Value) -> Option<String> {
    let mut options = Vec::new();
    for (field, option) in [
        ("name", "--name"),
        ("network", "--network"),
        ("entrypoint", "--entrypoint"),
        ("user", "-u"),
        ("workdir", "-w"),
    ] {
        options.extend(run[field].as_str().map(|value| format!("{option} {}", quoted(value))));
    }
    for (field, option) in
        [("volumes", "-v"), ("env", "-e"), ("security_opt", "--security-opt"), ("add_host", "--add-host")]
    {
        let values = run[field].as_array().into_iter().flatten().filter_map(Value::as_str);
        options.extend(values.map(|value| format!("{option} {}", quoted(value))));
    }
    let mounts = run["mounts"].as_array().map_or(0, Vec::len);
    if mounts > 0 {
        options.push(format!("--mount … ({mounts})"));
    }
    if run["privileged"] == true {
        options.push("--privileged".into());
    }
    let kind = ["run".to_string()].into_iter().chain(options).collect::<Vec<_>>().join(" ");
    with_command(&kind, &run["image"], &run["command"])
}

fn folder(folder: &Value) -> Option<String> {
    let (below, name) = (folder["below"].as_str()?, folder["name"].as_str()?);
    Some(format!("path {}", quoted(&format!("{}/{name}", below.trim_end_matches('/')))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Source;
    use serde_json::json;

    #[test]
    fn every_source_says_in_words_what_it_reads() {
        let words = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        let exec = Source::Exec { container: "db".into(), command: words(&["pg_dumpall", "-U", "postgres"]) };
        let folder = Source::Folder { below: "/var/lib/docker".into(), name: "swarm".into(), stop: None };
        for (source, said) in [
            (exec, "exec db: pg_dumpall -U postgres"),
            (Source::Command(words(&["pg_dump", "-Fc", "my app"])), "command -- pg_dump -Fc 'my app'"),
            (Source::Volume(words(&["data", "my logs"])), "volume data 'my logs'"),
            (Source::Image(words(&["team/app:1.4"])), "image team/app:1.4"),
            (Source::Path(words(&["/etc", "/srv"])), "path /etc /srv"),
            (folder, "path /var/lib/docker/swarm"),
            (Source::UnlockKey, "the key that unlocks the swarm"),
            (Source::Stdin, "stdin"),
        ] {
            assert_eq!(in_words(&source.describe()), said);
        }
    }

    #[test]
    fn a_container_that_was_run_says_how() {
        let run = json!({"run": {
            "image": "docker/ucp:3.2.6", "command": ["backup", "--id", "a b"], "name": "ucp", "env": ["KEY"],
            "volumes": ["/s:/s"], "mounts": [], "network": null, "security_opt": ["label=disable"],
            "privileged": false,
        }});
        assert_eq!(
            in_words(&run),
            "run --name ucp -v /s:/s -e KEY --security-opt label=disable docker/ucp:3.2.6: backup --id 'a b'"
        );
        assert_eq!(in_words(&json!({"run": {"image": "i"}})), "run i");
    }

    #[test]
    fn what_is_left_out_and_of_which_product_it_is_stands_besides() {
        let source = json!({"path": ["/"], "filter": {
            "exclude": ["*.log", "a b"], "exclude_caches": true, "one_file_system": false,
        }});
        assert_eq!(in_words(&source), "path /");
        assert_eq!(besides(&source), ["--exclude '*.log' --exclude 'a b' --exclude-caches"]);
        assert_eq!(besides(&json!({"run": {}, "ucp": {"version": "3.2.6\n"}})), ["UCP 3.2.6\\n"]);
        assert!(besides(&json!({"stdin": {}})).is_empty());
    }

    #[test]
    fn a_database_is_said_by_its_preset_and_with_the_version_of_its_server() {
        let source = json!({"exec": {"container": "db", "command": ["pg_dumpall"]}, "database": {
            "kind": "postgres", "product": "PostgreSQL", "version": "15.18", "container": "db", "user": "a b",
        }});
        assert_eq!(in_words(&source), "postgres --user 'a b' db");
        assert_eq!(besides(&source), ["PostgreSQL 15.18"]);
        let newer = json!({"exec": {"container": "db", "command": ["x"]}, "database": {"kind": null}});
        assert_eq!(in_words(&newer), "exec db: x", "what is not said of a database is said of the command");
    }

    #[test]
    fn what_no_version_knows_is_shown_as_it_is_written_and_steers_no_terminal() {
        assert_eq!(in_words(&json!({"bucket": "b"})), r#"{"bucket":"b"}"#);
        assert_eq!(in_words(&json!({"exec": {}})), r#"{"exec":{}}"#);
        assert!(!in_words(&json!({"volume": ["a\u{1b}[2J"]})).contains('\u{1b}'));
    }
}
