//! `restore --sequential` and `restore --object`: from the front, without a catalog. Bytes are handed on before the
//! final check, so this happens only when it was asked for, and a failure says that the target is incomplete.

use std::cell::RefCell;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use secrecy::SecretString;
use tokio_util::io::ReaderStream;
use tokio_util::sync::CancellationToken;

use super::backup::Outcome;
use super::deliver::write_tar_end;
use super::restore::report::Begun;
use super::restore::{RestoreRequest, RestoreSource, outcome, outside};
use super::stored::{OpenRequest, StoredArchive};
use crate::archive::Format;
use crate::archive::sequential::{BytesStream, Layer, Trailing, Unwrapped, peek, unwrap};
use crate::error::{Error, Kind, Result};
use crate::report::{Reporter, human_bytes};
use crate::sink::landing::Landing;
use crate::sink::target::{self, RestoreTarget};
use crate::store::download::Object;
use crate::store::manifest::{self, Manifest};
use crate::stream::counters::Counters;
use crate::stream::sink::Sink;
use crate::tar::rewrite::Rewriter;
use crate::tar::{self, Entry, Walker};

/// Bytes of a tar's front in which its first member is looked for.
const FRONT_LEN: usize = 64 << 10;
/// Bytes that are read from a pipe at once.
const PIECE_LEN: usize = 1 << 20;

/// Restores an object from its front.
///
/// # Errors
/// As [`super::restore::restore`].
pub async fn restore(request: RestoreRequest, ui: &Reporter, cancel: &CancellationToken) -> Result<Outcome> {
    let counters = Arc::new(Counters::of(request.source.label()));
    let opened = tokio::select! {
        biased;
        () = cancel.cancelled() => return Err(Error::interrupted()),
        opened = Front::open(&request, &counters, ui) => opened?,
    };
    let layers: Vec<_> = opened.layers.iter().map(|layer| layer.name()).collect();
    ui.detail(&format!(
        "{}: {}",
        opened.name,
        if layers.is_empty() { "plain".into() } else { layers.join(", ") }
    ));
    let mut guard = Guard::new(&opened, &request.target)?;
    let original = |_: &str| guard.original_volume();
    let begun = Begun::now(&request.target);
    let (sink, mut landing) = target::open(request.target, original, request.overwrite, ui).await?;
    landing.iter_mut().for_each(|landing| {
        landing.allow_devices(request.allow_devices);
        // Only the catalog knows.
        landing.owners_from(None);
    });
    guard.landing = landing;
    ui.note(
        "the bytes are handed on as they come: the exit code says whether the stream was whole, \
         nothing says that it is the archive you mean",
    );
    let tracking = ui.track("restored", Arc::clone(&counters));
    let (stream, trailing) = (opened.stream, opened.trailing);
    let write = async |sink: &Sink| deliver(stream, &mut guard, sink, &counters).await;
    let filled = target::fill(sink, cancel, write).await;
    drop(tracking);
    let amount = human_bytes(counters.source.get());
    let code = filled.map_err(|error| {
        error.and_hint(format!(
            "{amount} were handed on without a final check: the target is incomplete, do not use it"
        ))
    })?;
    let outcome = outcome(code, guard.landing.as_ref(), ui);
    begun.tell(&opened.name, &counters, None, outcome, ui);
    let mut warnings = guard.warnings();
    if trailing.was_passed_over() {
        warnings
            .push(format!("what follows the compressed stream in {} is no part of it: ignored", opened.name));
    }
    warnings.iter().for_each(|warning| ui.warn(warning));
    Ok(if outcome == Outcome::Done && !warnings.is_empty() { Outcome::Warned } else { outcome })
}

/// A stream whose layers have been taken off.
struct Front {
    name: String,
    layers: Vec<Layer>,
    /// Whether it was sealed as bytes of no known kind: whatever its front looks like, its end need not be a tar's.
    raw: bool,
    /// Whether somebody else made it.
    foreign: bool,
    /// Its first bytes, which the stream has too.
    front: Bytes,
    stream: BytesStream,
    /// What was passed over behind the compressed stream.
    trailing: Trailing,
}

impl Front {
    async fn open(request: &RestoreRequest, counters: &Arc<Counters>, ui: &Reporter) -> Result<Front> {
        let mut open = request.open.clone();
        let mut key = None;
        let (name, object, expected, stored, raw) = match &request.source {
            RestoreSource::Archive(archive) | RestoreSource::Front(archive) => {
                let found = StoredArchive::find(&open.store, archive, ui).await?;
                if let older @ 1.. = found.manifest.needs.len() {
                    let name = found.name();
                    ui.warn(&format!(
                        "{name} is an increment: what it keeps in {older} older archives is not restored"
                    ));
                }
                let object = found.archive_object().await?;
                if found.encrypted() && !open.no_encrypt {
                    let passphrase = open.passphrase.read()?;
                    key = found.key_in_use(&object, &passphrase).await?;
                    open.passphrase.known = Some(passphrase);
                }
                let expected = layers_of(&found.manifest);
                let raw = !found.manifest.suffix.starts_with(Format::Tar.suffix());
                (found.name(), object, Some(expected), Some(found.manifest.archive), raw)
            }
            RestoreSource::Stdin => return Front::of_stdin(request, counters).await,
            RestoreSource::Object(key) => {
                let store = Arc::new(open.store.open(ui)?);
                let object = Object::open_foreign(&store, key).await?;
                (key.clone(), object, None, None, false)
            }
        };
        if let Some(stored) = stored.as_ref().filter(|stored| stored.size != object.size) {
            let (has, had) = (object.size, stored.size);
            return Err(Error::damaged(format!("{} has {has} bytes where {had} were stored", object.key()))
                .hint(format!("restore what is left of it: sealift restore {} --object", object.shown())));
        }
        let mut bytes = counted_stream(&object, stored, Arc::clone(counters));
        if let Some(key) = key {
            bytes = with_head(key.archive_head(), bytes);
        }
        let Unwrapped { layers, stream, trailing } =
            unwrap(bytes, expected.as_deref(), &passphrase_for(&name, &open)).await?;
        if !layers.contains(&Layer::OpenPgp) && !open.no_encrypt {
            return Err(Error::damaged(format!("{name} is not encrypted")).hint(
                "whoever can write to the store can have put it there; if it is yours, say --no-encrypt",
            ));
        }
        let (front, stream) = peek(stream, FRONT_LEN).await?;
        let foreign = matches!(request.source, RestoreSource::Object(_));
        Ok(Front { name, layers, raw, foreign, front, stream, trailing })
    }

    /// What another program writes to our standard input. It need not be encrypted: whoever made the pipe knows who fills
    /// it, and that program, as `gpg -d`, has decrypted it.
    async fn of_stdin(request: &RestoreRequest, counters: &Arc<Counters>) -> Result<Front> {
        let counters = Arc::clone(counters);
        let read = ReaderStream::with_capacity(tokio::io::stdin(), PIECE_LEN);
        let read = read.map_err(|e| Error::failed("cannot read standard input").because(e));
        Self::of_pipe(
            Box::pin(read.inspect_ok(move |bytes| counters.stored.add(bytes.len() as u64))),
            request,
        )
        .await
    }

    async fn of_pipe(bytes: BytesStream, request: &RestoreRequest) -> Result<Front> {
        let name = "standard input".to_string();
        let (head, bytes) = peek(bytes, 1).await?;
        if head.is_empty() {
            return Err(Error::failed("standard input ended before its first byte")
                .hint("the program before the pipe says why"));
        }
        let Unwrapped { layers, stream, trailing } =
            unwrap(bytes, None, &passphrase_for(&name, &request.open)).await?;
        let (front, stream) = peek(stream, FRONT_LEN).await?;
        Ok(Front { name, layers, raw: false, foreign: true, front, stream, trailing })
    }
}

/// Asks for the passphrase of what turns out to be encrypted.
fn passphrase_for(name: &str, open: &OpenRequest) -> impl Fn() -> Result<SecretString> {
    move || match open.no_encrypt {
        true => Err(Error::usage(format!("{name} is encrypted")).hint("leave --no-encrypt out")),
        false => open.passphrase.read(),
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
        Some(stored) => Box::pin(object.verified_stream(&stored).inspect_ok(count)),
        None => Box::pin(object.stream().inspect_ok(count)),
    }
}

/// A message whose first bytes are another head, as long as its own.
fn with_head(head: Bytes, message: BytesStream) -> BytesStream {
    let mut left = head.len();
    let rest = message.map_ok(move |mut piece| {
        let own = piece.split_to(left.min(piece.len()));
        left -= own.len();
        piece
    });
    let rest = rest.try_filter(|piece| std::future::ready(!piece.is_empty()));
    Box::pin(futures_util::stream::iter([Ok(head)]).chain(rest))
}

/// Follows a tar as it passes by, and lets no member through that may not be unpacked.
struct Guard {
    /// None: no tar.
    tar: Option<Rewriter>,
    /// Whoever made it may have left its end away, as GNU tar allows it.
    foreign: bool,
    /// The first member.
    first: Option<Entry>,
    /// The folder that it is unpacked into, if it is.
    landing: Option<Landing>,
    /// Below which name alone members may be.
    root: RefCell<Option<String>>,
    /// Why it is not followed to its end.
    not_followed: Option<String>,
}

impl Guard {
    fn new(opened: &Front, target: &RestoreTarget) -> Result<Self> {
        let wants_tar = target.needs_tar();
        let is_tar =
            (tar::is_header(&opened.front) || is_empty_tar(&opened.front)) && (wants_tar || !opened.raw);
        if !is_tar && wants_tar {
            return Err(Error::usage("this is no tar: it has no members").hint("restore it --to-stdout"));
        }
        let walker = || if opened.foreign { Walker::of_foreign() } else { Walker::new() };
        let mut found = Vec::new();
        if is_tar && wants_tar {
            walker().feed(&opened.front, &mut found).map_err(broken_tar)?;
        }
        Ok(Guard {
            tar: is_tar.then(|| Rewriter::of(walker())),
            foreign: opened.foreign,
            first: found.into_iter().next(),
            landing: None,
            root: RefCell::new(None),
            not_followed: None,
        })
    }

    /// Where the volume's files lie: `NAME/_data`, or what stands before it where a tar was made of whole paths.
    fn original_volume(&self) -> Result<String> {
        let path = self.first.as_ref().map(|entry| entry.path.trim_matches('/'));
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

    /// Looks at what is about to be handed on, and returns what is: members that are unpacked here are written anew.
    fn pass(&mut self, piece: Bytes) -> Result<Vec<Bytes>> {
        let Some(tar) = &mut self.tar else { return Ok(vec![piece]) };
        let (root, landing) = (self.root.borrow(), &mut self.landing);
        let written = tar.pass(&piece, |member| match landing.as_mut() {
            Some(landing) => {
                let admitted = landing.admit(member)?;
                lies_within(&member.entry, root.as_deref()).map(|()| admitted)
            }
            None => Ok(false),
        });
        match written {
            Ok(written) if self.landing.is_some() => Ok(written),
            Ok(_) => Ok(vec![piece]),
            // Whoever takes the bytes as they are may read it.
            Err(error) if self.landing.is_none() && error.kind() == Kind::Refused => {
                (self.tar, self.not_followed) = (None, Some(error.to_string()));
                Ok(vec![piece])
            }
            Err(error) => Err(broken_tar(error)),
        }
    }

    fn finish(&self) -> Result<()> {
        let Some(walker) = self.tar.as_ref().map(Rewriter::walker) else { return Ok(()) };
        match self.foreign && walker.is_between_members() {
            true => Ok(()),
            false => walker.finish().map_err(broken_tar),
        }
    }

    /// What is strange about a tar that was handed on to its end.
    fn warnings(&self) -> Vec<String> {
        let Some(walker) = self.tar.as_ref().map(Rewriter::walker) else {
            let unknown = |why: &String| format!("whether the tar is whole, nobody knows: {why}");
            return self.not_followed.iter().map(unknown).collect();
        };
        let warnings = [
            (walker.ended_at().is_none(), "the tar has no end marker: whether it is whole, nobody knows"),
            (
                walker.trailing() && self.landing.is_some(),
                "bytes behind the tar's end were not unpacked, perhaps another tar: \
                 `restore --object --to-stdout | tar -x --ignore-zeros` takes all",
            ),
        ];
        warnings.into_iter().filter(|(holds, _)| *holds).map(|(_, text)| text.to_string()).collect()
    }
}

/// No member of a volume's archive lies beside it.
fn lies_within(entry: &Entry, root: Option<&str>) -> Result<()> {
    let Some(root) = root else { return Ok(()) };
    let root = root.trim_start_matches('/');
    let own = format!("{root}/_data");
    let within = |name: &str| {
        let name = name.trim_matches('/');
        name == root || name == own || name.strip_prefix(&own).is_some_and(|rest| rest.starts_with('/'))
    };
    let target = entry.link.as_deref().filter(|_| entry.kind == tar::EntryType::Link);
    match [Some(entry.path.as_str()), target].into_iter().flatten().find(|name| !within(name)) {
        Some(other) => Err(outside(&own, other)),
        None => Ok(()),
    }
}

/// An end, and no member before it.
fn is_empty_tar(front: &[u8]) -> bool {
    front.len() >= 2 * tar::BLOCK && front.iter().all(|&b| b == 0)
}

/// A refusal has its own reason.
fn broken_tar(error: Error) -> Error {
    match error.kind() {
        Kind::Refused => error,
        _ => Error::damaged("the tar is broken").because(error),
    }
}

async fn deliver(mut stream: BytesStream, guard: &mut Guard, sink: &Sink, counters: &Counters) -> Result<()> {
    while let Some(piece) = stream.next().await {
        let piece = piece?;
        let len = piece.len() as u64;
        for written in guard.pass(piece)? {
            sink.write(written).await?;
        }
        counters.source.add(len);
    }
    guard.finish()?;
    match guard.landing {
        Some(_) => write_tar_end(sink).await,
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
