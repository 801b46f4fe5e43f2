//! A letter by SMTP.

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lettre::message::Mailbox;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::transport::smtp::AsyncSmtpTransportBuilder;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::{Failed, Message, Secret, text};
use crate::error::{Error, Result};

/// Who takes letters.
#[derive(Debug)]
pub struct Mail {
    /// The server.
    pub server: Server,
    /// Who logs in, with which password.
    pub login: Option<(String, Secret)>,
    /// Whom letters are from.
    pub from: Mailbox,
    /// Whom they go to.
    pub to: Vec<Mailbox>,
    /// Authorities that are trusted beside those of the system.
    pub ca_file: Option<PathBuf>,
}

/// A server, and how it is talked to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    host: String,
    port: u16,
    security: Security,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Security {
    /// TLS from the first byte on.
    Tls,
    /// STARTTLS, without which nothing is said.
    StartTls,
    /// None: a server on this host.
    Plain,
}

impl std::str::FromStr for Server {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let none = || {
            Error::usage("this is no mail server").hint(
                "smtps://HOST:465 (TLS), smtp://HOST:587 (STARTTLS), smtp-plain://HOST:25 (no TLS); a login is user and \
                 password_file",
            )
        };
        let url: Url = text.parse().map_err(|_| none())?;
        let (security, port) = match url.scheme() {
            "smtps" => (Security::Tls, 465),
            "smtp" => (Security::StartTls, 587),
            "smtp-plain" => (Security::Plain, 25),
            _ => return Err(none()),
        };
        let is_bare = url.username().is_empty()
            && url.password().is_none()
            && matches!(url.path(), "" | "/")
            && url.query().is_none();
        let host = url.host_str().filter(|host| is_bare && !host.is_empty()).ok_or_else(none)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_string();
        Ok(Server { host, port: url.port().unwrap_or(port), security })
    }
}

impl Server {
    /// Whether a password can be read on the way there.
    pub fn is_plain(&self) -> bool {
        self.security == Security::Plain
    }
}

impl Mail {
    pub(super) async fn send(&self, message: &Message<'_>) -> Result<(), Failed> {
        let letter = self.letter(message)?;
        let mut server = self.transport()?;
        let mut password = None;
        if let Some((user, secret)) = &self.login {
            let read = secret.read().await?;
            server = server.credentials(Credentials::new(user.clone(), read.expose_secret().into()));
            password = Some(read);
        }
        let sent = server.build::<Tokio1Executor>().send(letter).await;
        sent.map(drop).map_err(|error| self.failed(&error, password.as_ref()))
    }

    fn failed(&self, error: &lettre::transport::smtp::Error, password: Option<&SecretString>) -> Failed {
        let Server { host, port, .. } = &self.server;
        let text = Error::failed("").because(error.to_string()).chain().last().map(ToString::to_string);
        let text = self.without_secrets(text.unwrap_or_default(), password);
        let why = Error::failed(format!("{host}:{port}")).because(text);
        let hint = match error.status().map(u16::from) {
            Some(530 | 534 | 535) => Some("check user and the password"),
            _ if error.is_tls() => {
                Some("does its certificate name this host, and is its authority trusted (ca_file)?")
            }
            _ => None,
        };
        let why = hint.map_or(why.clone(), |hint| why.hint(hint));
        // What the server refuses for good, and what it cannot do, is so in a minute, too.
        Failed { why, again: !(error.is_permanent() || error.is_client() || error.is_tls()) }
    }

    /// A server may answer with what it was sent.
    fn without_secrets(&self, text: String, password: Option<&SecretString>) -> String {
        let (Some(password), Some((user, _))) = (password, &self.login) else { return text };
        let password = password.expose_secret();
        let plain = STANDARD.encode(format!("\0{user}\0{password}"));
        let hidden = [plain, STANDARD.encode(password), password.to_string()];
        hidden.iter().fold(text, |text, secret| text.replace(secret.as_str(), "<redacted>"))
    }

    fn letter(&self, message: &Message<'_>) -> Result<lettre::Message> {
        let domain = self.from.email.domain();
        let id = format!("<{}.{}@{domain}>", text::run_id(message.run), message.run.state as u8);
        let mut letter = lettre::Message::builder()
            .from(self.from.clone())
            .subject(text::subject(message))
            .message_id(Some(id))
            // No answer by those who are on holiday.
            .raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("Auto-Submitted"),
                "auto-generated".into(),
            ))
            .header(ContentType::TEXT_PLAIN);
        for to in &self.to {
            letter = letter.to(to.clone());
        }
        letter.body(text::body(message)).map_err(|e| Error::failed("no letter can be made").because(e))
    }

    fn transport(&self) -> Result<AsyncSmtpTransportBuilder> {
        let Server { host, port, security } = &self.server;
        let tls = match security {
            Security::Plain => Tls::None,
            Security::StartTls => Tls::Required(self.tls()?),
            Security::Tls => Tls::Wrapper(self.tls()?),
        };
        let builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host.as_str());
        // The time is limited as that of the others.
        Ok(builder.port(*port).tls(tls).timeout(None))
    }

    fn tls(&self) -> Result<TlsParameters> {
        let mut tls = TlsParameters::builder(self.server.host.clone());
        if let Some(file) = &self.ca_file {
            let hint = "ca_file names a certificate in PEM (-----BEGIN CERTIFICATE-----)";
            let shown = file.display();
            let pem = std::fs::read(file)
                .map_err(|e| Error::usage(format!("cannot read {shown}")).because(e).hint(hint))?;
            let read = Certificate::from_pem(&pem)
                .map_err(|e| Error::usage(format!("{shown} holds no certificate")).because(e).hint(hint))?;
            tls = tls.add_root_certificate(read);
        }
        tls.build().map_err(|e| Error::failed("no TLS can be had").because(e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::run::Run;
    use crate::tell::Occasion;

    fn mail() -> Mail {
        Mail {
            server: "smtp-plain://localhost".parse().unwrap(),
            login: Some(("ops".into(), Secret::Given("pass word".into()))),
            from: "Sealift <sealift@nas.example>".parse().unwrap(),
            to: vec!["ops@example.com".parse().unwrap(), "Zoë <z@example.com>".parse().unwrap()],
            ca_file: None,
        }
    }

    #[test]
    fn a_server_says_how_it_is_talked_to() {
        let read = |text: &str| text.parse::<Server>().map(|it| (it.host, it.port, it.security));
        assert_eq!(read("smtps://mx.example").unwrap(), ("mx.example".into(), 465, Security::Tls));
        assert_eq!(read("smtp://mx.example:2525").unwrap(), ("mx.example".into(), 2525, Security::StartTls));
        assert_eq!(read("smtp-plain://[::1]").unwrap(), ("::1".into(), 25, Security::Plain));
        for text in
            ["mx.example", "smtp://ops:hidden@mx", "smtp://mx?tls=none", "smtp://", "https://mx", "mx:25"]
        {
            let error = text.parse::<Server>().unwrap_err();
            assert!(!format!("{error:?}").contains("hidden"), "{error:?}");
        }
    }

    #[test]
    fn no_name_adds_a_header() {
        let run = Run::new("médía\r\nBcc: evil@example.com\r\n\r\nbody", "backup", "nas\nX: y");
        let letter = mail().letter(&Message { run: &run, occasion: Occasion::Failure }).unwrap();
        let text = String::from_utf8(letter.formatted()).unwrap();
        let (head, _) = text.split_once("\r\n\r\n").unwrap();
        let names: Vec<_> = head
            .lines()
            .filter(|line| !line.starts_with(' '))
            .filter_map(|line| line.split_once(':'))
            .collect();
        let names: Vec<_> = names.iter().map(|(name, _)| *name).collect();
        assert!(!names.contains(&"Bcc") && !names.contains(&"X"), "{head}");
        assert!(names.contains(&"Date") && names.contains(&"Auto-Submitted"), "{head}");
        assert!(head.is_ascii() && head.lines().all(|line| line.len() <= 78), "{head}");
    }

    #[test]
    fn a_server_that_repeats_a_password_does_not_tell_it() {
        let mail = mail();
        let password = SecretString::from("pass word");
        let encoded = [STANDARD.encode("\0ops\0pass word"), STANDARD.encode("pass word")];
        let text =
            mail.without_secrets(format!("535 no: {} pass word {}", encoded[0], encoded[1]), Some(&password));
        assert_eq!(text, "535 no: <redacted> <redacted> <redacted>");
    }
}
