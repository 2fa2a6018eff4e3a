// The view with models' heatmaps on it: which one, how it looks, and comparing two.

class Overlay extends View {
  get cards() {
    return [...document.querySelectorAll("#cards .sr-card[data-map]")];
  }

  /** Brings a model's map onto the image. */
  async showMap(model) {
    const card = this.cards.find((one) => one.dataset.model === model);
    if (!card || !this.plate) return;
    if (this.map.model !== model) this.map.before = this.map.model;
    Object.assign(this.map, { model, source: card.dataset.map, on: true });
    await this.heat.load(card.dataset.map, card.dataset.signed === "true");
    if (this.map.source !== card.dataset.map) return; // another one was chosen meanwhile
    this.recolour();
    this.markCards();
  }

  recolour() {
    const { colours, opacity, threshold } = this.map;
    this.heat.colour(this.map);
    const card = this.cards.find((one) => one.dataset.model === this.map.model);
    this.find(".vw-legend").hidden = !this.map.on || !card;
    if (card) {
      this.role("map-title").textContent = `${card.dataset.title} · ${card.dataset.method}`;
      this.find(".vw-scale i").style.background = this.heat.strip(colours);
      const signed = card.dataset.signed === "true";
      this.role("scale-low").textContent = signed ? "against" : "0";
      this.role("scale-high").textContent = signed ? "for" : "most";
      const worth = card.dataset.note ? ` · ${card.dataset.note}` : "";
      this.role("map-note").textContent = `what moved its score of “${card.dataset.label}”${worth}`;
    }
    this.role("opacity").value = opacity;
    this.role("threshold").value = threshold;
    this.role("colours").value = colours;
    this.redraw();
  }

  hideMap() {
    this.stopBlinking();
    this.map.on = false;
    this.find(".vw-legend").hidden = true;
    this.markCards();
    this.redraw();
  }

  toggleOverlay() {
    if (this.map.on) return this.hideMap();
    const model = this.cards.some((card) => card.dataset.model === this.map.model) ? this.map.model : this.cards[0]?.dataset.model;
    if (model) this.showMap(model);
    else this.say("There is no heatmap yet.");
  }

  stepMap(key) {
    const models = this.cards.map((card) => card.dataset.model);
    if (!models.length) return;
    this.stopBlinking();
    const at = models.indexOf(this.map.model);
    const step = key === "ArrowLeft" ? -1 : 1;
    this.showMap(at < 0 || !this.map.on ? models[Math.max(at, 0)] : models[(at + step + models.length) % models.length]);
  }

  stepOpacity(key) {
    this.map.opacity = clamp(this.map.opacity + (key === "ArrowUp" ? 0.1 : -0.1));
    this.recolour();
  }

  stepThreshold(key) {
    this.map.threshold = clamp(this.map.threshold + (key === "t" ? 0.1 : -0.1), 0.95);
    this.recolour();
  }

  nextColours() {
    const names = Object.keys(COLOURS);
    this.map.colours = names[(names.indexOf(this.map.colours) + 1) % names.length];
    this.recolour();
  }

  /** Blinks between the last two maps at the same place; with reduced motion, each press swaps them. */
  compare() {
    if (this.blinking !== null) return this.stopBlinking();
    const models = this.cards.map((card) => card.dataset.model);
    if (models.length < 2) return this.say("Two heatmaps are needed to compare.");
    const first = models.includes(this.map.model) ? this.map.model : models[0];
    const other = this.map.before !== first && models.includes(this.map.before) ? this.map.before : models[(models.indexOf(first) + 1) % models.length];
    const swap = () => this.showMap(this.map.model === first ? other : first);
    swap();
    if (!matchMedia("(prefers-reduced-motion: reduce)").matches) this.blinking = setInterval(swap, 800);
  }

  stopBlinking() {
    clearInterval(this.blinking);
    this.blinking = null;
    this.redraw();
  }

  /** Says on the cards whose map is on the image; follows a map that was drawn anew. */
  markCards() {
    for (const card of document.querySelectorAll("#cards .sr-card")) {
      const shown = String(this.map.on && card.dataset.model === this.map.model);
      const button = card.querySelector(".sr-show");
      if (button && button.getAttribute("aria-pressed") !== shown) button.setAttribute("aria-pressed", shown);
    }
  }

  followCards() {
    const card = this.cards.find((one) => one.dataset.model === this.map.model);
    if (this.map.on && card && card.dataset.map !== this.map.source) this.showMap(this.map.model);
    this.markCards();
    if (document.activeElement === document.body) this.stageBox.focus({ preventScroll: true }); // its form is gone
  }
}

function clamp(value, most = 1) {
  return Math.round(Math.min(Math.max(value, 0), most) * 100) / 100;
}
