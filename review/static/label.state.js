// One person's label of one frame while it is being made: marks, decision, undo. No DOM.
//
// The person's decision is the label; the label book's limit only proposes. A line measured under the limit is kept as
// a measurement and not painted; pressing its class's key overrules the book.

import { boxPx, lengthPx, paint } from "./label.raster.js";

const round = (v) => Math.round(v * 100) / 100;

export class LabelState {
  /** `rules`: the label book's, in order; class k of the mask is rules[k - 1]. `base`: an earlier mask of mine. */
  constructor({ width, height, pxPerMm, rules, bookId }) {
    Object.assign(this, { width, height, pxPerMm, rules, bookId });
    this.mask = new Uint8Array(width * height);
    this.base = null;
    this.past = [];
    this.now = { shapes: [], present: [], good: false, unsure: false };
    this.active = 1;
  }

  get shapes() { return this.now.shapes; }
  get decided() { return this.now.good || this.now.unsure || this.now.present.length > 0; }
  has(k) { return this.now.present.includes(k); }
  rule(k) { return this.rules[k - 1]; }
  mm(points) { return lengthPx(points) / this.pxPerMm; }

  lines(k) { return this.shapes.filter((s) => s.kind === "line" && s.value === k); }
  longestMm(k) { return Math.max(0, ...this.lines(k).map((s) => this.mm(s.points))); }

  /** Start from what I saved earlier; it is no step that undo takes back. */
  restore(label, baseMask) {
    this.base = baseMask;
    const shapes = label.lines.map((l) => ({ kind: "line", value: l.value, width: 0, points: l.points, painted: false }));
    this.now = { shapes, present: label.present, good: label.good, unsure: label.unsure };
    return this.rebuild();
  }

  /** A finished mark. Returns {touched, note}: the rectangle to redraw and what the label book says. */
  add(shape) {
    this.remember();
    const points = shape.points.map(([x, y]) => [round(x), round(y)]);
    const mark = { ...shape, points, painted: true };
    const next = { ...this.now, shapes: [...this.shapes, mark] };
    let note = "";
    if (shape.kind === "line") {
      const rule = this.rule(shape.value), mm = this.mm(points);
      note = verdictText(rule, mm);
      mark.painted = mm >= rule.limit_mm;
      if (!mark.painted && this.has(shape.value) && !this.painted(shape.value)) {
        next.present = next.present.filter((k) => k !== shape.value);
        note += ` ${t("Press {key} to call it a defect all the same.", { key: shape.value })}`;
      }
    }
    if (mark.painted && mark.value && !next.present.includes(mark.value)) next.present = [...next.present, mark.value];
    if (mark.painted && mark.value) next.good = next.unsure = false;
    this.now = next;
    const touched = mark.painted ? paint(this.mask, this.width, this.height, mark) : null;
    return { touched, note };
  }

  /** Whether anything is painted as class k. */
  painted(k) {
    return this.mask.includes(k);
  }

  /** A class key: absent -> present; present -> the one drawn with; pressed again -> absent, its marks gone. */
  toggle(k) {
    if (this.has(k) && this.active !== k) {
      this.active = k;
      return;
    }
    this.remember();
    this.active = k;
    if (this.has(k)) {
      const shapes = this.shapes.filter((s) => s.value !== k);
      this.now = { ...this.now, shapes, present: this.now.present.filter((c) => c !== k) };
      this.dropped(k);
    } else {
      // Insisting on a class makes its short lines defects too.
      const shapes = this.shapes.map((s) => (s.value === k ? { ...s, painted: true } : s));
      this.now = { shapes, present: [...this.now.present, k], good: false, unsure: false };
    }
    this.rebuild();
  }

  /** `good` or `unsure`: no class is present any more; short lines stay, as measurements. */
  decide(what) {
    this.remember();
    const shapes = this.shapes.filter((s) => s.kind === "line").map((s) => ({ ...s, painted: false }));
    this.now = { shapes, present: [], good: what === "good", unsure: what === "unsure" };
    this.dropped(null);
    this.rebuild();
  }

  /** Forget the earlier mask's pixels of class k (null: of all), as undo steps keep the base by reference. */
  dropped(k) {
    if (this.base) this.base = this.base.map((v) => (k === null || v === k ? 0 : v));
  }

  remember() {
    this.past.push({ now: this.now, base: this.base });
    if (this.past.length > 200) this.past.shift();
  }

  undo() {
    const before = this.past.pop();
    if (!before) return false;
    this.now = before.now;
    this.base = before.base;
    this.rebuild();
    return true;
  }

  rebuild() {
    if (this.base) this.mask.set(this.base);
    else this.mask.fill(0);
    for (const shape of this.shapes) if (shape.painted) paint(this.mask, this.width, this.height, shape);
  }

  annotations() {
    return this.shapes.filter((s) => s.kind === "line").map((s) => ({
      cls: this.rule(s.value).cls,
      box_px: boxPx(s.points, this.width, this.height),
      length_mm: Math.round(this.mm(s.points) * 1000) / 1000,
      points_px: s.points,
    }));
  }

  summary() {
    if (this.now.good) return t("Good: no defect");
    if (this.now.unsure) return t("Unsure");
    if (!this.now.present.length) return t("Not decided yet");
    return [...this.now.present].sort().map((k) => {
      const mm = this.longestMm(k);
      return this.rule(k).title + (mm ? ` ${num(mm, 1)} mm` : "");
    }).join(" + ");
  }

  toDraft() {
    return { v: 1, book: this.bookId, classes: this.rules.map((r) => r.cls), base: Boolean(this.base), ...this.now };
  }

  /** What became of it: "back"; "anew" where it was made under other rules; "" where it is none. */
  fromDraft(draft) {
    if (draft?.v !== 1) return "";
    if (draft.book !== this.bookId) return draft.classes ? this.anew(draft) : "";
    const { shapes, present, good, unsure } = draft;
    if (!draft.base) this.base = null;
    this.now = { shapes, present, good, unsure };
    this.rebuild();
    return "back";
  }

  /** Where something is was drawn, and holds; what it is called answered other rules, and is judged by those of now. */
  anew({ shapes, classes }) {
    for (const shape of shapes) {
      const value = shape.value && this.rules.findIndex((r) => r.cls === classes[shape.value - 1]) + 1;
      if (value || !shape.value) this.add({ ...shape, value });
    }
    this.past = [];
    return "anew";
  }
}

/** "2.1 mm, from 1.5 mm on: defect" */
export function verdictText(rule, mm) {
  const sizes = { size: num(mm, 1), limit: rule.limit_mm.toLocaleString(document.documentElement.lang) };
  const says = mm >= rule.limit_mm ? t("{size} mm, from {limit} mm on: defect.", sizes) : t("{size} mm, under {limit} mm: no defect.", sizes);
  const band = rule.ambiguous_mm;
  const near = band && mm >= band[0] && mm <= band[1];
  return near ? `${says} ${t("People differ at this size: measure twice.")}` : says;
}
