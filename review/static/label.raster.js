// Pixels and nothing else: shapes -> class mask -> PNG. No DOM here, so every line runs in a test as it does on the page.
//
// Coordinates are frame px, origin at the top left *corner* of the top left pixel; a pixel's centre lies at +0.5.
// A shape is {kind, value, width, points}: value k is the k-th class of the label book (from 1), 0 erases.

/** Paint one shape into `mask` (Uint8Array of w*h); returns the touched rectangle [x0, y0, x1, y1), or null. */
export function paint(mask, w, h, shape) {
  if (shape.kind === "poly") return fillPolygon(mask, w, h, shape.points, shape.value);
  let touched = null;
  const points = shape.points;
  for (let i = 0; i < Math.max(1, points.length - 1); i++) {
    const b = points[Math.min(i + 1, points.length - 1)];
    touched = join(touched, fillCapsule(mask, w, h, points[i], b, shape.width / 2, shape.value));
  }
  return touched;
}

/** Everything within `radius` of the segment a-b, judged at pixel centres: hard edges, a mask has no half classes. */
export function fillCapsule(mask, w, h, a, b, radius, value) {
  const x0 = Math.max(0, Math.floor(Math.min(a[0], b[0]) - radius)), x1 = Math.min(w, Math.ceil(Math.max(a[0], b[0]) + radius));
  const y0 = Math.max(0, Math.floor(Math.min(a[1], b[1]) - radius)), y1 = Math.min(h, Math.ceil(Math.max(a[1], b[1]) + radius));
  if (x0 >= x1 || y0 >= y1) return null;
  const dx = b[0] - a[0], dy = b[1] - a[1], len2 = dx * dx + dy * dy;
  // A one-px stroke whose centre falls between pixels still has to leave a mark.
  const r2 = Math.max(radius, 0.5) ** 2 + 1e-9;
  for (let y = y0; y < y1; y++) {
    for (let x = x0; x < x1; x++) {
      const px = x + 0.5 - a[0], py = y + 0.5 - a[1];
      const t = len2 ? Math.min(1, Math.max(0, (px * dx + py * dy) / len2)) : 0;
      const ex = px - t * dx, ey = py - t * dy;
      if (ex * ex + ey * ey <= r2) mask[y * w + x] = value;
    }
  }
  return [x0, y0, x1, y1];
}

/** Even-odd fill, judged at pixel centres. */
export function fillPolygon(mask, w, h, points, value) {
  if (points.length < 3) return null;
  const xs = points.map((p) => p[0]), ys = points.map((p) => p[1]);
  const y0 = Math.max(0, Math.floor(Math.min(...ys))), y1 = Math.min(h, Math.ceil(Math.max(...ys)));
  for (let y = y0; y < y1; y++) {
    const cy = y + 0.5, cuts = [];
    for (let i = 0, j = points.length - 1; i < points.length; j = i++) {
      const [xi, yi] = points[i], [xj, yj] = points[j];
      if ((yi > cy) !== (yj > cy)) cuts.push(xi + ((cy - yi) * (xj - xi)) / (yj - yi));
    }
    cuts.sort((p, q) => p - q);
    for (let k = 0; k + 1 < cuts.length; k += 2) {
      const from = Math.max(0, Math.ceil(cuts[k] - 0.5)), to = Math.min(w, Math.ceil(cuts[k + 1] - 0.5));
      if (to > from) mask.fill(value, y * w + from, y * w + to);
    }
  }
  const x0 = Math.max(0, Math.floor(Math.min(...xs))), x1 = Math.min(w, Math.ceil(Math.max(...xs)));
  return x0 < x1 && y0 < y1 ? [x0, y0, x1, y1] : null;
}

export function join(a, b) {
  if (!a || !b) return a || b;
  return [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[2], b[2]), Math.max(a[3], b[3])];
}

/** Length along the points, in px. */
export function lengthPx(points) {
  let sum = 0;
  for (let i = 1; i < points.length; i++) sum += Math.hypot(points[i][0] - points[i - 1][0], points[i][1] - points[i - 1][1]);
  return sum;
}

/** Bounding box [x, y, width, height] of the points, cut to the frame. */
export function boxPx(points, w, h) {
  const xs = points.map((p) => Math.min(w, Math.max(0, p[0]))), ys = points.map((p) => Math.min(h, Math.max(0, p[1])));
  const x = Math.min(...xs), y = Math.min(...ys);
  return [x, y, Math.max(...xs) - x, Math.max(...ys) - y].map((v) => Math.round(v * 100) / 100);
}

// -- PNG ---------------------------------------------------------------------------------------------------------
// canvas.toBlob() writes colour PNGs, and a class mask is one channel: so the file is put together here.

const CRC = new Uint32Array(256).map((_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n >>> 0;
});

function crc32(bytes) {
  let c = 0xffffffff;
  for (const byte of bytes) c = CRC[(c ^ byte) & 255] ^ (c >>> 8);
  return (c ^ 0xffffffff) >>> 0;
}

function chunk(type, data) {
  const out = new Uint8Array(12 + data.length), view = new DataView(out.buffer);
  view.setUint32(0, data.length);
  for (let i = 0; i < 4; i++) out[4 + i] = type.charCodeAt(i);
  out.set(data, 8);
  view.setUint32(8 + data.length, crc32(out.subarray(4, 8 + data.length)));
  return out;
}

/** The mask as an 8-bit greyscale PNG. */
export async function toPng(mask, w, h) {
  const rows = new Uint8Array((w + 1) * h); // each row starts with filter type 0
  for (let y = 0; y < h; y++) rows.set(mask.subarray(y * w, (y + 1) * w), y * (w + 1) + 1);
  const zipped = new Blob([rows]).stream().pipeThrough(new CompressionStream("deflate"));
  const header = new Uint8Array(13), view = new DataView(header.buffer);
  view.setUint32(0, w);
  view.setUint32(4, h);
  header[8] = 8; // bits; colour type 0, deflate, no interlace follow
  const idat = new Uint8Array(await new Response(zipped).arrayBuffer());
  const signature = new Uint8Array([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  return new Blob([signature, chunk("IHDR", header), chunk("IDAT", idat), chunk("IEND", new Uint8Array(0))], { type: "image/png" });
}

/** The mask of an image element that shows a mask PNG: the grey value is the class. */
export function fromImage(image, w, h) {
  const canvas = document.createElement("canvas");
  canvas.width = w;
  canvas.height = h;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingEnabled = false;
  context.drawImage(image, 0, 0, w, h);
  const rgba = context.getImageData(0, 0, w, h).data, mask = new Uint8Array(w * h);
  for (let i = 0; i < mask.length; i++) mask[i] = rgba[4 * i];
  return mask;
}
