//! SMTP (RFC 5321, submission as in RFC 6409 and RFC 8314) and IMAP (RFC 9051), by TLS that is checked: enough to send a letter and to
//! read a mailbox.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::error::HarnessError;

/// Whom a server's certificate is believed, and what it has to be for.
#[derive(Debug, Clone, Copy)]
pub struct Trust<'a> {
    /// The authority's certificate, in PEM.
    pub authority: &'a str,
    /// The server's name.
    pub name: &'a str,
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

fn connect(port: u16) -> io::Result<TcpStream> {
    let socket = TcpStream::connect(("127.0.0.1", port))?;
    socket.set_read_timeout(Some(Duration::from_secs(60)))?;
    Ok(socket)
}

fn encrypted(socket: TcpStream, trust: Trust<'_>) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let other = |error: &dyn std::fmt::Display| io::Error::other(error.to_string());
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(trust.authority.as_bytes()).map_err(|e| other(&e))?;
    roots.add(authority).map_err(|e| other(&e))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| other(&e))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(trust.name.to_owned()).map_err(|e| other(&e))?;
    let session = ClientConnection::new(Arc::new(config), name).map_err(|e| other(&e))?;
    Ok(StreamOwned::new(session, socket))
}

/// Whether a server shows a certificate that is believed.
///
/// # Errors
/// It does not answer, or is not who it should be.
pub fn is_believed(port: u16, trust: Trust<'_>) -> Result<(), HarnessError> {
    let asked = connect(port).and_then(|socket| encrypted(socket, trust));
    let asked = asked.and_then(|mut stream| stream.conn.complete_io(&mut stream.sock));
    asked.map(drop).map_err(failed("TLS", port))
}

/// The next line without its end. Byte by byte, so that nothing is taken which TLS begins with.
fn line(stream: &mut dyn Stream) -> io::Result<String> {
    let mut text = Vec::new();
    loop {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        match byte[0] {
            b'\n' => return Ok(String::from_utf8_lossy(&text).into_owned()),
            b'\r' => {}
            other => text.push(other),
        }
    }
}

fn failed(service: &'static str, port: u16) -> impl Fn(io::Error) -> HarnessError {
    move |error| HarnessError::Service {
        service,
        address: format!("127.0.0.1:{port}"),
        reason: error.to_string(),
    }
}

/// A connection to a mail server.
pub struct Smtp {
    stream: Box<dyn Stream>,
    port: u16,
    /// What the server said it can, with its last greeting.
    pub extensions: String,
}

impl Smtp {
    /// Without TLS.
    ///
    /// # Errors
    /// The server does not answer.
    pub fn plain(port: u16) -> Result<Smtp, HarnessError> {
        let socket = connect(port).map_err(failed("SMTP", port))?;
        Smtp::greeted(Box::new(socket), port, true)
    }

    /// With TLS from the first byte.
    ///
    /// # Errors
    /// The server does not answer, or is not who it should be.
    pub fn tls(port: u16, trust: Trust<'_>) -> Result<Smtp, HarnessError> {
        let stream = connect(port).and_then(|socket| encrypted(socket, trust));
        Smtp::greeted(Box::new(stream.map_err(failed("SMTP", port))?), port, true)
    }

    /// With TLS after `STARTTLS`.
    ///
    /// # Errors
    /// The same.
    pub fn starttls(port: u16, trust: Trust<'_>) -> Result<Smtp, HarnessError> {
        let socket = connect(port).map_err(failed("SMTP", port))?;
        let same = socket.try_clone().map_err(failed("SMTP", port))?;
        let mut smtp = Smtp::greeted(Box::new(socket), port, true)?;
        let said = smtp.say("STARTTLS")?;
        if !said.starts_with("220") {
            return Err(failed("SMTP", port)(io::Error::other(said)));
        }
        let stream = encrypted(same, trust).map_err(failed("SMTP", port))?;
        Smtp::greeted(Box::new(stream), port, false)
    }

    fn greeted(stream: Box<dyn Stream>, port: u16, greets: bool) -> Result<Smtp, HarnessError> {
        let mut smtp = Smtp {
            stream,
            port,
            extensions: String::new(),
        };
        if greets {
            smtp.answer()?;
        }
        smtp.extensions = smtp.say("EHLO client.example")?;
        Ok(smtp)
    }

    /// The server's answer to a command: its code and its words.
    ///
    /// # Errors
    /// There is none.
    pub fn say(&mut self, command: &str) -> Result<String, HarnessError> {
        let sent = self.stream.write_all(format!("{command}\r\n").as_bytes());
        sent.and_then(|()| self.stream.flush())
            .map_err(failed("SMTP", self.port))?;
        self.answer()
    }

    fn answer(&mut self) -> Result<String, HarnessError> {
        let mut all = Vec::new();
        loop {
            let text = line(&mut *self.stream).map_err(failed("SMTP", self.port))?;
            let last = text.as_bytes().get(3) != Some(&b'-');
            all.push(text);
            if last {
                return Ok(all.join("\n"));
            }
        }
    }

    /// Logs in; what the server says of it.
    ///
    /// # Errors
    /// It says nothing.
    pub fn log_in(&mut self, name: &str, password: &str) -> Result<String, HarnessError> {
        let text = BASE64.encode(format!("\0{name}\0{password}").as_bytes());
        self.say(&format!("AUTH PLAIN {text}"))
    }

    /// Sends a letter whose author is who sends it; the first answer that is none of success, or the last.
    ///
    /// # Errors
    /// The server does not answer.
    pub fn send(&mut self, from: &str, to: &str, subject: &str) -> Result<String, HarnessError> {
        for command in [
            format!("MAIL FROM:<{from}>"),
            format!("RCPT TO:<{to}>"),
            "DATA".to_owned(),
        ] {
            let said = self.say(&command)?;
            if !said.starts_with(['2', '3']) {
                return Ok(said);
            }
        }
        self.say(&format!(
            "From: {from}\r\nTo: {to}\r\nSubject: {subject}\r\n\r\nHow are you?\r\n."
        ))
    }
}

/// A connection to a server of mailboxes, by TLS.
pub struct Imap {
    stream: Box<dyn Stream>,
    port: u16,
    number: u32,
}

impl Imap {
    /// Connects.
    ///
    /// # Errors
    /// The server does not answer, or is not who it should be.
    pub fn tls(port: u16, trust: Trust<'_>) -> Result<Imap, HarnessError> {
        let stream = connect(port).and_then(|socket| encrypted(socket, trust));
        let mut stream = stream.map_err(failed("IMAP", port))?;
        line(&mut stream).map_err(failed("IMAP", port))?;
        Ok(Imap {
            stream: Box::new(stream),
            port,
            number: 0,
        })
    }

    /// Whether the server does a command, and all that it says.
    ///
    /// # Errors
    /// It says nothing.
    pub fn ask(&mut self, command: &str) -> Result<(bool, String), HarnessError> {
        self.number += 1;
        let tag = format!("t{} ", self.number);
        let sent = self.stream.write_all(format!("{tag}{command}\r\n").as_bytes());
        sent.and_then(|()| self.stream.flush())
            .map_err(failed("IMAP", self.port))?;
        let mut all = String::new();
        loop {
            let text = line(&mut *self.stream).map_err(failed("IMAP", self.port))?;
            if let Some(end) = text.strip_prefix(&tag) {
                all.push_str(end);
                return Ok((end.starts_with("OK"), all));
            }
            all.push_str(&text);
            all.push('\n');
        }
    }
}
