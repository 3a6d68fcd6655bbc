// One event stream per tab. News says what changed and the page refetches it; silence turns the page stale.
// Plain EventSource, not htmx's: htmx pauses streams in hidden tabs, and an alarm must sound there too.
"use strict";

(() => {
  const STALE_AFTER_MS = 6000;
  const CALLS = { pass: () => t("PASS"), uncertain: () => t("UNCERTAIN"), defect: () => t("DEFECT"), fault: () => t("FAULT") };
  const SCROLL_AHEAD_PX = 300;
  const GATHER_MS = 120; // a burst of news is one refetch
  const $ = (id) => document.getElementById(id);

  let stream = null;
  let lastTick = performance.now();
  let clockOffset = 0; // hub's clock minus ours
  let wasAway = true; // also at first: something may have changed between the page and its stream
  let brokerAway = false;
  let notStoring = false;

  // ── news ────────────────────────────────────────────────────────────────────────────────────────────────────

  const pending = new Set();
  let timer = 0;

  function refetch(section) {
    pending.add(section);
    timer ||= setTimeout(() => {
      timer = 0;
      const sections = [...pending];
      pending.clear();
      for (const s of sections) if (s.isConnected) htmx.trigger(s, "refetch");
    }, GATHER_MS);
  }

  // A refetch asked before an act was answered may be older than the act, and may come after its answer: it would put
  // the old page back, with the next key disabled, under the finger that presses it.
  const answered = new WeakMap(); // part of the page -> when the newest act that changes it was answered

  document.addEventListener("htmx:before:request", (e) => { e.detail.ctx.askedAt = performance.now(); });
  document.addEventListener("htmx:before:swap", (e) => {
    const { target, request, askedAt } = e.detail.ctx;
    if (request.method !== "GET") {
      answered.set(target, performance.now());
    } else if (askedAt < answered.get(target)) {
      e.preventDefault();
      refetch(target);
    }
  });

  function changed(kind, key) {
    for (const s of document.querySelectorAll("[data-news]")) {
      const wanted = s.dataset.news.split(" ");
      if (wanted.includes(kind) || wanted.includes(`${kind}:${key}`)) refetch(s);
    }
  }

  function everythingChanged() {
    document.querySelectorAll("[data-news]").forEach(refetch);
    document.querySelectorAll("img[data-live]").forEach((img) => show(img.dataset.live, Date.now()));
  }

  // Only what this page shows, and halts for the sound: a tab is not woken for the records of every station.
  function shownKinds() {
    const kinds = new Set(["halt"]);
    for (const s of document.querySelectorAll("[data-news]")) s.dataset.news.split(" ").forEach((n) => kinds.add(n.split(":")[0]));
    if (document.querySelector(".live, .cameras, #stations")) kinds.add("picture");
    return [...kinds].join(",");
  }

  function open() {
    stream?.close();
    stream = new EventSource(`/events?kinds=${shownKinds()}`);
    stream.addEventListener("tick", (e) => tick(JSON.parse(e.data)));
    for (const kind of ["line", "halt", "model", "record", "system"]) {
      stream.addEventListener(kind, (e) => changed(kind, JSON.parse(e.data).key));
    }
    stream.addEventListener("picture", (e) => picture(JSON.parse(e.data)));
    stream.onerror = () => { wasAway = true; };
  }

  function tick(data) {
    lastTick = performance.now();
    clockOffset = data.now_ms - Date.now();
    const back = wasAway || brokerAway === data.broker;
    brokerAway = !data.broker;
    notStoring = !data.storing;
    if (back) {
      everythingChanged();
      document.dispatchEvent(new Event("haltline:live"));
    }
    wasAway = false;
    urgent = data.urgent;
    document.dispatchEvent(new CustomEvent("haltline:tick", { detail: data }));
    alarm(data.unacked, data.faults);
    look();
  }

  // ── staleness ───────────────────────────────────────────────────────────────────────────────────────────────

  function look() {
    const silent = performance.now() - lastTick;
    const stale = silent > STALE_AFTER_MS;
    const banner = $("stale");
    let why = "";
    if (stale) why = t("This page has not heard from the hub for {s} s. What it shows is old.", { s: Math.round(silent / 1000) });
    else if (brokerAway) why = t("The hub has lost the message broker: nothing arrives from any station.");
    else if (notStoring) why = t("The hub cannot store records: its disk or database fails. Edges keep theirs meanwhile.");
    banner.hidden = !why;
    banner.classList.toggle("only-storage", !stale && !brokerAway && notStoring);
    $("stale-why").textContent = why;
    document.body.classList.toggle("is-stale", stale || brokerAway);
    if (stale && !resting()) {
      wasAway = true;
      if (stream.readyState === EventSource.CLOSED) open();
    }
    ages(stale);
  }

  // A browser opens six connections to one host, so tabs nobody looks at give theirs back, unless they must sound.
  const resting = () => document.hidden && !audio;

  function restOrWake() {
    if (resting()) {
      stream.close();
    } else if (stream.readyState === EventSource.CLOSED) {
      lastTick = performance.now() - STALE_AFTER_MS - 1; // stale until the hub has spoken
      open();
      look();
    }
  }

  function words(ms) {
    const s = Math.max(0, ms) / 1000;
    if (s < 10) return `${num(s, 1)} s`;
    if (s < 120) return `${Math.round(s)} s`;
    return s < 7200 ? `${Math.round(s / 60)} min` : `${Math.round(s / 3600)} h`;
  }

  function ages(stale) {
    const now = Date.now() + clockOffset;
    for (const el of document.querySelectorAll("[data-age-from]")) {
      const ms = now - Number(el.dataset.ageFrom);
      el.textContent = t("{time} ago", { time: words(ms) });
      if (el.dataset.oldAfter) el.classList.toggle("old", stale || ms > Number(el.dataset.oldAfter));
    }
  }

  // ── live pictures ───────────────────────────────────────────────────────────────────────────────────────────

  const loading = new Set();
  const unseen = new Map(); // pictures that came while nobody could see their place: of 200 stations a dozen are in view

  const inView = (el) => {
    const { top, bottom } = el.getBoundingClientRect();
    return bottom > -SCROLL_AHEAD_PX && top < innerHeight + SCROLL_AHEAD_PX;
  };

  function showSeen() {
    for (const [key, version] of unseen) {
      const img = $(`live-${key}`);
      if (img && !inView(img)) continue;
      unseen.delete(key);
      if (img) show(key, version);
    }
  }
  for (const how of ["scroll", "resize"]) addEventListener(how, showSeen, { passive: true, capture: true });

  function show(key, version) {
    if (loading.has(key) || document.hidden) return; // never two requests for one picture; a hidden tab needs none
    const place = $(`live-${key}`);
    if (place && !inView(place)) { unseen.set(key, version); return; }
    loading.add(key);
    const next = new Image();
    next.onload = next.onerror = () => {
      loading.delete(key);
      const img = $(`live-${key}`);
      if (img && next.naturalWidth) img.src = next.src;
    };
    next.src = `/live/${key}.jpg?${version}`;
  }

  function picture({ key, frame, call, at_ms, camera }) {
    document.dispatchEvent(new CustomEvent("haltline:picture", { detail: { key, frame, call, at_ms, camera } }));
    if ($("cameras")) return; // that page shows every camera by itself
    const shown = $(`live-${key}`);
    if (!shown) { changed("line", key); return; }
    const stands = shown.closest("[data-camera]").dataset.camera; // the station's first camera by name
    if (camera < stands) changed("line", key);
    if (camera !== stands) return;
    show(key, frame);
    const said = $(`call-${key}`);
    said.textContent = CALLS[call]?.() || "";
    said.className = `call call-${call}`;
    $(`age-${key}`).dataset.ageFrom = at_ms;
  }

  // ── alarms that came, for those who cannot see that a list grew ─────────────────────────────────────────────

  const SPOKEN = 3; // of a flood its size is said, and not each
  let listed = null; // row -> of how many alarms it is

  function sayNewAlarms() {
    if (!$("new-alarms")) return;
    const before = listed;
    const rows = [...document.querySelectorAll("#alarm-list li.unacked")];
    const size = (row) => Number(row.querySelector(".times")?.textContent.slice(1) ?? 1);
    listed = new Map(rows.map((row) => [row.id, size(row)]));
    const fresh = before ? rows.filter((row) => size(row) > (before.get(row.id) ?? 0)) : [];
    if (!fresh.length) return;
    const said = fresh.map((row) => row.querySelector("strong").parentElement.textContent.replace(/\s+/g, " ").trim());
    $("new-alarms").textContent = t("New alarms: {what}", { what: fresh.length > SPOKEN ? fresh.length : said.join("; ") });
  }
  document.addEventListener("htmx:after:swap", sayNewAlarms);

  // ── sound ───────────────────────────────────────────────────────────────────────────────────────────────────

  let audio = null;
  let unacked = 0;
  let urgent = false; // somebody should have acknowledged long ago: the sound becomes faster

  function beep() {
    for (const [at, hz] of [[0, 880], [0.22, 660]]) {
      const tone = audio.createOscillator();
      const volume = audio.createGain();
      tone.type = "square";
      tone.frequency.value = hz;
      volume.gain.setValueAtTime(0.15, audio.currentTime + at);
      volume.gain.exponentialRampToValueAtTime(0.001, audio.currentTime + at + 0.2);
      tone.connect(volume).connect(audio.destination);
      tone.start(audio.currentTime + at);
      tone.stop(audio.currentTime + at + 0.2);
    }
  }

  function alarm(halts, faults) {
    if (halts + faults > unacked && audio) beep();
    unacked = halts + faults;
    for (const [id, count, mark] of [["unacked", halts, ""], ["faults", faults, "▲ "]]) {
      if (!$(id)) return; // the andon board shows halts and counts nothing
      $(id).hidden = !count;
      $(id).textContent = mark + count;
    }
  }

  function enableSound() {
    audio ||= new AudioContext();
    audio.resume();
    sessionStorage.setItem("sound", "1");
    $("sound").textContent = t("Test sound");
    $("sound").setAttribute("aria-pressed", "true");
  }

  document.addEventListener("DOMContentLoaded", () => {
    $("sound")?.addEventListener("click", () => { enableSound(); beep(); });
    // Browsers allow sound only after a touch; on the next page of this tab any touch is enough.
    if ($("sound") && sessionStorage.getItem("sound")) document.addEventListener("pointerdown", enableSound, { once: true });
    sayNewAlarms();
    // What scrolls must scroll from the keyboard too.
    for (const el of document.querySelectorAll(".scroll:not([tabindex])")) el.tabIndex = 0;
    open();
    look();
    setInterval(look, 500);
    document.addEventListener("visibilitychange", restOrWake);
    const silent = () => performance.now() - lastTick > STALE_AFTER_MS;
    setInterval(() => { if (audio && (unacked || silent())) beep(); }, 2000);
    setInterval(() => { if (audio && unacked && urgent) beep(); }, 700);
  });
})();
