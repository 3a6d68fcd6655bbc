// The unsaved label in this browser's own storage, so that a closed tab or a lost hub costs nobody their work.

const PREFIX = "haltline.label.";
const KEPT_DAYS = 14;
const WAIT_MS = 1000;

export class Draft {
  /** `current()` gives what to keep; `failed()` is told when the browser keeps nothing. */
  constructor({ person, uid }, current, failed) {
    // Named by person: two who share a browser must not meet each other's draft.
    this.key = `${PREFIX}${person}.${uid}`;
    Object.assign(this, { current, failed, timer: null, closed: false });
    window.addEventListener("pagehide", () => this.timer && this.write());
  }

  soon() {
    this.timer ??= setTimeout(() => this.write(), WAIT_MS);
  }

  write() {
    clearTimeout(this.timer);
    this.timer = null;
    if (this.closed) return;
    try {
      localStorage.setItem(this.key, JSON.stringify({ ...this.current(), at: Date.now() }));
    } catch {
      this.failed();
    }
  }

  /** The draft of this frame, or null; drafts nobody came back for are dropped on the way. */
  read() {
    try {
      for (const key of Object.keys(localStorage).filter((k) => k.startsWith(PREFIX))) {
        const at = JSON.parse(localStorage.getItem(key))?.at ?? 0;
        if (Date.now() - at > KEPT_DAYS * 86_400_000) localStorage.removeItem(key);
      }
      return JSON.parse(localStorage.getItem(this.key));
    } catch {
      return null;
    }
  }

  /** Saved or started over: nothing is kept any more, also not on the way out. */
  drop() {
    this.closed = true;
    clearTimeout(this.timer);
    this.timer = null;
    localStorage.removeItem(this.key);
  }
}
