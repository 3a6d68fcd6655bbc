// A stop is asked for here, whatever else this page may not do: a stale page too, and without a login. The answer is shown
// in words of the hub, or of this script where the hub gives none.
"use strict";

document.documentElement.classList.add("scripted"); // keys that do nothing by themselves are shown from now on

(() => {
  const ANSWER_MS = 5000; // the hub waits 2 s for the edge
  const OPEN_MS = 10000; // an open key is one tap from a stop: not for whoever comes next
  const said = () => document.getElementById("stop-said");
  const keys = () => [...document.querySelectorAll("details.stop")];
  let closing = 0;

  /** Whoever works without a mouse goes on from the key, and not from the top of the page. */
  function close(key) {
    const held = key.contains(document.activeElement);
    key.open = false;
    if (held) key.querySelector("summary").focus();
  }

  function show(html, text) {
    const box = said();
    box.hidden = false;
    if (html) {
      box.innerHTML = html;
    } else {
      box.replaceChildren(document.createElement("div"));
      box.firstChild.className = `stop-said ${text.bad ? "unconfirmed" : "waiting"}`;
      for (const [tag, words] of text.lines) {
        const line = document.createElement(tag);
        line.textContent = words;
        if (tag === "p") line.className = "do";
        box.firstChild.append(line);
      }
    }
    const away = document.createElement("button");
    away.type = "button";
    away.textContent = t("Understood");
    away.addEventListener("click", () => { box.hidden = true; });
    box.firstElementChild.append(away);
    box.scrollIntoView({ block: "nearest" });
  }

  function unanswered(why) {
    show("", { bad: true, lines: [["strong", t("STOP NOT CONFIRMED")], ["p", t("Use the machine's own stop button now.")], ["span", why]] });
  }

  async function ask(form) {
    show("", { lines: [["strong", t("Asking the edge to stop the line …")]] });
    try {
      const limit = AbortSignal.timeout(ANSWER_MS);
      const answer = await fetch(form.action, { method: "POST", headers: { "HX-Request": "true" }, signal: limit });
      const words = await answer.text();
      if (answer.ok || answer.status === 409) show(words);
      else unanswered(t("The hub answered with an error: {status}.", { status: answer.status }));
    } catch {
      unanswered(t("The hub did not answer. Whether the request reached it is not known."));
    }
  }

  document.addEventListener("submit", (e) => {
    const key = e.target.closest("details.stop");
    if (!key) return;
    e.preventDefault();
    close(key);
    ask(e.target);
  });

  document.addEventListener("toggle", (e) => {
    if (!e.target.matches?.("details.stop") || !e.target.open) return;
    for (const other of keys()) if (other !== e.target) other.open = false;
    clearTimeout(closing);
    closing = setTimeout(() => keys().forEach(close), OPEN_MS);
  }, true);

  document.addEventListener("click", (e) => {
    if (e.target.closest("details.stop .never")) close(e.target.closest("details.stop"));
  });

  document.addEventListener("keydown", (e) => {
    if (e.repeat || e.ctrlKey || e.altKey || e.metaKey || e.target.closest("input, select, textarea")) return;
    if (e.key === "Escape") keys().filter((key) => key.open).forEach(close);
    if (e.key.toLowerCase() !== "s" || keys().length !== 1) return; // with several stations: which one?
    keys()[0].open = true;
    keys()[0].querySelector(".sure").focus();
  });
})();
