//! `completions`: scripts for the shells.

use crate::support::Lab;

#[test]
fn completions_are_scripts() {
    let lab = Lab::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(lab.run(&["completions", shell]).expect(0).text().contains("backup"), "{shell}");
    }
}
