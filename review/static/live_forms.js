// What somebody types survives a hub that restarts meanwhile: it is kept in this tab until the hub has it. A form is sent
// only when the hub answers, since a browser's own error page would take the text with it.
"use strict";

/** Whether the hub answers now: what leaves the page without asking may end at a browser's own error page. */
async function hubAnswers() {
  try {
    const limit = AbortSignal.timeout(2500);
    return (await fetch("/static/icon.svg", { cache: "no-store", signal: limit })).ok;
  } catch {
    return false;
  }
}

(() => {
  const SENT = "haltline-sent"; // a form on its way
  const TYPED = 'textarea[name], input[name][type="text"], input[name]:not([type])';
  const key = (field) => `typed:${location.pathname}:${field.form?.getAttribute("action") ?? ""}:${field.name}`;
  const fields = (root) => [...root.querySelectorAll(TYPED)].filter((field) => field.form?.method === "post");

  /** The page after a form was sent: where it was led to from there and refuses nothing, the hub has what was typed.
   * The page of names is no such page, nor one somebody goes back to or opens after a browser's own error page. */
  function forget() {
    const sent = JSON.parse(sessionStorage.getItem(SENT) || "null");
    sessionStorage.removeItem(SENT);
    if (!sent || "refused" in document.body.dataset || location.pathname.startsWith("/who")) return;
    if (performance.getEntriesByType("navigation")[0].type !== "navigate" || !document.referrer) return;
    if (new URL(document.referrer).pathname === sent.from) sent.keys.forEach((k) => sessionStorage.removeItem(k));
  }

  function restore() {
    for (const field of fields(document)) {
      const kept = sessionStorage.getItem(key(field));
      if (kept && !field.value) field.value = kept;
    }
  }

  function say(form, text) {
    let line = form.querySelector(".not-sent");
    if (!line) {
      line = document.createElement("p");
      line.className = "say not-sent";
      line.dataset.bad = "";
      line.setAttribute("role", "alert");
      form.append(line);
    }
    line.textContent = text;
  }

  document.addEventListener("input", (e) => {
    if (e.target.matches(TYPED) && e.target.form?.method === "post") sessionStorage.setItem(key(e.target), e.target.value);
  });

  document.addEventListener("submit", async (e) => {
    const form = e.target;
    if (e.defaultPrevented || form.method !== "post" || !fields(form).length) return;
    if (form.dataset.answered) {
      delete form.dataset.answered;
      return;
    }
    e.preventDefault();
    const by = e.submitter;
    if (!(await hubAnswers())) {
      say(form, t("NOT SENT: the hub does not answer. What you typed is kept; press again when the page is live."));
      return;
    }
    sessionStorage.setItem(SENT, JSON.stringify({ from: location.pathname, keys: fields(form).map(key) }));
    form.dataset.answered = "1";
    form.requestSubmit(by);
  });

  document.addEventListener("htmx:after:swap", restore);
  document.addEventListener("DOMContentLoaded", () => { forget(); restore(); });
})();
