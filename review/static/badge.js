// A badge reader is a keyboard that types a number and Enter, faster than any hand. Wherever it types on this page, the
// number goes to the hub and nowhere else: no field needs a tap first, and what a hand typed into one stays as it was.
// Up to 8 digits are left to the field however fast they come: they may be a PIN. Not on pages that ask for a password,
// which some keep in programs that type as fast.
"use strict";

(() => {
  const GAP_MS = 50; // readers type a key every 1 to 20 ms, hands hardly two within 60
  const BADGE = /^(?=.{6})(?!\d{1,8}$)/;
  const form = document.getElementById("badge");
  let typed = "";
  let last = -Infinity;
  let field = null;
  let before = ""; // what the field held before the reader began

  function begin(target) {
    typed = "";
    field = target instanceof HTMLInputElement ? target : null;
    before = field ? field.value : "";
  }

  // On the window and before anything else: Enter would press the tile or the key that was touched last.
  window.addEventListener("keydown", (e) => {
    if (e.key === "Shift") return;
    if (e.timeStamp - last > GAP_MS || e.repeat || e.ctrlKey || e.altKey || e.metaKey) begin(e.target);
    last = e.timeStamp;
    if (e.key.length === 1) {
      typed += e.key;
      return;
    }
    if (e.key === "Enter" && BADGE.test(typed)) {
      e.preventDefault();
      e.stopImmediatePropagation();
      if (field) field.value = before;
      form.elements.read.value = typed;
      form.submit();
    }
    typed = "";
  }, true);
})();
