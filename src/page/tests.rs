use std::os::unix::fs::PermissionsExt;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::*;

/// A page that is served, and the end of it.
async fn served(token: Option<&str>) -> (SocketAddr, CancellationToken) {
    let page = Page::bind(&"127.0.0.1:0".parse().unwrap(), token.map(SecretString::from)).await.unwrap();
    let (at, cancel) = (page.address().unwrap(), CancellationToken::new());
    let mut metrics = Metrics::default();
    metrics.expect("backup", "a", "nas", Duration::from_secs(86400));
    let (_, board) = watch::channel(Arc::new(Board { host: "<nas>".into(), metrics, ..Board::default() }));
    tokio::spawn(page.serve(board, cancel.clone()));
    (at, cancel)
}

async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, line: &str, headers: &str) -> String {
    stream
        .write_all(format!("{line} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn get(at: SocketAddr, line: &str, headers: &str) -> String {
    ask(TcpStream::connect(at).await.unwrap(), line, headers).await
}

#[tokio::test]
async fn what_there_is_can_be_read_and_no_more() {
    let (at, _cancel) = served(None).await;
    let page = get(at, "GET /", "Host: localhost\r\n").await;
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("Sealift on &lt;nas&gt;"), "{page}");
    let policy = page.lines().find(|line| line.starts_with("content-security-policy: ")).unwrap();
    assert!(policy.contains("default-src 'none'; style-src 'sha256-"), "{policy}");
    let metrics = get(at, "GET /metrics", "Host: 127.0.0.1:8470\r\n").await;
    assert!(metrics.contains("content-type: text/plain; version=0.0.4"), "{metrics}");
    assert!(metrics.contains("sealift_schedule_expected_interval_seconds{job=\"a\""), "{metrics}");
    assert!(get(at, "GET /healthz", "Host: [::1]:1\r\n").await.ends_with("\r\n\r\nok\n"));
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let answer = get(at, &format!("{method} /"), "Host: localhost\r\nContent-Length: 0\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 405"), "{method}: {answer}");
    }
    assert!(get(at, "GET /../etc/passwd", "Host: localhost\r\n").await.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn no_other_hosts_name_leads_here() {
    let (at, _cancel) = served(None).await;
    for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "10.0.0.1", ""] {
        let answer = get(at, "GET /", &format!("Host: {host}\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 421"), "{host}: {answer}");
    }
    let two = get(at, "GET /", "Host: localhost\r\nHost: evil.example\r\n").await;
    assert!(!two.starts_with("HTTP/1.1 200"), "{two}");
}

#[tokio::test]
async fn a_token_is_asked_for() {
    let (at, _cancel) = served(Some("t0ken")).await;
    let basic = format!("Basic {}", STANDARD.encode("anybody:t0ken"));
    for (shown, status) in [
        ("Bearer t0ken", 200),
        (basic.as_str(), 200),
        ("Bearer token", 401),
        ("t0ken", 401),
        ("Basic t0ken", 401),
    ] {
        let answer = get(at, "GET /metrics", &format!("Host: localhost\r\nAuthorization: {shown}\r\n")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{shown}: {answer}");
    }
    let answer = get(at, "GET /", "Host: localhost\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 401") && !answer.contains("t0ken"), "{answer}");
    assert!(get(at, "GET /healthz", "Host: localhost\r\n").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn nothing_is_open_to_others_without_a_token() {
    let error = Page::bind(&"0.0.0.0:0".parse().unwrap(), None).await.unwrap_err();
    assert!(error.to_string().contains("there is no token") && error.hint_text().is_some(), "{error}");
    assert!(Page::bind(&"0.0.0.0:0".parse().unwrap(), Some("x".into())).await.is_ok());
    assert!("nas:8470".parse::<Listen>().is_err());
}

#[tokio::test]
async fn a_socket_is_for_the_group_and_replaces_one_that_was_left() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sealift.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let listen: Listen = format!("unix:{}", path.display()).parse().unwrap();
    let page = Page::bind(&listen, None).await.unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    assert!(Page::bind(&listen, None).await.is_err(), "somebody listens there");
    let (_, board) = watch::channel(Arc::new(Board::default()));
    tokio::spawn(page.serve(board, CancellationToken::new()));
    let answer = ask(UnixStream::connect(&path).await.unwrap(), "GET /", "Host: any\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("nothing is scheduled"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn one_who_reads_slowly_does_not_keep_it() {
    let page = Page::bind(&"127.0.0.1:0".parse().unwrap(), None).await.unwrap();
    let (at, cancel) = (page.address().unwrap(), CancellationToken::new());
    let (_, board) = watch::channel(Arc::new(Board::default()));
    let serving = tokio::spawn(page.serve(board, cancel.clone()));
    let mut open = TcpStream::connect(at).await.unwrap();
    open.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    cancel.cancel();
    serving.await.unwrap().unwrap();
}
