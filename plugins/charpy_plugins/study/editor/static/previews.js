// The picture as participants will see it, at every size of the study.

import { drawn } from "./server.js";

const PATIENCE = 300; // milliseconds without a change before the server is asked for other resamplings

// Gives a function to call after every change. Nearest-neighbour is drawn here, exactly; the rest the server makes.
export function previewer(picture, data) {
  const nearest = data.nearest === "yes";
  const pages = data.sizes.split(" ").map((size) => page(picture, Number(size)));
  let timer = 0;
  return () => {
    const small = document.createElement("canvas");
    [small.width, small.height] = [picture.width, picture.height];
    small.getContext("2d").putImageData(picture.data(), 0, 0);
    for (const { context, size } of pages) {
      if (nearest || size === 1) {
        context.imageSmoothingEnabled = false;
        context.drawImage(small, 0, 0, picture.width * size, picture.height * size);
      }
    }
    if (nearest) return;
    clearTimeout(timer);
    timer = setTimeout(() => fetched(picture, pages), PATIENCE);
  };
}

async function fetched(picture, pages) {
  const version = picture.version;
  for (const { context, size } of pages) {
    if (size === 1) continue;
    const image = await drawn(`/preview-x${size}.png`, picture.values.slice());
    if (version !== picture.version) return;
    if (image) context.drawImage(image, 0, 0);
  }
}

function page(picture, size) {
  const figure = document.createElement("figure");
  const canvas = document.createElement("canvas");
  const words = document.createElement("figcaption");
  [canvas.width, canvas.height] = [picture.width * size, picture.height * size];
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `the painting at size ${size}`);
  words.textContent = `x${size}`;
  figure.append(canvas, words);
  document.getElementById("previews").append(figure);
  return { context: canvas.getContext("2d"), size };
}
