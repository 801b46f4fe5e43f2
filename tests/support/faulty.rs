//! An engine, which refuses some requests: its own answer is that of an engine with a defect.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::unique;

/// An engine behind a socket of its own.
pub struct FaultyEngine {
    socket: String,
    refused: Arc<AtomicU32>,
}

impl FaultyEngine {
    /// Answers 500 to the first `times` requests to POST to a path that ends like this.
    pub fn new(host: &str, path: &str, times: u32) -> FaultyEngine {
        let base = std::env::var("SEALIFT_TEST_DIR").expect("run the tests by tests/run");
        let socket = format!("{base}/{}", unique("faulty"));
        let listener = UnixListener::bind(&socket).expect("a socket");
        let engine = host.replace("unix://", "");
        let (refused, path) = (Arc::new(AtomicU32::new(0)), format!("{path} "));
        let counted = Arc::clone(&refused);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (engine, path, refused) = (engine.clone(), path.clone(), Arc::clone(&counted));
                std::thread::spawn(move || pass(client, &engine, &path, times, &refused));
            }
        });
        FaultyEngine { socket, refused }
    }

    /// Its `DOCKER_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket)
    }

    /// How many requests it has refused.
    pub fn refused(&self) -> u32 {
        self.refused.load(Ordering::SeqCst)
    }
}

/// Passes one request on, or refuses it. A connection has one request.
fn pass(mut client: UnixStream, engine: &str, path: &str, times: u32, refused: &AtomicU32) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match client.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let (line, rest) = head.split_once("\r\n").expect("a request");
    if line.starts_with("POST ") && line.contains(path) && refused.load(Ordering::SeqCst) < times {
        refused.fetch_add(1, Ordering::SeqCst);
        let body = r#"{"message":"no such shim"}"#;
        let _ = write!(
            client,
            "HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            body.len()
        );
        return;
    }
    let Ok(mut server) = UnixStream::connect(engine) else { return };
    let closing = if rest.to_ascii_lowercase().contains("upgrade:") { "" } else { "Connection: close\r\n" };
    let _ = write!(server, "{line}\r\n{closing}{rest}");
    let (mut up, mut down) = (client.try_clone().expect("a socket"), server.try_clone().expect("a socket"));
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut up, &mut down);
        let _ = down.shutdown(std::net::Shutdown::Write);
    });
    let _ = std::io::copy(&mut server, &mut client);
    let _ = client.shutdown(std::net::Shutdown::Both);
}
