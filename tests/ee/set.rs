//! `backup set`: what is left when a member fails or the run is killed.

use super::{dtr_words, jobs, push, run, sets, signal, start};
use crate::needs;
use crate::support::ee::{EeNode, EeOptions};
use crate::support::{Lab, sh, until};

#[test]
fn a_component_that_fails_leaves_nothing_false_behind() {
    needs!("docker", "registry", "ee");
    let lab = Lab::new();
    let store = lab.file_store();
    let node = EeNode::with(&EeOptions {
        dtr_tag: "2.7.5-truncate",
        ucp_tag: "3.2.6-die-half-way",
        ..EeOptions::default()
    });
    let dtr = dtr_words(&lab);
    // No manager here: the set ends with its first job. With --keep-going each job is tried.
    let words = ["backup", "set", "docker-ee", "--to", &store];
    let ended = run(&node, &lab, &words, &dtr).expect_error(1, "this node is no manager of a swarm");
    assert!(ended.stderr.contains("INCOMPLETE, 0 of 3 archives"), "{}", ended.stderr);
    let ended =
        run(&node, &lab, &[&words[..], &["--keep-going"]].concat(), &dtr).expect_error(1, "no manager");
    for words in ["ucp failed", "exited with code 1", "dtr/metadata failed", "without its end marker"] {
        assert!(ended.stderr.contains(words), "{words:?} is not in {}", ended.stderr);
    }
    // What is whole is listed, as part of a set that is not.
    assert_eq!(jobs(&lab, &store), ["dtr/images"]);
    let listed = sets(&lab, &store);
    assert!(listed.len() == 2 && listed.iter().all(|(_, _, complete)| !complete), "{listed:?}");
    // A preset by itself: the second half is left out when the first fails.
    let ended = run(&node, &lab, &["backup", "dtr", "--job", "again", "--to", &store], &dtr)
        .expect_error(1, "again/metadata failed");
    assert!(ended.stderr.contains("again/images is left out"), "{}", ended.stderr);
    assert_eq!(jobs(&lab, &store), ["dtr/images"]);
    assert_eq!(node.docker(&["ps", "-aq", "--filter", "label=sealift"]), "");
}

#[test]
fn a_set_that_was_killed_between_two_members_is_incomplete_and_the_next_is_whole() {
    needs!("docker", "registry", "ee");
    let lab = Lab::new();
    let store = lab.file_store();
    let node = EeNode::with(&EeOptions::default());
    lab.write("sealift.toml", format!(
        "to = [\"{store}\"]\n[jobs.ucp]\nsource = \"ucp\"\n[jobs.slow]\nsource = \"run\"\nimage = \"bb:1\"\ncommand = [\"sh\", \"-c\", \"echo begun; sleep 600\"]\nnetwork = \"none\"\n\
         [jobs.images]\nsource = \"dtr\"\nonly = \"images\"\n[sets.slow]\njobs = [\"ucp\", \"slow\"]\n[sets.nightly]\njobs = [\"ucp\", \"images\"]\n"
    ).as_bytes());
    let child = start(&node, &lab, &["backup", "set", "slow"], &[]);
    until("the second member runs", || {
        !node.docker(&["ps", "-q", "--filter", "label=sealift", "--filter", "ancestor=bb:1"]).is_empty()
    });
    signal(child, "KILL");
    assert_eq!(jobs(&lab, &store), ["ucp"]);
    let listed = sets(&lab, &store);
    assert!(listed.len() == 1 && listed[0].0 == "slow" && !listed[0].2, "{listed:?}");

    let _ = push(&node, &lab, "x");
    run(&node, &lab, &["backup", "set", "nightly"], &[]).expect(0);
    let listed = sets(&lab, &store);
    assert!(listed.iter().any(|(set, _, complete)| set == "nightly" && *complete), "{listed:?}");
    // Options for every job; one that a job does not have is refused before anything is made.
    run(&node, &lab, &["backup", "set", "nightly", "--level", "1", "--keep-going"], &[]).expect(0);
    run(&node, &lab, &["backup", "set", "nightly", "--stop-engine"], &[])
        .expect_error(2, "no job of set nightly takes --stop-engine");
    // Wherever they stand, and each for the jobs that have it.
    let other = lab.new_store("other");
    run(&node, &lab, &["backup", "--verbose", "set", "nightly", "--to", &other, "--only", "images"], &[])
        .expect(0);
    assert_eq!(jobs(&lab, &other), ["images/images", "ucp"]);
    // Plans name what is missing.
    let plan = lab.run(&["restore", "--from", &store, "set", "slow", "--plan"]).expect(0);
    assert!(plan.text().contains("# INCOMPLETE: broken off"), "{}", plan.text());
    // One bad object says nothing about the other sets.
    sh(&format!("cd {}/store/nightly && printf x >$(ls *.set.json | head -n1)", lab.dir.display()));
    let listed = sets(&lab, &store);
    assert!(listed.len() == 3 && listed.iter().any(|(_, _, complete)| *complete), "{listed:?}");
    run(&node, &lab, &["backup", "set", "nighly"], &[]).expect_error(2, "there is no set nighly");
}
