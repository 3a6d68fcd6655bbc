// The label page: keys, pointers, draft and saving around one LabelState and one View.

import { Draft } from "./label.draft.js";
import { fromImage, toPng } from "./label.raster.js";
import { LabelState, verdictText } from "./label.state.js";
import { View } from "./label.view.js";

const data = JSON.parse(document.getElementById("label-data").textContent);
const $ = (id) => document.getElementById(id);
const canvas = $("stage");
const state = new LabelState({ width: data.width, height: data.height, pxPerMm: data.pxPerMm, rules: data.book.rules, bookId: data.book.id });
const draft = new Draft(data, () => state.toDraft(), () => say(t("This browser keeps no draft (storage full or blocked): save before you leave."), true));
const ui = { tool: "line", brushPx: Math.max(3, Math.round(0.25 * data.pxPerMm)), saving: false, panning: false };
const pointers = new Map();
const ALL = [0, 0, data.width, data.height];
let view = null, pinch = null;

// -- starting ------------------------------------------------------------------------------------------------------

async function loadImage(url) {
  const image = new Image();
  image.src = url;
  await image.decode();
  return image;
}

async function start() {
  let frame;
  try {
    frame = await loadImage(data.frame);
  } catch {
    return say(t("The picture does not load: the hub may be away, or the frame is broken. Reload, or skip it with S."), true);
  }
  if (frame.naturalWidth !== data.width || frame.naturalHeight !== data.height) {
    return say(t("The picture is {is} px, its record says {said}. A mask would not fit it: skip it with S.", { is: [frame.naturalWidth, frame.naturalHeight].join(" × "), said: [data.width, data.height].join(" × ") }), true);
  }
  if (data.mine) state.restore(data.mine, data.mine.mask ? fromImage(await loadImage(data.mine.mask), data.width, data.height) : null);
  const kept = draft.read();
  view = new View(canvas, frame, state);
  const draftIs = kept && state.fromDraft(kept);
  if (draftIs) {
    const time = new Date(kept.at).toLocaleTimeString(document.documentElement.lang, { timeStyle: "short" });
    if (draftIs === "back") say(t("Your draft of {time} is back.", { time }));
    else say(t("Your draft of {time} is from before {book}: its marks are back, judge it again by the rules of now.", { time, book: data.book.id }), true);
    $("start-over").hidden = false;
  }
  view.refresh(ALL);
  setTool(ui.tool);
  showState();
  document.body.dataset.ready = "1";
  return undefined;
}

// -- what the page shows -------------------------------------------------------------------------------------------

const NOTE_MS = 6000;
let noteTimer = null;

/** A note leaves by itself, as it covers a strip of the frame; what went wrong stays. */
function say(words, bad = false) {
  const box = $("message");
  clearTimeout(noteTimer);
  if (words && !bad) noteTimer = setTimeout(() => say(""), NOTE_MS);
  box.textContent = words;
  box.classList.toggle("bad", bad);
  box.hidden = !words;
}

function showState() {
  const { now, active } = state;
  for (const card of document.querySelectorAll("[data-class]")) {
    const k = Number(card.dataset.class), mm = state.longestMm(k);
    card.setAttribute("aria-pressed", String(state.has(k)));
    card.classList.toggle("active", k === active);
    card.querySelector(".says").textContent = mm ? verdictText(state.rule(k), mm) : "";
  }
  $("good").setAttribute("aria-pressed", String(now.good));
  $("unsure").setAttribute("aria-pressed", String(now.unsure));
  $("decision").textContent = state.summary();
  $("decision").classList.toggle("open", !state.decided);
  $("save").disabled = ui.saving;
  $("undo").disabled = !state.past.length;
  $("brush-size").textContent = `${num(ui.brushPx / data.pxPerMm, 2)} mm`;
  $("finish").hidden = !(view?.drawing?.tapped);
}

/** `touched`: the rectangle of the mask to redraw, null when no pixel changed. */
function changed(touched) {
  view.refresh(touched);
  showState();
  draft.soon();
}

// -- commands, each with a key and a button --------------------------------------------------------------------------

function setTool(tool) {
  cancelDrawing();
  ui.tool = tool;
  for (const button of document.querySelectorAll("[data-tool]")) button.setAttribute("aria-pressed", String(button.dataset.tool === tool));
  canvas.style.cursor = { hand: "grab", line: "crosshair", poly: "crosshair" }[tool] ?? "none";
  view?.request();
}

function toggleShow(what) {
  view.show[what] = !view.show[what];
  $(what).setAttribute("aria-pressed", String(view.show[what]));
  view.request();
}

async function toggleHeat() {
  if (!data.heat) return say(t("This frame came without a model suggestion."));
  if (!view.heat) {
    try {
      view.heat = { image: tinted(await loadImage(data.heat.url)), affine: data.heat.affine };
    } catch {
      return say(t("The model's suggestion does not load."), true);
    }
  }
  return toggleShow("heat");
}

/** Grey heat -> one hue with the heat as its opacity, so that the frame stays visible under it. */
function tinted(image) {
  const c = document.createElement("canvas");
  [c.width, c.height] = [image.naturalWidth, image.naturalHeight];
  const context = c.getContext("2d");
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, c.width, c.height), rgba = pixels.data;
  for (let i = 0; i < rgba.length; i += 4) rgba.set([240, 228, 66, rgba[i] * 0.6], i);
  context.putImageData(pixels, 0, 0);
  return c;
}

function brush(step) {
  ui.brushPx = Math.min(200, Math.max(1, ui.brushPx + step * Math.max(1, Math.round(ui.brushPx * 0.15))));
  if (view?.cursor) view.cursor.width = ui.brushPx;
  view?.request();
  showState();
}

function pressClass(k) {
  if (k < 1 || k > state.rules.length) return say(t("Classes in the label book: {n}.", { n: state.rules.length }));
  const had = state.has(k), title = state.rule(k).title;
  state.toggle(k);
  say(had && !state.has(k) ? t("{what} dropped, with its marks. Z brings it back.", { what: title }) : "");
  return changed(ALL);
}

function decide(what) {
  cancelDrawing();
  say("");
  state.decide(what);
  changed(ALL);
}

function undo() {
  const drawing = view.drawing;
  if (drawing?.tapped && drawing.points.length > 2) {
    drawing.points.splice(-2, 1);
    return view.request();
  }
  if (drawing) return cancelDrawing();
  say(state.undo() ? "" : t("Nothing to undo."));
  return changed(ALL);
}

async function save() {
  if (ui.saving || !view) return;
  finishDrawing();
  const keys = state.rules.length > 1 ? ["1", state.rules.length].join("–") : "1";
  if (!state.decided) return say(t("Decide first: {keys} for a defect, G for good, U for unsure.", { keys }), true);
  ui.saving = true;
  showState();
  draft.write();
  try {
    const { good, unsure, present } = state.now;
    const classes = present.map((k) => state.rule(k).cls);
    const painted = !good && !unsure && state.mask.some(Boolean);
    const mask = painted ? await base64(await toPng(state.mask, data.width, data.height)) : null;
    const body = JSON.stringify({ label_book: data.book.id, classes, unsure, annotations: state.annotations(), mask_png: mask });
    const request = { method: "POST", body, headers: { "Content-Type": "application/json", "Haltline-Person": encodeURIComponent(data.person) }, signal: AbortSignal.timeout(20_000) };
    const answer = await fetch(data.save, request).catch(() => { throw new Error(t("the hub does not answer")); });
    if (answer.status === 422) return refused(await reason(answer));
    if (!answer.ok) throw new Error(await reason(answer));
    draft.drop();
    location.assign((await answer.json()).next);
  } catch (e) {
    ui.saving = false;
    showState();
    say(t("Not saved: {why}. Your work is kept in this browser; press Ctrl+Enter to try again.", { why: e.message }), true);
  }
}

/** As it is the hub will never take it. */
function refused(why) {
  ui.saving = false;
  showState();
  say(t("Not saved: {why}. Your work is kept in this browser.", { why }), true);
}

async function reason(answer) {
  const text = await answer.text();
  try {
    const told = JSON.parse(text);
    return told.what ? `${told.where} ${told.what} (${told.fix})` : String(told.detail);
  } catch {
    return text.trim() || t("the hub answered {status}", { status: answer.status });
  }
}

function base64(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.split(",", 2)[1]);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}

// -- drawing ---------------------------------------------------------------------------------------------------------

function beginDrawing(at, event) {
  const drawing = view.drawing;
  if (drawing?.tapped) {
    drawing.points[drawing.points.length - 1] = at;
    const first = view.toClient(...drawing.points[0]);
    const closes = drawing.kind === "poly" && drawing.points.length > 3 && Math.hypot(event.clientX - first[0], event.clientY - first[1]) < 12;
    if (closes) drawing.points.pop();
    else drawing.points.push(at);
    return closes ? finishDrawing(false) : view.request();
  }
  const kind = ui.tool === "erase" ? "brush" : ui.tool;
  view.drawing = { kind, value: ui.tool === "erase" ? 0 : state.active, width: ui.brushPx, points: [at], from: [event.clientX, event.clientY], dragged: false };
  return view.request();
}

function moveDrawing(at, event) {
  const drawing = view.drawing;
  drawing.dragged ||= Math.hypot(event.clientX - drawing.from[0], event.clientY - drawing.from[1]) > 5;
  if (drawing.tapped) drawing.points[drawing.points.length - 1] = at;
  else if (drawing.kind === "line") drawing.points = [drawing.points[0], at];
  else {
    const last = drawing.points[drawing.points.length - 1];
    if (Math.hypot(at[0] - last[0], at[1] - last[1]) >= Math.min(1, 2 / view.scale)) drawing.points.push(at);
  }
  if (drawing.kind === "line" && drawing.points.length > 1) say(verdictText(state.rule(drawing.value), state.mm(drawing.points)));
  view.request();
}

function endDrawing(at) {
  const drawing = view.drawing;
  if (drawing.kind === "brush") return commit(drawing);
  if (drawing.dragged && !drawing.tapped) return commit(drawing);
  if (!drawing.tapped) {
    // A tap, not a drag: corners follow one by one, the last point hangs on the pointer.
    drawing.tapped = true;
    drawing.points = [drawing.points[0], at];
    say(t("Tap each corner; Enter, Finish or a double tap ends it, Esc drops it."));
  }
  return showState();
}

/** End a tapped line or polygon; `hanging`: its last point only follows the pointer and is none. */
function finishDrawing(hanging = true) {
  const drawing = view?.drawing;
  if (!drawing) return;
  const points = hanging && drawing.tapped ? drawing.points.slice(0, -1) : drawing.points;
  const apart = points.filter((p, i) => !i || Math.hypot(p[0] - points[i - 1][0], p[1] - points[i - 1][1]) > 1e-3);
  if (drawing.kind !== "brush" && apart.length < (drawing.kind === "poly" ? 3 : 2)) return cancelDrawing();
  commit({ ...drawing, points: apart });
}

function commit({ kind, value, width, points }) {
  view.drawing = null;
  if (kind === "poly" && points.length < 3) return cancelDrawing();
  const { touched, note } = state.add({ kind, value, width, points });
  say(note);
  return changed(touched);
}

function cancelDrawing() {
  if (view) view.drawing = null;
  view?.request();
  showState();
}

// -- pointers: mouse, pen, touch -------------------------------------------------------------------------------------

canvas.addEventListener("pointerdown", (event) => {
  if (!view) return;
  event.preventDefault();
  canvas.focus({ preventScroll: true });
  canvas.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, event);
  const touches = [...pointers.values()].filter((p) => p.pointerType === "touch");
  if (touches.length === 2) {
    if (!view.drawing?.tapped) cancelDrawing();
    pinch = spread(touches);
  } else if (pointers.size === 1) {
    ui.panning = ui.tool === "hand" || ui.space || event.button === 1;
    if (!ui.panning && event.button === 0) beginDrawing(view.toFrame(event.clientX, event.clientY), event);
  }
});

canvas.addEventListener("pointermove", (event) => {
  if (!view) return;
  const before = pointers.get(event.pointerId);
  if (before) pointers.set(event.pointerId, event);
  if (pinch) {
    const touches = [...pointers.values()].filter((p) => p.pointerType === "touch");
    if (touches.length < 2) return;
    const now = spread(touches);
    view.pan(now.x - pinch.x, now.y - pinch.y);
    view.zoomAt(now.x, now.y, now.distance / pinch.distance);
    pinch = now;
  } else if (before && ui.panning) {
    view.pan(event.clientX - before.clientX, event.clientY - before.clientY);
  } else if (view.drawing && (before || view.drawing.tapped)) {
    for (const e of event.getCoalescedEvents?.().length ? event.getCoalescedEvents() : [event]) moveDrawing(view.toFrame(e.clientX, e.clientY), e);
  }
  const rings = event.pointerType !== "touch" && ["brush", "erase", "line"].includes(ui.tool);
  view.cursor = rings ? { at: view.toFrame(event.clientX, event.clientY), width: ui.brushPx } : null;
  view.request();
});

for (const kind of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(kind, (event) => {
    if (!pointers.delete(event.pointerId) || !view) return;
    if (pinch) {
      if (!pointers.size) pinch = null;
    } else if (view.drawing && !ui.panning) {
      if (kind === "pointercancel") cancelDrawing();
      else endDrawing(view.toFrame(event.clientX, event.clientY));
    }
    if (!pointers.size) ui.panning = false;
  });
}

canvas.addEventListener("dblclick", () => view?.drawing?.tapped && finishDrawing());
canvas.addEventListener("pointerleave", () => { if (view) { view.cursor = null; view.request(); } });
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  view?.zoomAt(event.clientX, event.clientY, Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)));
}, { passive: false });

function spread([a, b]) {
  return { x: (a.clientX + b.clientX) / 2, y: (a.clientY + b.clientY) / 2, distance: Math.max(1, Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY)) };
}

// -- keys and buttons ------------------------------------------------------------------------------------------------

const COMMANDS = {
  b: () => setTool("brush"), e: () => setTool("erase"), p: () => setTool("poly"), l: () => setTool("line"), h: () => setTool("hand"),
  g: () => decide("good"), u: () => decide("unsure"), z: undo, s: () => location.assign(data.skip),
  "[": () => brush(-1), "]": () => brush(1), "+": () => view.zoomCentre(1.5), "=": () => view.zoomCentre(1.5), "-": () => view.zoomCentre(1 / 1.5), 0: () => view.fit(),
  m: toggleHeat, v: () => toggleShow("bare"), c: () => toggleShow("contrast"),
  enter: () => finishDrawing(), escape: cancelDrawing,
};

document.addEventListener("keydown", (event) => {
  const key = event.key.toLowerCase(), control = event.ctrlKey || event.metaKey;
  if (key === " " && event.target === canvas) { ui.space = true; event.preventDefault(); return; }
  if (control && key === "enter") { event.preventDefault(); save(); return; }
  if (control && key !== "z") return;
  if (event.altKey || !view && key !== "s" || event.target.matches("input, select, textarea")) return;
  // Enter on a focused button presses that button, as everywhere.
  if (key === "enter" && event.target.matches("button, a, summary")) return;
  if (/^[1-9]$/.test(key)) pressClass(Number(key));
  else if (Object.hasOwn(COMMANDS, key)) COMMANDS[key]();
  else return;
  event.preventDefault();
});
document.addEventListener("keyup", (event) => { if (event.key === " ") ui.space = false; });

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-key], [data-class], [data-tool]");
  if (!button || !view) return;
  if (button.dataset.class) pressClass(Number(button.dataset.class));
  else if (button.dataset.tool) setTool(button.dataset.tool);
  else COMMANDS[button.dataset.key]();
});
$("save").addEventListener("click", save);
$("start-over").addEventListener("click", () => { draft.drop(); location.reload(); });

// A browser's Back key brings this very page back as it was left: saved, so that it could neither save again nor keep a
// draft. Whoever comes back wants to change what they said.
addEventListener("pageshow", (event) => {
  if (!event.persisted) return;
  ui.saving = draft.closed = false;
  showState();
});

start();
