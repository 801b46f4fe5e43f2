//! The page of the runs on this host, and their metrics: read-only, over HTTP, on loopback or a socket, or with a token.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::error::{Context, Error, Result};
use crate::tell::metrics::Metrics;

pub mod board;
mod html;
mod view;

use board::Board;

/// How long those who are still reading are waited for at the end.
const GRACE: Duration = Duration::from_secs(3);

/// Where it listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// At a port.
    Tcp(SocketAddr),
    /// At a socket, for the owner and the group.
    Unix(PathBuf),
}

impl std::str::FromStr for Listen {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Some(path) = text.strip_prefix("unix:").or(text.starts_with('/').then_some(text)) {
            return Ok(Listen::Unix(path.into()));
        }
        let hint = "127.0.0.1:8470, [::1]:8470, or unix:/run/sealift.sock";
        text.parse().map(Listen::Tcp).map_err(|_| Error::usage(format!("{text:?} is no address")).hint(hint))
    }
}

/// Who may look.
#[derive(Debug, Clone, Default)]
struct Guard {
    /// A port of loopback: nobody comes by the name of another host.
    only_local_names: bool,
    token: Option<SecretString>,
}

/// A page that is listening already, so that nobody is told too early.
#[derive(Debug)]
pub struct Page {
    listener: Listener,
    guard: Guard,
}

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Page {
    /// Listens. Who asks at a port must show the token, if there is one.
    ///
    /// # Errors
    /// It is a port that others can reach, and there is no token; or it cannot be had.
    pub async fn bind(listen: &Listen, token: Option<SecretString>) -> Result<Page> {
        match listen {
            Listen::Unix(path) => {
                Ok(Page { listener: Listener::Unix(socket(path)?), guard: Guard::default() })
            }
            Listen::Tcp(at) => {
                let is_local = at.ip().is_loopback();
                if !is_local && token.is_none() {
                    let error =
                        Error::usage(format!("{at} can be reached from elsewhere, and there is no token"));
                    return Err(
                        error.hint("name a token_file, listen at 127.0.0.1, or at unix:/run/sealift.sock")
                    );
                }
                let listener = TcpListener::bind(at).await;
                let listener = listener.context(|| format!("cannot listen at {at}"))?;
                Ok(Page {
                    listener: Listener::Tcp(listener),
                    guard: Guard { only_local_names: is_local, token },
                })
            }
        }
    }

    /// Its port; none of a socket.
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.listener {
            Listener::Tcp(listener) => listener.local_addr().ok(),
            Listener::Unix(_) => None,
        }
    }

    /// Answers with what the board shows at that moment, until it is cancelled.
    ///
    /// # Errors
    /// It cannot listen any more.
    pub async fn serve(self, board: watch::Receiver<Arc<Board>>, cancel: CancellationToken) -> Result<()> {
        let app = router(board, self.guard);
        let ended = cancel.clone().cancelled_owned();
        let serving = async {
            match self.listener {
                Listener::Tcp(listener) => axum::serve(listener, app).with_graceful_shutdown(ended).await,
                Listener::Unix(listener) => axum::serve(listener, app).with_graceful_shutdown(ended).await,
            }
        };
        // Whoever reads slowly must not keep the process.
        let late = async {
            cancel.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            served = serving => served.context(|| "the page cannot be served".into()),
            () = late => Ok(()),
        }
    }
}

/// A socket for the owner and the group, in place of one that a killed process has left.
fn socket(path: &PathBuf) -> Result<UnixListener> {
    let failed = || format!("cannot listen at {}", path.display());
    let is_left = std::os::unix::net::UnixStream::connect(path)
        .is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused);
    if is_left {
        rustix::fs::unlink(path).map_err(std::io::Error::from).context(failed)?;
    }
    let listener = UnixListener::bind(path).context(failed)?;
    rustix::fs::chmod(path, rustix::fs::Mode::from_raw_mode(0o660))
        .map_err(std::io::Error::from)
        .context(failed)?;
    Ok(listener)
}

fn router(board: watch::Receiver<Arc<Board>>, guard: Guard) -> Router {
    let page = async |State(board): State<watch::Receiver<Arc<Board>>>| {
        let board = Arc::clone(&board.borrow());
        typed("text/html; charset=utf-8", view::page(&board, jiff::Timestamp::now()))
    };
    let metrics = async |State(board): State<watch::Receiver<Arc<Board>>>| {
        let board = Arc::clone(&board.borrow());
        typed(Metrics::CONTENT_TYPE, board.metrics.to_string())
    };
    Router::new()
        .route("/", get(page))
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || typed("text/plain; charset=utf-8", "ok\n".into())))
        .layer(from_fn_with_state(Arc::new(guard), guarded))
        .with_state(board)
}

/// A body, and the headers that forbid a browser all that it does not need.
fn typed(kind: &'static str, body: String) -> Response {
    let style = STANDARD.encode(digest(&SHA256, view::STYLE.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let headers = [
        (header::CONTENT_TYPE, kind.to_string()),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".into()),
        (header::REFERRER_POLICY, "no-referrer".into()),
        (header::CACHE_CONTROL, "no-store".into()),
    ];
    (headers, body).into_response()
}

async fn guarded(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    if guard.only_local_names && !is_local_name(headers) {
        return (StatusCode::MISDIRECTED_REQUEST, "ask by localhost\n").into_response();
    }
    // That it lives is no secret, and containers are asked without one.
    let is_open = request.uri().path() == "/healthz";
    match &guard.token {
        Some(token) if !is_open && !shows(headers, token) => {
            let ask = [(header::WWW_AUTHENTICATE, "Basic realm=\"sealift\", charset=\"UTF-8\"")];
            (StatusCode::UNAUTHORIZED, ask, "the token is missing or wrong\n").into_response()
        }
        _ => next.run(request).await,
    }
}

/// Whether the browser was led here by a name of this host: a page elsewhere can give its own name our address.
fn is_local_name(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next().and_then(|host| host.to_str().ok()), hosts.next()) else {
        return false;
    };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// Whether a request has the token: as a bearer, or as the password that a browser asks for.
fn shows(headers: &HeaderMap, token: &SecretString) -> bool {
    let shown = || {
        let (scheme, value) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
        if scheme.eq_ignore_ascii_case("bearer") {
            return Some(value.trim().to_string());
        }
        let login = scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(value.trim()).ok())??;
        Some(String::from_utf8(login).ok()?.split_once(':')?.1.to_string())
    };
    // Hashes are compared in the same time, wherever they differ.
    shown()
        .is_some_and(|shown| blake3::hash(shown.as_bytes()) == blake3::hash(token.expose_secret().as_bytes()))
}

#[cfg(test)]
mod tests;
