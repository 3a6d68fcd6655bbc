// The Halt page: keys, the heat map, and the rule that a verdict counts only once the picture has been on the screen.
"use strict";

(() => {
  const panel = () => document.getElementById("halt");
  let heatOn = false;

  // ── the picture first, then the verdict ─────────────────────────────────────────────────────────────────────

  function seen() {
    const photo = panel().querySelector(".main-picture img.photo");
    return Boolean(photo?.complete && photo.naturalWidth);
  }

  function settle() {
    for (const key of panel().querySelectorAll("[data-needs-picture]")) key.disabled = !seen();
    for (const img of panel().querySelectorAll("img.photo")) {
      if (!img.complete) img.addEventListener("load", settle, { once: true });
    }
    panel().classList.toggle("heat-on", heatOn);
    panel().querySelector("#heat")?.setAttribute("aria-pressed", String(heatOn));
    showFrame();
    sayWaiting();
  }

  function toggleHeat() {
    heatOn = !heatOn;
    settle();
  }

  // ── the frames before ───────────────────────────────────────────────────────────────────────────────────────
  // All of them are tiles of one picture, asked for once what must be judged is on the screen.

  let back = 0; // how many frames before the last one are we looking at?

  function showFrame() {
    const film = panel().querySelector("#film");
    if (!film) return;
    const scrub = film.querySelector("#scrub");
    const told = JSON.parse(film.dataset.told);
    const n = told.length - 1 - Math.min(back, told.length - 1);
    scrub.value = n;
    scrub.setAttribute("aria-valuetext", told[n]);
    const tile = panel().querySelector("#tile");
    const shown = panel().querySelector("#shown");
    shown.dataset.saw ??= shown.textContent;
    shown.textContent = back ? told[n] : shown.dataset.saw;
    tile.hidden = !back;
    if (!back) {
      if (seen()) new Image().src = film.dataset.sheet; // so that the first touch shows something
      return;
    }
    const { columns, rows, ratio, sheet } = film.dataset;
    const [column, row] = [n % columns, Math.floor(n / columns)];
    const at = (i, of) => (of > 1 ? (100 * i) / (of - 1) : 0);
    const wide = Number(ratio) > tile.parentElement.clientWidth / tile.parentElement.clientHeight;
    tile.style.aspectRatio = ratio;
    tile.style.width = wide ? "100%" : "auto";
    tile.style.height = wide ? "auto" : "100%";
    tile.style.backgroundImage = `url("${sheet}")`;
    tile.style.backgroundSize = `${columns * 100}% ${rows * 100}%`;
    tile.style.backgroundPosition = `${at(column, columns)}% ${at(row, rows)}%`;
  }

  function scrubTo(n) {
    const last = Number(panel().querySelector("#scrub").max);
    back = Math.min(last, Math.max(0, last - n));
    showFrame();
  }

  // ── what did not reach the hub ──────────────────────────────────────────────────────────────────────────────
  // An acknowledgement or verdict is kept until the hub has it (unsent.js). A reset is not: sent later it would act on
  // a line nobody is looking at.

  function say(text) {
    const line = panel().querySelector(".say");
    line.textContent = text;
    line.dataset.bad = "";
  }

  function sayWaiting() {
    const names = new Set(unsent.waits().filter((w) => w.page === location.pathname).map((w) => w.person));
    if (!names.size) return;
    say(t("NOT YET SENT: it is kept here and sent when the hub is back and {names} is signed in on this screen.", { names: [...names].join(", ") }));
  }

  function notSent(ctx) {
    if (ctx?.request?.method?.toUpperCase() !== "POST") return;
    const url = new URL(ctx.request.action, location.href).pathname;
    if (url.endsWith("/reset")) {
      say(t("NOT SENT: the hub did not answer. Nothing was reset; press again when the page is live."));
    } else if (unsent.add(url, new URLSearchParams(ctx.request.body).toString())) {
      sayWaiting();
    } else {
      say(t("NOT SENT: the hub did not answer, and nobody is signed in here in whose name it could be sent later."));
    }
  }

  // ── two people on one halt ──────────────────────────────────────────────────────────────────────────────────

  const UNSEEN_MS = 700; // nobody reads a verdict and presses upon it sooner
  const READ_MS = 15000;
  let given = ""; // the key of the verdict that the page shows
  let changedAt = -Infinity; // when somebody else's came
  let reading = 0;

  const shownVerdict = () => panel().querySelector('.verdict[aria-pressed="true"]')?.dataset.key ?? "";

  /** Why nothing was recorded stays a while: the news of what was in its way would take it off the page at once. */
  function keepRefusal(kept) {
    clearTimeout(reading);
    panel().querySelector(".say").toggleAttribute("hx-morph-skip", kept);
    if (kept) reading = setTimeout(() => { keepRefusal(false); htmx.trigger(panel(), "refetch"); }, READ_MS);
  }

  function compare({ request, response }) {
    if (request.method !== "GET") keepRefusal(response.status === 409);
    else if (given !== shownVerdict() && !panel().querySelector("#undo")) changedAt = performance.now();
    given = shownVerdict();
  }

  // Whoever presses then means the page as it was.
  document.addEventListener("click", (e) => {
    if (!e.target.closest(".key-row .verdict") || performance.now() - changedAt > UNSEEN_MS) return;
    e.stopImmediatePropagation();
    say(t("Not recorded: somebody else has judged it this moment. Look again, then judge."));
    keepRefusal(true);
  }, true);

  // ── keys ────────────────────────────────────────────────────────────────────────────────────────────────────

  document.addEventListener("click", (e) => { if (e.target.closest("#heat")) toggleHeat(); });

  document.addEventListener("input", (e) => { if (e.target.id === "scrub") scrubTo(Number(e.target.value)); });

  document.addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.altKey || e.metaKey || e.target.closest("input:not(#scrub), select, textarea")) return;
    const key = e.key.toLowerCase();
    const step = { arrowleft: -1, arrowright: 1 }[key];
    const scrub = panel().querySelector("#scrub");
    if (step && scrub) {
      e.preventDefault();
      scrubTo(Number(scrub.value) + step);
    }
    if (e.repeat || step) return;
    if (key === "h") toggleHeat();
    else panel().querySelector(`[data-key="${CSS.escape(key)}"]:not(:disabled)`)?.click();
  });

  document.addEventListener("htmx:error", (e) => notSent(e.detail.ctx));
  document.addEventListener("htmx:response:error", (e) => {
    if (e.detail.ctx.response.status >= 500) notSent(e.detail.ctx);
  });
  let held = null; // what had the focus when an act was answered
  document.addEventListener("htmx:before:swap", (e) => {
    if (e.detail.ctx.request.method === "GET") return;
    keepRefusal(false);
    held = document.activeElement;
  });
  document.addEventListener("htmx:after:swap", (e) => {
    compare(e.detail.ctx);
    settle();
    // Whoever works without a mouse goes on from the answer: a key that is spent is nowhere, and Tab would begin anew.
    if (held?.disabled || held?.isConnected === false) panel().querySelector(".say").focus({ preventScroll: true });
    held = null;
  });
  document.addEventListener("haltline:sent", () => htmx.trigger(panel(), "refetch"));
  document.addEventListener("DOMContentLoaded", () => { given = shownVerdict(); settle(); });
})();
