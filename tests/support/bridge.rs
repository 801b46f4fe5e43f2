//! A server that is reached through a bridge: seen from elsewhere, counted, or cut off.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A connection, in both directions.
trait Peer: Read + Write + Send {
    fn twin(&self) -> Box<dyn Peer>;
    fn end(&self);
}

impl Peer for TcpStream {
    fn twin(&self) -> Box<dyn Peer> {
        Box::new(self.try_clone().expect("a socket"))
    }
    fn end(&self) {
        let _ = self.shutdown(Shutdown::Write);
    }
}

impl Peer for UnixStream {
    fn twin(&self) -> Box<dyn Peer> {
        Box::new(self.try_clone().expect("a socket"))
    }
    fn end(&self) {
        let _ = self.shutdown(Shutdown::Write);
    }
}

/// A way to a server, by TCP.
pub struct Bridge {
    /// `HOST:PORT`
    pub address: String,
    /// Bytes that came back over it.
    pub back: Arc<AtomicU64>,
    /// Connections that were cut.
    pub cuts: Arc<AtomicU64>,
}

impl Bridge {
    /// The run's engine, as one that is somewhere else.
    pub fn to_engine() -> Bridge {
        Self::to_engine_cut_after(u64::MAX)
    }

    /// Ends each connection cleanly once so many bytes came back on it.
    pub fn to_engine_cut_after(bytes: u64) -> Bridge {
        let host = std::env::var("DOCKER_HOST").expect("an engine");
        Self::to_cut_after(&host, bytes)
    }

    /// An engine, by its `DOCKER_HOST`, as one that is somewhere else.
    pub fn to(host: &str) -> Bridge {
        Self::to_cut_after(host, u64::MAX)
    }

    fn to_cut_after(host: &str, bytes: u64) -> Bridge {
        let socket = host.replace("unix://", "");
        Self::start(bytes, u64::MAX, move || Some(Box::new(UnixStream::connect(&socket).ok()?)))
    }

    /// The run's S3 server; the first `times` connections on which so many bytes come back are cut there.
    pub fn to_s3_cut_after(bytes: u64, times: u64) -> Bridge {
        let server = super::s3::endpoint().replace("http://", "");
        Self::start(bytes, times, move || Some(Box::new(TcpStream::connect(&server).ok()?)))
    }

    /// The engine's URL.
    pub fn engine(&self) -> String {
        format!("tcp://{}", self.address)
    }

    /// The S3 server's URL.
    pub fn s3(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What came back since the last time it was asked.
    pub fn take_back(&self) -> u64 {
        self.back.swap(0, Ordering::SeqCst)
    }

    fn start(bytes: u64, times: u64, connect: impl Fn() -> Option<Box<dyn Peer>> + Send + 'static) -> Bridge {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let (back, cuts) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let bridge = Bridge { address, back: Arc::clone(&back), cuts: Arc::clone(&cuts) };
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Some(server) = connect() else { return };
                let (client, mut up, mut down) = (client.twin(), client.twin(), server.twin());
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut up, &mut down);
                    down.end();
                });
                let (back, cuts) = (Arc::clone(&back), Arc::clone(&cuts));
                std::thread::spawn(move || carry_back(server, client, bytes, times, &back, &cuts));
            }
        });
        bridge
    }
}

fn carry_back(
    mut server: Box<dyn Peer>,
    mut client: Box<dyn Peer>,
    bytes: u64,
    times: u64,
    back: &AtomicU64,
    cuts: &AtomicU64,
) {
    let (mut buffer, mut carried) = (vec![0; 1 << 16], 0);
    while let Ok(len) = server.read(&mut buffer) {
        if len == 0 {
            break;
        }
        let cut = carried + len as u64 > bytes && cuts.load(Ordering::SeqCst) < times;
        let len = if cut { (bytes - carried) as usize } else { len };
        carried += len as u64;
        back.fetch_add(len as u64, Ordering::SeqCst);
        if client.write_all(&buffer[..len]).is_err() {
            break;
        }
        if cut {
            cuts.fetch_add(1, Ordering::SeqCst);
            break;
        }
    }
    client.end();
}
