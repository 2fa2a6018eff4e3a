// One view of the image, or two of the same place: side by side, or one above the other where the view is tall.

class Panes {
  constructor() {
    Object.assign(this, { split: false, width: 0, height: 0, current: 0, pointer: null });
  }

  resize(width, height) {
    Object.assign(this, { width, height });
  }

  get direction() {
    return this.width >= this.height ? "across" : "down";
  }

  /** Width and height of one pane. */
  get size() {
    if (!this.split) return [this.width, this.height];
    return this.direction === "across" ? [this.width >> 1, this.height] : [this.width, this.height >> 1];
  }

  /** Where each pane lies on the canvas: {left, top, width, height}. */
  get frames() {
    const [width, height] = this.size;
    const first = { left: 0, top: 0, width, height };
    if (!this.split) return [first];
    return [first, this.direction === "across" ? { ...first, left: this.width - width } : { ...first, top: this.height - height }];
  }

  /** A place of the canvas as one of its pane; `held` keeps the pane of before. */
  placeIn([X, Y], held = false) {
    const { frames } = this;
    if (!held) this.current = frames.length > 1 && (X >= frames[1].left && Y >= frames[1].top) ? 1 : 0;
    const { left, top } = frames[Math.min(this.current, frames.length - 1)];
    return [X - left, Y - top];
  }
}
