// An acknowledgement or a verdict that did not reach the hub is a fact about the past: this browser keeps it until the
// hub has it. It is sent in the name of whoever gave it and of nobody else, so it waits until that person is signed in
// here, and it leaves only with the hub's answer. Every page's bar says that something waits, and whose it is.
"use strict";

const unsent = (() => {
  const KEPT = "haltline-not-yet-sent";
  const REFUSED = [404, 409, 422]; // the hub has looked at it and will never take it
  const ANSWER_MS = 15000;
  const AGAIN_MS = 10000;
  const OTHER = "Haltline-Person"; // asks for this person; in an answer: somebody else is signed in
  const $ = (id) => document.getElementById(id);
  const person = () => document.body.dataset.person;
  const as = (name) => ({ [OTHER]: encodeURIComponent(name) });
  const all = () => JSON.parse(localStorage.getItem(KEPT) || "[]");
  const waits = () => all().filter((w) => !w.refused);

  function keep(list) {
    localStorage.setItem(KEPT, JSON.stringify(list));
    show();
  }

  /** False where nobody is named on this page: it could only be sent in the name of whoever comes next. */
  function add(url, body) {
    if (!person()) return false;
    const page = url.slice(0, url.lastIndexOf("/"));
    const says = (u) => !u.endsWith("/ack"); // a verdict and its undo: the newest is what the person says
    const mine = waits().filter((w) => w.person === person() && w.page === page);
    if (!says(url) && mine.length) return true; // a verdict acknowledges too
    const replaced = mine.filter((w) => w.url === url || (says(url) && says(w.url))).map((w) => w.id);
    const id = `${Date.now()}-${Math.random()}`;
    keep([...all().filter((w) => !replaced.includes(w.id)), { id, url, page, body, person: person() }]);
    return true;
  }

  // ── sending ─────────────────────────────────────────────────────────────────────────────────────────────────

  let sending = false;
  let tried = -Infinity;

  async function send() {
    const mine = waits().filter((w) => w.person === person());
    if (sending || !mine.length) return;
    sending = true;
    tried = performance.now();
    for (const w of mine) if (!(await taken(w))) break;
    sending = false;
    document.dispatchEvent(new Event("haltline:sent"));
  }

  /** Whether the next may be sent. A sign-in that has ended, or somebody else's, keeps it: it waits for its person. */
  async function taken(w) {
    const headers = { "Content-Type": "application/x-www-form-urlencoded", "HX-Request": "true", ...as(w.person) };
    try {
      const answer = await fetch(w.url, { method: "POST", headers, body: w.body, signal: AbortSignal.timeout(ANSWER_MS) });
      if (answer.ok) {
        keep(all().filter((other) => other.id !== w.id));
        return true;
      }
      if (!REFUSED.includes(answer.status) || answer.headers.has(OTHER)) return false;
      const said = new DOMParser().parseFromString(await answer.text(), "text/html");
      const why = (said.querySelector(".say") ?? said.body).textContent.trim();
      keep(all().map((other) => (other.id === w.id ? { ...other, refused: why } : other)));
      return true;
    } catch {
      return false;
    }
  }

  // ── what every page says about it ───────────────────────────────────────────────────────────────────────────

  function show() {
    const note = $("unsent");
    const list = waits();
    note.hidden = !list.length;
    if (list.length) {
      note.href = list[0].page;
      note.textContent = t("NOT YET SENT: {names}", { names: [...new Set(list.map((w) => w.person))].join(", ") });
    }
    const refused = all().filter((w) => w.refused);
    $("not-recorded").hidden = !refused.length;
    $("not-recorded").replaceChildren(...refused.map((w) => line(t("{name}, pressed while the hub was away: {why}", { name: w.person, why: w.refused }), w.page, () => keep(all().filter((o) => o.id !== w.id)))));
  }

  function line(text, page, understood) {
    const box = document.createElement("div");
    const words = document.createElement("p");
    words.textContent = text;
    const link = document.createElement("a");
    link.className = "more";
    link.href = page;
    link.textContent = t("Open the halt");
    const away = document.createElement("button");
    away.type = "button";
    away.textContent = t("Understood");
    away.addEventListener("click", understood);
    box.append(words, link, away);
    return box;
  }

  // Whoever acts is whoever this page names, also when somebody has signed in on another tab since.
  document.addEventListener("htmx:config:request", (e) => {
    const { request } = e.detail.ctx;
    if (person() && request.method.toUpperCase() !== "GET") Object.assign(request.headers, as(person()));
  });
  document.addEventListener("formdata", (e) => {
    if (person() && e.target.method === "post") e.formData.set("page_person", person());
  });
  document.addEventListener("htmx:response:error", (e) => {
    const { response, text } = e.detail.ctx;
    if (!response.headers.has(OTHER)) return;
    const box = line(text.trim(), location.href, () => { box.remove(); show(); });
    $("not-recorded").append(box);
    $("not-recorded").hidden = false;
  });

  document.addEventListener("haltline:live", send);
  document.addEventListener("haltline:tick", () => { if (performance.now() - tried > AGAIN_MS) send(); });
  addEventListener("storage", show);
  document.addEventListener("DOMContentLoaded", show);
  return { add, waits };
})();
