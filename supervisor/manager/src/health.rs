//! Checks of a service's health over its network.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use cairn_unit::HttpCheck;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Whether `port` accepts a connection.
///
/// # Errors
/// Why not, in a few words.
pub async fn tcp(host: IpAddr, port: u16, within: Duration) -> Result<(), String> {
    let connect = TcpStream::connect(SocketAddr::from((host, port)));
    match tokio::time::timeout(within, connect).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(e)) => Err(format!("port {port}: {e}")),
        Err(_) => Err(format!("port {port}: no answer within {} ms", within.as_millis())),
    }
}

/// Whether a GET request gets the right status. The body is not read.
///
/// # Errors
/// Why not, in a few words.
pub async fn http(host: IpAddr, check: &HttpCheck, within: Duration) -> Result<(), String> {
    let place = format!("http port {}{}", check.port, check.path);
    let status = match tokio::time::timeout(within, ask(host, check)).await {
        Ok(Ok(status)) => status,
        Ok(Err(e)) => return Err(format!("{place}: {e}")),
        Err(_) => return Err(format!("{place}: no answer within {} ms", within.as_millis())),
    };
    let right = match check.status {
        Some(wanted) => status == wanted,
        None => (200..400).contains(&status),
    };
    if right {
        Ok(())
    } else {
        Err(format!("{place}: status {status}"))
    }
}

/// Sends the request (RFC 9112) and reads the status line.
async fn ask(host: IpAddr, check: &HttpCheck) -> std::io::Result<u16> {
    let mut stream = TcpStream::connect(SocketAddr::from((host, check.port))).await?;
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: localhost:{}\r\nUser-Agent: cairn\r\nAccept: */*\r\nConnection: close\r\n\r\n",
        check.path, check.port
    );
    stream.write_all(request.as_bytes()).await?;
    // `HTTP/1.1 200` is all that is needed.
    let mut line = [0u8; 12];
    stream.read_exact(&mut line).await?;
    let status = line
        .strip_prefix(b"HTTP/1.")
        .and_then(|rest| std::str::from_utf8(rest.get(2..)?).ok()?.parse().ok());
    status.ok_or_else(|| std::io::Error::new(std::io::ErrorKind::InvalidData, "the answer is not HTTP"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server on loopback that gives each caller this answer, and its port.
    async fn server(answer: &'static str) -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0u8; 1024];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        port
    }

    async fn checked(answer: &'static str, status: Option<u16>) -> Result<(), String> {
        let check = HttpCheck {
            port: server(answer).await,
            path: "/up".into(),
            status,
        };
        let result = http([127, 0, 0, 1].into(), &check, Duration::from_secs(5)).await;
        result.map_err(|e| e.replace(&check.port.to_string(), "PORT"))
    }

    #[tokio::test]
    async fn the_status_decides() {
        assert_eq!(checked("HTTP/1.1 204 No Content\r\n\r\n", None).await, Ok(()));
        assert_eq!(checked("HTTP/1.0 302 Found\r\n\r\n", None).await, Ok(()));
        let bad = Err("http port PORT/up: status 503".to_owned());
        assert_eq!(checked("HTTP/1.1 503 Unavailable\r\n\r\n", None).await, bad);
        assert_eq!(checked("HTTP/1.1 503 Unavailable\r\n\r\n", Some(503)).await, Ok(()));
        assert!(checked("HTTP/1.1 200 OK\r\n\r\n", Some(204)).await.is_err());
        let other = checked("SSH-2.0-OpenSSH_10.0\r\n", None).await.unwrap_err();
        assert_eq!(other, "http port PORT/up: the answer is not HTTP");
    }

    #[tokio::test]
    async fn nobody_there_and_nobody_answering_are_told_apart() {
        let refused = tcp([127, 0, 0, 1].into(), 1, Duration::from_secs(5)).await.unwrap_err();
        assert!(refused.starts_with("port 1: "), "{refused}");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(tcp([127, 0, 0, 1].into(), port, Duration::from_secs(5)).await, Ok(()));
        let check = HttpCheck {
            port,
            path: "/".into(),
            status: None,
        };
        let silent = http([127, 0, 0, 1].into(), &check, Duration::from_millis(20))
            .await
            .unwrap_err();
        assert!(silent.ends_with("no answer within 20 ms"), "{silent}");
    }
}
