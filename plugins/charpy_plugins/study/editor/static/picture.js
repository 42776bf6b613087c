// The image being painted: its values, what each stroke changed, and how far it is from its original.

export class Picture {
  // `original`: Uint8Array of (H, W, C) values; `painted`: the same, where something was painted before.
  constructor(width, height, channels, original, painted) {
    Object.assign(this, { width, height, channels, original });
    this.values = new Uint8Array(painted);
    this.version = 0;
    this.done = [];
    this.undone = [];
    this.stroke = null;
  }

  colour(pixel, values = this.values) {
    return Array.from(values.subarray(pixel * this.channels, (pixel + 1) * this.channels));
  }

  changed(pixel) {
    for (let i = pixel * this.channels; i < (pixel + 1) * this.channels; i++) {
      if (this.values[i] !== this.original[i]) return true;
    }
    return false;
  }

  begin() {
    this.stroke = new Map();
  }

  // Set one pixel to `colour`, or back to the original where that is null.
  set(pixel, colour) {
    const before = this.colour(pixel);
    const after = colour ?? this.colour(pixel, this.original);
    if (before.every((value, i) => value === after[i])) return;
    if (!this.stroke.has(pixel)) this.stroke.set(pixel, { before });
    this.stroke.get(pixel).after = after;
    this.values.set(after, pixel * this.channels);
    this.version++;
  }

  // End the stroke; it becomes one step to undo.
  end() {
    const stroke = this.stroke;
    this.stroke = null;
    if (!stroke || stroke.size === 0) return;
    this.done.push(stroke);
    this.undone = [];
  }

  undo() {
    this.#walk(this.done, this.undone, "before");
  }

  redo() {
    this.#walk(this.undone, this.done, "after");
  }

  reset() {
    this.begin();
    for (let pixel = 0; pixel < this.width * this.height; pixel++) {
      if (this.changed(pixel)) this.set(pixel, null);
    }
    this.end();
  }

  #walk(from, to, side) {
    if (this.stroke || from.length === 0) return;
    const stroke = from.pop();
    for (const [pixel, colours] of stroke) this.values.set(colours[side], pixel * this.channels);
    to.push(stroke);
    this.version++;
  }

  // Pixels that differ; L1, L2 and the largest difference of a value in steps of 1/255.
  distances() {
    let l0 = 0, l1 = 0, squares = 0, linf = 0;
    for (let pixel = 0; pixel < this.width * this.height; pixel++) {
      let differs = false;
      for (let i = pixel * this.channels; i < (pixel + 1) * this.channels; i++) {
        const gap = Math.abs(this.values[i] - this.original[i]);
        if (gap === 0) continue;
        differs = true;
        l1 += gap;
        squares += gap * gap;
        linf = Math.max(linf, gap);
      }
      if (differs) l0++;
    }
    return { l0, l1, l2: Math.sqrt(squares), linf };
  }

  // RGBA of the painting, or of the original.
  data(original = false) {
    const values = original ? this.original : this.values;
    const image = new ImageData(this.width, this.height);
    for (let pixel = 0; pixel < this.width * this.height; pixel++) {
      for (let c = 0; c < 3; c++) {
        image.data[4 * pixel + c] = values[pixel * this.channels + (this.channels === 1 ? 0 : c)];
      }
      image.data[4 * pixel + 3] = 255;
    }
    return image;
  }
}
