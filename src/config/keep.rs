//! What the settings say of how long archives are kept: `keep = { daily = 7, within = "30d", at.nas = { last = 3 } }`.

use jiff::tz::TimeZone;
use serde_json::Value;
use url::Url;

use super::Config;
use super::check::suggestion;
use super::defaults::Wrong;
use super::file::{Problem, Table, toml_value};
use crate::error::{Error, Result};
use crate::job::prune::Rules;
use crate::job::retention::policy::{PERIODS, Policy};

/// The key.
pub const KEEP: &str = "keep";
const EXAMPLE: &str = "keep = { daily = 7, weekly = 5, monthly = 12 }";

/// What is kept, at every store and at some.
#[derive(Debug, Clone, Default)]
struct Keep {
    policy: Policy,
    at: Vec<(String, Policy)>,
}

impl Keep {
    fn at(&self, store: Option<&str>) -> Option<&Policy> {
        self.at.iter().find(|(name, _)| Some(name.as_str()) == store).map(|(_, policy)| policy)
    }

    /// What holds where nothing is said of a store.
    fn everywhere(&self) -> Option<&Policy> {
        Some(&self.policy).filter(|policy| !policy.is_empty())
    }
}

/// What is wrong with a table's `keep`.
pub fn problem(table: &Table) -> Option<Problem> {
    let setting = table.get(KEEP)?;
    let (text, hint) = read(&setting.value, true).err()?;
    Some(table.problem(setting.line, text, hint))
}

/// A store that a table's `keep` names and that is none of these.
pub fn unknown_store(table: &Table, stores: &[&str]) -> Option<Problem> {
    let setting = table.get(KEEP)?;
    let keep = read(&setting.value, true).ok()?;
    let (name, _) = keep.at.iter().find(|(name, _)| !stores.contains(&name.as_str()))?;
    let hint = suggestion(name, stores);
    Some(table.problem(setting.line, format!("keep.at.{name}: there is no [stores.{name}]"), Some(hint)))
}

fn read(value: &Value, may_have_stores: bool) -> std::result::Result<Keep, Wrong> {
    let Some(fields) = value.as_object() else {
        return Err(("keep is a table of rules".into(), Some(EXAMPLE.into())));
    };
    let mut keep = Keep::default();
    for (key, value) in fields {
        match (key.as_str(), value.as_object()) {
            ("at", Some(stores)) if may_have_stores => {
                for (name, value) in stores {
                    keep.at.push((name.clone(), read(value, false)?.policy));
                }
            }
            _ => rule(&mut keep.policy, key, value)?,
        }
    }
    if keep.policy.is_empty() && keep.at.is_empty() {
        return Err(("keep has no rule: then everything is kept".into(), Some(EXAMPLE.into())));
    }
    Ok(keep)
}

/// One rule.
fn rule(policy: &mut Policy, key: &str, value: &Value) -> std::result::Result<(), Wrong> {
    let word = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        other => return Err((format!("keep.{key}: {} is no number or text", toml_value(other)), None)),
    };
    let wrong = |error: Error| (format!("keep.{key}: {error}"), error.hint_text().map(String::from));
    let place = |word: &str| PERIODS.iter().position(|(_, known)| *known == word);
    let within = key.strip_prefix("within_").or((key == "within").then_some("last"));
    if let Some(place) = place(key) {
        policy.counts[place] = word.parse().map_err(wrong)?;
    } else if let Some(place) = within.and_then(place) {
        policy.within[place] = word.parse().map_err(wrong)?;
    } else if key == "min" {
        policy.min_keep =
            word.parse().map_err(|_| (format!("keep.min: {word:?} is no number"), Some("min = 3".into())))?;
    } else if key == "timezone" {
        policy.zone = TimeZone::get(&word).map_err(|_| {
            (format!("keep.timezone: there is no time zone {word:?}"), Some("write Europe/Berlin".into()))
        })?;
    } else {
        let known = [
            "last",
            "hourly",
            "daily",
            "weekly",
            "monthly",
            "yearly",
            "within",
            "within_hourly",
            "within_daily",
            "within_weekly",
            "within_monthly",
            "within_yearly",
            "min",
            "timezone",
            "at",
        ];
        return Err((format!("there is no rule keep.{key}"), Some(suggestion(key, &known))));
    }
    Ok(())
}

impl Config {
    /// How long archives are kept at a store, by its URL.
    ///
    /// # Errors
    /// A `keep` is none: never where the file was looked at before.
    pub fn keep_rules(&self, store_url: &str) -> Result<Rules> {
        let store = self.stores.iter().find(|(_, table)| {
            table
                .get("url")
                .and_then(|url| url.value.as_str())
                .is_some_and(|url| is_one_place(url, store_url))
        });
        let (name, at_store) = (store.map(|(name, _)| name.as_str()), store.map(|(_, table)| table));
        let at_store = at_store.map(|table| self.keep_of(table)).transpose()?.flatten();
        let top = self.keep_of(&self.top)?;
        let usual = at_store.as_ref().and_then(Keep::everywhere);
        let usual = usual.or(top.as_ref().and_then(|top| top.at(name).or(top.everywhere())));
        let mut rules = Rules { usual: usual.cloned(), ..Rules::default() };
        for job in &self.jobs {
            let own = self.keep_of(&job.table)?;
            let sets = self.sets.iter().filter(|(_, set)| set.jobs.contains(&job.name));
            let sets = sets.map(|(_, set)| self.keep_of(&set.table)).collect::<Result<Vec<_>>>()?;
            let said: Vec<&Keep> = own.iter().chain(sets.iter().flatten()).collect();
            // What is said of this store comes first, and of that what is said of this job.
            let here = said.iter().find_map(|keep| keep.at(name));
            let here = here.or(at_store.as_ref().and_then(Keep::everywhere));
            let policy = here.or(said.iter().find_map(|keep| keep.everywhere())).or(rules.usual.as_ref());
            if let Some(policy) = policy.cloned() {
                let named = job.table.get("job").and_then(|job| job.value.as_str()).unwrap_or(&job.name);
                rules.jobs.insert(named.into(), policy);
            }
        }
        Ok(rules)
    }

    /// Whether anything is said of how long archives are kept at stores, while none of these has this URL.
    pub fn has_no_keep_for(&self, store_url: &str) -> bool {
        let urls = self.stores.iter().filter_map(|(_, table)| table.get("url")?.value.as_str());
        let jobs = self.jobs.iter().map(|job| &job.table).chain(self.sets.iter().map(|(_, set)| &set.table));
        let said = jobs.chain([&self.top]).filter_map(|table| self.keep_of(table).ok()?);
        let is_said = said.into_iter().any(|keep| !keep.at.is_empty())
            || self.stores.iter().any(|(_, table)| table.get(KEEP).is_some());
        is_said && !urls.into_iter().any(|url| is_one_place(url, store_url))
    }

    fn keep_of(&self, table: &Table) -> Result<Option<Keep>> {
        let Some(setting) = table.get(KEEP) else { return Ok(None) };
        let wrong = |(text, hint)| table.problem(setting.line, text, hint).error(&self.path);
        read(&setting.value, true).map(Some).map_err(wrong)
    }
}

/// Whether two URLs of stores mean one place.
fn is_one_place(one: &str, other: &str) -> bool {
    let place = |text: &str| {
        let url = Url::parse(text).ok()?;
        let host = url.host_str().unwrap_or_default().to_string();
        Some((url.scheme().to_string(), host, url.path().trim_end_matches('/').to_string()))
    };
    one == other || place(one).is_some_and(|one| Some(one) == place(other))
}

#[cfg(test)]
mod tests {
    use super::super::tests::config;
    use super::*;
    use crate::job::retention::policy::Count;

    const FILE: &str = "keep = { yearly = 1 }\n\
        [stores.nas]\nurl = \"file:///nas\"\nkeep = { monthly = 2 }\n\
        [stores.far]\nurl = \"s3://far/x\"\n\
        [jobs.a]\nsource = \"stdin\"\nkeep = { daily = 3, within_weekly = \"1y\", min = 4, at.far = { last = 5 } }\n\
        [jobs.b]\nsource = \"stdin\"\njob = \"team/b\"\n\
        [jobs.c]\nsource = \"stdin\"\n\
        [sets.s]\njobs = [\"b\"]\nkeep = { weekly = 6, timezone = \"Europe/Berlin\", at.nas = { hourly = 7 } }\n";

    #[test]
    fn what_is_said_of_a_store_comes_first_then_the_job_its_set_and_all() {
        let (config, problems) = config(FILE);
        assert_eq!(problems, []);
        let rule = |url: &str, job: &str| {
            let rules = config.keep_rules(url).unwrap();
            let policy = rules.jobs.get(job).or(rules.usual.as_ref()).unwrap().clone();
            let place = policy.counts.iter().position(|count| *count != Count::Of(0)).unwrap();
            let Count::Of(n) = policy.counts[place] else { panic!() };
            format!("{} {n}", PERIODS[place].1)
        };
        let elsewhere = "file:///elsewhere";
        for (job, expected) in [
            ("a", ["daily 3", "last 5", "monthly 2"]),
            ("team/b", ["weekly 6", "weekly 6", "hourly 7"]),
            ("c", ["yearly 1", "yearly 1", "monthly 2"]),
            ("unknown", ["yearly 1", "yearly 1", "monthly 2"]),
        ] {
            let found = [elsewhere, "s3://far/x", "file:///nas"].map(|url| rule(url, job));
            assert_eq!(found, expected, "{job}");
        }
        let rules = config.keep_rules(elsewhere).unwrap();
        let (a, b) = (&rules.jobs["a"], &rules.jobs["team/b"]);
        assert_eq!((a.min_keep, a.within[3].to_string()), (4, "1y".into()));
        assert_eq!(b.zone.iana_name(), Some("Europe/Berlin"));
    }

    #[test]
    fn a_store_is_found_however_its_url_is_written_and_one_that_has_none_is_told() {
        let (config, _) = config(FILE);
        let last = |url: &str| config.keep_rules(url).unwrap().jobs["a"].counts[0] == Count::Of(5);
        for (url, is_far) in
            [("s3://far/x", true), ("s3://far/x/", true), ("s3://far/x/y", false), ("s3://far", false)]
        {
            assert_eq!((last(url), config.has_no_keep_for(url)), (is_far, !is_far), "{url}");
        }
        let without = super::super::tests::config("keep = { last = 1 }\n").0;
        assert!(!without.has_no_keep_for("s3://far"), "nothing is said of single stores");
    }

    #[test]
    fn a_store_that_keep_names_must_be_there() {
        for table in ["", "[jobs.a]\nsource = \"stdin\"\n"] {
            let problems = config(&format!(
                "{table}keep = {{ at.naz = {{ last = 1 }} }}\n[stores.nas]\nurl = \"file:///nas\"\n"
            ))
            .1;
            assert_eq!(problems[0].text, "keep.at.naz: there is no [stores.naz]");
            assert_eq!((problems.len(), problems[0].hint.as_deref()), (1, Some("did you mean \"nas\"?")));
        }
    }

    #[test]
    fn what_is_no_rule_is_told_with_its_line() {
        for (keep, told) in [
            ("7", "keep is a table of rules"),
            ("{}", "keep has no rule: then everything is kept"),
            ("{ min = 3 }", "keep has no rule: then everything is kept"),
            ("{ dayly = 7 }", "there is no rule keep.dayly"),
            ("{ daily = -7 }", "keep.daily: \"-7\" is no number of archives"),
            ("{ daily = true }", "keep.daily: true is no number or text"),
            ("{ within = \"7w\" }", "keep.within: \"7w\" is no time of years, months, days and hours"),
            ("{ last = 1, timezone = \"X\" }", "keep.timezone: there is no time zone \"X\""),
            (
                "{ at.nas = { at.far = { last = 1 } } }",
                "keep.at: { far = { last = 1 } } is no number or text",
            ),
        ] {
            for table in ["[jobs.a]\nsource = \"stdin\"\n", "[stores.a]\nurl = \"file:///x\"\n"] {
                let problems = config(&format!("{table}keep = {keep}\n")).1;
                assert_eq!(problems.len(), 1, "{keep}: {problems:?}");
                assert!(problems[0].line == 3 && problems[0].text == told, "{keep}: {problems:?}");
            }
        }
        assert_eq!(config("keep = { dayly = 1 }").1[0].hint.as_deref(), Some("did you mean \"daily\"?"));
    }
}
