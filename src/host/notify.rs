//! What systemd is told of a service of `Type=notify`: sd_notify(3), without its library.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Variables of the protocol: no process that we start is meant by them.
pub const VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// The way to whoever started us; one that leads nowhere where nobody asked.
#[derive(Debug)]
pub struct Notify {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notify {
    /// As the environment says.
    pub fn of_environment() -> Self {
        let name = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty());
        let own = std::process::id().to_string();
        let is_ours = std::env::var("WATCHDOG_PID").is_ok_and(|pid| pid == own)
            || std::env::var_os("WATCHDOG_PID").is_none();
        let micros = std::env::var("WATCHDOG_USEC").ok().and_then(|micros| micros.parse().ok());
        Notify {
            socket: name.and_then(|name| connect(name.as_bytes())),
            watchdog: micros.filter(|micros| is_ours && *micros > 0).map(Duration::from_micros),
        }
    }

    /// How often a sign of life is expected, at least: half of what the watchdog waits.
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog.map(|whole| whole / 2)
    }

    /// Says something, `READY=1`. That nobody listens harms nobody.
    pub fn say(&self, what: &str) {
        if let Some((socket, to)) = &self.socket {
            let _ = socket.send_to_addr(what.as_bytes(), to);
        }
    }

    /// Says in words how it goes.
    pub fn status(&self, text: &str) {
        self.say(&format!("STATUS={}", text.replace('\n', " ")));
    }
}

/// A path, or with `@` in front a name that is in no folder.
fn connect(name: &[u8]) -> Option<(UnixDatagram, SocketAddr)> {
    let to = match name.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(std::path::Path::new(std::ffi::OsStr::from_bytes(name))),
    };
    let socket = UnixDatagram::unbound().ok()?;
    // Nobody waits for somebody who does not read.
    socket.set_nonblocking(true).ok()?;
    Some((socket, to.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_abstract_name_is_reached() {
        let name = format!("sealift-notify-{}", std::process::id());
        let listens = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let notify = Notify { socket: connect(format!("@{name}").as_bytes()), watchdog: None };
        notify.say("READY=1");
        notify.status("two\nlines");
        let heard = || {
            let mut bytes = [0; 100];
            let count = listens.recv(&mut bytes).unwrap();
            String::from_utf8_lossy(&bytes[..count]).into_owned()
        };
        assert_eq!([heard(), heard()], ["READY=1", "STATUS=two lines"]);
    }

    #[test]
    fn a_name_that_is_no_socket_harms_nobody() {
        for name in ["/none/at/all", "vsock:2:1", "@"] {
            Notify { socket: connect(name.as_bytes()), watchdog: None }.say("READY=1");
        }
        let silent = Notify { socket: None, watchdog: Some(Duration::from_secs(30)) };
        silent.say("READY=1");
        assert_eq!(silent.watchdog(), Some(Duration::from_secs(15)));
    }
}
