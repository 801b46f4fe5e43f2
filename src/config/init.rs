//! A settings file to begin with: the policy of `docs/POLICY.md`, with the jobs that this host asks for.

use super::toml_value;
use crate::archive::name::JobName;
use crate::job::inventory::{Database, FoundVolume, Inventory};
use crate::report::{human_bytes, printable};

/// From this size on a job is proposed with increments.
const LARGE: u64 = 10 << 30;

const HEAD: &str = r#"# Backups of this host, by sealift. `sealift config check` says whether this file is right, `sealift doctor` whether what
# it needs is there, `sealift status` whether all is well. docs/POLICY.md has the policy on one page; in short:
#
#   what        everything that cannot be made anew: dumps of databases, volumes, settings. Not images that a registry has.
#   how often   every night, by cron or a systemd timer:   0 2 * * * root sealift backup set nightly
#   how long    7 days, 5 weeks, 12 months, 3 years; never less than the newest whole archive of a job. What is not kept goes
#               by hand or by cron:                     0 6 * * 0 root sealift prune --confirm
#   tested      every night by `sealift verify JOB`, every month by a restore of one job into an empty folder
#   who is told whoever reads what cron writes:            0 9 * * * root sealift status --quiet

# ---- where to

# The passphrase opens every backup: keep a copy of it away from this host. Make the file first, then take the # away:
#   install -m 600 /dev/null /etc/sealift.pass && openssl rand -base64 30 > /etc/sealift.pass
# passphrase_file = "/etc/sealift.pass"
to = ["offsite"]
from = "offsite"

# ---- how long archives are kept, and when a job is a problem for `sealift status`; a job may say it otherwise

keep = { daily = 7, weekly = 5, monthly = 12, yearly = 3 }
max_age = "26h"
verified_within = "30d"
shrink = "50%"

[stores.offsite]
# Change this. A second store of another kind, at another place, is worth its price: to = ["offsite", "near"]
url = "s3://change-me/backups"

# ---- what
"#;

/// The text of a settings file for what was found.
pub fn settings_for(found: &Inventory) -> String {
    let (mut text, mut jobs) = (HEAD.to_string(), Vec::new());
    if let Some(why) = &found.unreachable {
        text.push_str(&format!("\n# The Docker Engine was not looked at: {}\n", one_line(why)));
    }
    for component in &found.ee {
        add(&mut text, &mut jobs, component, &ee(component));
    }
    for database in &found.databases {
        add(&mut text, &mut jobs, &database.container, &dump(database));
    }
    for volume in &found.volumes {
        match &volume.database {
            // Its files alone, copied while it writes, are no backup.
            Some(container) => text.push_str(&format!(
                "\n# Volume {} is not copied: the database of container {} writes into it, and its dump is above.\n",
                one_line(&volume.name),
                one_line(container)
            )),
            None => add(&mut text, &mut jobs, &volume.name, &files(volume)),
        }
    }
    if found.nameless > 0 {
        text.push_str(&format!("\n# {} volumes without a name are left out.\n", found.nameless));
    }
    for folder in &found.folders {
        let settings = format!("source = \"path\"\ndirs = [{}]\n", quoted(folder));
        add(&mut text, &mut jobs, folder, &settings);
    }
    if jobs.is_empty() {
        text.push_str("\n# Nothing was found here: see `sealift config --help` for what a job looks like.\n");
        return text;
    }
    let names: Vec<_> = jobs.iter().map(|job| quoted(job)).collect();
    text.push_str(&format!(
        "\n# ---- all of it, in this order\n\n[sets.nightly]\njobs = [{}]\n",
        names.join(", ")
    ));
    text
}

/// Adds a job under a name of its own.
fn add(text: &mut String, jobs: &mut Vec<String>, called: &str, settings: &str) {
    let name = JobName::from_source(called).map_or("job".into(), String::from);
    let name = name.replace('/', "-");
    let free = |name: &String| !jobs.contains(name);
    let numbered = (2..).map(|n| format!("{name}-{n}"));
    let name = std::iter::once(name.clone()).chain(numbered).find(free).unwrap_or(name);
    text.push_str(&format!("\n[jobs.{}]\n{settings}", quoted_key(&name)));
    jobs.push(name);
}

fn quoted_key(name: &str) -> String {
    super::toml_key(name)
}

fn quoted(text: &str) -> String {
    toml_value(&text.into())
}

/// A text of others in a comment.
fn one_line(text: &str) -> String {
    printable(text)
}

fn ee(component: &str) -> String {
    let more = match component {
        "swarm" => {
            "# stop_engine = true       # this node leaves the swarm for a moment, and the backup is consistent\n"
        }
        "ucp" => "",
        _ => {
            "# ucp_url = \"ucp.example.com\"\n# ucp_username = \"admin\"\n# ucp_password_file = \"/etc/ucp.pass\"\n\
             # ucp_ca = \"/etc/ucp.pem\"\n"
        }
    };
    format!("source = \"{component}\"\n{more}")
}

/// A dump by the database's own tool, in its container; its password stays there.
fn dump(database: &Database) -> String {
    format!("source = \"{}\"\ncontainer = {}\n", database.kind.word(), quoted(&database.container))
}

fn files(volume: &FoundVolume) -> String {
    let (size, large) = match volume.size {
        Some(bytes) => (format!("about {}", human_bytes(bytes)), bytes >= LARGE),
        None => ("of unknown size: say incremental = true where it is over 10 GiB".into(), false),
    };
    let increments = match large {
        true => {
            "incremental = true        # what changed only; a bucket's lifecycle rule must not delete what it needs\n\
             full_every = \"90d\"\n"
        }
        false => "",
    };
    format!("# {size}\nsource = \"volume\"\nvolumes = [{}]\n{increments}", quoted(&volume.name))
}

#[cfg(test)]
mod tests {
    use super::super::tests::config;
    use super::*;
    use crate::job::Subject;
    use crate::job::backup::BackupRequest;
    use crate::preset::DatabaseKind;

    fn volume(name: &str, size: Option<u64>, database: Option<&str>) -> FoundVolume {
        FoundVolume { name: name.into(), size, database: database.map(Into::into) }
    }

    fn everything() -> Inventory {
        let database = |container: &str, kind| Database { container: container.into(), kind };
        Inventory {
            databases: vec![
                database("db", DatabaseKind::Postgres),
                database("shop_mysql_1", DatabaseKind::Mysql),
                database("Maria", DatabaseKind::Mysql),
                database("m", DatabaseKind::Mongo),
                database("cache", DatabaseKind::Redis),
            ],
            volumes: vec![
                volume("db", Some(1), None),
                volume("pgdata", Some(1 << 40), Some("db")),
                volume("images", Some(LARGE), None),
                volume("small", Some(LARGE - 1), None),
                volume("odd.Name", None, None),
            ],
            nameless: 3,
            ee: vec!["swarm", "ucp", "dtr"],
            folders: vec!["/etc".into()],
            unreachable: None,
        }
    }

    /// The jobs of a text in which nothing is wrong.
    fn jobs(text: &str) -> Vec<(String, Subject, BackupRequest)> {
        let (config, problems) = config(text);
        assert_eq!(problems, [], "{text}");
        let names = config.jobs().iter().map(|job| job.name.clone());
        let job = |name: String| {
            let (subject, request) = config.job(&name, &[]).unwrap_or_else(|e| panic!("{name}: {e}"));
            (name, subject, request)
        };
        names.map(job).collect()
    }

    #[test]
    fn every_word_is_one_that_the_settings_know() {
        let text = settings_for(&everything());
        let jobs = jobs(&text);
        let names: Vec<_> = jobs.iter().map(|(name, ..)| name.as_str()).collect();
        let expected = [
            "swarm",
            "ucp",
            "dtr",
            "db",
            "shop_mysql_1",
            "maria",
            "m",
            "cache",
            "db-2",
            "images",
            "small",
            "odd.name",
            "etc",
        ];
        assert_eq!(names, expected);
        let (config, _) = config(&text);
        assert_eq!(config.set("nightly").unwrap().jobs, expected);
        assert!(jobs.iter().all(|(.., request)| request.stores[0].url == "s3://change-me/backups"));
        let limits: Vec<_> =
            config.expected().into_iter().flat_map(|(_, job)| job.unwrap().archives).collect();
        assert!(limits.iter().all(|job| job.keep.as_deref().is_some_and(|keep| keep.contains("weekly 5"))));
        assert!(["max_age", "verified_within", "shrink"].iter().all(|key| config.top().get(key).is_some()));
    }

    #[test]
    fn what_is_10_gib_and_more_is_proposed_with_increments() {
        let jobs = jobs(&settings_for(&everything()));
        let large: Vec<_> = jobs.iter().filter(|(.., request)| request.increments.is_some()).collect();
        assert_eq!(large.iter().map(|(name, ..)| name.as_str()).collect::<Vec<_>>(), ["images"]);
    }

    #[test]
    fn a_databases_volume_is_named_and_not_copied() {
        let text = settings_for(&everything());
        assert!(text.contains("# Volume pgdata is not copied: the database of container db"), "{text}");
        assert!(!text.contains("[jobs.pgdata]"));
    }

    #[test]
    fn names_of_others_end_no_comment_and_no_text() {
        let odd = "x\"\n[jobs.evil]\nsource = \"stdin\"";
        let found = Inventory {
            databases: vec![Database { container: odd.into(), kind: DatabaseKind::Postgres }],
            volumes: vec![volume(odd, None, Some(odd)), volume(odd, None, None)],
            unreachable: Some(odd.into()),
            ..Inventory::default()
        };
        let jobs = jobs(&settings_for(&found));
        assert_eq!(jobs.len(), 2);
    }

    #[test]
    fn a_host_on_which_nothing_was_found_has_a_file_that_is_right() {
        let found = Inventory { unreachable: Some("no engine".into()), ..Inventory::default() };
        let text = settings_for(&found);
        assert!(jobs(&text).is_empty() && text.contains("was not looked at: no engine"));
    }
}
