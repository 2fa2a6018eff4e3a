// The image's pixels in the browser, at their full depth, and smaller copies of them for views from afar.

class Plate {
  /** `pixels`: Uint8Array or Uint16Array, row by row; `own`: the file's window, or null where low = dark. */
  constructor(pixels, width, height, bits, own = null) {
    this.own = own;
    this.width = width;
    this.height = height;
    this.levels = 2 ** bits;
    this.copies = [{ pixels, width, height }]; // number k is 2^k times smaller
    this.counts = new Uint32Array(this.levels);
    for (let i = 0; i < pixels.length; i++) this.counts[pixels[i]]++;
    this.lowest = this.counts.findIndex((count) => count > 0);
    this.highest = this.counts.findLastIndex((count) => count > 0);
  }

  /** Fetches the pixels of a case; throws an Error with a sentence for the reader. */
  static async fetch({ pixels, width, height, bits, window = null }, signal) {
    const answer = await fetch(new URL(pixels, document.baseURI), { signal, cache: "no-store" });
    if (!answer.ok) throw new Error(await answer.text());
    const data = await answer.arrayBuffer();
    if (data.byteLength !== width * height * (bits / 8)) throw new Error("The pixels did not arrive whole. Open the image again.");
    return new Plate(bits === 8 ? new Uint8Array(data) : readLittleEndian(data), width, height, bits, window);
  }

  /** The value at a place of the image, or null outside. */
  at(x, y) {
    const column = Math.floor(x), row = Math.floor(y);
    if (column < 0 || row < 0 || column >= this.width || row >= this.height) return null;
    return this.copies[0].pixels[row * this.width + column];
  }

  /** A value as the file means it, for instance in Hounsfield units. */
  meaning(value) {
    const { slope = 1, intercept = 0 } = this.own ?? {};
    return Math.round((value * slope + intercept) * 100) / 100;
  }

  /** The value below which a share of the inner values lies. */
  quantile(share) {
    let total = 0;
    for (let value = this.lowest + 1; value < this.highest; value++) total += this.counts[value];
    if (!total) return share < 0.5 ? this.lowest : this.highest;
    let seen = 0;
    for (let value = this.lowest + 1; value < this.highest; value++) {
      seen += this.counts[value];
      if (seen >= share * total) return value;
    }
    return this.highest;
  }

  /** The copy for a scale (screen pixels an image pixel): at most two of its pixels fall on one of the screen. */
  copyFor(scale) {
    const wanted = Math.max(0, Math.floor(Math.log2(1 / scale)));
    while (this.copies.length <= wanted) {
      const last = this.copies.at(-1);
      if (last.width === 1 && last.height === 1) break;
      this.copies.push(halve(last));
    }
    const index = Math.min(wanted, this.copies.length - 1);
    return { ...this.copies[index], factor: 2 ** index };
  }
}

/** Means of 2 × 2 pixels; at an odd edge the last pixel counts twice. */
function halve({ pixels, width, height }) {
  const w = Math.ceil(width / 2), h = Math.ceil(height / 2);
  const out = new pixels.constructor(w * h);
  for (let y = 0; y < h; y++) {
    const upper = 2 * y * width, lower = Math.min(2 * y + 1, height - 1) * width;
    for (let x = 0; x < w; x++) {
      const left = 2 * x, right = Math.min(left + 1, width - 1);
      out[y * w + x] = (pixels[upper + left] + pixels[upper + right] + pixels[lower + left] + pixels[lower + right] + 2) >> 2;
    }
  }
  return { pixels: out, width: w, height: h };
}

/** Two bytes a value, low byte first, whatever this machine's own order is. */
function readLittleEndian(data) {
  if (new Uint8Array(new Uint16Array([1]).buffer)[0] === 1) return new Uint16Array(data);
  const view = new DataView(data);
  return Uint16Array.from({ length: data.byteLength / 2 }, (_, i) => view.getUint16(2 * i, true));
}
