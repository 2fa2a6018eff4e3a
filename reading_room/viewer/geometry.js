// Where the image lies on the screen: scale, place and quarter turns. No drawing here.
//
// Image coordinates: (x, y) with pixel (0, 0) covering 0 to 1. Screen coordinates: the same on the canvas' own pixels.
// A turn by r quarters, clockwise, takes (x, y) to (p, q); the screen has (left + scale p, top + scale q).

class Geometry {
  constructor(width, height) {
    Object.assign(this, { width, height, quarters: 0, scale: 1, left: 0, top: 0 });
  }

  /** Width and height of the turned image. */
  get turnedSize() {
    return this.quarters % 2 ? [this.height, this.width] : [this.width, this.height];
  }

  turn(x, y) {
    const { width: W, height: H } = this;
    return [[x, y], [H - y, x], [W - x, H - y], [y, W - x]][this.quarters];
  }

  turnBack(p, q) {
    const { width: W, height: H } = this;
    return [[p, q], [q, H - p], [W - p, H - q], [W - q, p]][this.quarters];
  }

  toScreen(x, y) {
    const [p, q] = this.turn(x, y);
    return [this.left + this.scale * p, this.top + this.scale * q];
  }

  toImage(X, Y) {
    return this.turnBack((X - this.left) / this.scale, (Y - this.top) / this.scale);
  }

  /** The canvas' transform from image to screen coordinates: a, b, c, d, e, f. */
  get transform() {
    const { scale: s, left, top, width: W, height: H } = this;
    return [
      [s, 0, 0, s, left, top],
      [0, s, -s, 0, left + s * H, top],
      [-s, 0, 0, -s, left + s * W, top + s * H],
      [0, -s, s, 0, left, top + s * W],
    ][this.quarters];
  }

  /** The whole image in the middle of a screen. */
  fit(screenWidth, screenHeight) {
    const [w, h] = this.turnedSize;
    this.setScale(Math.min(screenWidth / w, screenHeight / h), screenWidth, screenHeight);
  }

  /** A scale, with the image's middle in the middle of a screen. Whole scales lie on whole pixels. */
  setScale(scale, screenWidth, screenHeight) {
    const [w, h] = this.turnedSize;
    this.scale = scale;
    this.left = Math.round((screenWidth - scale * w) / 2);
    this.top = Math.round((screenHeight - scale * h) / 2);
  }

  /** A scale of 1; of an image that is larger than the screen, what is in the screen's middle stays there. */
  showActual(screenWidth, screenHeight) {
    const [x, y] = this.toImage(screenWidth / 2, screenHeight / 2);
    this.setScale(1, screenWidth, screenHeight);
    const [w, h] = this.turnedSize;
    if (w <= screenWidth && h <= screenHeight) return;
    const [X, Y] = this.toScreen(x, y);
    this.left = Math.round(this.left + screenWidth / 2 - X);
    this.top = Math.round(this.top + screenHeight / 2 - Y);
  }

  move(dX, dY) {
    this.left += dX;
    this.top += dY;
  }

  /** Zooms by a factor; the place of the image under (X, Y) stays there. */
  zoom(factor, X, Y, least, most) {
    const scale = Math.min(Math.max(this.scale * factor, least), most);
    this.left = X - (X - this.left) * (scale / this.scale);
    this.top = Y - (Y - this.top) * (scale / this.scale);
    this.scale = scale;
  }

  /** Turns by a quarter, clockwise; what is in the middle of the screen stays there. */
  rotate(screenWidth, screenHeight) {
    const [x, y] = this.toImage(screenWidth / 2, screenHeight / 2);
    this.quarters = (this.quarters + 1) % 4;
    const [p, q] = this.turn(x, y);
    this.left = Math.round(screenWidth / 2 - this.scale * p);
    this.top = Math.round(screenHeight / 2 - this.scale * q);
  }

  /** Keeps at least a corner of the image on the screen. */
  hold(screenWidth, screenHeight) {
    const [w, h] = this.turnedSize.map((side) => side * this.scale);
    const rim = 40;
    this.left = Math.min(Math.max(this.left, rim - w), screenWidth - rim);
    this.top = Math.min(Math.max(this.top, rim - h), screenHeight - rim);
  }
}
