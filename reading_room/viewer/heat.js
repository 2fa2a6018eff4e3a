// A model's heatmap over the image: its values come as grey levels and are coloured here, so that opacity, threshold
// and colours change without asking the server.

const COLOURS = { inferno: "Inferno", viridis: "Viridis", cividis: "Cividis" };
const SIGNED = "PuOr_r"; // for the label orange, against it purple; a map with a sign has no other colours
const SIGNED_COLOURS = "A map with a sign has colours of its own: orange for the label, purple against it";

/** Colour tables as they come from the server: base64 of 256 × RGB. */
function readTables(tables) {
  return Object.fromEntries(
    Object.entries(tables).map(([name, text]) => [name, Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))]),
  );
}

class Heat {
  constructor(canvas, tables) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.tables = tables;
    this.levels = null; // {bytes, width, height, signed}
    this.source = null; // of the map asked for last
    this.layer = null; // the coloured map, on its own grid
  }

  /** Takes a map, unless another is asked for meanwhile: `source` is a data URI of a grey picture of the image's aspect. */
  async load(source, signed) {
    this.source = source;
    const picture = new Image();
    picture.src = source;
    await picture.decode();
    const { naturalWidth: width, naturalHeight: height } = picture;
    const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    context.drawImage(picture, 0, 0);
    const { data } = context.getImageData(0, 0, width, height);
    const bytes = new Uint8Array(width * height);
    for (let i = 0; i < bytes.length; i++) bytes[i] = data[4 * i];
    if (this.source === source) this.levels = { bytes, width, height, signed };
  }

  /** Colours the map: nothing up to the threshold, then ever more opaque, without an edge. */
  colour({ colours, opacity, threshold }) {
    if (!this.levels) return;
    const { bytes, width, height, signed } = this.levels;
    const table = this.tables[signed ? SIGNED : colours];
    const picture = new ImageData(width, height);
    for (let i = 0; i < bytes.length; i++) {
      const level = bytes[i];
      const strength = signed ? Math.abs(level - 128) / 127 : level / 255;
      if (strength <= threshold) continue;
      picture.data.set(table.subarray(3 * level, 3 * level + 3), 4 * i);
      picture.data[4 * i + 3] = Math.min((1.6 * (strength - threshold)) / (1 - threshold), 1) * opacity * 255;
    }
    this.layer = new OffscreenCanvas(width, height);
    this.layer.getContext("2d").putImageData(picture, 0, 0);
  }

  resize(width, height) {
    if (this.canvas.width !== width) this.canvas.width = width;
    if (this.canvas.height !== height) this.canvas.height = height;
  }

  clear() {
    this.context.setTransform(1, 0, 0, 1, 0, 0);
    this.context.clearRect(0, 0, this.canvas.width, this.canvas.height);
  }

  /** Draws the map where the image lies in a pane. */
  draw(geometry, { left, top, width, height }) {
    if (!this.layer) return;
    const { context } = this, [a, b, c, d, e, f] = geometry.transform;
    context.save();
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.beginPath();
    context.rect(left, top, width, height);
    context.clip();
    context.setTransform(a, b, c, d, e + left, f + top);
    context.imageSmoothingEnabled = true;
    context.drawImage(this.layer, 0, 0, geometry.width, geometry.height);
    context.restore();
  }

  /** A strip of the colours in use, for the legend: a CSS gradient. */
  strip(colours) {
    const table = this.tables[this.levels?.signed ? SIGNED : colours];
    const stops = Array.from({ length: 9 }, (_, i) => {
      const at = 3 * Math.round((i * 255) / 8);
      return `rgb(${table[at]},${table[at + 1]},${table[at + 2]})`;
    });
    return `linear-gradient(90deg, ${stops.join(",")})`;
  }
}
