//! Servers that the tests tell: what they were sent can be read, and they answer as they are told to.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// How a request is answered; the last answer is that of all that follow.
#[derive(Debug, Clone, Copy)]
pub(super) enum Answer {
    /// With this status.
    Status(u16),
    /// The connection is closed without a word.
    Close,
    /// Never.
    Never,
}

/// A server, and what it was sent: whole requests or letters.
#[derive(Debug, Clone)]
pub(super) struct Server {
    pub(super) at: String,
    pub(super) sent: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub(super) fn sent(&self) -> Vec<String> {
        self.sent.lock().unwrap().clone()
    }

    fn take(&self, text: String) -> usize {
        let mut sent = self.sent.lock().unwrap();
        sent.push(text);
        sent.len() - 1
    }

    async fn listen() -> (Server, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap().to_string();
        (Server { at, sent: Arc::default() }, listener)
    }

    /// One that speaks HTTP.
    pub(super) async fn http(answers: &'static [Answer]) -> Server {
        let (server, listener) = Server::listen().await;
        let taking = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(taking.clone().request(stream, answers));
            }
        });
        server
    }

    async fn request(self, stream: TcpStream, answers: &'static [Answer]) {
        let mut stream = BufReader::new(stream);
        let (mut head, mut length) = (String::new(), 0);
        while !head.ends_with("\r\n\r\n") {
            let mut line = String::new();
            if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                return;
            }
            if let Some(size) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = size.trim().parse().unwrap();
            }
            head += &line;
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        let nth = self.take(head + &String::from_utf8(body).unwrap());
        match answers[nth.min(answers.len() - 1)] {
            Answer::Close => {}
            Answer::Never => std::future::pending().await,
            Answer::Status(status) => {
                let location = "location: http://127.0.0.1:1/elsewhere\r\n";
                let answer = format!(
                    "HTTP/1.1 {status} X\r\n{location}content-length: 0\r\nconnection: close\r\n\r\n"
                );
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        }
    }

    /// One that speaks SMTP without TLS, and answers the nth letter with this.
    pub(super) async fn smtp(answers: &'static [&'static str]) -> Server {
        let (server, listener) = Server::listen().await;
        let taking = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(taking.clone().letter(stream, answers));
            }
        });
        server
    }

    async fn letter(self, stream: TcpStream, answers: &'static [&'static str]) -> Option<()> {
        let mut stream = BufReader::new(stream);
        stream.write_all(b"220 stand-in\r\n").await.ok()?;
        let mut dialogue = String::new();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.ok()? == 0 {
                return None;
            }
            dialogue += &line;
            let answer = match line.split([' ', '\r']).next()? {
                "EHLO" => "250-stand-in\r\n250 AUTH PLAIN",
                "AUTH" => "235 come in",
                "DATA" => "354 go on",
                "QUIT" => "221 bye",
                _ => "250 fine",
            };
            if let Some(refused) = answers
                .iter()
                .find_map(|answer| answer.strip_prefix("AUTH "))
                .filter(|_| line.starts_with("AUTH"))
            {
                // As some servers do: what was sent comes back.
                stream.write_all(format!("{refused} {}", line.split(' ').nth(2)?).as_bytes()).await.ok()?;
                continue;
            }
            stream.write_all(format!("{answer}\r\n").as_bytes()).await.ok()?;
            if answer.starts_with("354") {
                let mut text = String::new();
                while !text.ends_with("\r\n.\r\n") {
                    stream.read_line(&mut text).await.ok()?;
                }
                let nth = self.take(std::mem::take(&mut dialogue) + &text);
                let answer = answers[nth.min(answers.len() - 1)];
                stream.write_all(format!("{answer}\r\n").as_bytes()).await.ok()?;
            }
        }
    }
}
