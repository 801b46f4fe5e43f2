//! `completions`: shells ask sealift what a word may be.

use std::path::Path;
use std::process::Command;

use crate::screens::Terminal;
use crate::support::{Ended, Lab, a_second_later};

/// A lab whose settings name two stores, three jobs and a set; `media` has two archives, `old` one and no settings.
fn lab() -> (Lab, Vec<String>) {
    let lab = Lab::new();
    let store = lab.file_store();
    lab.write("sealift.toml", format!(
        "to = \"near\"\nfrom = \"near\"\n[stores.near]\nurl = \"{store}\"\n[stores.off-site]\nurl = \"memory:///far\"\n\
         [jobs.media]\nsource = \"stdin\"\n[jobs.mail]\nsource = \"stdin\"\n[jobs.'team/own']\nsource = \"stdin\"\n\
         [sets.nightly]\njobs = [\"media\", \"mail\"]\n"
    ).as_bytes());
    for job in ["media", "media", "old"] {
        lab.feed(&["backup", "stdin", "--to", &store, "--job", job], b"bytes").expect(0);
        a_second_later();
    }
    let archives = lab.list(&store).into_iter().map(|(job, id)| format!("{job}@{id}")).collect();
    (lab, archives)
}

/// What is offered for the last word of a line, as bash asks for it.
fn offered(lab: &Lab, line: &str) -> Vec<String> {
    let words: Vec<_> = line.split(' ').collect();
    let mut asks: Command = lab.sealift();
    asks.current_dir(&lab.dir).env("SEALIFT_COMPLETE", "bash").env("_CLAP_IFS", "\n").arg("--").args(&words);
    asks.env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string());
    let answer = Ended::from(asks.output().expect("sealift runs")).expect(0);
    assert_eq!(answer.stderr, "");
    answer.text().lines().map(String::from).collect()
}

#[test]
fn names_of_the_settings_and_of_the_store_are_offered() {
    let (lab, archives) = lab();
    assert_eq!(offered(&lab, "sealift backup job m"), ["media", "mail"]);
    assert_eq!(offered(&lab, "sealift backup set n"), ["nightly"]);
    assert_eq!(offered(&lab, "sealift list --from n"), ["near"]);
    assert_eq!(offered(&lab, "sealift backup volume --to=o"), ["--to=off-site"]);
    // A job that the settings name no more has archives.
    assert_eq!(offered(&lab, "sealift list o"), ["old"]);
    assert_eq!(offered(&lab, "sealift show m"), ["media"]);
    // Newest first.
    assert_eq!(offered(&lab, "sealift restore media@"), [archives[1].clone(), archives[0].clone()]);
    assert_eq!(offered(&lab, &format!("sealift show {}", &archives[2][..12])), [archives[2].clone()]);
    assert_eq!(offered(&lab, "sealift ver"), ["verify"]);
}

#[test]
fn what_cannot_be_read_offers_nothing_and_says_nothing() {
    let (lab, _) = lab();
    assert!(offered(&lab, "sealift show --from file:///not/there m").is_empty());
    assert!(offered(&lab, "sealift show --from nowhere m").is_empty());
    lab.write("sealift.toml", b"to = [");
    assert!(offered(&lab, "sealift backup job m").is_empty());
    assert_eq!(offered(&lab, "sealift ver"), ["verify"]);
}

#[test]
fn bash_completes_what_is_typed() {
    let (lab, archives) = lab();
    let shell = Terminal::shell(&lab);
    let bin = Path::new(env!("CARGO_BIN_EXE_sealift")).parent().expect("a folder").display().to_string();
    shell.keys(&format!("PATH={bin}:$PATH; source <(sealift completions bash); echo rea\"\"dy"));
    shell.keys("Enter");
    shell.when("ready\n");
    shell.keys("clear; sealift backup job med");
    shell.keys("Tab");
    shell.keys("--to=o");
    shell.keys("Tab");
    shell.when("sealift backup job media --to=off-site");
    shell.keys("C-u");
    // What bash breaks at the @ is put together again.
    shell.keys(&format!("sealift show {}", &archives[2][..6]));
    shell.keys("Tab");
    shell.when(&format!("sealift show {}", archives[2]));
}

#[test]
fn every_shell_has_its_script() {
    let lab = Lab::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = lab.run(&["completions", shell]).expect(0).text();
        assert!(script.contains("SEALIFT_COMPLETE") && script.contains("sealift"), "{shell}: {script}");
    }
}
