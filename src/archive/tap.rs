//! The tap: cuts the source into frames, follows the tar as it passes by, and demands the proof of its end.

use super::Format;
use super::capture::Captures;
use super::check::{Check, texts};
use super::frame::Packed;
use super::hashing::Hashing;
use super::whole::{Follower, Whole};
use crate::error::{Error, Result};
use crate::stream::counters::Counters;
use crate::stream::pool::{Pool, Pooled};
use crate::stream::source::{ByteStream, Proof};
use crate::stream::warning::{Warning, WarningKind};
use crate::tar::name::PATH_MAX;
use crate::tar::{BLOCK, Entry, Walker};

/// The two buffers that a frame needs on its way.
pub struct FrameBuffers {
    /// Source bytes; always a whole frame long.
    pub plain: Vec<u8>,
    /// Bytes of `plain` that are filled.
    pub len: usize,
    /// The compressed frame.
    pub packed: Packed,
}

/// One frame of source, not yet compressed.
pub struct Frame {
    /// Its number.
    pub n: u64,
    /// Offset in the source.
    pub at: u64,
    /// Its bytes.
    pub buffers: Pooled<FrameBuffers>,
    /// Tar members that begin in it; those that have hashes come with the frame in which they end.
    pub entries: Vec<Entry>,
}

/// What the tap expects of the source.
#[derive(Debug, Clone, Default)]
pub struct SourceChecks {
    /// Whether it must be a whole tar.
    pub format: Format,
    /// Whether no byte at all is success.
    pub allow_empty: bool,
    /// What a tar's members must be.
    pub check: Check,
    /// Whether members that are not what they must be are a failure, not a warning.
    pub strict: bool,
    /// Whether the hashes of files in a tar are wanted.
    pub content: bool,
    /// Whether the zeros behind a tar's end marker are left out: they fill up the unpacker's record, and say nothing.
    pub without_padding: bool,
    /// What it must be from its first byte to its last, where that is no tar.
    pub whole: Option<Whole>,
    /// What is known to be wrong with it beforehand.
    pub warnings: Vec<String>,
    /// What is known about it beside what it says itself.
    pub notes: Vec<String>,
}

impl SourceChecks {
    /// What the members that passed by do not meet.
    fn unmet(&self) -> Vec<Warning> {
        match self.format {
            Format::Tar => self.check.unmet(),
            Format::Raw if self.check.is_empty() => Vec::new(),
            Format::Raw => {
                let text = "members are expected, but the source is no tar";
                vec![Warning::new(WarningKind::UnmetExpectation, text)]
            }
        }
    }
}

/// Reads `source` to its proved end and hands out its frames in order.
///
/// Blocks: it runs on a thread of its own. Every byte goes into exactly one frame; every frame but the last is full; a
/// source without any byte gives one empty frame. Where the source must be a tar, each frame comes with the members that
/// begin in it. What was handed out counts only once this returns: a frame says nothing about how the source ends.
///
/// # Errors
/// Whatever kept the source from proving its end: EOF alone is not success. First the source's own failure, then a tar,
/// a message or a dump that breaks off, then what `expected` asks for in vain where it is strict. A failure of `send` comes
/// back as it is.
///
/// # Examples
/// ```
/// use sealift::archive::frame::Packed;
/// use sealift::archive::tap::{FrameBuffers, SourceChecks, tap};
/// use sealift::stream::counters::Counters;
/// use sealift::stream::pool::Pool;
/// use sealift::stream::source::ByteStream;
///
/// # fn main() -> sealift::error::Result<()> {
/// let buffers = Pool::new(2, || FrameBuffers { plain: vec![0; 4], len: 0, packed: Packed::default() });
/// let mut frames = Vec::new();
/// let source = ByteStream::from_bytes("ten bytes!");
/// let proof = tap(source, SourceChecks::default(), &buffers, &Counters::default(), |frame| {
///     frames.push((frame.at, frame.buffers.plain[..frame.buffers.len].to_vec()));
///     Ok(())
/// })?;
/// assert_eq!(frames, [(0, b"ten ".to_vec()), (4, b"byte".to_vec()), (8, b"s!".to_vec())]);
/// assert!(proof.warnings.is_empty());
/// # Ok(())
/// # }
/// ```
pub fn tap(
    mut source: ByteStream,
    mut expected: SourceChecks,
    pool: &Pool<FrameBuffers>,
    counters: &Counters,
    send: impl FnMut(Frame) -> Result<()>,
) -> Result<Proof> {
    let mut members = (expected.format == Format::Tar).then(|| Members::new(expected.content));
    let mut whole = expected.whole.map(Follower::new);
    let follow = |bytes: &[u8]| {
        let Some(members) = &mut members else {
            whole.as_mut().map_or(Ok(()), |whole| whole.feed(bytes))?;
            return Ok((Vec::new(), None));
        };
        let entries = members.follow(bytes, &mut expected.check)?;
        let end =
            members.walker.ended_at().filter(|_| expected.without_padding && !members.walker.trailing());
        whole.as_mut().map_or(Ok(()), |whole| whole.feed(bytes))?;
        Ok((entries, end.map(|marker| marker + 2 * BLOCK as u64)))
    };
    let at = cut_frames(&mut source, pool, counters, follow, send)?;
    // The source's own failure comes first: it is the cause of a tar that breaks off.
    let mut proof = source.prove()?;
    if at == 0 && !expected.allow_empty {
        return Err(Error::failed("the source gave no byte at all")
            .hint("if nothing is what you expect of it, say --allow-empty"));
    }
    let too_long = members.as_ref().map_or(0, |members| members.too_long);
    if let Some(Members { walker, .. }) = members.filter(|_| at > 0) {
        walker.finish()?;
        if walker.trailing() {
            let text = "the tar is followed by other bytes; they are kept";
            proof.warnings.push(Warning::new(WarningKind::TrailingBytes, text));
        }
        // Whatever the source could not prove, the end marker did.
        proof.unproved.clear();
    }
    if too_long > 0 {
        proof.warnings.push(Warning::other(format!(
            "{too_long} names are longer than a path may be: these members are kept, but cannot be unpacked"
        )));
    }
    // A dump has an end even of an empty database.
    if let Some(whole) = whole.filter(|whole| at > 0 || matches!(whole, Follower::Dump(_))) {
        whole.finish()?;
        proof.unproved.clear();
    }
    let unmet = if at > 0 { expected.unmet() } else { Vec::new() };
    refuse_unmet(&unmet, expected.strict)?;
    proof.warnings.extend(unmet);
    proof.warnings.extend(expected.warnings.into_iter().map(Warning::other));
    proof.notes.append(&mut proof.unproved);
    proof.notes.extend(expected.notes);
    Ok(proof)
}

/// The members of a tar that passes by.
struct Members {
    walker: Walker,
    hashing: Option<Hashing>,
    captures: Captures,
    at: u64,
    /// How many have names that are too long to be unpacked.
    too_long: usize,
}

impl Members {
    fn new(with_content: bool) -> Members {
        let hashing = with_content.then(Hashing::default);
        Members { walker: Walker::new(), hashing, captures: Captures::default(), at: 0, too_long: 0 }
    }

    /// Follows the next bytes; returns the members that are in them, or end in them.
    fn follow(&mut self, bytes: &[u8], check: &mut Check) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        match self.hashing {
            None => self.walker.feed(bytes, &mut entries)?,
            Some(_) => self.walker.feed_with_content(bytes, &mut entries)?,
        }
        self.captures.observe(self.at, bytes, &entries, check);
        self.too_long += entries.iter().filter(|entry| entry.name_len() >= PATH_MAX).count();
        if let Some(hashing) = &mut self.hashing {
            entries = hashing.complete(self.at, bytes, entries);
        }
        self.at += bytes.len() as u64;
        Ok(entries)
    }
}

/// Which unmet expectations are a failure: what the source itself names and does not hold, and all where that was asked for.
fn refuse_unmet(unmet: &[Warning], strict: bool) -> Result<()> {
    let incomplete: Vec<_> =
        unmet.iter().filter(|warning| warning.kind == WarningKind::Incomplete).cloned().collect();
    if !incomplete.is_empty() {
        return Err(Error::failed("the source does not hold what it names itself")
            .because(shortened(texts(&incomplete)).join("; "))
            .hint("it ended as if it were whole: look at what makes it, and run it again"));
    }
    if strict && !unmet.is_empty() {
        return Err(Error::failed("the source does not hold what is expected")
            .because(texts(unmet).join("; "))
            .hint("look at the source; without --strict such a backup is made, with a warning"));
    }
    Ok(())
}

/// The first few, and how many more there are.
fn shortened(mut texts: Vec<String>) -> Vec<String> {
    let more = texts.len().saturating_sub(5);
    texts.truncate(5);
    texts.extend((more > 0).then(|| format!("and {more} more")));
    texts
}

/// Reads `source` to its EOF and sends its bytes on in frames, with the members that `follow` finds in each; returns how
/// many bytes there were. Where `follow` says that nothing but padding comes behind a byte, the last frame ends there.
fn cut_frames(
    source: &mut ByteStream,
    pool: &Pool<FrameBuffers>,
    counters: &Counters,
    mut follow: impl FnMut(&[u8]) -> Result<(Vec<Entry>, Option<u64>)>,
    mut send: impl FnMut(Frame) -> Result<()>,
) -> Result<u64> {
    let (mut n, mut at) = (0, 0);
    loop {
        let mut buffers = pool.get();
        let len = fill(source, &mut buffers.plain, counters)?;
        let (entries, end) = follow(&buffers.plain[..len])?;
        let ended = len < buffers.plain.len();
        let end = end.filter(|_| ended).map_or(usize::MAX, |end| end.saturating_sub(at) as usize);
        let len = len.min(end);
        buffers.len = len;
        // An empty source still becomes one frame: `zstd -d` and its kin do not read nothing.
        if len > 0 || n == 0 || !entries.is_empty() {
            send(Frame { n, at, buffers, entries })?;
        }
        (n, at) = (n + 1, at + len as u64);
        if ended {
            return Ok(at);
        }
    }
}

/// Fills `frame` unless the source ends before.
fn fill(source: &mut ByteStream, frame: &mut [u8], counters: &Counters) -> Result<usize> {
    let mut len = 0;
    while len < frame.len() {
        match source.read(&mut frame[len..])? {
            0 => break,
            read => {
                len += read;
                counters.source.add(read as u64);
            }
        }
    }
    Ok(len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::testing::{source, tar, tar_checks};
    use crate::error::Kind;

    /// What comes of a source: frames as they were sent, and how it ended.
    fn tapped(stream: ByteStream, expected: SourceChecks) -> (Vec<(u64, usize)>, Result<Proof>) {
        let buffers = || FrameBuffers { plain: vec![0; 1000], len: 0, packed: Packed::default() };
        let (pool, counters, mut frames) = (Pool::new(2, buffers), Counters::default(), Vec::new());
        let proof = tap(stream, expected, &pool, &counters, |frame| {
            frames.push((frame.at, frame.buffers.len));
            Ok(())
        });
        if proof.is_ok() {
            assert_eq!(counters.source.get(), frames.iter().map(|(_, len)| *len as u64).sum::<u64>());
        }
        (frames, proof)
    }

    fn proved(bytes: &[u8]) -> ByteStream {
        source(bytes.to_vec(), 300, Ok(Proof::default()))
    }

    #[test]
    fn an_empty_source_is_one_empty_frame_and_a_failure_unless_allowed() {
        let (frames, ended) = tapped(proved(b""), SourceChecks::default());
        assert_eq!(frames, [(0, 0)]);
        assert!(ended.unwrap_err().hint_text().unwrap().contains("--allow-empty"));
        let allowed = SourceChecks { allow_empty: true, ..SourceChecks::default() };
        assert!(tapped(proved(b""), allowed.clone()).1.is_ok());
        assert!(tapped(proved(b""), SourceChecks { format: Format::Tar, ..allowed }).1.is_ok());
    }

    #[test]
    fn frames_are_full_but_for_the_last() {
        assert_eq!(tapped(proved(&[7; 2000]), SourceChecks::default()).0, [(0, 1000), (1000, 1000)]);
        let (frames, _) = tapped(proved(&[7; 2001]), SourceChecks::default());
        assert_eq!(frames, [(0, 1000), (1000, 1000), (2000, 1)]);
    }

    #[test]
    fn the_sources_own_failure_comes_before_a_tar_that_breaks_off() {
        let failed = || Err(Error::failed("exit code 2"));
        let (_, ended) = tapped(source(tar()[..1000].to_vec(), 300, failed()), tar_checks());
        assert_eq!(ended.unwrap_err().to_string(), "exit code 2");
        let (_, ended) = tapped(source(tar(), 300, failed()), tar_checks());
        assert_eq!(ended.unwrap_err().to_string(), "exit code 2", "a whole tar is no excuse");
    }

    #[test]
    fn a_tar_without_its_end_marker_is_a_failure_though_the_source_is_content() {
        let tar = tar();
        let (_, ended) = tapped(proved(&tar[..tar.len() - 2 * BLOCK]), tar_checks());
        assert!(ended.unwrap_err().to_string().contains("end marker"));
        let (_, ended) =
            tapped(proved(b"no tar at all, but long enough for a block".repeat(20).as_slice()), tar_checks());
        assert!(ended.is_err());
    }

    #[test]
    fn an_end_marker_proves_what_the_source_could_not() {
        let unproved = Proof { unproved: vec!["the end is not proved".into()], ..Proof::default() };
        let (_, ended) = tapped(source(tar(), 300, Ok(unproved.clone())), tar_checks());
        assert_eq!(ended.unwrap().notes.len(), 0);
        let (_, ended) = tapped(source(tar(), 300, Ok(unproved)), SourceChecks::default());
        assert_eq!(ended.unwrap().notes.len(), 1);
    }

    #[test]
    fn padding_behind_the_end_marker_is_left_out_where_that_is_asked_for() {
        let bytes = |padding: usize, without_padding| {
            let padded = [tar(), vec![0; padding]].concat();
            let buffers = || FrameBuffers { plain: vec![0; 1000], len: 0, packed: Packed::default() };
            let pool = Pool::new(2, buffers);
            let checks = SourceChecks { without_padding, ..tar_checks() };
            let mut sent = Vec::new();
            tap(proved(&padded), checks, &pool, &Counters::default(), |frame| {
                sent.extend_from_slice(&frame.buffers.plain[..frame.buffers.len]);
                Ok(())
            })
            .unwrap();
            sent
        };
        for padding in 0..1000 {
            let (kept, cut) = (bytes(padding, false), bytes(padding, true));
            assert_eq!(kept.len(), tar().len() + padding);
            // What was sent on before the end was seen stays.
            let sent_on = kept.len() / 1000 * 1000;
            assert_eq!(cut.len(), tar().len().max(sent_on), "{padding}");
            assert!(cut.starts_with(&tar()), "{padding}");
        }
    }

    #[test]
    fn what_follows_a_tar_is_kept_and_warned_of() {
        let (frames, ended) = tapped(proved(&[tar(), b"more".to_vec()].concat()), tar_checks());
        assert_eq!(frames.iter().map(|(_, len)| len).sum::<usize>(), tar().len() + 4);
        assert_eq!(ended.unwrap().warnings.len(), 1);
        let (_, ended) = tapped(proved(&[tar(), vec![0; 5000]].concat()), tar_checks());
        assert_eq!(ended.unwrap().warnings.len(), 0, "padding is no news");
    }

    #[test]
    fn unmet_expectations_are_warnings_and_with_strict_a_failure() {
        let expecting = |globs: &[&str], strict| {
            let globs: Vec<_> = globs.iter().map(|glob| glob.to_string()).collect();
            SourceChecks { check: Check::new(&globs, 2).unwrap(), strict, ..tar_checks() }
        };
        assert_eq!(tapped(proved(&tar()), expecting(&["etc/hosts"], true)).1.unwrap().warnings.len(), 0);
        assert_eq!(tapped(proved(&tar()), expecting(&["etc/shadow"], false)).1.unwrap().warnings.len(), 1);
        let error = tapped(proved(&tar()), expecting(&["etc/shadow"], true)).1.unwrap_err();
        assert!(error.kind() == Kind::Failed && error.to_string().contains("etc/shadow"), "{error}");
        let raw = SourceChecks { format: Format::Raw, ..expecting(&[], false) };
        assert!(tapped(proved(&tar()), raw).1.unwrap().warnings[0].to_string().contains("no tar"));
    }

    #[test]
    fn an_openpgp_message_must_be_whole() {
        let message = [&[0xd2, 200 - 8][..], &[7; 184], &[0xd3, 20], &[7; 20]].concat();
        let checks = SourceChecks { whole: Some(Whole::OpenPgp), ..SourceChecks::default() };
        let sound = [&[0xd2, 100][..], &[7; 100]].concat();
        assert!(tapped(proved(&sound), checks.clone()).1.is_ok());
        assert!(tapped(proved(&sound[..99]), checks.clone()).1.is_err());
        assert!(tapped(proved(&message[..3]), checks).1.is_err());
    }

    #[test]
    fn whoever_takes_no_more_frames_ends_it() {
        let buffers = || FrameBuffers { plain: vec![0; 10], len: 0, packed: Packed::default() };
        let mut sent = 0;
        let ended = tap(
            proved(&[7; 100]),
            SourceChecks::default(),
            &Pool::new(1, buffers),
            &Counters::default(),
            |_| {
                sent += 1;
                if sent == 3 { Err(Error::disconnected()) } else { Ok(()) }
            },
        );
        assert_eq!((ended.unwrap_err().kind(), sent), (Kind::Disconnected, 3));
    }
}
