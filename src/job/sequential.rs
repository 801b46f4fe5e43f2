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
use super::restore::{RestoreRequest, RestoreSource, outside};
use super::stored::{OpenRequest, StoredArchive};
use crate::archive::Format;
use crate::archive::sequential::{BytesStream, Layer, peek, unwrap};
use crate::error::{Error, Result};
use crate::report::{Reporter, human_bytes, printable};
use crate::sink::target::{self, RestoreTarget};
use crate::store::download::Object;
use crate::store::manifest::{self, Manifest};
use crate::stream::counters::Counters;
use crate::stream::sink::Sink;
use crate::tar::select::unsafe_member;
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
    let counters = Arc::new(Counters::default());
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
    let guard = Guard::new(&opened, &request.target, request.allow_devices)?;
    let original = |_: &str| guard.original_volume();
    let sink = target::open(request.target, original, request.overwrite, ui).await?;
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
    async fn open(request: &RestoreRequest, counters: &Arc<Counters>, ui: &Reporter) -> Result<Front> {
        let open = &request.open;
        let (name, object, expected, stored, raw) = match &request.source {
            RestoreSource::Archive(archive) | RestoreSource::Front(archive) => {
                let found = StoredArchive::find(&open.store, archive, ui).await?;
                let object = found.archive_object().await?;
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
        let bytes = counted_stream(&object, stored, Arc::clone(counters));
        let (layers, stream) = unwrap(bytes, expected.as_deref(), &passphrase_for(&name, open)).await?;
        if !layers.contains(&Layer::OpenPgp) && !open.no_encrypt {
            return Err(Error::damaged(format!("{name} is not encrypted")).hint(
                "whoever can write to the store can have put it there; if it is yours, say --no-encrypt",
            ));
        }
        let (front, stream) = peek(stream, FRONT_LEN).await?;
        Ok(Front { name, layers, raw, front, stream })
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
        let (layers, stream) = unwrap(bytes, None, &passphrase_for(&name, &request.open)).await?;
        let (front, stream) = peek(stream, FRONT_LEN).await?;
        Ok(Front { name, layers, raw: false, front, stream })
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
    fn new(opened: &Front, target: &RestoreTarget, allow_devices: bool) -> Result<Self> {
        let (unpacks, wants_tar) = (target.unpacks(), target.needs_tar());
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
            Some(other) => Err(outside(&own, other)),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar::EntryType;

    /// A tar of empty files, with its end.
    fn tar_of(names: &[&str]) -> Bytes {
        let mut bytes = Vec::new();
        for name in names {
            let mut block = [0; tar::BLOCK];
            block[..name.len()].copy_from_slice(name.as_bytes());
            for (at, text) in [
                (100, "0000644"),
                (108, "0000000"),
                (116, "0000000"),
                (124, "00000000000"),
                (136, "00000000000"),
            ] {
                block[at..at + text.len()].copy_from_slice(text.as_bytes());
            }
            block[156] = b'0';
            block[257..265].copy_from_slice(b"ustar\x0000");
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
            block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
            bytes.extend(block);
        }
        bytes.extend([0; 2 * tar::BLOCK]);
        bytes.into()
    }

    fn front(front: Bytes, raw: bool) -> Front {
        let stream: BytesStream = Box::pin(futures_util::stream::iter([Ok(front.clone())]));
        Front { name: "x".into(), layers: Vec::new(), raw, front, stream }
    }

    fn guard(bytes: &Bytes, target: &RestoreTarget) -> Result<Guard> {
        Guard::new(&front(bytes.clone(), false), target, false)
    }

    fn into_folder() -> RestoreTarget {
        RestoreTarget::Path("x".into())
    }

    #[test]
    fn a_volume_lies_below_its_name_or_below_the_path_that_was_packed() {
        for (first, volume) in [
            ("vol/_data/a", "vol"),
            ("vol/_data", "vol"),
            ("vol", "vol"),
            ("./vol", "./vol"),
            ("var/lib/docker/volumes/vol/_data/a", "var/lib/docker/volumes/vol"),
            ("var/lib/docker/volumes/vol", "var/lib/docker/volumes/vol"),
        ] {
            let guard = guard(&tar_of(&[first]), &RestoreTarget::Volume("v".into())).unwrap();
            assert_eq!(guard.original_volume().unwrap(), volume, "{first}");
        }
    }

    #[test]
    fn an_archive_of_no_volume_is_told_from_one() {
        for first in ["etc/passwd", "./", "."] {
            let guard = guard(&tar_of(&[first]), &RestoreTarget::Volume("v".into())).unwrap();
            assert_eq!(guard.original_volume().unwrap_err().kind().exit_code(), 2, "{first}");
        }
    }

    #[test]
    fn members_outside_of_the_target_stop_the_restore() {
        let bytes = tar_of(&["a", "../b"]);
        assert_eq!(guard(&bytes, &into_folder()).unwrap().look(&bytes).unwrap_err().kind().exit_code(), 13);
        assert!(guard(&bytes, &RestoreTarget::Stdout).unwrap().look(&bytes).is_ok());
    }

    #[test]
    fn members_of_another_volume_stop_the_restore() {
        let bytes = tar_of(&["vol/_data/a", "vol/_datax/b"]);
        let mut guard = guard(&bytes, &RestoreTarget::Volume("v".into())).unwrap();
        guard.original_volume().unwrap();
        let error = guard.look(&bytes).unwrap_err();
        assert!(error.to_string().contains("outside of vol/_data: vol/_datax/b"), "{error}");
    }

    #[test]
    fn a_link_out_of_the_volume_stops_the_restore() {
        let bytes = tar_of(&["vol/_data/a"]);
        let guard = guard(&bytes, &RestoreTarget::Volume("v".into())).unwrap();
        guard.original_volume().unwrap();
        let mut entry = guard.first.clone().unwrap();
        assert!(guard.allow(&entry).is_ok());
        (entry.kind, entry.link) = (EntryType::Link, Some("other/_data/b".into()));
        assert_eq!(guard.allow(&entry).unwrap_err().kind().exit_code(), 13);
        entry.link = Some("vol/_data/b".into());
        assert!(guard.allow(&entry).is_ok());
    }

    #[test]
    fn a_tar_that_was_cut_is_broken() {
        let bytes = tar_of(&["a"]);
        let mut guard = guard(&bytes, &RestoreTarget::Stdout).unwrap();
        guard.look(&bytes[..tar::BLOCK]).unwrap();
        assert_eq!(guard.finish().unwrap_err().kind().exit_code(), 13);
        guard.look(&bytes[tar::BLOCK..]).unwrap();
        assert!(guard.finish().is_ok());
    }

    #[test]
    fn bytes_that_are_no_tar_go_where_none_is_needed() {
        let bytes = Bytes::from_static(b"no tar");
        for target in [into_folder(), RestoreTarget::Image, RestoreTarget::Volume("v".into())] {
            assert_eq!(guard(&bytes, &target).err().unwrap().kind().exit_code(), 2, "{target:?}");
        }
        let mut guard = guard(&bytes, &RestoreTarget::Stdout).unwrap();
        assert!(guard.look(&bytes).is_ok() && guard.finish().is_ok());
    }

    #[test]
    fn what_was_sealed_as_bytes_need_not_end_as_a_tar_does() {
        let bytes = tar_of(&["a"]);
        let mut guard = Guard::new(&front(bytes.clone(), true), &RestoreTarget::Stdout, false).unwrap();
        guard.look(&bytes[..100]).unwrap();
        assert!(guard.finish().is_ok());
    }
}
