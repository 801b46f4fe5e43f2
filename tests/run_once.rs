//! `run`: a job, a set or a schedule once, as cron or a timer calls it.

use serde_json::Value;

use crate::support::Lab;

/// A lab with these settings; what they say comes first, in the clear and to its store.
pub fn lab(settings: &str) -> Lab {
    let lab = Lab::new();
    write(&lab, settings);
    lab
}

pub fn write(lab: &Lab, settings: &str) {
    let store = lab.file_store();
    let top = format!("to = [\"{store}\"]\nfrom = \"{store}\"\nno_encrypt = true\n");
    lab.write("sealift.toml", format!("{top}{settings}").as_bytes());
}

/// A job of this name, of what a shell prints.
pub fn job(name: &str, script: &str, more: &str) -> String {
    format!("[jobs.\"{name}\"]\nsource = \"command\"\ncommand = [\"sh\", \"-c\", '{script}']\n{more}\n")
}

/// Each hook writes what it reads to a file of its name.
const HOOKS: &str = "before = \"cat > before\"\nafter = \"cat > after\"\nsuccess = \"cat > success\"\n\
    warning = \"cat > warning\"\nfailure = [\"sh\", \"-c\", \"cat > failure; echo $SEALIFT_RUN_NAME is $SEALIFT_RUN_STATE\"]\n";

fn read(lab: &Lab, hook: &str) -> Option<Value> {
    let text = std::fs::read_to_string(lab.path(hook)).ok()?;
    Some(serde_json::from_str(&text).expect("JSON"))
}

#[test]
fn a_job_is_run_with_its_hooks_and_they_read_what_became_of_it() {
    let lab = lab(&format!("{HOOKS}{}", job("team/db", "echo dump", "")));
    let ended = lab.run(&["run", "team/db"]).expect(0);
    assert!(ended.stderr.contains("run team/db: backup succeeded"), "{}", ended.stderr);
    let before = read(&lab, "before").expect("the hook before");
    assert_eq!((&before["name"], &before["state"]), (&"team/db".into(), &"started".into()));
    for hook in ["after", "success"] {
        let run = read(&lab, hook).expect(hook);
        assert_eq!(
            (&run["state"], &run["code"], &run["verb"]),
            (&"succeeded".into(), &0.into(), &"backup".into())
        );
        assert_eq!(run["archives"][0]["id"], lab.list(&lab.file_store())[0].1, "{run}");
    }
    assert!(read(&lab, "warning").is_none() && read(&lab, "failure").is_none());
}

#[test]
fn a_job_that_fails_says_why_to_its_hooks_and_by_its_exit_code() {
    let lab = lab(&format!("{HOOKS}{}", job("db", "echo half; exit 4", "")));
    let ended = lab.run(&["run", "db"]).expect(1);
    assert!(ended.stderr.contains("source: db is failed"), "{}", ended.stderr);
    for hook in ["after", "failure"] {
        let run = read(&lab, hook).expect(hook);
        assert_eq!((&run["state"], &run["code"]), (&"failed".into(), &1.into()));
        assert!(run["error"].as_str().is_some_and(|error| error.contains('4')), "{run}");
    }
    assert!(read(&lab, "success").is_none());
    assert_eq!(lab.list(&lab.file_store()), []);
}

#[test]
fn without_its_hook_before_nothing_is_backed_up_and_a_failing_one_after_is_a_warning() {
    let lab = lab(&format!("{HOOKS}{}", job("db", "touch ran; echo x", "before = \"exit 9\"")));
    let error = lab.run(&["run", "db"]).expect_error(1, "the hook `before` failed: exit status: 9");
    error.hint("source:");
    assert!(!lab.path("ran").exists() && lab.path("after").exists() && lab.path("failure").exists());

    write(&lab, &format!("{HOOKS}{}", job("db", "echo x", "after = [\"false\"]")));
    let ended = lab.run(&["run", "db"]).expect(3);
    assert!(ended.stderr.contains("warning: the hook `after` failed"), "{}", ended.stderr);
    let run = read(&lab, "warning").expect("the hook warning");
    assert_eq!(run["state"], "warned");
    assert!(run["warnings"].to_string().contains("the hook `after` failed"), "{run}");
    assert_eq!(lab.list(&lab.file_store()).len(), 1);

    // One that takes too long is killed, with what it started.
    let slow = "before = \"sleep 3600 & wait\"\nhook_time_limit = \"1s\"";
    write(&lab, &job("db", "echo x", slow));
    lab.run(&["run", "db"]).expect_error(1, "took longer than 1s").hint("hook_time_limit");
}

#[test]
fn a_run_over_its_time_is_stopped_and_leaves_nothing() {
    let lab = lab(&job("slow", "echo begun; sleep 3600", "time_limit = \"1s\"\nafter = \"cat > after\""));
    lab.run(&["run", "slow"]).expect_error(1, "slow took longer than 1s, its time_limit").hint("more time");
    let left: Vec<_> = walk(&lab).into_iter().filter(|name| !name.ends_with(".failed.json")).collect();
    assert_eq!(left, Vec::<String>::new());
    assert!(read(&lab, "after").expect("the hook after")["error"].to_string().contains("time_limit"));
}

/// The names of all files of the store.
fn walk(lab: &Lab) -> Vec<String> {
    let found = crate::support::sh(&format!("find '{}' -type f", lab.path("store").display()));
    found.lines().map(String::from).collect()
}

#[test]
fn sets_and_schedules_are_run_by_their_names_and_others_are_not() {
    let settings = format!(
        "{}{}[sets.night]\njobs = [\"a\", \"b\"]\n[schedules.weekly]\nrun = \"verify --all\"\n\
         [schedules.a]\nrun = [\"status\"]\n",
        job("a", "echo a", ""),
        job("b", "echo b", "")
    );
    let lab = lab(&settings);
    lab.run(&["run", "night"]).expect(0);
    assert_eq!(lab.list(&lab.file_store()).len(), 2);
    let verified = lab.run(&["run", "weekly", "--json"]).expect(0).text();
    let events: Vec<Value> = verified.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let of = |name: &str| events.iter().filter(|event| event["event"] == name).collect::<Vec<_>>();
    assert_eq!(of("verified").len(), 2, "{verified}");
    let [started, ended] = of("run")[..] else { panic!("{verified}") };
    assert_eq!((&started["state"], &ended["state"]), (&"started".into(), &"succeeded".into()));
    assert_eq!(ended["verb"], "verify");

    lab.run(&["run", "nigth"]).expect_error(2, "there is no job, set or schedule nigth").hint("\"night\"");
    lab.run(&["run", "a"]).expect_error(2, "a is a job and a schedule").hint("sealift backup job a");
    write(&lab, &format!("{settings}schedule = \"@daily\"\n"));
    lab.run(&["config", "check"]).expect(2);
}
