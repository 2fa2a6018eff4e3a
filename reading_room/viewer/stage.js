// Draws a plate through a window onto a canvas. The window acts on the interpolated full-depth values, at most once a
// screen pixel: the cost of a frame depends on the screen, not on the image.

class Stage {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
    this.frame = null; // ImageData, and the same bytes as one number a pixel
  }

  resize(width, height) {
    if (this.canvas.width === width && this.canvas.height === height) return;
    this.canvas.width = width;
    this.canvas.height = height;
    this.frame = null;
  }

  /** Draws, the same in every pane; `table` is from `buildWindowTable`. */
  draw(plate, geometry, table, panes) {
    const { width, height } = this.canvas;
    if (!this.frame) {
      const picture = this.context.createImageData(width, height);
      this.frame = { picture, words: new Uint32Array(picture.data.buffer) };
    }
    const { picture, words } = this.frame;
    words.fill(0xff000000);
    if (plate) {
      const [first, ...others] = panes.frames;
      paint(words, width, first, plate.copyFor(geometry.scale), geometry, table);
      for (const { left, top } of others) {
        for (let Y = first.height - 1; Y >= 0; Y--) words.copyWithin((top + Y) * width + left, Y * width, Y * width + first.width);
      }
    }
    this.context.putImageData(picture, 0, 0);
  }
}

/** Fills a frame at the top left of `words` (one 32-bit pixel each, `stride` a row) with a plate's copy, bilinearly. */
function paint(words, stride, { width, height }, copy, geometry, table) {
  const greys = new Uint32Array(table.length);
  for (let i = 0; i < greys.length; i++) greys[i] = 0xff000000 | (table[i] * 0x010101);
  const sideways = geometry.quarters % 2 === 1;
  const across = stepsAlong(width, (X) => geometry.toImage(X, 0)[sideways ? 1 : 0], copy, sideways);
  const down = stepsAlong(height, (Y) => geometry.toImage(0, Y)[sideways ? 0 : 1], copy, !sideways);
  const { pixels } = copy;
  for (let Y = down.first; Y < down.end; Y++) {
    const r0 = down.here[Y], r1 = down.next[Y], fy = down.part[Y];
    let at = Y * stride + across.first;
    for (let X = across.first; X < across.end; X++, at++) {
      const c0 = across.here[X], c1 = across.next[X], fx = across.part[X];
      const upper = pixels[r0 + c0] + (pixels[r0 + c1] - pixels[r0 + c0]) * fx;
      const lower = pixels[r1 + c0] + (pixels[r1 + c1] - pixels[r1 + c0]) * fx;
      words[at] = greys[(upper + (lower - upper) * fy + 0.5) | 0];
    }
  }
}

/**
 * For every screen pixel along one axis: the offsets of the two pixels of the copy it lies between, and how far.
 * Quarter turns keep the axes apart, so that each axis of the screen reads one axis of the image.
 */
function stepsAlong(count, place, copy, isRow) {
  const side = isRow ? copy.height : copy.width, step = isRow ? copy.width : 1;
  const here = new Int32Array(count), next = new Int32Array(count), part = new Float32Array(count);
  let first = count, end = 0;
  for (let i = 0; i < count; i++) {
    const u = place(i + 0.5) / copy.factor;
    if (u < 0 || u >= side) continue;
    if (i < first) first = i;
    end = i + 1;
    const centre = Math.min(Math.max(u - 0.5, 0), side - 1);
    const low = Math.floor(centre);
    here[i] = low * step;
    next[i] = Math.min(low + 1, side - 1) * step;
    part[i] = centre - low;
  }
  return { here, next, part, first: Math.min(first, end), end };
}
