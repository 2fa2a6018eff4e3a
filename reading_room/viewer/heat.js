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

const MOST_MAPS = 16; // kept, 0.1 MiB each: whoever blinks between two, or steps through all, fetches each once

/** Maps by address, each fetched when it is first wanted. */
class Maps {
  constructor() {
    this.kept = new Map(); // promises, the one wanted last at the end
  }

  /** A map as {bytes, width, height}; throws an Error with a sentence for the reader. */
  get(source) {
    const found = this.kept.get(source) ?? Maps.fetch(source);
    this.kept.delete(source);
    this.kept.set(source, found);
    found.catch(() => this.kept.get(source) === found && this.kept.delete(source));
    if (this.kept.size > MOST_MAPS) this.kept.delete(this.kept.keys().next().value);
    return found;
  }

  static async fetch(source) {
    const answer = await fetch(new URL(source, document.baseURI), { cache: "no-store" });
    if (!answer.ok) throw new Error(await answer.text());
    const picture = await createImageBitmap(await answer.blob(), { colorSpaceConversion: "none" });
    const { width, height } = picture;
    const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    context.drawImage(picture, 0, 0);
    const { data } = context.getImageData(0, 0, width, height);
    const bytes = new Uint8Array(width * height);
    for (let i = 0; i < bytes.length; i++) bytes[i] = data[4 * i];
    return { bytes, width, height };
  }
}

class Heat {
  constructor(canvas, tables, maps) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.tables = tables;
    this.maps = maps;
    this.clearMap();
  }

  /** Has no map, and waits for none. */
  clearMap() {
    this.source = null; // of the map asked for last
    this.levels = null; // {bytes, width, height, signed}
    this.facts = null; // what the legend says of it
    this.layer = null; // the coloured map, on its own grid
  }

  /**
   * Takes a map, unless another is asked for meanwhile; says whether it has. Until then the one before stays.
   *
   * `source`: the address of a grey picture of the image's aspect; `facts`: of the map, `signed` among them.
   */
  async load(source, facts) {
    this.source = source;
    const map = await this.maps.get(source);
    if (this.source !== source) return false;
    Object.assign(this, { levels: { ...map, signed: facts.signed === "true" }, facts });
    return true;
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
