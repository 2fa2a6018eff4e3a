// The viewer: the view with its heatmaps, the reader's boxes, and the page around it.

const READER_KEY = "second-read-reader";

class Viewer extends Overlay {
  // --- marks ---

  newBox() {
    if (!this.plate) return;
    const [W, H] = this.size;
    this.marks.addBox(this.geometry.toImage(0.4 * W, 0.4 * H), this.geometry.toImage(0.6 * W, 0.6 * H));
    this.say(`Box ${this.marks.boxes.length} drawn; Alt and arrows move it.`);
    this.redraw();
  }

  shiftBox(key, event) {
    const [dX, dY] = arrow(key);
    const [x0, y0] = this.geometry.toImage(0, 0), [x1, y1] = this.geometry.toImage(dX * this.geometry.scale, dY * this.geometry.scale);
    const step = Math.max(1, Math.round(4 / this.geometry.scale));
    const [dx, dy] = [step * Math.round(x1 - x0), step * Math.round(y1 - y0)];
    const larger = dX + dY; // right and down, however the image is turned
    if (event.shiftKey) this.marks.grow(larger * Math.abs(dx), larger * Math.abs(dy));
    else this.marks.shift(dx, dy);
    this.redraw();
  }

  removeMark() {
    this.marks.remove();
    this.redraw();
  }

  letGo() {
    this.stopBlinking();
    this.endBeside();
    this.marks.chosen = -1;
    this.draft = null;
    this.redraw();
  }

  /** What the flag takes along: the boxes, and the image they were drawn on. */
  get regions() {
    return JSON.stringify({ sha256: this.case?.sha256 ?? "", boxes: this.marks.regions });
  }

  // --- the page around ---

  openFile() {
    document.querySelector("#file")?.click();
  }

  openExample() {
    document.querySelector("#example")?.click();
  }

  /** Opens the worklist's next or previous case. */
  stepCase(key) {
    const [selector, end] = key === "j" ? ["#case-next", "This is the list’s last case."] : ["#case-previous", "This is the list’s first case."];
    const button = document.querySelector(selector);
    if (!button?.offsetParent) this.say("There is no worklist yet.");
    else if (button.disabled) this.say(end);
    else button.click();
  }

  /** Brings the image of a case that was just opened into sight; its page may be about to be shown. */
  bringImage(tries = 40) {
    if (!this.stageBox.offsetParent && tries) setTimeout(() => this.bringImage(tries - 1), 50);
    else if (this.root.getBoundingClientRect().top < 0) this.root.scrollIntoView({ block: "start" });
  }

  /** Says which case of the worklist is shown, as long as it is: an image opened by hand is none of them. */
  followSteps() {
    const step = document.querySelector("#case-place .sr-step");
    if (!step) return;
    const shown = step.dataset.sha256 === (this.case?.sha256 ?? "");
    for (const text of step.children) text.hidden = (text.className === "sr-here") !== shown;
  }

  /** The form in use: the reader's own reading while the panel is sealed, else the flag. */
  get form() {
    const seen = (id) => document.querySelector(`${id} input`)?.offsetParent;
    if (seen("#commit-label")) return { labels: "#commit-label", save: "#commit-save" };
    return seen("#flag-label") ? { labels: "#flag-label", save: "#flag-save" } : null;
  }

  chooseLabel(key) {
    const radios = this.form ? document.querySelectorAll(`${this.form.labels} input[type=radio]`) : [];
    const radio = radios[Number(key) - 1];
    if (!radio) return false;
    radio.click();
    this.say(`Label ${radio.value.replaceAll("_", " ")}`); // the focus stays, and with it the keys of the image
  }

  focusForm() {
    const reader = document.querySelector("#flag-reader input, #flag-reader textarea");
    const radio = this.form && document.querySelector(`${this.form.labels} input[type=radio]:checked, ${this.form.labels} input[type=radio]`);
    if (reader?.offsetParent && !reader.value && document.querySelector("#flag-label input:checked")) reader.focus();
    else radio?.focus();
  }

  saveForm() {
    if (!this.form) return false;
    document.querySelector(this.form.save)?.click();
  }

  undoFlag() {
    document.querySelector("#flag-undo")?.click();
  }

  help() {
    const sheet = this.find(".vw-sheet");
    if (sheet.open) sheet.close();
    else sheet.showModal();
  }
}
