//! `restore --sequential` and `restore --object`: from the front, without a catalog. Bytes are handed on before the
//! final check, so this happens only when it was asked for, and a failure says that the target is incomplete.

use std::cell::RefCell;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use tokio_util::sync::CancellationToken;

use super::backup::Outcome;
use super::stored::StoredArchive;
use super::target;
use crate::archive::Format;
use crate::archive::sequential::{BytesStream, Layer, peek, unwrap};
use crate::cli::{Restore, RestoreSource, RestoreTarget};
use crate::error::{Error, Result};
use crate::report::{Reporter, human_bytes, printable};
use crate::store::Store;
use crate::store::download::Object;
use crate::store::manifest::{self, Manifest};
use crate::stream::counters::Counters;
use crate::stream::sink::Sink;
use crate::tar::select::unsafe_member;
use crate::tar::{self, Entry, Walker};

/// Bytes of a tar's front in which its first member is looked for.
const FRONT_LEN: usize = 64 << 10;

/// Restores an object from its front.
pub async fn restore(
    what: RestoreSource,
    to: RestoreTarget,
    options: &Restore,
    ui: &Reporter,
    cancel: &CancellationToken,
) -> Result<Outcome> {
    let counters = Arc::new(Counters::default());
    let opened = tokio::select! {
        biased;
        () = cancel.cancelled() => return Err(Error::interrupted()),
        opened = Front::open(what, options, &counters) => opened?,
    };
    let layers: Vec<_> = opened.layers.iter().map(|layer| layer.name()).collect();
    ui.detail(&format!(
        "{}: {}",
        opened.name,
        if layers.is_empty() { "plain".into() } else { layers.join(", ") }
    ));
    let guard = Guard::new(&opened, &to, options.allow_devices)?;
    let sink = target::open(to, |_| guard.original_volume(), options.overwrite, ui).await?;
    ui.note(
        "the bytes are handed on as they come: the exit code says whether the stream was whole, \
         nothing says that it is the archive you mean",
    );
    let tracking = ui.track("restored", Arc::clone(&counters));
    let filled =
        target::fill(sink, cancel, async |sink: &Sink| deliver(opened.stream, guard, sink, &counters).await);
    let filled = filled.await;
    drop(tracking);
    let amount = human_bytes(counters.source.get());
    let code = filled.map_err(|error| {
        error.and_hint(format!(
            "{amount} were handed on without a final check: the target is incomplete, do not use it"
        ))
    })?;
    ui.detail(&format!("restored {amount} of {}", opened.name));
    Ok(if code == 0 { Outcome::Done } else { Outcome::Exited(code) })
}

/// A stream whose layers have been taken off.
struct Front {
    name: String,
    layers: Vec<Layer>,
    /// Whether it was sealed as bytes of no known kind: whatever its front looks like, its end need not be a tar's.
    raw: bool,
    /// Its first bytes, which the stream has too.
    front: Bytes,
    stream: BytesStream,
}

impl Front {
    async fn open(what: RestoreSource, options: &Restore, counters: &Arc<Counters>) -> Result<Front> {
        let open = &options.open;
        let (name, object, expected, stored, raw) = match what {
            RestoreSource::Archive(archive) | RestoreSource::Front(archive) => {
                let found = StoredArchive::find(&open.from.from, &archive).await?;
                let object = found.archive_object().await?;
                let expected = layers_of(&found.manifest);
                let raw = !found.manifest.suffix.starts_with(Format::Tar.suffix());
                (found.name(), object, Some(expected), Some(found.manifest.archive), raw)
            }
            RestoreSource::Object(key) => {
                let store = Arc::new(Store::open(&open.from.from, &open.from.from.options()?)?);
                let object = Object::open_foreign(&store, &key).await?;
                (key, object, None, None, false)
            }
        };
        if let Some(stored) = stored.as_ref().filter(|stored| stored.size != object.size) {
            let (has, had) = (object.size, stored.size);
            return Err(Error::damaged(format!("{} has {has} bytes where {had} were stored", object.key()))
                .hint(format!("restore what is left of it: sealift restore {} --object", object.shown())));
        }
        let bytes = counted_stream(&object, stored, Arc::clone(counters));
        let passphrase = || match open.no_encrypt {
            true => Err(Error::usage(format!("{name} is encrypted")).hint("leave --no-encrypt out")),
            false => open.passphrase.sources().read(),
        };
        let (layers, stream) = unwrap(bytes, expected.as_deref(), &passphrase).await?;
        if !layers.contains(&Layer::OpenPgp) && !open.no_encrypt {
            return Err(Error::damaged(format!("{name} is not encrypted")).hint(
                "whoever can write to the store can have put it there; if it is yours, say --no-encrypt",
            ));
        }
        let (front, stream) = peek(stream, FRONT_LEN).await?;
        Ok(Front { name, layers, raw, front, stream })
    }
}

/// The layers that an archive of ours was given, from the outside in.
fn layers_of(manifest: &Manifest) -> Vec<Layer> {
    let (codec, cipher) = manifest::parts_of_suffix(&manifest.suffix);
    cipher.map(|_| Layer::OpenPgp).into_iter().chain(Layer::of_codec(codec)).collect()
}

/// An object's bytes, at whose end they are held against what was stored, where that is known.
fn counted_stream(object: &Object, stored: Option<manifest::Object>, counters: Arc<Counters>) -> BytesStream {
    let count = move |bytes: &Bytes| counters.stored.add(bytes.len() as u64);
    match stored {
        Some(said) => Box::pin(object.verified_stream(&said).inspect_ok(count)),
        None => Box::pin(object.stream().inspect_ok(count)),
    }
}

/// Follows a tar as it passes by, and lets no member through that may not be unpacked.
struct Guard {
    /// None: no tar.
    walker: Option<Walker>,
    /// The first member.
    first: Option<Entry>,
    unpacks: bool,
    allow_devices: bool,
    /// Below which name alone members may be.
    root: RefCell<Option<String>>,
}

impl Guard {
    fn new(opened: &Front, to: &RestoreTarget, allow_devices: bool) -> Result<Self> {
        let unpacks = matches!(to, RestoreTarget::Path(_) | RestoreTarget::Volume(_));
        let wants_tar = unpacks || matches!(to, RestoreTarget::Image);
        let is_tar = tar::is_header(&opened.front) && (wants_tar || !opened.raw);
        if !is_tar && wants_tar {
            return Err(Error::usage("this is no tar: it has no members").hint("restore it --to-stdout"));
        }
        let mut found = Vec::new();
        if is_tar {
            Walker::new().feed(&opened.front, &mut found).map_err(broken_tar)?;
        }
        Ok(Guard {
            walker: is_tar.then(Walker::new),
            first: found.into_iter().next(),
            unpacks,
            allow_devices,
            root: RefCell::new(None),
        })
    }

    /// Where the volume's files lie: `NAME/_data`, or what stands before it where a tar was made of whole paths.
    fn original_volume(&self) -> Result<String> {
        let path = self.first.as_ref().map(|entry| entry.path.trim_end_matches('/'));
        let root = path.and_then(|path| {
            let folder = path.split_once("/_data").map(|(root, _)| root);
            folder.or_else(|| {
                let below = path.rsplit_once('/').map(|(before, _)| before);
                below.is_none_or(|before| before == "." || before.ends_with("volumes")).then_some(path)
            })
        });
        let root = root.filter(|root| !root.trim_matches(['.', '/']).is_empty()).ok_or_else(|| {
            Error::usage("this is no archive of a volume: its members do not lie in VOLUME/_data")
                .hint("unpack it --to-path, into the folder that `docker volume inspect` names")
        })?;
        *self.root.borrow_mut() = Some(root.into());
        Ok(root.into())
    }

    /// Looks at what is about to be handed on.
    fn look(&mut self, piece: &[u8]) -> Result<()> {
        let Some(walker) = &mut self.walker else { return Ok(()) };
        let mut found = Vec::new();
        walker.feed(piece, &mut found).map_err(broken_tar)?;
        if self.unpacks {
            found.iter().try_for_each(|entry| self.allow(entry))?;
        }
        Ok(())
    }

    fn allow(&self, entry: &Entry) -> Result<()> {
        if let Some(why) = unsafe_member(entry, self.allow_devices) {
            return Err(Error::damaged(format!("{} may not be unpacked: {why}", printable(&entry.path)))
                .hint("accept devices with --allow-devices, or restore --to-stdout and look"));
        }
        let root = self.root.borrow();
        let Some(root) = root.as_deref() else { return Ok(()) };
        let own = format!("{root}/_data");
        let within = |name: &str| {
            let name = name.trim_end_matches('/');
            name == root || name == own || name.strip_prefix(&own).is_some_and(|rest| rest.starts_with('/'))
        };
        let target = entry.link.as_deref().filter(|_| entry.kind == tar::EntryType::Link);
        match [Some(entry.path.as_str()), target].into_iter().flatten().find(|name| !within(name)) {
            Some(other) => Err(target::outside(&own, other)),
            None => Ok(()),
        }
    }

    fn finish(&self) -> Result<()> {
        self.walker.as_ref().map_or(Ok(()), |walker| walker.finish().map_err(broken_tar))
    }
}

fn broken_tar(error: Error) -> Error {
    Error::damaged("the tar is broken").because(error)
}

async fn deliver(mut stream: BytesStream, mut guard: Guard, sink: &Sink, counters: &Counters) -> Result<()> {
    while let Some(piece) = stream.next().await {
        let piece = piece?;
        guard.look(&piece)?;
        let len = piece.len() as u64;
        sink.write(piece).await?;
        counters.source.add(len);
    }
    guard.finish()
}
