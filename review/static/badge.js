// A badge reader is a keyboard that types a number and Enter, faster than any hand. Wherever it types, the number goes to
// the hub and nowhere else: no field needs a tap first, and no key of the page is pressed by a digit of it. So a key that
// may be a shortcut waits until the next one would have come; what a hand pressed goes on then, what a reader typed never.
// Text fields are left alone, but on the page of names and at the PIN, where what a hand typed into one stays as it was.
// Up to 8 digits are left to those fields however fast they come: they may be a PIN. Not on pages that ask for a password,
// which some keep in programs that type as fast.
"use strict";

(() => {
  const GAP_MS = 50; // readers type a key every 1 to 20 ms, hands hardly two within 60
  const BURST = 4; // so many within that of each other are no hand's
  const BADGE = /^(?=.{6})(?!\d{1,8}$)/;
  const TEXT = 'input:not([type="range"], [type="checkbox"], [type="radio"]), select, textarea';
  const form = document.getElementById("badge");
  let typed = "";
  let last = -Infinity;
  let field = null;
  let before = ""; // what the field held before the reader began
  let held = []; // keys that wait
  let timer = 0;

  function begin(target) {
    typed = "";
    field = "fields" in form.dataset && target instanceof HTMLInputElement ? target : null;
    before = field ? field.value : "";
  }

  /** What waited goes on to the page as it came, unless a reader typed it. */
  function release() {
    clearTimeout(timer);
    const keys = held;
    held = [];
    if (keys.length >= BURST) return;
    for (const { key, code, shiftKey, target } of keys) {
      const again = new KeyboardEvent("keydown", { key, code, shiftKey, bubbles: true, cancelable: true });
      (target.isConnected ? target : document.body).dispatchEvent(again);
    }
  }

  function wait() {
    clearTimeout(timer);
    // A busy page runs this before keys that have come already.
    timer = setTimeout(() => (navigator.scheduling?.isInputPending?.() ? wait() : release()), GAP_MS);
  }

  async function signIn(number) {
    // A browser's own error page would take this one's place, and with it the word that nobody inspects.
    if (!(await hubAnswers())) return;
    form.elements.read.value = number;
    form.submit();
  }

  // On the window and before anything else: Enter would press the tile or the key that was touched last.
  window.addEventListener("keydown", (e) => {
    if (!e.isTrusted || e.key === "Shift") return;
    const alone = e.repeat || e.ctrlKey || e.altKey || e.metaKey;
    if (e.timeStamp - last > GAP_MS || alone) {
      release();
      begin(e.target);
    }
    last = e.timeStamp;
    if (e.key.length === 1 && !alone) {
      typed += e.key;
      if (e.target.matches?.(TEXT) || (e.key === " " && !held.length)) return; // Space alone presses and scrolls
      if (e.key === " ") e.preventDefault();
      e.stopImmediatePropagation();
      held.push(e);
      wait();
      return;
    }
    if (e.key === "Enter" && (held.length >= BURST || (field && BADGE.test(typed)))) {
      e.preventDefault();
      e.stopImmediatePropagation();
      if (field) field.value = before;
      if (BADGE.test(typed)) signIn(typed);
    }
    release();
    typed = "";
  }, true);

  window.addEventListener("pointerdown", release, true); // what is pressed after a key comes after it
})();
