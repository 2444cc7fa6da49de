"""Notes: each person of the directory keeps some, in the database.

An example of a unit. Nothing here is about its place: hosts, names and paths come from /etc/example/config.json, which Cairn renders, and
passwords from /run/secrets, where a new one appears while this runs.
"""

import base64
import hashlib
import hmac
import html
import json
import secrets
import signal
import ssl
import sys
import time
import urllib.parse

import ldap3
import ldap3.utils.conv
import pymysql
import waitress

AUTHORITY = "/run/secrets/ca"
SESSION_SECONDS = 8 * 3600
LONGEST_NOTE = 10_000
LONGEST_FORM = 64 * 1024


def config():
    with open("/etc/example/config.json", encoding="utf-8") as file:
        return json.load(file)


def secret(name):
    with open(f"/run/secrets/{name}", encoding="utf-8") as file:
        return file.read()


class Database:
    """A connection, with the password as it is now."""

    def __enter__(self):
        at = config()["database"]
        self.connection = pymysql.connect(
            host=at["host"], port=at["port"], user=at["user"], password=secret("db"), database=at["name"],
            charset="utf8mb4", autocommit=True, connect_timeout=5, read_timeout=10, write_timeout=10,
            ssl_ca=AUTHORITY, ssl_verify_cert=True, ssl_verify_identity=True,
        )
        return self.connection.cursor()

    def __exit__(self, *_):
        self.connection.close()


TABLE = """create table if not exists note (
  id bigint unsigned auto_increment primary key, person varchar(255) not null, at datetime not null default now(),
  text text not null, key (person)) character set utf8mb4"""


def person_of(name, password):
    """Who logs in by this name and password; none if nobody does."""
    # A bind with an empty password is anonymous, and succeeds (RFC 4513, section 5.1.2).
    if not name or not password:
        return None
    at = config()["directory"]
    server = ldap3.Server(
        at["host"], at["port"], connect_timeout=5,
        tls=ldap3.Tls(ca_certs_file=AUTHORITY, validate=ssl.CERT_REQUIRED),
    )
    def bound(dn, word):
        return ldap3.Connection(
            server, dn, word, receive_timeout=10, auto_bind=ldap3.AUTO_BIND_TLS_BEFORE_BIND, raise_exceptions=False)

    with bound(at["dn"], secret("people")) as search:
        wanted = f"(&(objectClass=inetOrgPerson)(uid={ldap3.utils.conv.escape_filter_chars(name)}))"
        search.search(at["people"], wanted, attributes=["uid"])
        if len(search.entries) != 1:
            return None
        found = search.entries[0]
    try:
        with bound(found.entry_dn, password):
            return str(found.uid)
    except ldap3.core.exceptions.LDAPBindError:
        return None


def signed(text):
    key = secret("session").encode()
    body = base64.urlsafe_b64encode(text.encode()).decode()
    return body + "." + hmac.new(key, body.encode(), hashlib.sha256).hexdigest()


def opened(text):
    """What was signed; none if it was not by us."""
    body, _, _ = text.partition(".")
    try:
        plain = base64.urlsafe_b64decode(body.encode()).decode()
    except ValueError:
        return None
    return plain if hmac.compare_digest(signed(plain), text) else None


class Request:
    def __init__(self, environ):
        self.method = environ["REQUEST_METHOD"]
        self.path = environ["PATH_INFO"]
        cookies = [part.strip().partition("=") for part in environ.get("HTTP_COOKIE", "").split(";")]
        self.cookie = next((value for name, _, value in cookies if name == "notes"), "")
        self.person = self.token = None
        session = opened(self.cookie)
        if session:
            until, self.token, person = session.split(" ", 2)
            self.person = person if int(until) > time.time() else None
        length = int(environ.get("CONTENT_LENGTH") or 0)
        if length > LONGEST_FORM:
            raise Refused("413 Content Too Large", "that is too much at once")
        body = environ["wsgi.input"].read(length).decode("utf-8", "replace") if self.method == "POST" else ""
        self.form = {key: values[0] for key, values in urllib.parse.parse_qs(body).items()}


class Refused(Exception):
    def __init__(self, status, why):
        super().__init__(why)
        self.status = status


def page(title, body):
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title><h1>{html.escape(title)}</h1>{body}</html>"""


def respond(request, base):
    """The status, further headers, and the page."""
    if request.path == base + "/health":
        with Database() as cursor:
            cursor.execute("select 1")
        return "200 OK", [], page("Well", "")
    if request.path == base + "/login" and request.method == "POST":
        person = person_of(request.form.get("name", ""), request.form.get("password", ""))
        if person is None:
            return "403 Forbidden", [], login(base, "The name or the password is wrong.")
        session = signed(f"{int(time.time()) + SESSION_SECONDS} {secrets.token_urlsafe(18)} {person}")
        return see(base, [("Set-Cookie", f"notes={session}; Path={base}; Secure; HttpOnly; SameSite=Strict")])
    if request.path not in (base, base + "/", base + "/login"):
        return "404 Not Found", [], page("There is nothing here", "")
    if request.person is None:
        return "200 OK", [], login(base, "")
    if request.method == "POST":
        if not hmac.compare_digest(request.form.get("token", ""), request.token):
            raise Refused("403 Forbidden", "the form is not from this session; load the page again")
        text = request.form.get("text", "").strip()
        if text and len(text) <= LONGEST_NOTE:
            with Database() as cursor:
                cursor.execute("insert into note (person, text) values (%s, %s)", (request.person, text))
        return see(base, [])
    with Database() as cursor:
        cursor.execute("select at, text from note where person = %s order by id desc limit 100", (request.person,))
        notes = "".join(f"<li><time>{at:%Y-%m-%d %H:%M}</time> {html.escape(text)}" for at, text in cursor.fetchall())
    form = (f'<form method="post" action="{base}/"><input type="hidden" name="token" value="{html.escape(request.token)}">'
            f'<label>Note <textarea name="text" maxlength="{LONGEST_NOTE}" required></textarea></label><button>Keep</button></form>')
    return "200 OK", [], page(f"Notes of {request.person}", form + f"<ul>{notes}</ul>")


def see(base, headers):
    return "303 See Other", headers + [("Location", base + "/")], ""


def login(base, why):
    said = f'<p role="alert">{html.escape(why)}</p>' if why else ""
    return page("Notes", said + f"""<form method="post" action="{base}/login"><label>Name <input name="name" autocomplete="username" required></label>
<label>Password <input name="password" type="password" autocomplete="current-password" required></label><button>Log in</button></form>""")


def application(environ, start_response):
    try:
        status, headers, text = respond(Request(environ), config()["path"])
    except Refused as refused:
        status, headers, text = refused.status, [], page("Refused", f"<p>{html.escape(str(refused))}</p>")
    except (pymysql.Error, ldap3.core.exceptions.LDAPException, OSError) as error:
        # What a person can do nothing about; the log says more.
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        status, headers, text = "503 Service Unavailable", [], page("Not now", "<p>Try it again in a moment.</p>")
    body = text.encode()
    start_response(status, headers + [
        ("Content-Type", "text/html; charset=utf-8"), ("Content-Length", str(len(body))), ("Cache-Control", "no-store"),
        ("Content-Security-Policy", "default-src 'none'; form-action 'self'; frame-ancestors 'none'"),
        ("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "no-referrer"),
    ])
    return [body]


def main():
    # Files are read when they are needed, so a reload has nothing to do.
    signal.signal(signal.SIGHUP, lambda *_: None)
    with Database() as cursor:
        cursor.execute(TABLE)
    waitress.serve(application, listen="*:8000", threads=4, max_request_body_size=LONGEST_FORM, ident="")


if __name__ == "__main__":
    main()
