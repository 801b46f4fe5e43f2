//! What in a text is secret, by what stands around it: for records that others may read.

/// What ends a name or a value.
const ENDS: [char; 12] = ['?', '&', ';', ',', '"', '\'', '`', '(', ')', '<', '>', '|'];

/// The secrets that a text names: the password in a URL, the value of a name that stands for one (`PGPASSWORD=…`,
/// `token: …`, `?X-Amz-Signature=…`), what an `Authorization` header brings.
pub(super) fn said_in(text: &str) -> Vec<&str> {
    let mut found: Vec<_> = text.split_whitespace().filter_map(password_in).collect();
    let pieces = text.split(|c: char| c.is_whitespace() || ENDS.contains(&c));
    let pieces: Vec<_> = pieces.filter(|piece| !piece.is_empty()).collect();
    for (i, piece) in pieces.iter().enumerate() {
        let next = |n: usize| pieces.get(i + n).copied();
        found.extend(match (piece.split_once('='), piece.split_once(':')) {
            (Some((name, value)), _) if is_one(name) => Some(value),
            // `"token": "…"`, of which quotes were taken off.
            _ if is_one(piece) && next(1) == Some(":") => next(2),
            // Where a sentence goes on, that is no secret.
            (_, Some((name, ""))) if is_one(name) => next(1).filter(|value| !is_word(value)),
            (_, Some((name, value))) if is_one(name) => Some(value),
            (_, Some((name, ""))) if name.eq_ignore_ascii_case("authorization") => next(2),
            _ => None,
        });
    }
    found.extend(quoted_in(text));
    found.retain(|value| !value.is_empty());
    found
}

/// The values in quotes, blanks and all, whose names stand for secrets: `NAME='VALUE'`, `name: "VALUE"`.
fn quoted_in(text: &str) -> impl Iterator<Item = &str> {
    let quotes = text.char_indices().filter(|(_, c)| matches!(c, '\'' | '"'));
    quotes.filter_map(|(at, quote)| {
        let before = text[..at].trim_end().strip_suffix(['=', ':'])?.trim_end().trim_end_matches(['\'', '"']);
        let name = before.rsplit(|c: char| c.is_whitespace() || ENDS.contains(&c)).next()?;
        text[at + 1..].split(quote).next().filter(|_| is_one(name))
    })
}

/// The secrets among a command's words: what follows an option that stands for one (`--password WORD`), the whole value of
/// `NAME=VALUE`, and what a word says, which may be a script.
pub(super) fn given_in(words: &[String]) -> Vec<&str> {
    let is_option = |word: &str| word.starts_with("--") && !word.contains('=') && is_one(word);
    let follows = words.windows(2).filter(|pair| is_option(&pair[0])).map(|pair| pair[1].as_str());
    let pairs = words.iter().filter_map(|word| word.split_once('='));
    let values = pairs.filter(|(name, _)| is_one(name)).map(|(_, value)| value);
    follows.chain(values).chain(words.iter().flat_map(|word| said_in(word))).collect()
}

/// The password in a URL, as it stands there: `postgres://app:PASSWORD@db/app`.
pub(super) fn password_in(value: &str) -> Option<&str> {
    let (_, rest) = value.split_once("://")?;
    let (user, _) = rest.split('/').next()?.rsplit_once('@')?;
    user.split_once(':').map(|(_, password)| password).filter(|password| !password.is_empty())
}

/// Whether something of this name is a secret, by what such variables, options and parameters are called.
pub(super) fn is_one(name: &str) -> bool {
    let name = name.trim_start_matches('-').to_ascii_uppercase().replace('-', "_");
    let names_one =
        ["SECRET", "PASSW", "PASSPHRASE", "TOKEN", "CREDENTIAL", "_KEY", "APIKEY", "PWD", "SIGNATURE"];
    let leads_to_one = ["_FILE", "_COMMAND", "_PATH", "_DIR"];
    let is_named =
        names_one.iter().any(|part| name.contains(part)) || matches!(name.as_str(), "SIG" | "PASS");
    is_named
        && !leads_to_one.iter().any(|part| name.ends_with(part))
        && !matches!(name.as_str(), "PWD" | "OLDPWD")
}

fn is_word(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_its_password() {
        assert_eq!(password_in("postgres://app:s3cr:t@db:5432/app"), Some("s3cr:t"));
        for none in
            ["postgres://db/app", "https://proxy:3128/x@y", "app:x@db", "s3://user@bucket", "s3://u:@b"]
        {
            assert_eq!(password_in(none), None, "{none}");
        }
    }

    #[test]
    fn a_name_that_stands_for_a_secret_is_known() {
        let names = [
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SESSION_TOKEN",
            "MYSQL_PWD",
            "PGPASSWORD",
            "SEALIFT_PASSPHRASE",
            "--password",
            "X-Amz-Signature",
            "sig",
            "api-key",
        ];
        for name in names {
            assert!(is_one(name), "{name}");
        }
        for name in [
            "PWD",
            "OLDPWD",
            "HOME",
            "SEALIFT_PASSPHRASE_FILE",
            "AWS_WEB_IDENTITY_TOKEN_FILE",
            "KEYBOARD",
            "signal",
            "--passphrase-file",
        ] {
            assert!(!is_one(name), "{name}");
        }
    }

    #[test]
    fn a_text_tells_what_its_secrets_are() {
        assert_eq!(said_in("sh -c \"PGPASSWORD=hunter2 pg_dump\" failed"), ["hunter2"]);
        assert_eq!(said_in("https://a.blob/c?sv=1&sig=abc%2B (403)"), ["abc%2B"]);
        assert_eq!(said_in("header Authorization: Bearer eyJhbGciOi was refused"), ["eyJhbGciOi"]);
        assert!(said_in("{\"token\": \"s3cret\", \"a\": \"b\"}").iter().all(|found| *found == "s3cret"));
        assert_eq!(said_in("password: hunter2, user: x1"), ["hunter2"]);
        for plain in
            ["wrong password: authentication failed", "the token was refused", "a=B", "_key=", "PWD=/x"]
        {
            assert_eq!(said_in(plain), [""; 0], "{plain}");
        }
    }

    #[test]
    fn what_stands_in_quotes_is_a_secret_with_its_blanks() {
        for (text, secret) in [
            ("PGPASSWORD='hunter2x' pg_dump", "hunter2x"),
            ("export PGPASSWORD=\"hunter2y\"; pg_dump", "hunter2y"),
            ("MYSQL_PWD='hunter 2g' exec x", "hunter 2g"),
            ("password = \"two words\" is wrong", "two words"),
            ("{\"token\": \"two words\"}", "two words"),
        ] {
            assert!(said_in(text).contains(&secret), "{text}: {:?}", said_in(text));
        }
        assert_eq!(said_in("role \"app\" has no 'x'"), [""; 0]);
    }

    #[test]
    fn the_words_of_a_command_hold_secrets() {
        let given = |words: &[&str]| {
            let words: Vec<_> = words.iter().map(|word| word.to_string()).collect();
            given_in(&words).into_iter().map(String::from).collect::<Vec<_>>()
        };
        assert_eq!(given(&["x", "--password", "hunter2", "--verbose", "y"]), ["hunter2"]);
        assert!(given(&["A_TOKEN=two words"]).contains(&"two words".into()));
        assert!(given(&["sh", "-c", "MYSQL_PWD=tiger1 exec x"]).contains(&"tiger1".into()));
        assert_eq!(given(&["x", "--verbose", "b", "--password-file", "f", "--password"]), [""; 0]);
    }
}
