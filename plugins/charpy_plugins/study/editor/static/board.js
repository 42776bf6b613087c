// The canvas: draws the picture enlarged, and turns pointer and keys into strokes.

const GRID_FROM = 6; // pixels of the screen that an image pixel needs for grid lines

export class Board {
  // `hooks`: painted() after every change, picked(colour), key(name) of a letter, moved(text) of the cursor.
  constructor(canvas, frame, picture, hooks) {
    Object.assign(this, { canvas, frame, picture, hooks });
    this.tool = "pencil";
    this.colour = new Array(picture.channels).fill(255);
    this.brush = 1;
    this.grid = true;
    this.marks = false;
    this.comparing = false;
    this.cursor = { x: Math.floor(picture.width / 2), y: Math.floor(picture.height / 2) };
    this.byKey = false;
    this.last = null;
    this.small = document.createElement("canvas");
    this.small.width = picture.width;
    this.small.height = picture.height;
    this.#listen();
  }

  // The largest whole zoom at which the image fits into its frame.
  fit(most) {
    const tallest = parseFloat(getComputedStyle(this.frame).maxHeight);
    const room = Math.min(this.frame.clientWidth, tallest, 648) - 8; // its padding
    return Math.max(1, Math.min(most, Math.floor(room / Math.max(this.picture.width, this.picture.height))));
  }

  zoom(cell) {
    this.cell = cell;
    const ratio = window.devicePixelRatio || 1;
    const { width, height } = this.picture;
    this.canvas.width = Math.round(width * cell * ratio);
    this.canvas.height = Math.round(height * cell * ratio);
    this.canvas.style.width = `${width * cell}px`;
    this.canvas.style.height = `${height * cell}px`;
    this.draw();
  }

  use(tool) {
    this.tool = tool;
    this.canvas.classList.toggle("moving", tool === "move");
  }

  draw() {
    if (this.drawing) return;
    this.drawing = true;
    requestAnimationFrame(() => {
      this.drawing = false;
      this.#draw();
    });
  }

  compare(on) {
    if (this.comparing === on) return;
    this.comparing = on;
    this.draw();
  }

  #draw() {
    const { width, height } = this.picture;
    const context = this.canvas.getContext("2d");
    const scale = this.canvas.width / width;
    this.small.getContext("2d").putImageData(this.picture.data(this.comparing), 0, 0);
    context.imageSmoothingEnabled = false;
    context.drawImage(this.small, 0, 0, this.canvas.width, this.canvas.height);
    if (this.grid && this.cell >= GRID_FROM) this.#lines(context, scale);
    if (this.marks && !this.comparing) {
      for (let pixel = 0; pixel < width * height; pixel++) {
        if (this.picture.changed(pixel)) this.#mark(context, scale, pixel % width, Math.floor(pixel / width));
      }
    }
    if (this.byKey && document.activeElement === this.canvas) {
      const side = scale * this.brush;
      const from = Math.floor((this.brush - 1) / 2);
      this.#box(context, (this.cursor.x - from) * scale, (this.cursor.y - from) * scale, side);
    }
  }

  #lines(context, scale) {
    context.fillStyle = "rgba(128, 128, 128, .4)";
    for (let x = 1; x < this.picture.width; x++) context.fillRect(Math.round(x * scale), 0, 1, this.canvas.height);
    for (let y = 1; y < this.picture.height; y++) context.fillRect(0, Math.round(y * scale), this.canvas.width, 1);
  }

  #mark(context, scale, x, y) {
    const side = Math.max(2, scale * 0.34);
    const [left, top] = [(x + 0.5) * scale - side / 2, (y + 0.5) * scale - side / 2];
    context.fillStyle = "#fff";
    context.fillRect(left - 1, top - 1, side + 2, side + 2);
    context.fillStyle = "#d9480f";
    context.fillRect(left, top, side, side);
  }

  #box(context, x, y, side) {
    context.lineWidth = 4;
    context.strokeStyle = "#000";
    context.strokeRect(x + 2, y + 2, side - 4, side - 4);
    context.lineWidth = 2;
    context.strokeStyle = "#fff";
    context.strokeRect(x + 2, y + 2, side - 4, side - 4);
  }

  #listen() {
    const canvas = this.canvas;
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#drag(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => this.#up());
    canvas.addEventListener("keydown", (event) => this.#pressed(event));
    canvas.addEventListener("keyup", (event) => event.key.toLowerCase() === "c" && this.#release());
    canvas.addEventListener("focus", () => this.draw());
    canvas.addEventListener("blur", () => {
      this.#release();
      this.draw();
    });
  }

  #hold() {
    this.held = true;
    this.compare(true);
  }

  // Only what the key began: leaving the canvas for the button that compares must not end that.
  #release() {
    if (this.held) this.compare(false);
    this.held = false;
  }

  #at(event) {
    const box = this.canvas.getBoundingClientRect();
    const clamp = (value, most) => Math.min(most - 1, Math.max(0, Math.floor(value)));
    return {
      x: clamp(((event.clientX - box.left) / box.width) * this.picture.width, this.picture.width),
      y: clamp(((event.clientY - box.top) / box.height) * this.picture.height, this.picture.height),
    };
  }

  #down(event) {
    if (event.button !== 0 || !event.isPrimary || this.tool === "move" || this.comparing) return;
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    this.byKey = false;
    this.cursor = this.#at(event);
    if (this.tool === "pick") return this.#pick();
    this.picture.begin();
    this.last = this.cursor;
    this.#line(this.cursor, this.cursor);
  }

  #drag(event) {
    if (!this.last) return;
    for (const one of event.getCoalescedEvents?.() ?? [event]) {
      const place = this.#at(one);
      this.#line(this.last, place);
      this.last = this.cursor = place;
    }
  }

  #up() {
    if (!this.last) return;
    this.last = null;
    this.picture.end();
    this.hooks.painted();
  }

  #pick() {
    this.hooks.picked(this.picture.colour(this.cursor.y * this.picture.width + this.cursor.x));
  }

  // Every cell between two places, so that a quick stroke has no gaps.
  #line(from, to) {
    const steps = Math.max(1, Math.abs(to.x - from.x), Math.abs(to.y - from.y));
    for (let step = 0; step <= steps; step++) {
      const x = Math.round(from.x + ((to.x - from.x) * step) / steps);
      this.#dab(x, Math.round(from.y + ((to.y - from.y) * step) / steps));
    }
    this.draw();
    this.hooks.painted();
  }

  #dab(x, y) {
    const from = Math.floor((this.brush - 1) / 2);
    for (let row = y - from; row < y - from + this.brush; row++) {
      for (let column = x - from; column < x - from + this.brush; column++) {
        if (row < 0 || column < 0 || row >= this.picture.height || column >= this.picture.width) continue;
        this.picture.set(row * this.picture.width + column, this.tool === "restore" ? null : this.colour);
      }
    }
  }

  #pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.key in steps) this.#step(...steps[event.key]);
    else if (event.key === " " || event.key === "Enter") this.#press();
    else if (event.key.toLowerCase() === "c") this.#hold();
    else if (!this.hooks.key(event.key.toLowerCase())) return;
    event.preventDefault();
  }

  #step(right, down) {
    this.byKey = true;
    const { width, height } = this.picture;
    this.cursor = {
      x: Math.min(width - 1, Math.max(0, this.cursor.x + right)),
      y: Math.min(height - 1, Math.max(0, this.cursor.y + down)),
    };
    const box = this.frame;
    const [x, y] = [this.cursor.x * this.cell, this.cursor.y * this.cell];
    if (x < box.scrollLeft || x + this.cell > box.scrollLeft + box.clientWidth) box.scrollLeft = x - box.clientWidth / 2;
    if (y < box.scrollTop || y + this.cell > box.scrollTop + box.clientHeight) box.scrollTop = y - box.clientHeight / 2;
    this.draw();
    this.#tell();
  }

  #press() {
    if (this.comparing) return;
    this.byKey = true;
    if (this.tool === "pick") return this.#pick();
    this.picture.begin();
    this.#line(this.cursor, this.cursor);
    this.picture.end();
    this.hooks.painted();
    this.#tell();
  }

  #tell() {
    const pixel = this.cursor.y * this.picture.width + this.cursor.x;
    const colour = this.picture.colour(pixel).join(", ");
    const changed = this.picture.changed(pixel) ? ", changed" : "";
    this.hooks.moved(`row ${this.cursor.y + 1}, column ${this.cursor.x + 1}: ${colour}${changed}`);
  }
}
