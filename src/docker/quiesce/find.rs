//! What is to be held still: containers and services that are named, and those whose labels say so. offen's labels are
//! understood as ours.

use bollard::query_parameters::{ListContainersOptions, ListServicesOptions};

use super::super::Engine;
use super::order::dependents_first;
use super::seen::{Labels, SWARM_SERVICE, Seen, seen, seen_service};
use super::{Hold, QuiescePlan, QuiesceRequest, Target};
use crate::error::{Context, Error, Result};
use crate::host::process::own_container;

/// Labels, ours first; their values are `true`, or the jobs that they are for.
const STOP: [&str; 2] = ["sealift.stop-during-backup", "docker-volume-backup.stop-during-backup"];
const STOP_FOR_GOOD: [&str; 2] =
    ["sealift.stop-during-backup-no-restart", "docker-volume-backup.stop-during-backup-no-restart"];
const PAUSE: [&str; 1] = ["sealift.pause-during-backup"];
/// Labels whose values are commands, and the jobs that they are for.
const BEFORE: [&str; 2] = ["sealift.exec.before", "docker-volume-backup.archive-pre"];
const AFTER: [&str; 2] = ["sealift.exec.after", "docker-volume-backup.archive-post"];
const EXEC_JOB: [&str; 2] = ["sealift.exec.job", "docker-volume-backup.exec-label"];
/// offen's phases that do not exist here: everything is one stream.
const NO_PHASE: [&str; 3] =
    ["docker-volume-backup.process-", "docker-volume-backup.copy-", "docker-volume-backup.prune-"];
impl Engine {
    /// Finds out what is to be held still for a job, and in which order. Nothing is changed.
    ///
    /// # Errors
    /// What is named is not there, or cannot be held still; labels contradict each other; the engine does not answer.
    pub async fn plan_quiesce(&self, request: &QuiesceRequest, job: &str) -> Result<QuiescePlan> {
        // Before the states: what another run holds is either still said to be held then, or runs again.
        let held = self.live_targets().await?;
        let mut seen = self.seen_containers(&held).await?;
        seen.extend(self.seen_services(request, &held).await?);
        let mut finding = Finding { seen: &seen, job, own: own_container(), ..Finding::default() };
        finding.named(request)?;
        if request.labelled {
            finding.using = request.using.as_deref();
            finding.labelled()?;
        }
        Ok(finding.in_order())
    }

    async fn seen_containers(&self, held: &[Target]) -> Result<Vec<Seen>> {
        let options = ListContainersOptions { all: true, ..ListContainersOptions::default() };
        let listed = self.docker.list_containers(Some(options)).await;
        let listed = listed.context(|| "cannot list the containers".into())?;
        let mut seen: Vec<_> = listed.into_iter().filter_map(|container| seen(container, held)).collect();
        seen.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(seen)
    }

    /// The swarm's services, where they are asked for and this node is a manager.
    async fn seen_services(&self, request: &QuiesceRequest, held: &[Target]) -> Result<Vec<Seen>> {
        if request.scale_down.is_empty() && !(request.labelled && self.is_manager().await?) {
            return Ok(Vec::new());
        }
        let listed = self.docker.list_services(None::<ListServicesOptions>).await.map_err(|error| {
            Error::failed("cannot list the services of the swarm")
                .because(error)
                .hint("--scale-down needs the engine of a manager")
        })?;
        let mut seen: Vec<_> = listed.into_iter().filter_map(|service| seen_service(service, held)).collect();
        seen.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(seen)
    }

    async fn is_manager(&self) -> Result<bool> {
        let info = self.docker.info().await.context(|| "cannot ask the engine about itself".into())?;
        Ok(info.swarm.and_then(|swarm| swarm.control_available) == Some(true))
    }
}

/// What the first of some labels says.
fn label<'a>(labels: &'a Labels, names: &[&str]) -> Option<&'a str> {
    let found = names.iter().find_map(|name| labels.get(*name));
    found.map(|value| value.trim()).filter(|value| !value.is_empty())
}

/// Whether what a label says is meant for a job: a list with the job in it, or `true`, where that is meant for all.
fn is_for(value: &str, job: &str, all: bool) -> bool {
    all && value.eq_ignore_ascii_case("true") || value.split(',').any(|name| name.trim() == job)
}

#[derive(Default)]
struct Finding<'a> {
    seen: &'a [Seen],
    job: &'a str,
    /// The volumes that are backed up, where labels that are for every job count only of what uses one.
    using: Option<&'a [String]>,
    /// Our own container, where we run in one.
    own: Option<String>,
    hooks: Vec<Target>,
    targets: Vec<Target>,
    notes: Vec<String>,
    warnings: Vec<String>,
}

impl<'a> Finding<'a> {
    /// What the operator names.
    fn named(&mut self, request: &QuiesceRequest) -> Result<()> {
        for (names, hold) in [(&request.stop, Hold::Stop), (&request.pause, Hold::Pause)] {
            for name in names {
                for container in self.containers(name)? {
                    if self.own.as_ref() == Some(&container.id) {
                        return Err(Error::usage(format!("{name} is the container that sealift runs in"))
                            .hint("leave it out"));
                    }
                    self.add(container, hold, false)?;
                }
            }
        }
        for name in &request.scale_down {
            let mut services = self.seen.iter().filter(|seen| seen.is_service);
            let service = services.find(|seen| seen.name == *name || seen.id == *name);
            let service = service.ok_or_else(|| {
                Error::failed(format!("there is no service {name}")).hint("`docker service ls` shows them")
            })?;
            self.add(service, Hold::Scale, false)?;
        }
        Ok(())
    }

    /// The containers that a word means: a name, the beginning of an id, or a service of Compose.
    fn containers(&self, word: &str) -> Result<Vec<&'a Seen>> {
        let all: &'a [Seen] = self.seen;
        let containers = || all.iter().filter(|seen| !seen.is_service);
        let by_id = |seen: &&Seen| word.len() >= 4 && seen.id.starts_with(word);
        if let Some(one) = containers().find(|seen| seen.name == word).or_else(|| containers().find(by_id)) {
            return Ok(vec![one]);
        }
        let of_service: Vec<_> = containers().filter(|seen| seen.compose("service") == Some(word)).collect();
        let project = of_service.first().and_then(|seen| seen.compose("project"));
        if of_service.iter().any(|seen| seen.compose("project") != project) {
            let error = Error::usage(format!("several Compose projects have a service {word}"));
            return Err(error.hint("name its container: `docker ps` shows them"));
        }
        match of_service.is_empty() {
            false => Ok(of_service),
            true => Err(Error::failed(format!("there is no container {word}"))
                .hint("`docker ps -a` shows the ones there are")),
        }
    }

    fn is_labelled(&self, seen: &Seen, names: &[&str]) -> bool {
        label(&seen.labels, names).is_some_and(|value| is_for(value, self.job, self.is_concerned(seen)))
    }

    /// Whether labels that are for every job are for this one.
    fn is_concerned(&self, seen: &Seen) -> bool {
        self.using.is_none_or(|using| seen.volumes.iter().any(|volume| using.contains(volume)))
    }

    /// What has labels.
    fn labelled(&mut self) -> Result<()> {
        for seen in self.seen {
            self.hook(seen);
            let (stop, stays) = (self.is_labelled(seen, &STOP), self.is_labelled(seen, &STOP_FOR_GOOD));
            if stop && stays {
                return Err(Error::usage(format!("{} has two labels that exclude each other", seen.name))
                    .hint(format!("{} or {}", STOP[0], STOP_FOR_GOOD[0])));
            }
            let pause = !seen.is_service && self.is_labelled(seen, &PAUSE);
            let hold = match (stop || stays, seen.is_service) {
                (true, true) => Hold::Scale,
                (true, false) => Hold::Stop,
                (false, _) if pause => Hold::Pause,
                (false, _) => continue,
            };
            if self.own.as_ref() == Some(&seen.id) {
                self.warnings
                    .push(format!("{} is the container that sealift runs in: it stays up", seen.name));
                continue;
            }
            self.add(seen, hold, stays)?;
        }
        Ok(())
    }

    /// The commands that a container's labels say.
    fn hook(&mut self, seen: &Seen) {
        let is_ours =
            is_for(label(&seen.labels, &EXEC_JOB).unwrap_or("true"), self.job, self.is_concerned(seen));
        if seen.is_service || !seen.runs || !is_ours {
            return;
        }
        let mut keys: Vec<_> = seen.labels.keys().collect();
        keys.sort();
        for key in keys.into_iter().filter(|key| NO_PHASE.iter().any(|phase| key.starts_with(phase))) {
            self.notes.push(format!(
                "{}: the label {key} has no effect here: reading, sealing and sending are one step ({} and {} are understood)",
                seen.name, BEFORE[1], AFTER[1]
            ));
        }
        let command = |names: &[&str]| label(&seen.labels, names).map(String::from);
        let (before, after) = (command(&BEFORE), command(&AFTER));
        for (name, command) in [(BEFORE, before), (AFTER, after)] {
            let Some(command) = command else { continue };
            let user =
                label(&seen.labels, &name.map(|name| format!("{name}.user")).each_ref().map(|n| n.as_str()));
            let mut hook = Target { user: user.map(String::from), ..seen.target(Hold::Exec) };
            match name == BEFORE {
                true => hook.before = Some(command),
                false => hook.after = Some(command),
            }
            self.hooks.push(hook);
        }
    }

    fn add(&mut self, seen: &Seen, hold: Hold, stays: bool) -> Result<()> {
        let target = Target { stays, ..seen.target(hold) };
        if self.targets.iter().any(|known| known.is_same(&target)) {
            return Ok(());
        }
        if seen.is_service {
            return self.add_service(target, seen);
        }
        if !seen.runs && !seen.is_held {
            self.notes.push(format!("container {} does not run: it stays as it is", seen.name));
            return Ok(());
        }
        let service = seen.labels.get(SWARM_SERVICE);
        if let Some(service) = service.filter(|_| hold == Hold::Stop) {
            return Err(Error::usage(format!(
                "container {} belongs to service {service}: the swarm would start another one in its place",
                seen.name
            ))
            .hint(format!(
                "--scale-down {service}, or its label below `deploy`, where the service itself has it"
            )));
        }
        self.targets.push(target);
        Ok(())
    }

    fn add_service(&mut self, target: Target, seen: &Seen) -> Result<()> {
        match seen.replicas {
            None => Err(Error::usage(format!("service {} cannot be scaled: it has no replicas", seen.name))
                .hint("a global service, or a job, runs on each node once: --pause its containers")),
            Some(0) => {
                self.notes.push(format!("service {} has no replica: it stays so", seen.name));
                Ok(())
            }
            Some(_) => {
                self.targets.push(target);
                Ok(())
            }
        }
    }

    /// Hooks first, then dependents before what they depend on.
    fn in_order(mut self) -> QuiescePlan {
        let place = |seen: &Seen| self.targets.iter().position(|t| t.id == seen.id).unwrap_or(usize::MAX);
        // As they were named, as far as nothing else is known.
        let mut seen: Vec<_> = self.seen.iter().collect();
        seen.sort_by_key(|seen| place(seen));
        let nodes: Vec<_> = seen.iter().map(|seen| seen.node()).collect();
        let (order, circles) = dependents_first(&nodes);
        let turn = |target: &Target| order.iter().position(|number| seen[*number].id == target.id);
        self.targets.sort_by_key(turn);
        if !self.targets.is_empty() {
            self.warnings.extend(circles);
        }
        let mut targets = self.hooks;
        targets.append(&mut self.targets);
        QuiescePlan { targets, notes: self.notes, warnings: self.warnings }
    }
}

#[cfg(test)]
mod tests {
    use super::super::seen::{COMPOSE_DEPENDS_ON, DEPENDS_ON};
    use super::*;

    fn container(name: &str, labels: &[(&str, &str)]) -> Seen {
        let labels = labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        Seen { id: format!("id-{name}"), name: name.into(), labels, runs: true, ..Seen::default() }
    }

    fn plan(seen: &[Seen], request: &QuiesceRequest, job: &str) -> Result<QuiescePlan> {
        let mut finding = Finding { seen, job, ..Finding::default() };
        finding.named(request)?;
        if request.labelled {
            finding.using = request.using.as_deref();
            finding.labelled()?;
        }
        Ok(finding.in_order())
    }

    fn words(plan: &QuiescePlan) -> Vec<String> {
        plan.targets.iter().map(Target::in_words).collect()
    }

    fn labelled() -> QuiesceRequest {
        QuiesceRequest { labelled: true, ..QuiesceRequest::default() }
    }

    fn stop(names: &[&str]) -> QuiesceRequest {
        let stop = names.iter().map(ToString::to_string).collect();
        QuiesceRequest { stop, ..QuiesceRequest::default() }
    }

    #[test]
    fn a_label_is_for_every_job_or_for_those_that_it_names() {
        assert!(
            is_for("true", "db", true)
                && is_for("web, db", "db", false)
                && is_for("team/db", "team/db", true)
        );
        assert!(!is_for("false", "db", true) && !is_for("db2", "db", true) && !is_for("true", "db", false));
        let seen = [
            container("a", &[(STOP[0], "true")]),
            container("b", &[(STOP[1], "nightly")]),
            container("c", &[(PAUSE[0], "x, nightly")]),
            container("d", &[(STOP_FOR_GOOD[1], "true")]),
            container("e", &[]),
        ];
        let found = words(&plan(&seen, &labelled(), "nightly").unwrap());
        assert_eq!(found, ["stop a", "stop b", "pause c", "stop d, which stays stopped"]);
        assert_eq!(words(&plan(&seen, &labelled(), "other").unwrap()).len(), 2);
        assert!(plan(&seen, &QuiesceRequest::default(), "nightly").unwrap().targets.is_empty());
    }

    #[test]
    fn of_one_volume_labels_for_every_job_count_of_what_uses_it() {
        let mut seen = [container("a", &[(STOP[0], "true")]), container("b", &[(STOP[0], "true")])];
        seen[1].volumes = vec!["v".into()];
        let request = QuiesceRequest { using: Some(vec!["v".into()]), ..labelled() };
        assert_eq!(words(&plan(&seen, &request, "v").unwrap()), ["stop b"]);
        seen[0].labels.insert(STOP[0].into(), "v".into());
        assert_eq!(words(&plan(&seen, &request, "v").unwrap()), ["stop a", "stop b"]);
    }

    #[test]
    fn labels_that_exclude_each_other_are_refused() {
        let seen = [container("a", &[(STOP[0], "true"), (STOP_FOR_GOOD[0], "true")])];
        assert_eq!(plan(&seen, &labelled(), "j").unwrap_err().kind().exit_code(), 2);
    }

    #[test]
    fn hooks_come_first_and_have_their_users_and_jobs() {
        let hooked: &[(&str, &str)] = &[
            (BEFORE[0], "freeze"),
            ("sealift.exec.before.user", "root"),
            (AFTER[1], "thaw"),
            (STOP[0], "true"),
            (EXEC_JOB[0], "j"),
            ("docker-volume-backup.copy-post", "x"),
        ];
        let seen = [container("a", hooked)];
        let found = plan(&seen, &labelled(), "j").unwrap();
        assert_eq!(words(&found), ["exec a: freeze", "exec a after it: thaw", "stop a"]);
        assert_eq!(
            (found.targets[0].user.as_deref(), found.targets[1].user.as_deref()),
            (Some("root"), None)
        );
        assert!(found.notes[0].contains("copy-post"), "{:?}", found.notes);
        assert_eq!(words(&plan(&seen, &labelled(), "k").unwrap()), ["stop a"]);
    }

    #[test]
    fn dependents_are_stopped_before_what_they_depend_on() {
        let of = |service: &str, needs: &str| {
            let labels = [
                ("com.docker.compose.project", "shop"),
                ("com.docker.compose.service", service),
                (COMPOSE_DEPENDS_ON, needs),
            ];
            container(&format!("shop-{service}-1"), &labels)
        };
        let seen = [
            of("db", ""),
            of("web", "api:service_started:false"),
            of("api", "db:service_healthy:true"),
            container("cron", &[(DEPENDS_ON, "shop-web-1")]),
        ];
        // The one in the middle is not stopped, and is known all the same.
        let found = words(&plan(&seen, &stop(&["db", "cron", "web"]), "j").unwrap());
        assert_eq!(found, ["stop cron", "stop shop-web-1", "stop shop-db-1"]);
    }

    #[test]
    fn what_does_not_run_stays_unless_another_backup_holds_it() {
        let mut seen = [container("a", &[]), container("b", &[])];
        (seen[0].runs, seen[1].runs, seen[1].is_held) = (false, false, true);
        let found = plan(&seen, &stop(&["a", "b"]), "j").unwrap();
        assert_eq!(words(&found), ["stop b"]);
        assert!(found.notes[0].contains("a does not run"));
    }

    #[test]
    fn what_cannot_be_held_is_refused() {
        let refused =
            |seen: &[Seen], request: &QuiesceRequest| plan(seen, request, "j").unwrap_err().to_string();
        assert!(refused(&[], &stop(&["web"])).contains("no container web"));
        let task = container("web.1.x", &[(SWARM_SERVICE, "web")]);
        assert!(refused(&[task], &stop(&["web.1.x"])).contains("belongs to service web"));
        let scale = QuiesceRequest { scale_down: vec!["web".into()], ..QuiesceRequest::default() };
        let global = Seen { is_service: true, ..container("web", &[]) };
        assert!(refused(&[global], &scale).contains("cannot be scaled"));
        let of = |project: &str| {
            let labels = [("com.docker.compose.project", project), ("com.docker.compose.service", "db")];
            container(&format!("{project}-db-1"), &labels)
        };
        assert!(refused(&[of("a"), of("b")], &stop(&["db"])).contains("several Compose projects"));
        let own = Finding { own: Some("id-a".into()), seen: &[container("a", &[])], ..Finding::default() }
            .named(&stop(&["a"]));
        assert!(own.unwrap_err().to_string().contains("sealift runs in"));
    }
}
