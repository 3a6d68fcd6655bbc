// Every camera of one station: each new picture is fetched with its heat map, never two at a time for one camera.
"use strict";

(() => {
  const CALLS = { pass: () => t("PASS"), uncertain: () => t("UNCERTAIN"), defect: () => t("DEFECT"), fault: () => t("FAULT") };
  const box = document.getElementById("cameras");
  const loading = new Set();
  const off = new Set(); // layers switched off by hand; a refetch must not switch them on again

  const figure = (camera) => box.querySelector(`[data-camera="${CSS.escape(camera)}"]`);

  function load(img, src, done) {
    const next = new Image();
    next.onload = next.onerror = () => {
      const there = Boolean(next.naturalWidth);
      if (there) img.src = next.src;
      if (img.classList.contains("heat")) img.classList.toggle("cold", !there);
      done();
    };
    next.src = src;
  }

  function show({ key, camera, frame, call, at_ms }) {
    if (key !== box.dataset.key || document.hidden || loading.has(camera)) return;
    const shown = figure(camera);
    if (!shown) { htmx.trigger(box, "refetch"); return; }
    loading.add(camera);
    const query = `camera=${encodeURIComponent(camera)}&n=${frame}`;
    load(shown.querySelector(".photo"), `/live/${key}.jpg?${query}`, () => {
      if (off.has("heat")) { loading.delete(camera); return; }
      load(shown.querySelector(".heat"), `/live/${key}/heat.png?${query}`, () => loading.delete(camera));
    });
    const said = shown.querySelector(".call");
    said.textContent = CALLS[call]?.() ?? "";
    said.className = `call call-${call}`;
    const rects = shown.querySelectorAll("rect");
    if (rects.length === 1) rects[0].setAttribute("class", `call-${call}`);
    shown.querySelector(".age").dataset.ageFrom = at_ms;
  }

  function settle() {
    for (const layer of ["heat", "regions"]) {
      box.classList.toggle(`${layer}-off`, off.has(layer));
      box.querySelector(`#${layer}`).setAttribute("aria-pressed", String(!off.has(layer)));
    }
    for (const img of box.querySelectorAll("img.heat")) {
      img.onerror = () => img.classList.add("cold");
      if (img.complete && !img.naturalWidth) img.classList.add("cold");
    }
  }

  function toggle(layer) {
    if (!off.delete(layer)) off.add(layer);
    settle();
  }

  document.addEventListener("haltline:picture", (e) => show(e.detail));
  document.addEventListener("click", (e) => {
    const layer = e.target.closest("#heat, #regions")?.id;
    if (layer) toggle(layer);
  });
  document.addEventListener("keydown", (e) => {
    if (e.repeat || e.ctrlKey || e.altKey || e.metaKey || e.target.closest("input, select, textarea")) return;
    const layer = { h: "heat", i: "regions" }[e.key.toLowerCase()];
    if (layer) toggle(layer);
  });
  document.addEventListener("htmx:after:swap", settle);
  document.addEventListener("DOMContentLoaded", settle);
})();
