// Asking the server: one question at a time, the newest picture, answers to older ones dropped.

const csrf = document.querySelector("meta[name=csrf]").content;
const PATIENCE = 120; // milliseconds without a change before a question goes out

// POST; resolves to { ok, status, answer }, with the server's words in answer.error.
export async function post(address, body) {
  const headers = { "X-CSRFToken": csrf, "Content-Type": "application/octet-stream" };
  try {
    const response = await fetch(address, { method: "POST", headers, body });
    const answer = await response.json().catch(() => ({ error: `the server answers ${response.status}` }));
    return { ok: response.ok, status: response.status, answer };
  } catch {
    return { ok: false, status: 0, answer: { error: "charpy study edit does not answer: is it still running?" } };
  }
}

export async function bytes(address) {
  const response = await fetch(address);
  if (!response.ok) throw new Error(`the server answers ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}

// A PNG that the server makes of a picture, ready to be drawn; null where it makes none.
export async function drawn(address, body) {
  const headers = { "X-CSRFToken": csrf, "Content-Type": "application/octet-stream" };
  const response = await fetch(address, { method: "POST", headers, body }).catch(() => null);
  return response?.ok ? createImageBitmap(await response.blob()) : null;
}

export class Asker {
  // `ask(values)` gives a promise; `told(answer, version)` hears the answers, `busy(on)` whether one is awaited.
  constructor(picture, ask, told, busy) {
    Object.assign(this, { picture, ask, told, busy });
    this.asking = false;
    this.timer = 0;
  }

  changed() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#go(), PATIENCE);
  }

  async #go() {
    if (this.asking) return; // the answer that is awaited starts the next question
    this.asking = true;
    const version = this.picture.version;
    this.busy(true);
    const answer = await this.ask(this.picture.values.slice());
    this.asking = false;
    if (version === this.picture.version) {
      this.busy(false);
      this.told(answer, version);
    } else {
      this.changed();
    }
  }
}
