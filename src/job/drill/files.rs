//! Files: restored into scratch volumes, read back through the engine, and held against the catalog and a sample of contents.

use std::collections::BTreeMap;

use serde_json::Value;

use super::compare::{Item, Items, differences};
use super::{Attempt, OwnCheck};
use crate::docker::Engine;
use crate::docker::run::RunSpec;
use crate::error::{Error, Result};
use crate::job::diff::content;
use crate::job::open_archive::OpenArchive;
use crate::job::random::Random;
use crate::job::until;
use crate::report::counted;
use crate::sink::target::RestoreTarget;
use crate::stream::counters::Counters;
use crate::stream::source::{ByteStream, Running};
use crate::tar::{Entry, Walker};

/// Differences that an error names.
const NAMED: usize = 5;
/// Bytes of a volume that are read at once.
const PIECE: usize = 256 << 10;

/// What was restored: the folder in the archive, the volume that it is in now, and what the catalog says of it.
pub(super) struct Restored {
    /// The volume in the archive; none where it is of none.
    pub(super) original: Option<String>,
    /// The scratch volume.
    pub(super) volume: String,
    /// What the catalog says.
    pub(super) items: Items,
}

impl Restored {
    fn folder(&self) -> String {
        self.original.as_ref().map(|name| format!("{name}/_data")).unwrap_or_default()
    }
}

impl Attempt<'_> {
    /// Restores a tar and looks at every member of it, then tries what it is for.
    pub(super) async fn files(&mut self, source: &Value) -> Result<()> {
        self.tried.what = "files".into();
        let names = source["volume"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let mut originals: Vec<Option<String>> = names.map(|name| Some(name.to_string())).collect();
        originals.dedup();
        if originals.is_empty() {
            originals.push(None);
        }
        self.scratch().await?;
        if let Some(check) = &self.request.check {
            let image = check.image.clone();
            self.scratched()?.engine().require_image(&image).await?;
        }
        let mut restored = Vec::new();
        for original in originals {
            let cancel = self.cancel;
            let volume = until(cancel, self.scratched()?.volume()).await?;
            let target = match &original {
                Some(_) => RestoreTarget::Volume(volume.clone()),
                None => self.folder_of(&volume).await?,
            };
            self.restore(target, original.as_deref()).await?;
            restored.push(Restored { original, volume, items: Items::new() });
        }
        until(self.cancel, self.compare(&mut restored)).await?;
        let restored = restored;
        self.serve(&restored).await?;
        match &self.request.check {
            Some(check) => self.own_check(check, &restored).await,
            None => Ok(()),
        }
    }

    /// A volume as a folder of this host, for what is no volume's archive.
    async fn folder_of(&mut self, volume: &str) -> Result<RestoreTarget> {
        let engine = self.scratched()?.engine();
        let volume = engine.volume(volume).await?;
        match engine.is_local() && volume.folder().is_some() {
            true => Ok(RestoreTarget::Path(volume.mountpoint)),
            false => Err(Error::failed(
                "the engine's volumes cannot be written here, and this is no volume's archive",
            )
            .hint("drill it as root on the engine's own host")),
        }
    }

    async fn compare(&mut self, restored: &mut [Restored]) -> Result<()> {
        let look = |entry: &Entry| {
            for part in restored.iter_mut() {
                // The last of a name is the one that a restore leaves.
                part.items.extend(Item::of(entry, part.folder().as_bytes()));
            }
        };
        let mut archive = OpenArchive::look(&self.found, self.passphrase.as_ref(), |_| None, look).await?;
        let engine = self.scratched()?.engine().clone();
        let id_map = archive.record().id_map;
        let owners = !id_map.is_some_and(|map| map.remaps()) && !engine.id_map().await?.remaps();
        let (mut lines, mut members, mut compared) = (Vec::new(), 0, 0);
        for part in restored.iter() {
            let contents = self.contents(&mut archive, &part.items).await?;
            let back = self.read_back(&engine, &part.volume).await?;
            lines.extend(differences(&part.items, &back, &contents, owners));
            (members, compared) = (members + part.items.len(), compared + contents.len());
        }
        self.tried.count("members", members as u64);
        self.tried.count("contents", compared as u64);
        if lines.is_empty() {
            return Ok(());
        }
        let text = format!("{} not as it was sealed", counted(lines.len() as u64, "member"));
        self.tried.cause = Some(text.clone());
        lines.truncate(NAMED);
        Err(Error::failed(text)
            .because(lines.join("; "))
            .hint("--keep leaves what was restored for looking at"))
    }

    /// Hashes of the contents of some files, as the archive has them.
    async fn contents(
        &self,
        archive: &mut OpenArchive,
        items: &Items,
    ) -> Result<BTreeMap<Vec<u8>, blake3::Hash>> {
        let files = items.iter().filter_map(|(name, item)| Some((name.clone(), item.place.clone()?)));
        let chosen = Random::new()?.some(files.collect(), self.request.sample);
        let (names, places): (Vec<_>, Vec<_>) = chosen.into_iter().unzip();
        let hashes = content::digests(archive, places, &Counters::default()).await?;
        Ok(names.into_iter().zip(hashes).filter_map(|(name, hash)| Some((name, hash?))).collect())
    }

    /// What lies in a volume, by another way than it came: the engine's own archive of it.
    async fn read_back(&self, engine: &Engine, volume: &str) -> Result<Items> {
        let names = [volume.to_string()];
        let Running { stream, cleanup } = engine.archive_volumes(&names, self.ui, self.cancel).await?;
        let folder = format!("{volume}/_data");
        let read = tokio::task::spawn_blocking(move || read(stream, folder.as_bytes())).await;
        let _ = cleanup.await;
        read.map_err(|e| Error::failed("a worker died").because(e))?
    }

    /// A command of the operator's own sees the files.
    async fn own_check(&mut self, check: &OwnCheck, restored: &[Restored]) -> Result<()> {
        self.tried.what = "check".into();
        let volumes = match restored {
            [one] => vec![format!("{}:/data:ro", one.volume)],
            several => several
                .iter()
                .map(|part| {
                    format!("{}:/data/{}:ro", part.volume, part.original.as_deref().unwrap_or("files"))
                })
                .collect(),
        };
        let cancel = self.cancel;
        let scratch = self.scratched()?;
        let started = async {
            let server = scratch.start(RunSpec { volumes, ..check.spec() }).await?;
            let code = scratch.exit_code(&server).await?;
            Ok((code, server.last_words()))
        };
        match until(cancel, started).await? {
            (Some(0), _) => Ok(()),
            (code, said) => {
                let code = code.map_or("without a code".into(), |code| format!("with code {code}"));
                Err(Error::failed(format!("--check ended {code}")).because(said))
            }
        }
    }
}

impl OwnCheck {
    /// A container that runs it, and reaches no network.
    pub(super) fn spec(&self) -> RunSpec {
        RunSpec {
            image: self.image.clone(),
            entrypoint: Some("sh".into()),
            command: vec!["-c".into(), self.command.clone()],
            network: Some("none".into()),
            ..RunSpec::default()
        }
    }
}

/// A file whose bytes pass by: its name, where they lie, and what is known of them.
type Open = Option<(Vec<u8>, std::ops::Range<u64>, blake3::Hasher)>;

/// Follows a tar to its end, and hashes what files have in it.
fn read(mut stream: ByteStream, folder: &[u8]) -> Result<Items> {
    let (mut walker, mut items, mut found) = (Walker::new(), Items::new(), Vec::new());
    let (mut at, mut buffer) = (0, vec![0; PIECE]);
    let mut open: Open = None;
    loop {
        let len = stream.read(&mut buffer)?;
        if len == 0 {
            break;
        }
        let (piece, end) = (&buffer[..len], at + len as u64);
        walker.feed(piece, &mut found)?;
        let take = |open: &mut Open, items: &mut Items| {
            let Some((name, range, hasher)) = open else { return };
            let (from, to) = (range.start.max(at), range.end.min(end));
            if from < to {
                hasher.update(&piece[(from - at) as usize..(to - at) as usize]);
            }
            if range.end <= end {
                let hash = hasher.finalize();
                items.entry(std::mem::take(name)).and_modify(|item| item.hash = Some(hash));
                *open = None;
            }
        };
        take(&mut open, &mut items);
        for entry in found.drain(..) {
            let Some((name, item)) = Item::of(&entry, folder) else { continue };
            let data = entry.data();
            items.insert(name.clone(), item);
            if let Some(range) = data {
                open = Some((name, range, blake3::Hasher::new()));
                take(&mut open, &mut items);
            }
        }
        at = end;
    }
    stream.prove()?;
    walker.finish()?;
    Ok(items)
}
