//! Names that were probably meant.

/// Names that an error lists at most.
const NAMED: usize = 8;

/// The known word that was probably meant.
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let alike = known.iter().map(|known| (strsim::jaro_winkler(word, known), *known));
    alike.filter(|(alike, _)| *alike > 0.8).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, known)| known)
}

/// A hint for a name that is not known: `did you mean db?`, or the names there are.
pub fn names_hint(word: &str, known: &[&str]) -> Option<String> {
    if let Some(near) = nearest(word, known) {
        return Some(format!("did you mean {near}?"));
    }
    let (first, more) = (known.get(..NAMED).unwrap_or(known), known.len().saturating_sub(NAMED));
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    (!known.is_empty()).then(|| format!("known are: {}{more}", first.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_name_is_suggested_and_otherwise_all_are_listed() {
        let known = ["db", "registry", "team/app"];
        assert_eq!(names_hint("regstry", &known).as_deref(), Some("did you mean registry?"));
        assert_eq!(names_hint("zzz", &known).as_deref(), Some("known are: db, registry, team/app"));
        assert_eq!(names_hint("zzz", &[]), None);
        let many: Vec<String> = (10..30).map(|n| format!("job-{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(names_hint("zzz", &many).unwrap().ends_with("job-17 and 12 more"));
    }
}
