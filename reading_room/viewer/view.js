// The view: an image, its place, its window, and when it is drawn.

const MOST_PIXELS = 3.2e6; // of the canvas; a denser screen is drawn a little coarser
const MOST_ZOOM = 40;

class View {
  constructor(root, tables) {
    this.root = root;
    this.stageBox = this.find(".vw-stage");
    this.stage = new Stage(this.find(".vw-base"));
    this.heat = new Heat(this.find(".vw-heat"), readTables(tables), new Maps());
    this.beside = new Heat(this.heat.canvas, this.heat.tables, this.heat.maps); // the map that this one is compared with
    this.panes = new Panes();
    this.marks = new Marks(this.find(".vw-marks"), (text) => this.say(text));
    this.geometry = new Geometry(1, 1);
    this.case = null;
    this.plate = null;
    this.tool = "window";
    this.window = { centre: 0, width: 1 };
    this.inverted = false;
    this.fitted = true;
    this.map = { on: false, model: null, before: null, beside: null, colours: "inferno", opacity: 0.55, threshold: 0.1 };
    this.blinking = null;
    this.draft = null;
    this.pointers = new Map();
    this.frames = [];
  }

  find(selector) {
    return this.root.querySelector(selector);
  }

  role(name) {
    return this.find(`[data-role="${name}"]`);
  }

  say(text) {
    this.role("said").textContent = text;
  }

  /** Says what is awaited, or with "" that nothing is; the image of before pales meanwhile. */
  wait(text) {
    Object.assign(this.find(".vw-wait"), { textContent: text, hidden: !text });
    this.root.classList.toggle("vw-waiting", Boolean(text));
  }

  /** Says what went wrong, at the image's upper edge; with "" nothing. */
  complain(text) {
    Object.assign(this.find(".vw-error"), { textContent: text, hidden: !text });
  }

  // --- the case ---

  /** Shows a value from the server: nothing, an error or a case. */
  async show(value) {
    this.root.dataset.state = value.state;
    this.wait("");
    this.complain(value.state === "error" ? `Not read. ${value.message}` : "");
    this.role("facts").textContent = value.facts ?? "";
    this.role("warnings").replaceChildren(...(value.warnings ?? []).map((text) => Object.assign(document.createElement("li"), { textContent: text })));
    const same = this.plate && value.pixels === this.case?.pixels;
    if (value.sha256 !== this.case?.sha256) this.marks.reset(value);
    if (value.opened !== this.case?.opened) {
      this.hideMap();
      this.endBeside();
      if (value.state === "case" && document.activeElement?.matches("body, button")) this.stageBox.focus({ preventScroll: true });
    }
    this.case = value;
    this.followSteps();
    if (value.state !== "case") {
      this.fetching?.abort();
      this.plate = null;
    } else if (!same) await this.fetchPlate(value);
    this.redraw();
  }

  async fetchPlate(value) {
    this.fetching?.abort();
    const fetching = new AbortController();
    this.fetching = fetching;
    this.plate = null;
    this.redraw();
    this.wait("fetching the pixels …");
    try {
      const plate = await Plate.fetch(value, fetching.signal);
      if (this.case !== value) return;
      this.plate = plate;
    } catch (error) {
      if (error.name !== "AbortError") await this.show({ state: "error", message: error.message });
      return;
    } finally {
      if (this.fetching === fetching) this.wait("");
    }
    this.geometry = new Geometry(value.width, value.height);
    this.inverted = false;
    this.usePreset("stored");
    this.resize();
    this.fitView();
  }

  // --- drawing ---

  /** Asks for a new frame; many asks make one frame. */
  redraw() {
    this.asked ??= requestAnimationFrame(() => {
      this.asked = null;
      this.draw();
    });
  }

  draw() {
    const started = performance.now();
    const table = this.plate ? buildWindowTable(this.window, this.plate.levels, this.inverted !== Boolean(this.plate.own?.inverted)) : null;
    this.stage.draw(this.plate, this.geometry, table, this.panes);
    this.heat.clear();
    if (this.plate && this.map.on) {
      const frames = this.panes.frames;
      this.heat.draw(this.geometry, frames.at(-1));
      if (frames.length > 1) this.beside.draw(this.geometry, frames[0]);
    }
    this.marks.ratio = this.ratio;
    this.marks.draw(this.geometry, this.plate ? this.draft : null, this.panes.frames, this.panes.pointer);
    this.frames = [...this.frames.slice(-59), performance.now() - started];
    this.describe();
  }

  describe() {
    this.role("view").textContent = this.plate ? `${this.nameWindow()} · ${this.percent} %` : "";
    this.find('[data-act="invert"]').setAttribute("aria-pressed", this.inverted);
    this.find('[data-act="overlay"]').setAttribute("aria-pressed", this.map.on);
    this.find('[data-act="compare"]').setAttribute("aria-pressed", this.blinking !== null);
    this.find('[data-act="beside"]').setAttribute("aria-pressed", this.panes.split);
    for (const button of this.root.querySelectorAll("button[data-tool]")) button.setAttribute("aria-pressed", button.dataset.tool === this.tool);
    this.stageBox.dataset.tool = this.tool;
    this.root.dataset.panes = this.panes.split ? this.panes.direction : "one";
  }

  nameWindow() {
    const { centre, width } = this.window;
    return `level ${Math.round(this.plate.meaning(centre))} · width ${Math.round(width * (this.plate.own?.slope ?? 1))}`;
  }

  get percent() {
    return Math.round(this.geometry.scale * 100);
  }

  resize() {
    const { clientWidth, clientHeight } = this.stageBox;
    if (!clientWidth || !clientHeight) return;
    const before = this.size;
    this.ratio = Math.min(devicePixelRatio, Math.sqrt(MOST_PIXELS / (clientWidth * clientHeight)));
    const size = [Math.round(clientWidth * this.ratio), Math.round(clientHeight * this.ratio)];
    this.stage.resize(...size);
    this.heat.resize(...size);
    this.panes.resize(...size);
    this.recentre(before);
  }

  /** What was in the middle of a view of another size stays in the middle. */
  recentre(before) {
    const size = this.size;
    if (this.fitted) this.geometry.fit(...size);
    else this.geometry.move((size[0] - before[0]) / 2, (size[1] - before[1]) / 2);
    this.redraw();
  }

  /** One view of the image, or two of the same place. */
  useTwo(split) {
    if (split === this.panes.split) return;
    const before = this.size;
    this.panes.split = split;
    this.recentre(before);
  }

  /** Width and height of a pane, in the canvas' own pixels. */
  get size() {
    return this.panes.size;
  }

  /** A pointer's place in its pane, in the canvas' own pixels; one that drags stays in the pane where it began. */
  placeOf(event) {
    const box = this.stageBox.getBoundingClientRect();
    const place = [(event.clientX - box.left) * this.ratio, (event.clientY - box.top) * this.ratio];
    return this.panes.placeIn(place, this.pointers.size > 0);
  }

  // --- view and window ---

  fit() {
    if (!this.plate) return;
    this.fitView();
    this.say(`Fit: ${this.percent} %`);
  }

  fitView() {
    this.fitted = true;
    this.geometry.fit(...this.size);
    this.redraw();
  }

  actual() {
    if (!this.plate) return;
    this.fitted = false;
    this.geometry.showActual(...this.size);
    this.redraw();
    this.say(`Zoom ${this.percent} %`);
  }

  zoom(factor, X = this.size[0] / 2, Y = this.size[1] / 2) {
    const [w, h] = this.geometry.turnedSize;
    const least = 0.5 * Math.min(this.size[0] / w, this.size[1] / h, 1);
    this.fitted = false;
    this.geometry.zoom(factor, X, Y, least, MOST_ZOOM);
    this.geometry.hold(...this.size);
    this.redraw();
  }

  pan(dX, dY) {
    this.fitted = false;
    this.geometry.move(dX, dY);
    this.geometry.hold(...this.size);
    this.redraw();
  }

  stepZoom(key) {
    if (!this.plate) return;
    this.zoom(key === "-" ? 1 / 1.25 : 1.25);
    this.say(`Zoom ${this.percent} %`);
  }

  stepPan(key) {
    if (!this.plate) return;
    const [dX, dY] = arrow(key);
    this.pan(-80 * dX, -80 * dY);
    this.say("Moved.");
  }

  rotate() {
    if (!this.plate) return;
    this.geometry.rotate(...this.size);
    if (this.fitted) this.fitView();
    this.redraw();
    this.say(`Rotated by ${90 * this.geometry.quarters}°`);
  }

  invert() {
    if (!this.plate) return;
    this.inverted = !this.inverted;
    this.redraw();
    this.say(this.inverted ? "Inverted." : "No longer inverted.");
  }

  usePreset(name) {
    if (!this.plate) return;
    this.window = windowOfPreset(name, this.plate);
    this.role("preset").value = name;
    this.redraw();
  }

  nextPreset() {
    if (!this.plate) return;
    const names = Object.keys(PRESETS);
    const name = names[(names.indexOf(this.role("preset").value) + 1) % names.length];
    this.usePreset(name);
    this.say(`Window: ${PRESETS[name].title}`);
  }

  /** Moves level and width by shares of the image's own range; a higher level is darker. */
  shiftWindow(level, width) {
    if (!this.plate) return;
    if (this.plate.own?.inverted) level = -level;
    const range = Math.max(this.plate.highest - this.plate.lowest, 1);
    this.window = { centre: this.window.centre + level * range, width: Math.max(1, this.window.width + width * range) };
    this.role("preset").value = "";
    this.redraw();
  }

  stepLevel(key) {
    this.shiftWindow(key === "[" ? 0.03 : -0.03, 0);
    if (this.plate) this.say(this.nameWindow());
  }

  stepWidth(key) {
    this.shiftWindow(0, key === "{" ? -0.06 : 0.06);
    if (this.plate) this.say(this.nameWindow());
  }

  useTool(name) {
    this.tool = name;
    this.describe();
    this.say(this.find(`button[data-tool="${name}"]`).title);
  }
}
