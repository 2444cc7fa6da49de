// Passkeys: what only a script can ask the browser for. The forms stay hidden where it cannot.
"use strict";

const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (one) => one.charCodeAt(0));
const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");

// The options that the server gave, with bytes in the place of text.
async function asked(url, request) {
  const answer = await fetch(url, request);
  const options = await answer.json();
  if (!answer.ok) throw new Told(options.error);
  options.challenge = bytes(options.challenge);
  if (options.user) options.user.id = bytes(options.user.id);
  for (const one of options.excludeCredentials ?? []) one.id = bytes(one.id);
  return options;
}

// What the server said, in the reader's words.
class Told extends Error {}

const USES = {
  async login(form) {
    const publicKey = await asked(form.action, { headers: { accept: "application/json" } });
    const { rawId, response } = await navigator.credentials.get({ publicKey });
    return { id: rawId, client_data: response.clientDataJSON, authenticator_data: response.authenticatorData,
      signature: response.signature, user_handle: response.userHandle ?? new ArrayBuffer() };
  },
  async add(form) {
    const publicKey = await asked(form.dataset.begin, { method: "POST", body: new URLSearchParams(new FormData(form)) });
    const { response } = await navigator.credentials.create({ publicKey });
    return { client_data: response.clientDataJSON, attestation: response.attestationObject };
  },
};

for (const form of document.querySelectorAll("form[data-passkey]")) {
  if (!window.PublicKeyCredential) continue;
  form.hidden = false;
  const why = form.querySelector(".why"), button = form.querySelector("button");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    event.stopPropagation();
    why.hidden = true;
    button.disabled = true;
    try {
      const parts = await USES[form.dataset.passkey](form);
      for (const [name, part] of Object.entries(parts)) {
        const field = form.querySelector(`input[name=${name}]`) ?? form.appendChild(document.createElement("input"));
        Object.assign(field, { type: "hidden", name, value: text(part) });
      }
      // The password is not needed twice.
      form.querySelector("input[type=password]")?.removeAttribute("name");
      form.submit();
    } catch (error) {
      const there = error.name === "InvalidStateError" && form.dataset.there;
      why.textContent = error instanceof Told ? error.message : there || form.dataset.failed;
      why.hidden = false;
    }
    button.disabled = false;
  });
}
