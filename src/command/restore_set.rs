//! `restore set NAME`: the steps that bring a set back, with the exact words, shown and done. Whatever is printed and run
//! comes from the sealed catalogs of the set's archives.

use std::io::IsTerminal;

use tokio_util::sync::CancellationToken;

use carry_out::Run;

use crate::cli::{Doing, RestoreSet};
use crate::error::Result;
use crate::job::restore_set::{Position, RestorePlan, plan};
use crate::job::{Outcome, until};
use crate::preset::{Action, Step};
use crate::report::event::{self, StepState};
use crate::report::{Event, Mode, Reporter, print, printable};

mod ask;
mod carry_out;

/// Prints the plan, or does what it says.
///
/// # Errors
/// There is no such set; an archive of it does not open; stdout is closed; there is nobody to ask; a step fails.
pub async fn restore_set(
    options: &RestoreSet,
    mode: Mode,
    ui: &Reporter,
    cancel: &CancellationToken,
) -> Result<Outcome> {
    let has_terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    let doing = options.steps.doing(mode, has_terminal)?;
    let open = options.open.request()?;
    let plan = until(cancel, plan(&options.set, &open, ui)).await?;
    match (doing, mode) {
        (Doing::Plan, Mode::Json) => {
            let planned = plan
                .actions_from(Position::FIRST)
                .map(|(at, action)| told(&plan, at, action, &open.store.url, StepState::Planned).to_json());
            planned.collect::<Vec<_>>().iter().try_for_each(|line| print(line))?;
        }
        (Doing::Plan, _) => lines(&plan, &open.store.url).iter().try_for_each(|line| print(line))?,
        _ => return Run { options, plan: &plan, from: &open.store.url, doing, ui, cancel }.run().await,
    }
    Ok(Outcome::Done)
}

/// What becomes of a part of a plan, as an event.
fn told(plan: &RestorePlan, at: Position, action: &Action, from: &str, state: StepState) -> Event {
    let title = plan.steps.get(at.step - 1).map(|step| printable(&step.title)).unwrap_or_default();
    let Position { step, action: n } = at;
    let (set, command) = (plan.set.to_string(), action.line(from));
    Event::Step(event::Step { set, step, action: n, title, command, state })
}

fn lines(plan: &RestorePlan, from: &str) -> Vec<String> {
    let set = printable(&plan.set.to_string());
    let mut lines = vec![format!("# Restore of set {set}, in this order. Nothing below was run.")];
    let incomplete = plan.incomplete.iter();
    lines.extend(incomplete.map(|state| format!("# {}: what there is stands below.", printable(state))));
    for (i, Step { title, actions, .. }) in plan.steps.iter().enumerate() {
        // A newline in what a container said of itself would end the comment.
        lines.extend([String::new(), format!("# {}. {}", i + 1, printable(title))]);
        lines.extend(actions.iter().map(|action| action.line(from)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::passphrase::Sources;
    use crate::job::stored::OpenRequest;
    use crate::preset::{SealedArchive, restore_steps};
    use crate::store::StoreUrl;
    use serde_json::{Value, json};

    const ID: &str = "20261122T020000Z-1f2e3d4c";

    fn sealed(job: &str, source: Value, is_clear: bool) -> SealedArchive {
        SealedArchive { name: format!("{job}@{ID}"), job: job.into(), source, is_clear }
    }

    fn plan_of(archives: &[SealedArchive], incomplete: Option<&str>) -> String {
        let set = format!("docker-ee@{ID}").parse().unwrap();
        let (incomplete, steps) = (incomplete.map(String::from), restore_steps(archives));
        let store = StoreUrl::new("s3://backups/prod");
        let open = OpenRequest { store, passphrase: Sources::default(), no_encrypt: false };
        lines(&RestorePlan { set, incomplete, steps, open }, "s3://backups/prod").join("\n")
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
docker service ls
# then join the other nodes again

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
}
