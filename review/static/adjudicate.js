// The Adjudicate page's keys: A and B take a label, E opens one's own answer, S skips. A decision needs its reason,
// so A and B without one lead to the field instead of sending.
"use strict";
const reason = document.getElementById("reason");

document.querySelector('[data-key="e"]').addEventListener("click", () => {
  const own = document.getElementById("own");
  own.open = true;
  own.querySelector("input").focus();
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
  if (event.target.matches("input:not([type=checkbox]), textarea, select")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const key = document.querySelector(`[data-key="${CSS.escape(event.key.toLowerCase())}"]`);
  if (!key || key.disabled) return;
  event.preventDefault();
  if (key.name === "took" && !reason.value.trim()) reason.focus();
  else key.click();
});
