//! The style and the script: files of the program, at addresses that change with their content.

use std::sync::LazyLock;

use hyper::header;
use sha2::{Digest as _, Sha256};

use crate::http::Response;

const STYLE: &str = include_str!("../assets/panel.css");
const SCRIPT: &str = include_str!("../assets/panel.js");
const PASSKEY_SCRIPT: &str = include_str!("../assets/passkey.js");
const ICON: &str = include_str!("../assets/icon.svg");

fn named(content: &str, kind: &str) -> String {
    let hash = Sha256::digest(content.as_bytes());
    format!("{:016x}.{kind}", u64::from_be_bytes(std::array::from_fn(|i| hash[i])))
}

static STYLE_NAME: LazyLock<String> = LazyLock::new(|| named(STYLE, "css"));
static SCRIPT_NAME: LazyLock<String> = LazyLock::new(|| named(SCRIPT, "js"));

static PASSKEY_SCRIPT_NAME: LazyLock<String> = LazyLock::new(|| named(PASSKEY_SCRIPT, "js"));

pub(crate) fn style_path() -> String {
    format!("/assets/{}", *STYLE_NAME)
}

pub(crate) fn script_path() -> String {
    format!("/assets/{}", *SCRIPT_NAME)
}

/// The script of the pages on which passkeys are made or used.
pub(crate) fn passkey_script_path() -> String {
    format!("/assets/{}", *PASSKEY_SCRIPT_NAME)
}

pub(crate) fn answer(name: &str) -> Response {
    let (kind, content) = match name {
        _ if name == *STYLE_NAME => ("text/css; charset=utf-8", STYLE),
        _ if name == *SCRIPT_NAME => ("text/javascript; charset=utf-8", SCRIPT),
        _ if name == *PASSKEY_SCRIPT_NAME => ("text/javascript; charset=utf-8", PASSKEY_SCRIPT),
        "icon.svg" => ("image/svg+xml", ICON),
        _ => return Response::text(404, "There is no such file.\n"),
    };
    let kept = if name == "icon.svg" {
        "max-age=86400"
    } else {
        "max-age=31536000, immutable"
    };
    Response::new(200, kind, content).with(header::CACHE_CONTROL, kept)
}
