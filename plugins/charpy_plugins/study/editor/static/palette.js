// The colour in hand: a grey slider or a colour field, and a few colours at a click.

const GREYS = [0, 64, 128, 192, 255];
const COLOURS = 6; // of an RGB image

const hex = (colour) => "#" + colour.map((value) => value.toString(16).padStart(2, "0")).join("");
const parsed = (text) => [1, 3, 5].map((i) => parseInt(text.slice(i, i + 2), 16));

export class Palette {
  constructor(picture, chosen) {
    this.picture = picture;
    this.chosen = chosen;
    this.field = document.getElementById(picture.channels === 1 ? "grey" : "colour");
    this.field.addEventListener("input", () => this.choose(this.#read()));
    for (const colour of this.#offered()) this.#swatch(colour);
    this.choose(this.#read());
  }

  choose(colour) {
    const grey = this.picture.channels === 1;
    this.field.value = grey ? colour[0] : hex(colour);
    if (grey) document.getElementById("grey-value").value = colour[0];
    for (const swatch of document.querySelectorAll(".swatch")) {
      swatch.setAttribute("aria-pressed", String(swatch.dataset.colour === colour.join(" ")));
    }
    this.chosen(colour);
  }

  #read() {
    return this.picture.channels === 1 ? [Number(this.field.value)] : parsed(this.field.value);
  }

  #swatch(colour) {
    const button = document.createElement("button");
    const shown = colour.length === 1 ? [colour[0], colour[0], colour[0]] : colour;
    button.type = "button";
    button.className = "swatch";
    button.dataset.colour = colour.join(" ");
    button.title = colour.length === 1 ? `grey ${colour[0]}` : `red ${colour[0]}, green ${colour[1]}, blue ${colour[2]}`;
    button.setAttribute("aria-label", button.title);
    button.style.backgroundColor = hex(shown);
    button.addEventListener("click", () => this.choose(colour));
    document.getElementById("swatches").append(button);
  }

  // Fixed greys; black, white and the commonest colours of an RGB image, coarse ones counted together.
  #offered() {
    if (this.picture.channels === 1) return GREYS.map((value) => [value]);
    const found = new Map();
    for (let pixel = 0; pixel < this.picture.width * this.picture.height; pixel++) {
      const colour = this.picture.colour(pixel, this.picture.original);
      const key = colour.map((value) => value >> 5).join();
      const entry = found.get(key) ?? { colour, count: 0 };
      entry.count++;
      found.set(key, entry);
    }
    const common = [...found.values()].sort((a, b) => b.count - a.count).slice(0, COLOURS);
    const all = [[0, 0, 0], [255, 255, 255], ...common.map((entry) => entry.colour)];
    return [...new Map(all.map((colour) => [colour.join(), colour])).values()];
  }
}
