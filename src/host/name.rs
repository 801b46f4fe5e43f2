//! What this host is called.

use std::path::Path;

/// The host's name; none where it is only the number of a container, which is another one at every run.
pub fn host_name() -> Option<String> {
    let here = rustix::system::uname();
    let name = here.nodename().to_str().ok()?;
    let in_container = ["/.dockerenv", "/run/.containerenv"].iter().any(|file| Path::new(file).exists());
    lasting(name, in_container)
}

fn lasting(name: &str, in_container: bool) -> Option<String> {
    let is_number = name.len() == 12 && name.bytes().all(|b| b.is_ascii_hexdigit());
    let tells_nothing = name.is_empty() || in_container && is_number;
    (!tells_nothing).then(|| name.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_container_is_no_name() {
        assert_eq!(lasting("0123456789ab", true), None);
        assert_eq!(lasting("0123456789ab", false).as_deref(), Some("0123456789ab"));
        assert_eq!(lasting("db1", true).as_deref(), Some("db1"));
        assert_eq!(lasting("", false), None);
    }
}
