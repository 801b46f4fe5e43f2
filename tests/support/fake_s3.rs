//! An S3 server that only counts and drops parts, for what a real one has no room for; and one that fails on purpose,
//! for what a real one cannot be made to show.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// What the server does besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: every part is taken.
    None,
    /// Every part's first try is answered with 503 SlowDown.
    SlowDownOnce,
    /// Parts are answered with 503 for ever.
    SlowDownForEver,
    /// Complete is answered with 200 and an error in the body, as S3 may do.
    ErrorInsideOk,
    /// Complete works, but its answer is a closed connection.
    LostAnswer,
    /// The manifest's PUT works, but its answer is a closed connection.
    LostManifestAnswer,
    /// The manifest's PUT works, but from then on every connection is closed.
    SilentAfterManifest,
    /// The manifest's PUT is refused.
    RefuseManifest,
    /// The connection of the manifest's PUT is closed; what it sent arrives two seconds later.
    LateManifest,
    /// The manifest's PUT is answered, and nothing is stored.
    SwallowedManifest,
    /// Conditional writes are not known.
    NoConditionalPut,
    /// Objects may be written and listed, not read.
    NoReads,
    /// A list is answered with a web page.
    HtmlList,
    /// Every page of a list leads to itself.
    EndlessList,
    /// The middle byte of one object's answer is flipped on its way: the one that is the n-th to be asked for.
    FlippedGet(u64),
    /// That of every answer with bytes of an archive.
    FlippedArchive,
    /// Nothing may be written.
    NoWrites,
    /// Nothing may be deleted.
    NoDeletes,
    /// Conditional writes are taken for others: what is there is replaced.
    Replaces,
    /// Its clock is of a day long ago.
    OldClock,
    /// Objects are deleted after a month, versions are kept, and there is a lock.
    Expires,
}

#[derive(Default)]
struct State {
    /// Bytes of objects and of uploads; small objects are kept.
    objects: BTreeMap<String, (u64, Vec<u8>)>,
    uploads: HashMap<String, u64>,
    tried: HashMap<String, u32>,
    /// Objects whose bytes were asked for so far.
    gets: u64,
}

pub struct FakeS3 {
    pub endpoint: String,
    state: Arc<Mutex<State>>,
    pub dropped: Arc<AtomicU64>,
}

impl FakeS3 {
    pub fn start(fault: Fault) -> FakeS3 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let (state, dropped) = (Arc::new(Mutex::new(State::default())), Arc::new(AtomicU64::new(0)));
        let sink = FakeS3 { endpoint, state: Arc::clone(&state), dropped: Arc::clone(&dropped) };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (state, dropped) = (Arc::clone(&state), Arc::clone(&dropped));
                std::thread::spawn(move || serve(stream, fault, &state, &dropped));
            }
        });
        sink
    }

    pub fn objects(&self) -> Vec<String> {
        let mut names: Vec<_> = self.state.lock().expect("state").objects.keys().cloned().collect();
        names.sort();
        names
    }

    /// Puts an empty object there, by bucket and key: `/b/team/x`.
    pub fn plant(&self, path: &str) {
        self.state.lock().expect("state").objects.insert(path.into(), (0, Vec::new()));
    }

    /// Puts the files of a folder there, below `/b/`.
    pub fn load(&self, folder: &std::path::Path) {
        let mut state = self.state.lock().expect("state");
        let folders = std::fs::read_dir(folder).expect("a folder").flatten();
        for file in folders.flat_map(|entry| std::fs::read_dir(entry.path()).expect("a job")).flatten() {
            let path = file.path();
            let bytes = std::fs::read(&path).expect("a file");
            let key = path.strip_prefix(folder).expect("below it").display().to_string();
            state.objects.insert(format!("/b/{key}"), (bytes.len() as u64, bytes));
        }
    }

    /// How many times an object's bytes were asked for.
    pub fn gets(&self) -> u64 {
        self.state.lock().expect("state").gets
    }

    pub fn uploads(&self) -> usize {
        self.state.lock().expect("state").uploads.len()
    }
}

fn serve(stream: TcpStream, fault: Fault, shared: &Mutex<State>, dropped: &AtomicU64) -> Option<()> {
    let mut reader = BufReader::with_capacity(1 << 18, stream.try_clone().ok()?);
    let mut writer = stream;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|&n| n > 0)?;
        let mut words = line.split(' ');
        let (method, target) = (words.next()?.to_string(), words.next()?.to_string());
        let (mut len, mut conditional, mut range) = (0, false, None);
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).ok().filter(|&n| n > 0)?;
            if header.trim().is_empty() {
                break;
            }
            conditional |= header.to_ascii_lowercase().starts_with("if-none-match:");
            match header.split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    len = value.trim().parse().ok()?;
                }
                Some((name, value)) if name.eq_ignore_ascii_case("range") => {
                    let (from, to) = value.trim().strip_prefix("bytes=")?.split_once('-')?;
                    range = Some(from.parse::<usize>().ok()?..to.parse::<usize>().ok()? + 1);
                }
                _ => {}
            }
        }
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let mut body = Vec::new();
        let part = query.contains("partNumber=");
        let mut left: u64 = len;
        let mut buffer = vec![0; 1 << 18];
        while left > 0 {
            let want = left.min(buffer.len() as u64) as usize;
            let got = reader.read(&mut buffer[..want]).ok().filter(|&n| n > 0)?;
            if !part {
                body.extend_from_slice(&buffer[..got]);
            }
            left -= got as u64;
        }
        dropped.fetch_add(len, Ordering::Relaxed);
        if conditional && fault == Fault::NoConditionalPut {
            let text = "<Error><Code>NotImplemented</Code></Error>";
            let head = format!("HTTP/1.1 501 Not Implemented\r\nContent-Length: {}\r\n\r\n", text.len());
            writer.write_all(format!("{head}{text}").as_bytes()).ok()?;
            continue;
        }
        if fault == Fault::LateManifest && method == "PUT" && path.ends_with(".manifest.json") {
            let mut state = shared.lock().ok()?;
            let tried = state.tried.entry("late manifest".into()).or_insert(0);
            *tried += 1;
            if *tried == 1 {
                drop(state);
                drop((reader, writer));
                std::thread::sleep(std::time::Duration::from_secs(2));
                return answer(&method, path, query, len, body, fault, shared).map(drop);
            }
        }
        let (mut status, etag, mut text) = answer(&method, path, query, len, body, fault, shared)?;
        let length = match method.as_str() {
            "HEAD" => String::from_utf8_lossy(&text).parse().unwrap_or(0),
            _ => text.len(),
        };
        let mut more = String::new();
        if let Some(range) = range.filter(|range| method == "GET" && range.end <= length) {
            more = format!("Content-Range: bytes {}-{}/{length}\r\n", range.start, range.end - 1);
            (status, text) = ("206 Partial Content", text[range].to_vec());
        }
        let length = if method == "HEAD" { length } else { text.len() };
        if method == "GET" && !query.contains("list-type=2") {
            flip(&mut text, path, fault, shared);
        }
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nETag: \"{etag}\"\r\n{more}Last-Modified: Sun, 22 Nov 2026 02:00:00 GMT\r\n\r\n"
        );
        writer.write_all(head.as_bytes()).ok()?;
        if method != "HEAD" {
            writer.write_all(&text).ok()?;
        }
    }
}

/// Flips what is to be damaged on its way.
fn flip(bytes: &mut [u8], path: &str, fault: Fault, shared: &Mutex<State>) {
    let mut state = shared.lock().expect("state");
    state.gets += 1;
    let is_hit = match fault {
        Fault::FlippedGet(n) => state.gets == n,
        Fault::FlippedArchive => !path.ends_with(".json") && !path.contains(".catalog"),
        _ => false,
    };
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle).filter(|_| is_hit) {
        *byte ^= 1;
    }
}

const SLOW: &str = "<Error><Code>SlowDown</Code><Message>reduce your rate</Message></Error>";

/// Status, ETag and body; nothing closes the connection. A HEAD's "body" is the size.
fn answer(
    method: &str,
    path: &str,
    query: &str,
    len: u64,
    body: Vec<u8>,
    fault: Fault,
    state: &Mutex<State>,
) -> Option<(&'static str, String, Vec<u8>)> {
    let mut state = state.lock().ok()?;
    let ok = |text: String| Some(("200 OK", "e".to_string(), text.into_bytes()));
    let upload =
        query.split('&').find_map(|field| field.strip_prefix("uploadId=")).unwrap_or_default().to_string();
    let is_manifest = path.ends_with(".manifest.json");
    if fault == Fault::SilentAfterManifest && state.objects.keys().any(|key| key.ends_with(".manifest.json"))
    {
        return None;
    }
    match method {
        "POST" if query.starts_with("delete") && fault == Fault::NoDeletes => {
            Some(("403 Forbidden", "e".into(), "<Error><Code>AccessDenied</Code></Error>".into()))
        }
        "POST" if query.starts_with("delete") => {
            let (bucket, _) =
                path.trim_start_matches('/').split_once('/').unwrap_or((path.trim_matches('/'), ""));
            for key in super::xml::all(&body, "Key") {
                state.objects.remove(&format!("/{bucket}/{key}"));
            }
            ok("<DeleteResult></DeleteResult>".into())
        }
        "POST" if upload.is_empty() => {
            let id = format!("u{}", state.tried.len() + state.uploads.len());
            state.uploads.insert(id.clone(), 0);
            state.tried.insert(format!("begun {id}"), 1);
            ok(format!(
                "<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>k</Key><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
            ))
        }
        "PUT" if !upload.is_empty() => {
            let tries = state.tried.entry(query.to_string()).or_insert(0);
            *tries += 1;
            if fault == Fault::SlowDownForEver || (fault == Fault::SlowDownOnce && *tries == 1) {
                return Some(("503 Slow Down", "e".into(), SLOW.into()));
            }
            *state.uploads.get_mut(&upload)? += len;
            ok(String::new())
        }
        "POST" => {
            if fault == Fault::ErrorInsideOk {
                return ok("<Error><Code>InternalError</Code><Message>try again</Message></Error>".into());
            }
            // Whoever asks again after a lost answer hears that there is no such upload.
            let Some(size) = state.uploads.remove(&upload) else {
                return Some((
                    "404 Not Found",
                    "e".into(),
                    "<Error><Code>NoSuchUpload</Code></Error>".into(),
                ));
            };
            state.objects.insert(path.to_string(), (size, Vec::new()));
            if fault == Fault::LostAnswer {
                return None;
            }
            ok("<CompleteMultipartUploadResult><ETag>\"e\"</ETag></CompleteMultipartUploadResult>".into())
        }
        "PUT" if fault == Fault::NoWrites => {
            Some(("403 Forbidden", "e".into(), "<Error><Code>AccessDenied</Code></Error>".into()))
        }
        "GET" if fault == Fault::Expires && settings(query).is_some() => ok(settings(query)?.into()),
        "GET" | "HEAD" if fault == Fault::NoReads && !query.contains("list-type=2") => {
            Some(("403 Forbidden", "e".into(), "<Error><Code>AccessDenied</Code></Error>".into()))
        }
        "PUT" if is_manifest && fault == Fault::SwallowedManifest => ok(String::new()),
        "PUT" if is_manifest && fault == Fault::RefuseManifest => {
            Some(("403 Forbidden", "e".into(), "<Error><Code>AccessDenied</Code></Error>".into()))
        }
        "PUT" => {
            if state.objects.contains_key(path) && fault != Fault::Replaces {
                return Some(("412 Precondition Failed", "e".into(), Vec::new()));
            }
            state.objects.insert(path.to_string(), (len, body));
            if is_manifest && matches!(fault, Fault::LostManifestAnswer | Fault::SilentAfterManifest) {
                return None;
            }
            ok(String::new())
        }
        "DELETE" if !upload.is_empty() => {
            state.uploads.remove(&upload);
            Some(("204 No Content", "e".into(), Vec::new()))
        }
        "DELETE" => {
            state.objects.remove(path);
            Some(("204 No Content", "e".into(), Vec::new()))
        }
        _ if query.contains("list-type=2") => ok(list(path, query, fault, &state)),
        _ => match state.objects.get(path) {
            Some((size, _)) if method == "HEAD" => ok(size.to_string()),
            Some((_, bytes)) => Some(("200 OK", "e".to_string(), bytes.clone())),
            None => Some(("404 Not Found", "e".into(), Vec::new())),
        },
    }
}

/// What a bucket answers that is asked about itself.
fn settings(query: &str) -> Option<&'static str> {
    match query.trim_end_matches('=') {
        "versioning" => Some("<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"),
        "object-lock" => Some(
            "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>\
             <Mode>COMPLIANCE</Mode><Days>14</Days></DefaultRetention></Rule></ObjectLockConfiguration>",
        ),
        "lifecycle" => Some(
            "<LifecycleConfiguration><Rule><ID>monthly</ID><Filter><Prefix></Prefix></Filter>\
             <Status>Enabled</Status><Expiration><Days>30</Days></Expiration></Rule></LifecycleConfiguration>",
        ),
        _ => None,
    }
}

/// Names on a page of a list.
const PAGE: usize = 1000;

/// The objects below the prefix that a query names, a page of them; with a delimiter only those directly there.
fn list(path: &str, query: &str, fault: Fault, state: &State) -> String {
    if fault == Fault::HtmlList {
        return "<html><body>log in</body></html>".into();
    }
    let field = |name: &str| query.split('&').find_map(|field| field.strip_prefix(name)).unwrap_or_default();
    let (prefix, deep) = (decoded(field("prefix=")), field("delimiter=").is_empty());
    let below = format!("{}/{prefix}", path.trim_end_matches('/'));
    // A token is the last key of the page before.
    let after = (Bound::Excluded(decoded(field("continuation-token="))), Bound::Unbounded);
    let is_listed = |key: &str| key.strip_prefix(&below).is_some_and(|rest| deep || !rest.contains('/'));
    let mut listed = state.objects.range(after).filter(|(key, _)| is_listed(&decoded(key)));
    let page: Vec<_> = listed.by_ref().take(PAGE).collect();
    let at = match fault {
        Fault::OldClock => "2020-11-22T02:00:00.000Z".to_string(),
        _ => jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.000Z").to_string(),
    };
    let contents = page.iter().map(|(key, (size, _))| {
        let key = decoded(key).splitn(3, '/').nth(2).unwrap_or_default().replace('&', "&amp;");
        format!(
            "<Contents><Key>{key}</Key><LastModified>{at}</LastModified><ETag>\"e\"</ETag><Size>{size}</Size></Contents>"
        )
    });
    let contents: String = contents.collect();
    let next = match fault {
        Fault::EndlessList => Some("again".to_string()),
        _ => page.last().filter(|_| listed.next().is_some()).map(|(key, _)| key.replace('&', "&amp;")),
    };
    let next = next.map(|next| format!("<NextContinuationToken>{next}</NextContinuationToken>"));
    let (is_truncated, next) = (next.is_some(), next.unwrap_or_default());
    format!("<ListBucketResult>{contents}<IsTruncated>{is_truncated}</IsTruncated>{next}</ListBucketResult>")
}

fn decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, tail @ ..] = rest {
        let code = tail.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        let (byte, used) =
            if *first == b'%' { code.map_or((b'%', 0), |code| (code, 2)) } else { (*first, 0) };
        bytes.push(byte);
        rest = &tail[used..];
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
