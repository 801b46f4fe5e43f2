//! `ls`: the members, from the catalog alone.

use crate::support::{Lab, odd_archive};

#[test]
fn members_are_listed_and_their_names_are_escaped() {
    let lab = Lab::new();
    let store = odd_archive(&lab);
    let names = lab.run(&["ls", "t", "--from", &store]).expect(0).text();
    assert!(names.contains("t/\\u{1b}[2Jbad") && !names.contains('\x1b'), "{names}");
    let long = lab.run(&["ls", "t", "t/*", "--long", "--from", &store]).expect(0).text();
    assert!(long.lines().any(|line| line.starts_with('h') && line.contains(" -> t/")), "{long}");
    let json = lab.run(&["ls", "t", "t/sparse", "--json", "--from", &store]).expect(0).text();
    let entry: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(entry["size"], 5 * 1024 * 1024 + 3);
    lab.run(&["ls", "t", "none", "--from", &store]).expect_error(10, "no member matches");
}
