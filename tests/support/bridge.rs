//! An engine that is not on this host.

use std::io::Read;

/// The engine as one that is somewhere else: reached by TCP.
pub struct Bridge {
    pub host: String,
}

impl Bridge {
    pub fn start() -> Bridge {
        Self::cutting_after(u64::MAX)
    }

    /// Ends each connection cleanly once so many octets came back on it.
    pub fn cutting_after(octets: u64) -> Bridge {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let host = format!("tcp://{}", listener.local_addr().expect("an address"));
        let socket = std::env::var("DOCKER_HOST").expect("an engine").replace("unix://", "");
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(engine) = std::os::unix::net::UnixStream::connect(&socket) else { return };
                let (mut from, mut to) =
                    (client.try_clone().expect("a socket"), engine.try_clone().expect("a socket"));
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
                let (mut from, mut to) = (engine.take(octets), client);
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
            }
        });
        Bridge { host }
    }
}
