//! Databases in containers: dumped by the vendor's own tool there, and whole only with the end marker of that tool.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::metadata::Metadata;
use super::steps::{Action, SealedArchive};
use super::{Component, DataLocation, Preview};
use crate::archive::Format;
use crate::archive::name::JobName;
use crate::archive::whole::{DumpFormat, Whole};
use crate::docker::Engine;
use crate::docker::inspect::ContainerInfo;
use crate::error::{Error, Result};
use crate::report::Reporter;
use crate::source::Source;

mod login;
mod mongo;
mod mysql;
mod postgres;
mod redis;
mod restore;
pub mod trial;

use login::Login;
pub use restore::DatabaseMetadata;
pub(super) use restore::restore_steps;
use restore::versioned;

/// A database whose dumps are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DatabaseKind {
    /// PostgreSQL.
    Postgres,
    /// MySQL and MariaDB.
    Mysql,
    /// MongoDB.
    Mongo,
    /// Redis and Valkey.
    Redis,
}

/// How a database is backed up.
#[derive(Debug, Clone)]
pub struct DatabaseOptions {
    /// Which database.
    pub kind: DatabaseKind,
    /// The container of its server.
    pub container: String,
    /// Who dumps it; otherwise the administrator that the container's environment names.
    pub user: Option<String>,
    /// One database only; otherwise all that the server has.
    pub database: Option<String>,
    /// The job under which its archives lie, unless another is asked for: named after the container.
    pub job: String,
}

/// What a kind of database has of its own.
struct Dialect {
    /// The word behind `backup`.
    word: &'static str,
    /// Images that run it, by their own names.
    images: &'static [&'static str],
    /// What it is called, by the tool and the version that it says of itself.
    product: fn(tool: &str, version: &str) -> &'static str,
    /// Tools that write a dump; the first that is there does it.
    tools: &'static [&'static str],
    /// The command that says the server's version; otherwise the tool.
    version: Option<&'static str>,
    /// Variables of a container that name the administrator, and who it is where none does.
    users: (&'static [&'static str], Option<&'static str>),
    /// Variables of a container that have the administrator's password.
    passwords: &'static [&'static str],
    /// How many numbers of a version tell whether a server reads a dump, and which others read it.
    series: (usize, &'static str),
    /// Where a server reads a dump when it starts; none where a tool takes the dump.
    file: Option<DumpFile>,
    /// The command that writes the dump to stdout, and how the dump begins and ends.
    dump: fn(&DatabaseOptions, &Server) -> (Vec<String>, DumpFormat),
    /// How a dump is brought back.
    restore: fn(&SealedArchive, &DatabaseMetadata) -> Vec<Action>,
    /// What no dump has.
    not_in_it: &'static [&'static str],
}

/// How a server says in which file it reads a dump when it starts.
struct DumpFile {
    /// The command that asks it.
    ask: fn(&Server) -> Vec<String>,
    /// The file in its answer.
    find: fn(&str) -> Option<String>,
}

/// A server that runs in a container.
struct Server {
    container: ContainerInfo,
    product: &'static str,
    version: String,
    /// The tool that dumps it.
    tool: &'static str,
    login: Login,
}

impl DatabaseKind {
    /// Every one.
    pub const ALL: [DatabaseKind; 4] =
        [DatabaseKind::Postgres, DatabaseKind::Mysql, DatabaseKind::Mongo, DatabaseKind::Redis];

    /// The database that an image runs, by the image's own name.
    pub fn of_image(image: &str) -> Option<Self> {
        let name = image.split('@').next()?.rsplit('/').next()?;
        let name = name.split(':').next()?;
        Self::ALL.into_iter().find(|kind| kind.dialect().images.contains(&name))
    }

    /// The word behind `backup`, and the `source` of a job.
    pub fn word(self) -> &'static str {
        self.dialect().word
    }

    fn dialect(self) -> &'static Dialect {
        match self {
            DatabaseKind::Postgres => &postgres::DIALECT,
            DatabaseKind::Mysql => &mysql::DIALECT,
            DatabaseKind::Mongo => &mongo::DIALECT,
            DatabaseKind::Redis => &redis::DIALECT,
        }
    }
}

impl DatabaseOptions {
    /// All that the server in a container has.
    pub fn new(kind: DatabaseKind, container: String) -> Self {
        let job = JobName::from_source(&container).map_or(kind.word().into(), String::from);
        DatabaseOptions { kind, container, user: None, database: None, job }
    }

    /// Looks for the server, what dumps it, and who may.
    async fn find(&self, engine: &Engine) -> Result<Server> {
        let dialect = self.kind.dialect();
        let container = engine.running_container(&self.container).await?;
        let Some((tool, said)) = self.tool(engine).await? else {
            let (tools, image) = (dialect.tools.join(" and no "), &container.image);
            let product = (dialect.product)("", "");
            return Err(Error::failed(format!("container {} ({image}) has no {tools}", self.container))
                .hint(format!(
                    "is it a server of {product}? `sealift backup exec` backs up what other commands write"
                )));
        };
        let said = match dialect.version {
            Some(server) => engine.ask(&self.container, &[server, "--version"]).await?.stdout,
            None => said,
        };
        let version = version_in(&said).unwrap_or_default().to_string();
        let user = match &self.user {
            Some(user) => Some(user.clone()),
            None => self.administrator(&container, engine).await?,
        };
        let login = Login { user, password: variable(&container.env, dialect.passwords) };
        Ok(Server { product: (dialect.product)(tool, &said), container, version, tool, login })
    }

    /// The file in which the server reads a dump when it starts, where it says so.
    async fn file(&self, server: &Server, engine: &Engine) -> Result<Option<String>> {
        let Some(DumpFile { ask, find }) = &self.kind.dialect().file else { return Ok(None) };
        let command = ask(server);
        let words: Vec<_> = command.iter().map(String::as_str).collect();
        Ok(find(&engine.ask(&self.container, &words).await?.stdout))
    }

    /// The tool that the container has, and what it says of itself.
    async fn tool(&self, engine: &Engine) -> Result<Option<(&'static str, String)>> {
        for tool in self.kind.dialect().tools {
            let said = engine.ask(&self.container, &[tool, "--version"]).await?;
            match said.code {
                0 => return Ok(Some((tool, said.stdout))),
                _ if said.is_no_command() => {}
                code => {
                    let what = format!("{tool} in container {} exited with code {code}", self.container);
                    return Err(Error::failed(what).because(said.stderr.trim()));
                }
            }
        }
        Ok(None)
    }

    /// Who the container's environment says that its administrator is.
    async fn administrator(&self, container: &ContainerInfo, engine: &Engine) -> Result<Option<String>> {
        let (variables, usual) = self.kind.dialect().users;
        let Some(name) = variable(&container.env, variables) else { return Ok(usual.map(String::from)) };
        let value = &container.env[&name];
        if !name.ends_with(login::FILE) {
            return Ok(Some(value.clone()));
        }
        let said = engine.ask(&self.container, &["cat", value]).await?;
        match said.code {
            0 => Ok(Some(said.stdout.trim_end_matches(['\r', '\n']).into())),
            _ => Err(Error::failed(format!("cannot read {value} in container {}", self.container))
                .because(said.stderr.trim())
                .hint(format!("{name} says that it names the administrator; --user says it otherwise"))),
        }
    }
}

/// The first of these variables, or of the same with `_FILE` behind its name, that has a value.
fn variable(env: &HashMap<String, String>, names: &[&str]) -> Option<String> {
    let mut names = names.iter().flat_map(|name| [name.to_string(), format!("{name}{}", login::FILE)]);
    names.find(|name| env.get(name).is_some_and(|value| !value.is_empty()))
}

/// The version in what a program says of itself. Where it says two, that of the product stands behind these words.
fn version_in(said: &str) -> Option<&str> {
    let words: Vec<_> = said
        .split_whitespace()
        .map(|word| word.trim_start_matches(['v', '=']).trim_end_matches(','))
        .collect();
    let is_version = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit());
    let own = words.windows(2).find(|pair| matches!(pair[0], "Distrib" | "from")).map(|pair| pair[1]);
    own.filter(is_version).or(words.into_iter().find(is_version))
}

pub(super) async fn components(
    options: &DatabaseOptions,
    engine: &Engine,
    ui: &Reporter,
) -> Result<Vec<Component>> {
    let server = options.find(engine).await?;
    ui.note(&server.in_words(options));
    let (command, format) = (options.kind.dialect().dump)(options, &server);
    let file = options.file(&server, engine).await?.unwrap_or_default();
    let metadata = DatabaseMetadata {
        kind: Some(options.kind),
        product: server.product.into(),
        version: server.version,
        container: options.container.clone(),
        file,
        image: server.container.image,
        tool: server.tool.into(),
        user: server.login.user,
        password: server.login.password,
        database: options.database.clone(),
    };
    let source = Source::Exec { container: options.container.clone(), command };
    let whole = Some(Whole::Dump(format));
    Ok(vec![Component { whole, ..Component::new(source, Format::Raw, Metadata::Database(metadata)) }])
}

pub(super) async fn preview(options: &DatabaseOptions, engine: &Engine) -> Result<Preview> {
    let server = options.find(engine).await?;
    let what = match &options.database {
        Some(database) => format!("database {database}"),
        None => "all databases".into(),
    };
    let words = format!("{what}, as {} writes them", server.tool);
    Ok(Preview {
        what: server.in_words(options),
        archives: vec![(None, words, DataLocation::Unknown)],
        not_in_it: options.kind.dialect().not_in_it.iter().map(ToString::to_string).collect(),
    })
}

impl Server {
    fn in_words(&self, options: &DatabaseOptions) -> String {
        format!("{}, container {}", versioned(self.product, &self.version), options.container)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_told_by_its_images_own_name() {
        for (image, kind) in [
            ("postgres:16-alpine", Some(DatabaseKind::Postgres)),
            ("r.example.com:5000/library/postgres@sha256:ab", Some(DatabaseKind::Postgres)),
            ("mariadb", Some(DatabaseKind::Mysql)),
            ("docker.io/bitnami/mysql:8", Some(DatabaseKind::Mysql)),
            ("valkey/valkey:8", Some(DatabaseKind::Redis)),
            ("mongo:7", Some(DatabaseKind::Mongo)),
            ("postgres-exporter:1", None),
            ("postgres/web:1", None),
        ] {
            assert_eq!(DatabaseKind::of_image(image), kind, "{image}");
        }
    }

    #[test]
    fn jobs_are_named_after_the_container() {
        let job = |container: &str| DatabaseOptions::new(DatabaseKind::Postgres, container.into()).job;
        assert_eq!((job("Shop_DB").as_str(), job("...").as_str()), ("shop_db", "postgres"));
    }

    #[test]
    fn the_first_variable_that_has_a_value_is_taken_or_its_file() {
        let found = |pairs: &[(&str, &str)]| {
            let env = pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
            variable(&env, &["A", "B"])
        };
        assert_eq!(found(&[("B", "b"), ("A", "a")]).as_deref(), Some("A"));
        assert_eq!(found(&[("B_FILE", "/b"), ("A", "")]).as_deref(), Some("B_FILE"));
        assert_eq!(found(&[("C", "c")]), None);
    }

    #[test]
    fn the_version_is_the_products_and_not_the_tools_own() {
        for (said, version) in [
            ("pg_dumpall (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", Some("15.18")),
            ("pg_dumpall (PostgreSQL) 17beta1", Some("17beta1")),
            ("mysqldump  Ver 8.0.36 for Linux on x86_64 (MySQL Community Server - GPL)", Some("8.0.36")),
            ("mysqldump  Ver 10.13 Distrib 5.7.44, for Linux (x86_64)", Some("5.7.44")),
            (
                "mariadb-dump  Ver 10.19 Distrib 10.11.14-MariaDB, for debian-linux-gnu (x86_64)",
                Some("10.11.14-MariaDB"),
            ),
            ("mariadb-dump from 11.4.2-MariaDB, client 10.19 for Linux (x86_64)", Some("11.4.2-MariaDB")),
            ("db version v7.0.5\nBuild Info: {", Some("7.0.5")),
            ("redis-cli 7.0.15", Some("7.0.15")),
            ("", None),
            ("no number at all", None),
        ] {
            assert_eq!(version_in(said), version, "{said}");
        }
    }
}
