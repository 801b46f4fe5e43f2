//! `restore set NAME --plan`: the steps that bring a set back, with the exact words. Whatever is printed comes from the
//! sealed catalogs of the set's archives.

use crate::cli::RestoreSet;
use crate::error::Result;
use crate::job::restore_set::{RestorePlan, plan};
use crate::preset::steps::quoted;
use crate::preset::{Action, Step};
use crate::report::{Reporter, print, printable};

/// Prints the plan.
///
/// # Errors
/// There is no such set; an archive of it does not open; stdout is closed.
pub async fn restore_set(options: RestoreSet, ui: &Reporter) -> Result<()> {
    let open = options.open.request()?;
    let plan = plan(&options.set, &open, ui).await?;
    lines(&plan, &open.store.url).iter().try_for_each(|line| print(line))
}

fn lines(plan: &RestorePlan, from: &str) -> Vec<String> {
    let set = printable(&plan.set.to_string());
    let mut lines = vec![format!("# Restore of set {set}, in this order. Nothing below was run.")];
    let incomplete = plan.incomplete.iter();
    lines.extend(incomplete.map(|state| format!("# {}: what there is stands below.", printable(state))));
    for (i, Step { title, actions }) in plan.steps.iter().enumerate() {
        // A newline in what a container said of itself would end the comment.
        lines.extend([String::new(), format!("# {}. {}", i + 1, printable(title))]);
        lines.extend(actions.iter().map(|action| line(action, from)));
    }
    lines
}

/// What to do, as a shell reads it.
pub(super) fn line(action: &Action, from: &str) -> String {
    match action {
        Action::Shell(line) => line.clone(),
        Action::Restore { archive, is_clear, target } => {
            let clear = if *is_clear { " --no-encrypt" } else { "" };
            format!("sealift restore {} --from {}{clear} {target}", quoted(archive), quoted(from))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preset::{SealedArchive, restore_steps};
    use serde_json::{Value, json};

    const ID: &str = "20261122T020000Z-1f2e3d4c";

    fn sealed(job: &str, source: Value, is_clear: bool) -> SealedArchive {
        SealedArchive { name: format!("{job}@{ID}"), job: job.into(), source, is_clear }
    }

    fn plan_of(archives: &[SealedArchive], incomplete: Option<&str>) -> String {
        let set = format!("docker-ee@{ID}").parse().unwrap();
        let plan =
            RestorePlan { set, incomplete: incomplete.map(String::from), steps: restore_steps(archives) };
        lines(&plan, "s3://backups/prod").join("\n")
    }

    #[test]
    fn a_plan_is_printed_with_the_exact_words() {
        let ucp = json!({"run": {"security_opt": ["label=disable"]},
                         "ucp": {"version": "3.2.6", "image": "docker/ucp:3.2.6", "id": null, "sealed": false}});
        let swarm = json!({"folder": {"below": "/var/lib/docker", "name": "swarm"}, "swarm": {
            "cluster": "c", "address": "10.0.0.1", "version": "19.03.5", "autolock": false}});
        let plan = plan_of(&[sealed("ucp", ucp, false), sealed("swarm", swarm, true)], None);
        let expected = "\
# Restore of set docker-ee@20261122T020000Z-1f2e3d4c, in this order. Nothing below was run.

# 1. Swarm c: on a host with the address 10.0.0.1 and engine 19.03.5, nothing else running
systemctl stop docker.socket docker.service
rm -rf /var/lib/docker/swarm
sealift restore swarm@20261122T020000Z-1f2e3d4c --from s3://backups/prod --no-encrypt --to-path /var/lib/docker --overwrite
systemctl start docker.service
docker swarm init --force-new-cluster
docker service ls   # then join the other nodes again

# 2. UCP 3.2.6: the same version, on a manager of that swarm
docker run --rm -it --name ucp -v /var/run/docker.sock:/var/run/docker.sock --security-opt label=disable docker/ucp:3.2.6 uninstall-ucp --interactive   # if it is installed
sealift restore ucp@20261122T020000Z-1f2e3d4c --from s3://backups/prod --to-run --name ucp -v /var/run/docker.sock:/var/run/docker.sock --security-opt label=disable docker/ucp:3.2.6 restore";
        assert_eq!(plan, expected);
    }

    #[test]
    fn what_is_missing_is_named_before_the_steps() {
        let plan = plan_of(&[], Some("INCOMPLETE: broken off\n"));
        assert_eq!(
            plan,
            format!(
                "# Restore of set docker-ee@{ID}, in this order. Nothing below was run.\n\
                 # INCOMPLETE: broken off\\n: what there is stands below."
            )
        );
    }

    #[test]
    fn what_a_node_said_of_itself_ends_no_comment() {
        let swarm = json!({"folder": {"below": "/srv"}, "swarm": {"address": "10.0.0.1\nrm -rf /"}});
        let plan = plan_of(&[sealed("swarm", swarm, false)], None);
        assert!(!plan.lines().any(|line| line.starts_with("rm -rf /\n") || line == "rm -rf /"), "{plan}");
        assert!(plan.contains(r"10.0.0.1\nrm -rf /"), "{plan}");
    }

    #[test]
    fn a_store_is_one_word() {
        let action = sealed("a", Value::Null, true).restore("--to-stdout");
        let expected = format!("sealift restore a@{ID} --from 'file:///my backups' --no-encrypt --to-stdout");
        assert_eq!(line(&action, "file:///my backups"), expected);
    }
}
