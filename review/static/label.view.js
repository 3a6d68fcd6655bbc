// The frame on a canvas: pan, zoom, marks on top. Knows where things are on the screen and nothing about saving.

const ALPHA = 115; // of 255: a mark must not hide the defect under it

export class View {
  constructor(canvas, image, state) {
    Object.assign(this, { canvas, image, state });
    this.context = canvas.getContext("2d");
    this.overlay = document.createElement("canvas");
    this.overlay.width = state.width;
    this.overlay.height = state.height;
    this.overlayContext = this.overlay.getContext("2d");
    this.colors = [[0, 0, 0], ...state.rules.map((r) => [1, 3, 5].map((i) => parseInt(r.color.slice(i, i + 2), 16)))];
    this.heat = null; // {image, affine}
    this.show = { bare: false, heat: false, contrast: false };
    this.drawing = null;
    this.cursor = null;
    this.fitted = true;
    new ResizeObserver(() => this.resize()).observe(canvas.parentElement);
    this.resize();
  }

  // -- where things are: `scale` is CSS px per frame px, (x, y) the frame's corner in CSS px of the canvas

  resize() {
    const box = this.canvas.parentElement.getBoundingClientRect();
    this.ratio = window.devicePixelRatio || 1;
    this.w = Math.max(1, box.width);
    this.h = Math.max(1, box.height);
    this.canvas.width = Math.round(this.w * this.ratio);
    this.canvas.height = Math.round(this.h * this.ratio);
    if (this.fitted) this.fit();
    else this.keepInSight();
    this.request();
  }

  fit() {
    this.scale = Math.min(this.w / this.state.width, this.h / this.state.height);
    this.x = (this.w - this.state.width * this.scale) / 2;
    this.y = (this.h - this.state.height * this.scale) / 2;
    this.fitted = true;
    this.request();
  }

  zoomAt(clientX, clientY, factor) {
    const box = this.canvas.getBoundingClientRect(), cx = clientX - box.left, cy = clientY - box.top;
    const least = Math.min(this.w / this.state.width, this.h / this.state.height) / 2;
    const scale = Math.min(64, Math.max(least, this.scale * factor));
    this.x = cx - ((cx - this.x) * scale) / this.scale;
    this.y = cy - ((cy - this.y) * scale) / this.scale;
    this.scale = scale;
    this.fitted = false;
    this.keepInSight();
  }

  zoomCentre(factor) {
    const box = this.canvas.getBoundingClientRect();
    this.zoomAt(box.left + this.w / 2, box.top + this.h / 2, factor);
  }

  pan(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.fitted = false;
    this.keepInSight();
  }

  /** A frame dragged off the screen is a frame lost: some of it always stays. */
  keepInSight() {
    const least = 48, fw = this.state.width * this.scale, fh = this.state.height * this.scale;
    this.x = Math.min(this.w - least, Math.max(least - fw, this.x));
    this.y = Math.min(this.h - least, Math.max(least - fh, this.y));
    this.request();
  }

  /** Frame px under a pointer, origin at the frame's corner. */
  toFrame(clientX, clientY) {
    const box = this.canvas.getBoundingClientRect();
    return [(clientX - box.left - this.x) / this.scale, (clientY - box.top - this.y) / this.scale];
  }

  /** CSS px of the page for a point of the frame; the inverse of toFrame. */
  toClient(x, y) {
    const box = this.canvas.getBoundingClientRect();
    return [box.left + this.x + x * this.scale, box.top + this.y + y * this.scale];
  }

  // -- what is drawn

  /** Take the mask's pixels over inside `rect` [x0, y0, x1, y1); null when none changed. */
  refresh(rect) {
    if (!rect) return this.request();
    const { width, mask } = this.state, [x0, y0, x1, y1] = rect;
    const pixels = this.overlayContext.createImageData(x1 - x0, y1 - y0), data = pixels.data;
    for (let y = y0, o = 0; y < y1; y++) {
      for (let x = x0; x < x1; x++, o += 4) {
        const k = mask[y * width + x];
        if (!k) continue;
        [data[o], data[o + 1], data[o + 2]] = this.colors[k];
        data[o + 3] = ALPHA;
      }
    }
    this.overlayContext.putImageData(pixels, x0, y0);
    return this.request();
  }

  request() {
    this.pending ??= requestAnimationFrame(() => {
      this.pending = null;
      this.draw();
    });
  }

  draw() {
    const c = this.context, k = this.ratio * this.scale;
    c.setTransform(1, 0, 0, 1, 0, 0);
    c.clearRect(0, 0, this.canvas.width, this.canvas.height);
    const inFrame = () => c.setTransform(k, 0, 0, k, this.ratio * this.x, this.ratio * this.y);
    inFrame();
    // Beyond 1:1 each frame pixel is a sharp square: an inspector judges pixels, not an interpolation.
    c.imageSmoothingEnabled = k < 1;
    c.filter = this.show.contrast ? "contrast(2.2)" : "none";
    c.drawImage(this.image, 0, 0);
    c.filter = "none";
    if (this.show.heat && this.heat) this.drawHeat(c, k, inFrame);
    c.imageSmoothingEnabled = k < 1;
    if (!this.show.bare) c.drawImage(this.overlay, 0, 0);
    c.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    if (!this.show.bare) for (const s of this.state.shapes) if (s.kind === "line") this.drawLine(s.points, this.state.rule(s.value).color, !s.painted);
    if (this.drawing) this.drawInProgress();
    else if (this.cursor) this.drawCursor();
    this.drawScaleBar();
  }

  drawHeat(c, k, inFrame) {
    // The affine takes pixel centres to pixel centres, drawImage works on corners: hence the halves.
    const [a, b, tx, d, e, ty] = this.heat.affine;
    c.transform(a, d, b, e, tx + 0.5 - (a + b) / 2, ty + 0.5 - (d + e) / 2);
    c.imageSmoothingEnabled = true;
    c.drawImage(this.heat.image, 0, 0);
    inFrame();
  }

  path(points, close = false) {
    const c = this.context;
    c.beginPath();
    points.forEach(([x, y], i) => c[i ? "lineTo" : "moveTo"](this.x + x * this.scale, this.y + y * this.scale));
    if (close) c.closePath();
  }

  stroke(color, width, dash = []) {
    const c = this.context;
    c.lineJoin = c.lineCap = "round";
    c.setLineDash([]);
    c.strokeStyle = "rgb(0 0 0 / .65)";
    c.lineWidth = width + 2;
    c.stroke();
    c.setLineDash(dash);
    c.strokeStyle = color;
    c.lineWidth = width;
    c.stroke();
    c.setLineDash([]);
  }

  drawLine(points, color, thin) {
    this.path(points);
    this.stroke(thin ? "#fff" : color, 1.5, thin ? [4, 4] : []);
    const [x, y] = points[points.length - 1];
    this.text(`${num(this.state.mm(points), 1)} mm`, this.x + x * this.scale + 10, this.y + y * this.scale - 10);
  }

  drawInProgress() {
    const { kind, points, value, width } = this.drawing;
    if (kind === "line") return this.drawLine(points, this.state.rule(value).color, false);
    if (kind === "poly") {
      this.path(points, points.length > 2);
      this.stroke(this.state.rule(value).color, 1.5, [5, 4]);
      return undefined;
    }
    const c = this.context;
    this.path(points.length > 1 ? points : [points[0], points[0]]);
    c.lineJoin = c.lineCap = "round";
    c.globalAlpha = 0.5;
    c.strokeStyle = value ? this.state.rule(value).color : "#fff";
    c.lineWidth = Math.max(1, width * this.scale);
    c.stroke();
    c.globalAlpha = 1;
    return undefined;
  }

  drawCursor() {
    const c = this.context, { at, width } = this.cursor;
    c.beginPath();
    c.arc(this.x + at[0] * this.scale, this.y + at[1] * this.scale, Math.max(1.5, (width * this.scale) / 2), 0, 2 * Math.PI);
    this.stroke("#fff", 1);
  }

  text(words, x, y) {
    const c = this.context;
    c.font = "600 14px system-ui, sans-serif";
    const w = c.measureText(words).width + 12;
    const left = Math.max(2, Math.min(x, this.w - w - 2)), top = Math.max(2, Math.min(y - 16, this.h - 24));
    c.fillStyle = "rgb(20 20 20 / .85)";
    c.fillRect(left, top, w, 22);
    c.fillStyle = "#fff";
    c.fillText(words, left + 6, top + 16);
  }

  drawScaleBar() {
    const perMm = this.state.pxPerMm * this.scale;
    const mm = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100].find((v) => v * perMm >= 60) ?? 200;
    const y = this.h - 14;
    const c = this.context;
    c.beginPath();
    c.moveTo(12, y);
    c.lineTo(12 + mm * perMm, y);
    this.stroke("#fff", 3);
    this.text(`${mm.toLocaleString(document.documentElement.lang)} mm`, 12, y - 12);
  }
}
