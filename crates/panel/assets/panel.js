// What the pages do beyond HTML: follow changes, follow a log, and send a form once. Every page works without it.
"use strict";

// A region marked `data-live` is asked for again whenever the server says that something changed.
function followPage(region) {
  const source = new EventSource(region.dataset.live);
  let running = false, again = false;
  async function refresh() {
    if (running) { again = true; return; }
    running = true;
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html" } });
      if (answer.redirected) { location.href = answer.url; return; }
      if (answer.ok) {
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        const fresh = page.getElementById(region.id);
        // What was opened stays open.
        const own = region.querySelectorAll("details");
        fresh?.querySelectorAll("details").forEach((one, i) => { one.open = own[i]?.open ?? one.open; });
        // A page that says the same is left alone, and so is one that somebody is working in.
        if (fresh && fresh.innerHTML !== region.innerHTML && !region.contains(document.activeElement)) {
          region.replaceChildren(...fresh.childNodes);
        }
      }
    } catch { /* The appliance is away; the source tells when it is back. */ }
    running = false;
    if (again) { again = false; refresh(); }
  }
  source.addEventListener("change", () => { if (!document.hidden) refresh(); });
  // Given up: the session may have ended, and then this leads to the login.
  source.addEventListener("error", () => { if (source.readyState === EventSource.CLOSED) refresh(); });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
}

// A log grows at its end, and stays at the end if it is looked at there.
function followLog(log) {
  const source = new EventSource(log.dataset.follow);
  log.scrollTop = log.scrollHeight;
  source.onmessage = (event) => {
    const low = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    log.querySelector(".none")?.remove();
    log.append(event.data + "\n");
    while (log.childNodes.length > 2000) log.firstChild.remove();
    if (low) log.scrollTop = log.scrollHeight;
  };
}

for (const region of document.querySelectorAll("[data-live]")) followPage(region);
for (const log of document.querySelectorAll("[data-follow]")) followLog(log);

// On a phone the menu is a strip: the page that is looked at is in sight.
function showPlace() {
  const here = document.querySelector(".side nav [aria-current]"), strip = here?.closest("nav");
  if (strip) strip.scrollLeft = here.offsetLeft - (strip.clientWidth - here.offsetWidth) / 2;
}
showPlace();
addEventListener("resize", showPlace);

// A code that came behind the # of a link is put where it would be typed, and taken out of the history.
for (const field of document.querySelectorAll("[data-from-link]")) {
  if (location.hash.length > 1) {
    field.value = decodeURIComponent(location.hash.slice(1));
    history.replaceState(null, "", location.pathname);
  }
}

// A second press of a button does not send a form twice.
document.addEventListener("submit", (event) => {
  if (event.target.dataset.sent) { event.preventDefault(); return; }
  if (event.target.method === "post") event.target.dataset.sent = "yes";
});
addEventListener("pageshow", () => {
  for (const form of document.forms) delete form.dataset.sent;
});
