// Boxes and rulers over the image, kept in image pixels. Boxes go with the flag; rulers are only looked at.

const SVG = "http://www.w3.org/2000/svg";

class Marks {
  constructor(svg, say) {
    Object.assign(this, { svg, say, boxes: [], rulers: [], chosen: -1, spacing: null, detector: false, size: [0, 0], ratio: 1 });
  }

  /** Begins anew for another image: with the boxes that were on it before a reload, if any. */
  reset({ width, height, spacing, detector, boxes = [] }) {
    Object.assign(this, { boxes: boxes.map((box) => ({ ...box })), rulers: [], chosen: -1, spacing: spacing ?? null, detector: Boolean(detector), size: [width, height] });
  }

  /** The boxes as the flag takes them. */
  get regions() {
    return this.boxes.map(({ x, y, width, height }) => ({ x, y, width, height }));
  }

  /** Adds the box between two places of the image; one of less than two pixels is a slip and is left out. */
  addBox([x0, y0], [x1, y1]) {
    const [W, H] = this.size;
    const inside = (value, most) => Math.round(Math.min(Math.max(value, 0), most));
    const [left, right] = [inside(Math.min(x0, x1), W), inside(Math.max(x0, x1), W)];
    const [top, bottom] = [inside(Math.min(y0, y1), H), inside(Math.max(y0, y1), H)];
    if (right - left < 2 || bottom - top < 2) return false;
    this.boxes.push({ x: left, y: top, width: right - left, height: bottom - top });
    this.chosen = this.boxes.length - 1;
    return true;
  }

  /** Moves the chosen box by image pixels, inside the image. */
  shift(dx, dy) {
    const box = this.boxes[this.chosen];
    if (!box) return;
    box.x = within(box.x + dx, 0, this.size[0] - box.width);
    box.y = within(box.y + dy, 0, this.size[1] - box.height);
  }

  /** Makes the chosen box larger by image pixels, or smaller, inside the image. */
  grow(dx, dy) {
    const box = this.boxes[this.chosen];
    if (!box) return;
    box.width = within(box.width + dx, 2, this.size[0] - box.x);
    box.height = within(box.height + dy, 2, this.size[1] - box.y);
  }

  /** Deletes the chosen box, else the last ruler; says what went. */
  remove() {
    if (this.boxes[this.chosen]) {
      this.boxes.splice(this.chosen, 1);
      this.chosen = this.boxes.length - 1;
      this.say("Box deleted.");
    } else if (this.rulers.pop()) this.say("Ruler deleted.");
  }

  /** The number of the box at a place of the image, or -1. The smallest wins where several lie. */
  boxAt(x, y) {
    const hits = this.boxes
      .map((box, index) => ({ index, box }))
      .filter(({ box }) => x >= box.x && x <= box.x + box.width && y >= box.y && y <= box.y + box.height)
      .sort((a, b) => a.box.width * a.box.height - b.box.width * b.box.height);
    return hits.length ? hits[0].index : -1;
  }

  lengthOf([x0, y0], [x1, y1]) {
    if (!this.spacing) return `${Math.hypot(x1 - x0, y1 - y0).toFixed(0)} px (no spacing in the file)`;
    const [row, column] = this.spacing;
    const length = Math.hypot((x1 - x0) * column, (y1 - y0) * row).toFixed(1);
    return this.detector ? `${length} mm at the detector` : `${length} mm`; // there, what lies before it is enlarged
  }

  /**
   * Redraws, in every pane; `draft` is what is being dragged: {kind, from, to}. `pointer`, {place, pane}, is where the
   * pointer is on the image: the other pane shows that place with a cross.
   */
  draw(geometry, draft, frames, pointer) {
    if (frames.length === 1) return this.svg.replaceChildren(...this.drawParts(geometry, draft));
    this.svg.replaceChildren(...frames.map((frame, index) => {
      const [left, top, width, height] = [frame.left, frame.top, frame.width, frame.height].map((side) => side / this.ratio);
      const pane = make("svg", { x: left, y: top, width, height, ...(index ? { "aria-hidden": "true" } : {}) });
      pane.append(...this.drawParts(geometry, draft));
      if (pointer && pointer.pane !== index) pane.append(drawCross(this.onPage(geometry, pointer.place)));
      return pane;
    }));
  }

  drawParts(geometry, draft) {
    const parts = [];
    this.boxes.forEach((box, index) => parts.push(this.drawBox(geometry, box, index)));
    const rulers = draft?.kind === "ruler" ? [...this.rulers, [draft.from, draft.to]] : this.rulers;
    for (const [from, to] of rulers) parts.push(this.drawRuler(geometry, from, to));
    if (draft?.kind === "box") parts.push(drawFrame(this.onPage(geometry, draft.from), this.onPage(geometry, draft.to)));
    return parts;
  }

  onPage(geometry, [x, y]) {
    return geometry.toScreen(x, y).map((value) => value / this.ratio);
  }

  drawBox(geometry, box, index) {
    const ends = [this.onPage(geometry, [box.x, box.y]), this.onPage(geometry, [box.x + box.width, box.y + box.height])];
    const group = drawFrame(...ends);
    group.setAttribute("class", index === this.chosen ? "vw-box vw-chosen" : "vw-box");
    group.setAttribute("role", "img");
    group.setAttribute("aria-label", `Box ${index + 1}: ${box.width} × ${box.height} pixels at ${box.x}, ${box.y}`);
    const left = Math.min(ends[0][0], ends[1][0]), top = Math.min(ends[0][1], ends[1][1]);
    group.append(write(left + 4, top - 5, `${index + 1}`));
    return group;
  }

  drawRuler(geometry, from, to) {
    const [[x1, y1], [x2, y2]] = [this.onPage(geometry, from), this.onPage(geometry, to)];
    const group = make("g", { class: "vw-ruler" });
    for (const kind of ["vw-shade", "vw-line"]) group.append(make("line", { class: kind, x1, y1, x2, y2 }));
    group.append(write(Math.max(x1, x2) + 6, x1 > x2 ? y1 : y2, this.lengthOf(from, to)));
    return group;
  }
}

function within(value, least, most) {
  return Math.round(Math.min(Math.max(value, least), most));
}

function make(name, attributes) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

function write(x, y, text) {
  const node = make("text", { x, y });
  node.textContent = text;
  return node;
}

function drawCross([x, y]) {
  const group = make("g", { class: "vw-cross" });
  for (const kind of ["vw-shade", "vw-line"]) group.append(make("path", { class: kind, d: `M${x - 9} ${y}h18M${x} ${y - 9}v18` }));
  return group;
}

function drawFrame([x0, y0], [x1, y1]) {
  const place = { x: Math.min(x0, x1), y: Math.min(y0, y1), width: Math.abs(x1 - x0), height: Math.abs(y1 - y0) };
  const group = make("g", { class: "vw-box" });
  for (const kind of ["vw-shade", "vw-line"]) group.append(make("rect", { class: kind, ...place }));
  return group;
}
