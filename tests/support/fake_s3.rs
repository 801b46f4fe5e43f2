//! An S3 server that only counts and drops parts, for what a real one has no room for; and one that fails on purpose,
//! for what a real one cannot be made to show.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
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
}

#[derive(Default)]
struct State {
    /// Bytes of objects and of uploads; small objects are kept.
    objects: HashMap<String, (u64, Vec<u8>)>,
    uploads: HashMap<String, u64>,
    tried: HashMap<String, u32>,
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
        let (mut len, mut conditional) = (0, false);
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).ok().filter(|&n| n > 0)?;
            if header.trim().is_empty() {
                break;
            }
            conditional |= header.to_ascii_lowercase().starts_with("if-none-match:");
            if let Some((name, value)) = header.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                len = value.trim().parse().ok()?;
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
        let (status, etag, text) = answer(&method, path, query, len, body, fault, shared)?;
        let length = match method.as_str() {
            "HEAD" => text.parse().unwrap_or(0),
            _ => text.len(),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nETag: \"{etag}\"\r\nLast-Modified: Sun, 22 Nov 2026 02:00:00 GMT\r\n\r\n"
        );
        writer.write_all(head.as_bytes()).ok()?;
        if method != "HEAD" {
            writer.write_all(text.as_bytes()).ok()?;
        }
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
) -> Option<(&'static str, String, String)> {
    let mut state = state.lock().ok()?;
    let ok = |text: String| Some(("200 OK", "e".to_string(), text));
    let upload =
        query.split('&').find_map(|field| field.strip_prefix("uploadId=")).unwrap_or_default().to_string();
    let is_manifest = path.ends_with(".manifest.json");
    if fault == Fault::SilentAfterManifest && state.objects.keys().any(|key| key.ends_with(".manifest.json"))
    {
        return None;
    }
    match method {
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
        "GET" | "HEAD" if fault == Fault::NoReads && !query.contains("list-type=2") => {
            Some(("403 Forbidden", "e".into(), "<Error><Code>AccessDenied</Code></Error>".into()))
        }
        "PUT" if is_manifest && fault == Fault::SwallowedManifest => ok(String::new()),
        "PUT" if is_manifest && fault == Fault::RefuseManifest => {
            Some(("403 Forbidden", "e".into(), "<Error><Code>AccessDenied</Code></Error>".into()))
        }
        "PUT" => {
            if state.objects.contains_key(path) {
                return Some(("412 Precondition Failed", "e".into(), String::new()));
            }
            state.objects.insert(path.to_string(), (len, body));
            if is_manifest && matches!(fault, Fault::LostManifestAnswer | Fault::SilentAfterManifest) {
                return None;
            }
            ok(String::new())
        }
        "DELETE" if !upload.is_empty() => {
            state.uploads.remove(&upload);
            Some(("204 No Content", "e".into(), String::new()))
        }
        "DELETE" => {
            state.objects.remove(path);
            Some(("204 No Content", "e".into(), String::new()))
        }
        _ if query.contains("list-type=2") => ok(list(path, query, fault, &state.objects)),
        _ => match state.objects.get(path) {
            Some((size, _)) if method == "HEAD" => ok(size.to_string()),
            Some((_, bytes)) => ok(String::from_utf8_lossy(bytes).into_owned()),
            None => Some(("404 Not Found", "e".into(), String::new())),
        },
    }
}

/// One page, without folders: nobody asks for those.
fn list(path: &str, query: &str, fault: Fault, objects: &HashMap<String, (u64, Vec<u8>)>) -> String {
    let value = |name: &str| query.split('&').find_map(|field| field.strip_prefix(&format!("{name}=")[..]));
    let prefix = format!("{}/{}", path.trim_end_matches('/'), value("prefix").unwrap_or_default());
    let prefix = prefix.replace("%2F", "/");
    let mut page = String::from("<ListBucketResult>");
    for (key, (size, _)) in objects.iter().filter(|(key, _)| key.starts_with(&prefix)) {
        let key = key.trim_start_matches('/').split_once('/').map_or("", |(_, key)| key);
        page += &format!(
            "<Contents><Key>{key}</Key><LastModified>2026-11-22T02:00:00.000Z</LastModified>\
             <ETag>\"e\"</ETag><Size>{size}</Size></Contents>"
        );
    }
    match fault {
        Fault::HtmlList => "<html><body>log in</body></html>".into(),
        Fault::EndlessList => format!(
            "{page}<IsTruncated>true</IsTruncated><NextContinuationToken>again</NextContinuationToken></ListBucketResult>"
        ),
        _ => format!("{page}<IsTruncated>false</IsTruncated></ListBucketResult>"),
    }
}
