// The view with models' heatmaps on it: which one, how it looks, and comparing two.

class Overlay extends View {
  get cards() {
    return [...document.querySelectorAll("#cards .sr-card[data-map]")];
  }

  /** Brings a model's map onto the image. */
  async showMap(model) {
    const card = this.cardOf(model);
    if (!card || !this.plate) return;
    if (this.map.model !== model) this.map.before = this.map.model;
    Object.assign(this.map, { model, on: true });
    await this.loadMap(this.heat, card);
    this.markCards();
  }

  /** Fetches a card's map; one that does not come is told of, and the image stays as it is, without any. */
  async loadMap(heat, card) {
    const source = card.dataset.map;
    try {
      if (!(await heat.load(source, { ...card.dataset }))) return; // another one was chosen meanwhile
      this.recolour();
    } catch (error) {
      if (heat.source !== source) return;
      this.endBeside();
      this.hideMap();
      this.complain(`Not shown. ${error.message}`);
    }
  }

  recolour() {
    this.heat.colour(this.map);
    this.beside.colour(this.map);
    this.writeLegend("map", this.heat);
    this.writeLegend("beside", this.beside);
    for (const name of ["opacity", "threshold"]) {
      this.role(name).value = this.map[name];
      this.role(name).setAttribute("aria-valuetext", `${Math.round(100 * this.map[name])} %`);
    }
    const signed = [this.heat, ...(this.panes.split ? [this.beside] : [])].every((heat) => heat.levels?.signed);
    this.role("colours").value = this.map.colours;
    this.role("colours").disabled = signed;
    this.role("colours").title = signed ? SIGNED_COLOURS : "Colour map of the heatmap";
    this.redraw();
  }

  cardOf(model) {
    return this.cards.find((card) => card.dataset.model === model);
  }

  titleOf(model) {
    return this.cardOf(model).dataset.title;
  }

  /** Says whose map it is, of what, and what its colours mean. */
  writeLegend(name, heat) {
    const legend = this.find(`[data-legend="${name}"]`), { facts } = heat;
    legend.hidden = !this.map.on || !facts;
    if (legend.hidden) return;
    const signed = facts.signed === "true", [low, high] = legend.querySelectorAll("em");
    legend.querySelector("b").textContent = `${facts.title} · ${facts.method}`;
    legend.querySelector("i").style.background = heat.strip(this.map.colours);
    low.textContent = signed ? "against" : "0";
    high.textContent = signed ? "for" : "most";
    const worth = facts.note ? ` · ${facts.note}` : "";
    legend.querySelector("small").textContent = `what moved its score of “${facts.label}”${worth}`;
  }

  hideMap() {
    this.stopBlinking();
    this.map.on = false;
    this.heat.clearMap();
    for (const legend of this.root.querySelectorAll(".vw-legend")) legend.hidden = true;
    this.markCards();
    this.redraw();
  }

  /** The reader asked for a model's map, or for none: says what is on the image now. */
  chooseMap(model) {
    if (!this.plate) return;
    this.complain("");
    if (!model) this.hideMap();
    else this.showMap(model);
    this.say(model ? `Heatmap on the image: ${this.titleOf(model)}` : "No heatmap on the image.");
  }

  toggleOverlay() {
    if (this.map.on) return this.chooseMap(null);
    const model = this.cards.some((card) => card.dataset.model === this.map.model) ? this.map.model : this.cards[0]?.dataset.model;
    if (model) this.chooseMap(model);
    else this.say("There is no heatmap yet.");
  }

  stepMap(key) {
    const models = this.cards.map((card) => card.dataset.model).filter((model) => !this.panes.split || model !== this.map.beside);
    if (!models.length) return;
    this.stopBlinking();
    const at = models.indexOf(this.map.model);
    const step = key === "ArrowLeft" ? -1 : 1;
    this.chooseMap(at < 0 || !this.map.on ? models[Math.max(at, 0)] : models[(at + step + models.length) % models.length]);
  }

  stepOpacity(key) {
    this.map.opacity = clamp(this.map.opacity + (key === "ArrowUp" ? 0.1 : -0.1));
    this.recolour();
    this.say(`Opacity ${Math.round(100 * this.map.opacity)} %`);
  }

  stepThreshold(key) {
    this.map.threshold = clamp(this.map.threshold + (key === "t" ? 0.1 : -0.1), 0.95);
    this.recolour();
    this.say(`Shown from ${Math.round(100 * this.map.threshold)} %`);
  }

  nextColours() {
    if (this.role("colours").disabled) return this.say(SIGNED_COLOURS);
    const names = Object.keys(COLOURS);
    this.map.colours = names[(names.indexOf(this.map.colours) + 1) % names.length];
    this.recolour();
    this.say(`Colours: ${COLOURS[this.map.colours]}`);
  }

  /** Blinks between the last two maps at the same place; with reduced motion, each press swaps them. */
  compare() {
    if (this.blinking !== null) return this.stopBlinking();
    this.endBeside();
    const pair = this.pickTwo();
    if (!pair) return;
    const [first, other] = pair;
    const swap = () => this.showMap(this.map.model === first ? other : first);
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return this.chooseMap(this.map.model === first ? other : first);
    swap();
    this.blinking = setInterval(swap, 800);
    this.say(`Blinking: ${this.titleOf(first)} and ${this.titleOf(other)}`);
  }

  /** The two models to compare: the one whose map is on the image, and the one before it, else the next; or null. */
  pickTwo() {
    const models = this.cards.map((card) => card.dataset.model);
    if (models.length < 2) {
      this.say("Two heatmaps are needed to compare.");
      return null;
    }
    const { model, before } = this.map;
    const first = models.includes(model) ? model : models[0];
    return [first, before !== first && models.includes(before) ? before : models[(models.indexOf(first) + 1) % models.length]];
  }

  /** Two maps next to each other at the same place; the first one stays, and choosing a card changes the second. */
  async toggleBeside() {
    if (this.panes.split) return this.endBeside();
    this.stopBlinking();
    const pair = this.plate && this.pickTwo();
    if (!pair) return;
    this.map.beside = pair[0];
    this.useTwo(true);
    this.say(`Side by side: ${this.titleOf(pair[0])} and ${this.titleOf(pair[1])}`);
    await this.loadBeside();
    if (this.panes.split) await this.showMap(pair[1]);
  }

  async loadBeside() {
    const card = this.cardOf(this.map.beside);
    if (!card) return this.endBeside();
    await this.loadMap(this.beside, card);
  }

  endBeside() {
    if (!this.panes.split) return;
    this.say("One view.");
    this.useTwo(false);
    this.map.beside = null;
    this.beside.clearMap();
    this.markCards();
    this.recolour();
  }

  stopBlinking() {
    if (this.blinking !== null) this.say("No longer blinking.");
    clearInterval(this.blinking);
    this.blinking = null;
    this.redraw();
  }

  /** Says on the cards whose map is on the image; follows a map that was drawn anew. */
  markCards() {
    for (const card of document.querySelectorAll("#cards .sr-card")) {
      const { model } = card.dataset;
      const shown = String(this.map.on && (model === this.map.model || (this.panes.split && model === this.map.beside)));
      const button = card.querySelector(".sr-show");
      if (button && button.getAttribute("aria-pressed") !== shown) button.setAttribute("aria-pressed", shown);
    }
  }

  followCards() {
    const card = this.cardOf(this.map.model);
    if (this.map.on && card && card.dataset.map !== this.heat.source) this.showMap(this.map.model);
    const other = this.panes.split && this.cardOf(this.map.beside);
    if (other && other.dataset.map !== this.beside.source) this.loadBeside();
    this.markCards();
    const lost = this.case?.state === "case" && document.activeElement === document.body; // with a form that is gone
    if (lost) this.stageBox.focus({ preventScroll: true });
  }
}

function clamp(value, most = 1) {
  return Math.round(Math.min(Math.max(value, 0), most) * 100) / 100;
}
