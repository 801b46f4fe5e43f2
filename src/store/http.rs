//! The connection to a store over HTTP. A request that makes no progress is given up, however long one that does may take.
//!
//! Progress is a byte of the body that was taken to be sent, or a byte of the answer. The library's own timeouts run from
//! the start of a request to its end, so that they cut off large parts on slow lines and wait for ever for small answers.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use object_store::client::{
    ClientConfigKey, ClientOptions, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest,
    HttpRequestBody, HttpResponse, HttpResponseBody, HttpService,
};
use tokio::time::{Instant, Sleep};

use super::foreign::{PassedOver, keepable};
use super::pages::Pages;
use super::roots::Roots;

/// How long a request may make no progress.
const STALL: Duration = Duration::from_secs(30);
/// How long a connection may take to be there.
const CONNECT: Duration = Duration::from_secs(10);
/// How long an idle connection is kept: one that something on the way has forgotten costs a whole stall.
const IDLE: Duration = Duration::from_secs(20);
/// Bytes of a body that are handed over at once: so many must be sent within [`STALL`].
const PIECE: usize = 64 << 10;

/// Makes clients whose requests are watched.
#[derive(Debug, Clone)]
pub(super) struct Watching {
    /// How long a request may make no progress.
    stall: Duration,
    roots: Roots,
    passed_over: PassedOver,
    /// The client that was made last.
    made: Arc<Mutex<Option<HttpClient>>>,
}

impl Watching {
    /// Connects to servers that these authorities vouch for, too; what lists lose is counted in `passed_over`.
    pub(super) fn new(roots: Roots, passed_over: PassedOver) -> Self {
        Watching { stall: STALL, roots, passed_over, made: Arc::default() }
    }

    /// The client that was made last: those that fetch credentials come before that of a store.
    pub(super) fn made(&self) -> Option<HttpClient> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl HttpConnector for Watching {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let failed =
            |e: reqwest::Error| object_store::Error::Generic { store: "HTTP client", source: e.into() };
        let value = |key| options.get_config_value(&key).filter(|value| !value.is_empty());
        let is_set = |key| value(key).is_some_and(|value| value == "true");
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("sealift/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            // An object's size is that of its body.
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .pool_idle_timeout(IDLE)
            .https_only(!is_set(ClientConfigKey::AllowHttp))
            .danger_accept_invalid_certs(is_set(ClientConfigKey::AllowInvalidCertificates));
        if let Some(agent) = value(ClientConfigKey::UserAgent) {
            builder = builder.user_agent(agent);
        }
        if !is_set(ClientConfigKey::Http2Only) {
            builder = builder.http1_only();
        }
        if let Some(url) = value(ClientConfigKey::ProxyUrl) {
            let mut proxy = reqwest::Proxy::all(url).map_err(failed)?;
            if let Some(excludes) = value(ClientConfigKey::ProxyExcludes) {
                proxy = proxy.no_proxy(reqwest::NoProxy::from_string(&excludes));
            }
            builder = builder.proxy(proxy);
        }
        if let Some(pem) = value(ClientConfigKey::ProxyCaCertificate) {
            let certificate = reqwest::Certificate::from_pem(pem.as_bytes()).map_err(failed)?;
            builder = builder.tls_certs_merge([certificate]);
        }
        builder = builder.tls_certs_merge(self.roots.certificates());
        let client = builder.build().map_err(failed)?;
        let passed_over = self.passed_over.clone();
        let client =
            HttpClient::new(Watched { client, stall: self.stall, pages: Pages::default(), passed_over });
        *self.made.lock().unwrap_or_else(PoisonError::into_inner) = Some(client.clone());
        Ok(client)
    }
}

/// A client whose requests are watched.
#[derive(Debug)]
struct Watched {
    client: reqwest::Client,
    stall: Duration,
    pages: Pages,
    passed_over: PassedOver,
}

#[async_trait]
impl HttpService for Watched {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (parts, body) = request.into_parts();
        let url = parts.uri.to_string().parse().map_err(|e| HttpError::new(HttpErrorKind::Unknown, e))?;
        let query = parts.uri.query().unwrap_or_default().to_string();
        let page = (parts.method == http::Method::GET).then(|| super::pages::Asked::of(&query)).flatten();
        let progress = Progress::new();
        let mut request = reqwest::Request::new(parts.method, url);
        *request.headers_mut() = parts.headers;
        if !body.is_end_stream() {
            let body = Counted { body, rest: Bytes::new(), progress: progress.clone() };
            *request.body_mut() = Some(reqwest::Body::wrap(body));
        }
        let answer = tokio::select! {
            biased;
            answer = self.client.execute(request) => answer.map_err(|e| error_of(&e))?,
            () = progress.stalled(self.stall) => return Err(stalled(self.stall)),
        };
        let (parts, body) = http::Response::from(answer).into_parts();
        let body = HttpResponseBody::new(Timed { body: Box::pin(body), stall: self.stall, sleep: None });
        match page {
            Some(asked) if parts.status.is_success() => {
                let bytes = body.bytes().await?;
                self.pages.check(&asked, &bytes)?;
                if asked.is_first() {
                    self.passed_over.reset();
                }
                Ok(HttpResponse::from_parts(parts, keepable(&bytes, &self.passed_over).into()))
            }
            _ => Ok(HttpResponse::from_parts(parts, body)),
        }
    }
}

/// A request made no progress.
#[derive(Debug)]
struct Stalled(Duration);

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no progress for {} s", self.0.as_secs())
    }
}

impl std::error::Error for Stalled {}

fn stalled(stall: Duration) -> HttpError {
    HttpError::new(HttpErrorKind::Timeout, Stalled(stall))
}

/// What the client's error is to the library; without the URL, which the library adds where it holds no secret.
fn error_of(error: &reqwest::Error) -> HttpError {
    let kind = match error {
        e if e.is_timeout() && !e.is_connect() => HttpErrorKind::Timeout,
        e if e.is_connect() => HttpErrorKind::Connect,
        e if e.is_decode() => HttpErrorKind::Decode,
        _ => HttpErrorKind::Interrupted,
    };
    let chain = crate::error::chain_of(error);
    // The outermost text has the URL in it; what lies below says more.
    let text = chain.iter().skip(1).map(ToString::to_string).next_back();
    HttpError::new(kind, std::io::Error::other(text.unwrap_or_else(|| "the request failed".into())))
}

/// When a request last made progress.
#[derive(Debug, Clone)]
struct Progress(Arc<Mutex<Instant>>);

impl Progress {
    fn new() -> Self {
        Progress(Arc::new(Mutex::new(Instant::now())))
    }

    fn made(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Returns when there has been none for so long.
    async fn stalled(&self, stall: Duration) {
        loop {
            let due = *self.0.lock().unwrap_or_else(PoisonError::into_inner) + stall;
            if due <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(due).await;
        }
    }
}

/// A request's body in small pieces: each that is taken is progress.
struct Counted {
    body: HttpRequestBody,
    rest: Bytes,
    progress: Progress,
}

impl Body for Counted {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        if self.rest.is_empty() {
            match std::task::ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => self.rest = bytes,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                other => return Poll::Ready(other),
            }
        }
        self.progress.made();
        let len = self.rest.len().min(PIECE);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(len)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.body.size_hint().exact().unwrap_or_default() + self.rest.len() as u64;
        SizeHint::with_exact(left)
    }
}

/// An answer's body: whoever waits for a byte of it waits for a while at most.
struct Timed {
    body: Pin<Box<reqwest::Body>>,
    stall: Duration,
    /// Runs while a byte is waited for, not while nobody asks for one.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Body for Timed {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        if let Poll::Ready(frame) = self.body.as_mut().poll_frame(cx) {
            self.sleep = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(|e| error_of(&e))));
        }
        let stall = self.stall;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(stall)));
        sleep.as_mut().poll(cx).map(|()| Some(Err(stalled(stall))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use object_store::aws::{AmazonS3, AmazonS3Builder};
    use object_store::{ObjectStore, ObjectStoreExt, RetryConfig};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// A store whose server does with each connection what `serve` does.
    async fn store<F>(stall: Duration, serve: fn(TcpStream) -> F) -> AmazonS3
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream));
            }
        });
        AmazonS3Builder::new()
            .with_bucket_name("b")
            .with_endpoint(endpoint)
            .with_allow_http(true)
            .with_access_key_id("k")
            .with_secret_access_key("s")
            .with_http_connector(Watching { stall, ..Watching::new(Roots::default(), PassedOver::default()) })
            .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
            .build()
            .unwrap()
    }

    const BODY: usize = 32 << 20;

    /// Reads slowly, but reads.
    async fn slow(mut stream: TcpStream) {
        let (mut buffer, mut seen) = (vec![0; 1 << 20], 0);
        while seen < BODY {
            tokio::time::sleep(Duration::from_millis(50)).await;
            match stream.read_exact(&mut buffer).await {
                Ok(len) => seen += len,
                Err(_) => break,
            }
        }
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 0\r\n\r\n").await;
        std::future::pending().await
    }

    async fn swallow(mut stream: TcpStream) {
        let mut buffer = vec![0; 1 << 20];
        while stream.read(&mut buffer).await.is_ok_and(|len| len > 0) {}
    }

    /// Begins an answer, and no more.
    async fn begin(mut stream: TcpStream) {
        let mut buffer = vec![0; 1 << 16];
        let _ = stream.read(&mut buffer).await;
        let head = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nLast-Modified: Sun, 22 Nov 2026 02:00:00 GMT\r\n";
        let _ = stream.write_all(format!("{head}Content-Length: 100\r\n\r\nbegun").as_bytes()).await;
        std::future::pending().await
    }

    async fn html(mut stream: TcpStream) {
        let mut buffer = vec![0; 1 << 16];
        let _ = stream.read(&mut buffer).await;
        let body = "<html><body>log in</body></html>";
        let _ = stream
            .write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes())
            .await;
    }

    fn is_stalled(error: &object_store::Error) -> bool {
        let chain = crate::error::chain_of(error);
        chain.iter().any(|e| e.is::<Stalled>())
    }

    #[tokio::test]
    async fn a_slow_upload_that_goes_on_is_not_given_up() {
        let stall = Duration::from_millis(1200);
        let store = store(stall, slow).await;
        let began = Instant::now();
        store.put(&"x".into(), vec![0; BODY].into()).await.unwrap();
        assert!(began.elapsed() > stall, "it took longer than a stall may: {:?}", began.elapsed());
    }

    #[tokio::test]
    async fn a_request_without_an_answer_is_given_up() {
        let store = store(Duration::from_millis(300), swallow).await;
        let began = Instant::now();
        for error in [
            store.put(&"x".into(), vec![0; 1 << 20].into()).await.unwrap_err(),
            store.head(&"x".into()).await.unwrap_err(),
            store.list_with_delimiter(None).await.unwrap_err(),
        ] {
            assert!(is_stalled(&error), "{error}");
        }
        assert!(began.elapsed() < Duration::from_secs(5));
    }

    #[tokio::test]
    async fn an_answer_that_stops_half_way_is_given_up() {
        let store = store(Duration::from_millis(300), begin).await;
        let got = store.get(&"x".into()).await.unwrap();
        assert!(is_stalled(&got.bytes().await.unwrap_err()));
    }

    #[tokio::test]
    async fn a_web_page_for_a_list_is_an_error() {
        let store = store(Duration::from_secs(5), html).await;
        let error = store.list_with_delimiter(None).await.unwrap_err();
        assert!(error.to_string().contains("the answer is no list"), "{error}");
    }
}
