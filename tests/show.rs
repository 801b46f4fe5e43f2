//! `show`: what an archive is, and how to restore it by hand.

use crate::support::{Lab, odd_archive};

#[test]
fn the_source_its_end_and_the_command_by_hand_are_shown() {
    let lab = Lab::new();
    let store = odd_archive(&lab);
    let shown = lab.run(&["show", "t", "--from", &store]).expect(0).text();
    assert!(shown.contains("\nsource    path t\n") && shown.contains("gpg -d"), "{shown}");
    let shown = lab.run(&["show", "t", "--json", "--from", &store]).expect(0).text();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).expect("JSON")["end"]["exit_code"], 0);
}
