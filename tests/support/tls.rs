//! A server with TLS, whose certificate is of an authority that no system trusts.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::{Lab, sh};

/// TLS in front of a server that has none.
pub struct TlsFront {
    pub endpoint: String,
    /// The certificate of its authority, in PEM.
    pub authority: PathBuf,
    process: Child,
}

impl TlsFront {
    /// In front of the server at `endpoint`, `http://127.0.0.1:PORT`.
    #[track_caller]
    pub fn start(lab: &Lab, endpoint: &str) -> TlsFront {
        let authority = authority(lab, "ca");
        let dir = lab.dir.display();
        sh(&format!(
            "cd {dir}; openssl req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=store 2>&1
             printf 'subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n' > server.ext
             openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -sha256 \
                 -extfile server.ext -out server.pem 2>&1"
        ));
        let (_, port) = endpoint.rsplit_once(':').expect("a port");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/tls.py");
        let mut command = Command::new("python3");
        command.arg(script).args([lab.path("server.pem"), lab.path("server.key")]).arg(port);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python3 runs");
        let mut line = String::new();
        let stdout = process.stdout.take().expect("a stdout");
        BufReader::new(stdout).read_line(&mut line).expect("the front's port");
        let endpoint = format!("https://127.0.0.1:{}", line.trim());
        TlsFront { endpoint, authority, process }
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        // Its stdin closes with it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The certificate of a new authority.
#[track_caller]
pub fn authority(lab: &Lab, name: &str) -> PathBuf {
    sh(&format!(
        "cd {}; openssl req -x509 -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.pem -days 2 \
         -subj /CN={name} 2>&1",
        lab.dir.display()
    ));
    lab.path(&format!("{name}.pem"))
}
