//! Handing a certificate over: to the manager by its control socket, or into a folder.

use std::path::Path;

use cairn_config::{Real, put};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::config::Deliver;
use crate::trouble::Trouble;

/// The longest answer that is read.
const LONGEST: u64 = 64 << 10;

pub(crate) async fn deliver(to: &Deliver, of: &str, pem: &str) -> Result<(), Trouble> {
    match to {
        Deliver::Folder(folder) => Ok(put(&Real, &folder.join(format!("{of}.pem")), pem.as_bytes(), 0o600)?),
        Deliver::Control(socket) => {
            let body = serde_json::json!({ "pem": pem }).to_string();
            let asked = tokio::time::timeout(std::time::Duration::from_secs(30), post(socket, &body)).await;
            match asked {
                Ok(answer) => answer,
                Err(_) => Err(Trouble::unreachable("the manager does not answer within 30 seconds")),
            }
        }
    }
}

async fn post(socket: &Path, body: &str) -> Result<(), Trouble> {
    let broken =
        |e: std::io::Error| Trouble::unreachable(format!("the manager does not answer on {}: {e}", socket.display()));
    let mut stream = UnixStream::connect(socket).await.map_err(broken)?;
    let request = format!(
        "POST /v1/certificates/imported HTTP/1.1\r\nHost: cairn\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.map_err(broken)?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer).await.map_err(broken)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok());
    match status {
        Some(200..=299) => Ok(()),
        Some(status) => {
            let told: Option<serde_json::Value> = serde_json::from_str(body).ok();
            let why = told
                .as_ref()
                .and_then(|told| told.get("error")?.as_str())
                .unwrap_or("it gives no reason");
            Err(Trouble::refused(format!(
                "the manager does not take the certificate ({status}): {why}"
            )))
        }
        None => Err(Trouble::unreachable("the manager's answer is not HTTP")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixListener;

    #[tokio::test(flavor = "current_thread")]
    async fn the_managers_refusal_is_told_in_its_own_words() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("control.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let served = tokio::spawn(async move {
            let mut heard = Vec::new();
            for answer in [
                "200 OK\r\n\r\n{}",
                "422 No\r\n\r\n{\"error\":\"the key is another\"}",
                "",
            ] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut block = vec![0; 4096];
                let length = stream.read(&mut block).await.unwrap();
                heard.push(String::from_utf8_lossy(&block[..length]).into_owned());
                if !answer.is_empty() {
                    stream.write_all(format!("HTTP/1.1 {answer}").as_bytes()).await.unwrap();
                }
            }
            heard
        });
        let to = Deliver::Control(socket);
        assert_eq!(deliver(&to, "home", "PEM").await, Ok(()));
        let refused = deliver(&to, "home", "PEM").await.unwrap_err();
        assert_eq!(
            refused.why,
            "the manager does not take the certificate (422): the key is another"
        );
        assert_eq!(
            deliver(&to, "home", "PEM").await.unwrap_err().why,
            "the manager's answer is not HTTP"
        );
        let heard = served.await.unwrap();
        assert!(
            heard[0].starts_with("POST /v1/certificates/imported HTTP/1.1\r\n"),
            "{}",
            heard[0]
        );
        assert!(heard[0].ends_with("\r\n\r\n{\"pem\":\"PEM\"}"), "{}", heard[0]);
        assert!(
            deliver(&to, "home", "PEM")
                .await
                .unwrap_err()
                .why
                .starts_with("the manager does not answer on ")
        );
    }
}
