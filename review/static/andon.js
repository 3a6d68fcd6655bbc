// The board's own heartbeat: a mark that moves with every tick of the hub, so that a frozen screen is seen as frozen.
"use strict";

(() => {
  let lastTick = 0;
  document.addEventListener("haltline:tick", (e) => {
    lastTick = performance.now();
    document.getElementById("beat").classList.toggle("on");
    document.getElementById("clock").textContent = new Date(e.detail.now_ms).toLocaleTimeString(document.documentElement.lang, { hour12: false });
  });
  setInterval(() => {
    const s = Math.round((performance.now() - lastTick) / 1000);
    document.getElementById("heard").textContent = lastTick ? t("hub heard {s} s ago", { s }) : t("waiting for the hub");
  }, 1000);
})();
