//! `plan`: what a set would back up, before anything is begun.

use crate::ee::{REPLICA, push, run};
use crate::needs;
use crate::support::ee::{EeNode, EeOptions};
use crate::support::{Lab, a_second_later, noise};

#[test]
fn it_tells_what_is_in_a_set_and_what_is_not() {
    needs!("docker", "registry", "ee");
    let lab = Lab::new();
    let node = EeNode::with(&EeOptions { swarm: true, ..EeOptions::default() });
    let _ = push(&node, &lab, "x");
    let volume = node.data_root().join(format!("volumes/dtr-registry-{REPLICA}/_data/layer"));
    std::fs::write(volume, noise(1, 5 << 20)).expect("a file");
    // No password, no passphrase, no store is contacted: nothing is listening there.
    let ended = run(&node, &lab, &["plan", "--to", "s3://nowhere/prod"], &[]).expect(0);
    let plan = ended.text();
    for words in [
        "+ swarm: ",
        "+ ucp: what docker/ucp:3.2.6 backup writes",
        "+ dtr/metadata: what docker/dtr:2.7.5 backup writes",
        &format!("+ dtr/images: the images: volume dtr-registry-{REPLICA} (about 5."),
        "- not in it: users, organisations and teams: they are in UCP's backup",
        "- not in it: the vulnerability database",
        "the largest archive that its stores and --memory allow: ",
        "1. engine and kernel",
        "3. DTR: first `sealift backup dtr`",
    ] {
        assert!(plan.contains(words), "{words:?} is not in {plan}");
    }
    // A store that takes fewer parts takes less.
    let fewer =
        run(&node, &lab, &["plan", "--to", "s3://nowhere/prod", "--max-parts", "10"], &[]).expect(0).text();
    let allowed =
        |plan: &str| plan.split("allow: ").nth(1).and_then(|rest| rest.lines().next()).map(String::from);
    assert!(allowed(&fewer).is_some() && allowed(&fewer) != allowed(&plan), "{fewer}");
    let positions = ["swarm: ", "ucp: ", "dtr: "].map(|job| plan.find(&format!("\n{job}")).expect("the job"));
    assert!(positions.is_sorted(), "{plan}");

    // The images in an object store: said so. A job of the settings file, and a node that is no manager.
    a_second_later();
    node.docker(&["rm", "-f", &format!("dtr-registry-{REPLICA}")]);
    let name = format!("dtr-registry-{REPLICA}");
    let words = ["run", "-d", "--name", &name, "--network", "host", "--tmpfs", "/storage"];
    node.docker(
        &[&words[..], &["-e", "REGISTRY_HTTP_ADDR=127.0.0.1:5000", "docker/dtr-registry:2.7.5"]].concat(),
    );
    node.docker(&["swarm", "leave", "--force"]);
    let ended = run(&node, &lab, &["plan", "--json"], &[]).expect(3);
    let jobs: Vec<serde_json::Value> =
        ended.text().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let of = |job: &str| jobs.iter().find(|planned| planned["job"] == job).unwrap_or_else(|| panic!("{job}"));
    assert!(of("swarm")["problem"].as_str().expect("a problem").contains("no manager"));
    assert!(of("dtr")["not_in_it"].to_string().contains("they lie in an object store"));
    assert_eq!(of("dtr")["archives"].as_array().expect("archives").len(), 1);
    run(&node, &lab, &["plan", "nothing-such"], &[]).expect_error(2, "there is no set nothing-such");
}
