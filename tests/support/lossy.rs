//! A way to a real server on which chosen answers get lost.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What becomes of the requests that are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The first of each target is done, but its connection is closed before the answer.
    FirstAnswer,
    /// None reaches the server: the answer is 503.
    Busy,
}

pub struct LossyWay {
    pub endpoint: String,
    /// `METHOD TARGET` of every request, in the order in which they came.
    pub seen: Arc<Mutex<Vec<String>>>,
}

impl LossyWay {
    /// To the server at `endpoint`, `http://HOST:PORT/PATH`; requests whose target holds `chosen` meet with the loss.
    pub fn start(endpoint: &str, chosen: &'static str, loss: Loss) -> LossyWay {
        let rest = endpoint.strip_prefix("http://").expect("a server without TLS");
        let (server, path) = rest.split_once('/').unwrap_or((rest, ""));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let endpoint = format!("http://{}/{path}", listener.local_addr().expect("an address"));
        let endpoint = endpoint.trim_end_matches('/').to_string();
        let (seen, lost) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<Mutex<HashSet<String>>>::default());
        let way = LossyWay { endpoint, seen: Arc::clone(&seen) };
        let server = server.to_string();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (server, seen, lost) = (server.clone(), Arc::clone(&seen), Arc::clone(&lost));
                std::thread::spawn(move || {
                    let choose = |target: &str| {
                        seen.lock().expect("requests").push(target.into());
                        let is_first = || lost.lock().expect("targets").insert(target.into());
                        target.contains(chosen) && (loss == Loss::Busy || is_first())
                    };
                    relay(&stream, &server, loss, choose)
                });
            }
        });
        way
    }
}

/// Hands one request on, and its answer back; a connection has one.
fn relay(client: &TcpStream, server: &str, loss: Loss, choose: impl Fn(&str) -> bool) -> Option<()> {
    let (mut reader, mut client) = (BufReader::new(client), client);
    let (mut head, mut len) = (String::new(), 0);
    loop {
        let start = head.len();
        reader.read_line(&mut head).ok().filter(|&n| n > 0)?;
        match head[start..].split_once(':') {
            _ if head[start..].trim().is_empty() => break,
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                len = value.trim().parse().ok()?;
            }
            _ => {}
        }
    }
    let mut body = vec![0; len];
    reader.read_exact(&mut body).ok()?;
    let (line, headers) = head.split_once("\r\n")?;
    let is_chosen = choose(line.strip_suffix(" HTTP/1.1")?);
    if is_chosen && loss == Loss::Busy {
        let answer = "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        return client.write_all(answer.as_bytes()).ok();
    }
    let mut back = TcpStream::connect(server).ok()?;
    back.write_all(format!("{line}\r\nConnection: close\r\n{headers}").as_bytes()).ok()?;
    back.write_all(&body).ok()?;
    let mut answer = Vec::new();
    back.read_to_end(&mut answer).ok()?;
    if is_chosen { None } else { client.write_all(&answer).ok() }
}
