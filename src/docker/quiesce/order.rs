//! In which order things are stopped: whatever depends on something goes before it.

use std::collections::HashMap;

/// Something that may depend on others.
#[derive(Debug, Clone, Default)]
pub(super) struct Node {
    /// What it is called by people.
    pub name: String,
    /// What others call it.
    pub names: Vec<String>,
    /// What it needs, as it is called; the first of each that somebody has is meant.
    pub needs: Vec<Vec<String>>,
}

/// The numbers of all nodes, those that depend on others before them, otherwise as they are given; and where that is not
/// possible, because they depend on each other in a circle.
pub(super) fn dependents_first(nodes: &[Node]) -> (Vec<usize>, Vec<String>) {
    let mut called = HashMap::new();
    for (number, node) in nodes.iter().enumerate() {
        node.names.iter().for_each(|name| {
            called.entry(name.as_str()).or_insert_with(Vec::new).push(number);
        });
    }
    let mut dependents = vec![Vec::new(); nodes.len()];
    for (number, node) in nodes.iter().enumerate() {
        for need in &node.needs {
            let needed = need.iter().find_map(|name| called.get(name.as_str()));
            needed.into_iter().flatten().filter(|needed| **needed != number).for_each(|needed| {
                dependents[*needed].push(number);
            });
        }
    }
    let mut walk = Walk { nodes, dependents, state: vec![State::New; nodes.len()], ..Walk::default() };
    for number in 0..nodes.len() {
        if walk.state[number] == State::New {
            walk.visit(number);
        }
    }
    (walk.order, walk.circles)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    Begun,
    Done,
}

#[derive(Default)]
struct Walk<'a> {
    nodes: &'a [Node],
    dependents: Vec<Vec<usize>>,
    state: Vec<State>,
    order: Vec<usize>,
    circles: Vec<String>,
}

impl Walk<'_> {
    fn visit(&mut self, number: usize) {
        self.state[number] = State::Begun;
        for dependent in self.dependents[number].clone() {
            match self.state[dependent] {
                State::New => self.visit(dependent),
                State::Begun => self.circles.push(format!(
                    "{} and {} depend on each other: which is stopped first is left to chance",
                    self.nodes[dependent].name, self.nodes[number].name
                )),
                State::Done => {}
            }
        }
        self.state[number] = State::Done;
        self.order.push(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(nodes: &[(&str, &[&str])]) -> (String, usize) {
        let nodes: Vec<_> = nodes
            .iter()
            .map(|(name, needs)| Node {
                name: name.to_string(),
                names: vec![name.to_string()],
                needs: needs.iter().map(|need| vec![format!("x/{need}"), need.to_string()]).collect(),
            })
            .collect();
        let (order, circles) = dependents_first(&nodes);
        let names: Vec<_> = order.iter().map(|number| nodes[*number].name.as_str()).collect();
        (names.join(" "), circles.len())
    }

    #[test]
    fn what_depends_on_others_goes_before_them() {
        assert_eq!(order(&[("a", &[]), ("b", &[])]), ("a b".into(), 0));
        assert_eq!(order(&[("db", &[]), ("web", &["api"]), ("api", &["db"])]), ("web api db".into(), 0));
        let diamond: &[(&str, &[&str])] = &[("d", &[]), ("b", &["d"]), ("c", &["d"]), ("a", &["b", "c"])];
        assert_eq!(order(diamond), ("a b c d".into(), 0));
        assert_eq!(order(&[("a", &["not-here", "a"])]), ("a".into(), 0));
    }

    #[test]
    fn a_circle_is_told_and_nothing_is_lost() {
        let (names, circles) = order(&[("a", &["b"]), ("b", &["c"]), ("c", &["a"]), ("d", &["a"])]);
        let mut sorted: Vec<_> = names.split(' ').collect();
        assert!(sorted.iter().position(|n| *n == "d") < sorted.iter().position(|n| *n == "a"), "{names}");
        sorted.sort_unstable();
        assert_eq!((sorted, circles), (vec!["a", "b", "c", "d"], 1));
    }
}
