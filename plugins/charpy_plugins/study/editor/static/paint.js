// The editor page: ties the picture, the canvas, the model's answers and the buttons together.

import { Board } from "./board.js";
import { Palette } from "./palette.js";
import { Picture } from "./picture.js";
import { previewer } from "./previews.js";
import { Asker, bytes, post } from "./server.js";
import { Verdict } from "./verdict.js";

const at = (id) => document.getElementById(id);
const data = at("paint").dataset;
const original = await bytes(`/pixels/${data.original}`);
const start = data.painted ? await bytes(`/pixels/${data.painted}`) : original;
const picture = new Picture(Number(data.width), Number(data.height), Number(data.channels), original, start);
let stored = data.painted; // id of the stimulus in the study
let kept = start.slice(); // its values: what leaving the page would not lose

const keys = {
  p: () => use("pencil"),
  e: () => use("restore"),
  i: () => use("pick"),
  g: () => at("grid").click(),
  m: () => at("marks").click(),
  "[": () => thicker(-1),
  "]": () => thicker(1),
};
const board = new Board(at("canvas"), at("frame"), picture, {
  painted: changed,
  picked: (colour) => {
    palette.choose(colour);
    use("pencil");
  },
  moved: (text) => (at("where").textContent = text),
  key: (name) => (name in keys ? (keys[name](), true) : false),
});
const palette = new Palette(picture, (colour) => (board.colour = colour));
const verdict = new Verdict(data);
const preview = previewer(picture, data);
const asker = new Asker(
  picture,
  (values) => post(`/score/${data.original}`, values),
  ({ ok, answer }) => verdict.show(ok ? answer : null, answer.error, stored !== "" && same(picture.values, kept)),
  (on) => verdict.busy(on),
);

function same(one, other) {
  return one.every((value, i) => value === other[i]);
}

function changed() {
  const distances = picture.distances();
  verdict.count(distances);
  at("undo").disabled = picture.done.length === 0;
  at("redo").disabled = picture.undone.length === 0;
  at("reset").disabled = distances.l0 === 0;
  preview();
  board.draw();
  asker.changed();
}

function use(tool) {
  board.use(tool);
  for (const button of document.querySelectorAll("[data-tool]")) {
    button.setAttribute("aria-pressed", String(button.dataset.tool === tool));
  }
}

function thicker(step) {
  at("brush").valueAsNumber += step;
  board.brush = at("brush").valueAsNumber;
  at("brush-value").value = board.brush;
}

function step(name) {
  picture[name]();
  changed();
}

async function save() {
  const values = picture.values.slice();
  at("save").disabled = true;
  verdict.say("The server judges it with a fresh model.", "");
  const { ok, answer } = await post(`/save/${data.original}?replaces=${stored}`, values);
  at("reload").hidden = !answer.stale;
  if (!ok) {
    at("save").disabled = false;
    return verdict.say(answer.error, "bad");
  }
  [stored, kept] = [answer.stimulus, values];
  at("delete").hidden = false;
  verdict.say(`Saved in the study, read as ${answer.prediction}. ${answer.left} left to paint.`, "good");
  onward();
}

async function remove() {
  if (!window.confirm("Take this painting out of the study?")) return;
  const { ok, answer } = await post(`/delete/${data.original}?painted=${stored}`, null);
  at("reload").hidden = !answer.stale;
  if (!ok) return verdict.say(answer.error, "bad");
  [stored, kept] = ["", original];
  at("delete").hidden = true;
  at("next").hidden = true;
  changed();
}

async function reload() {
  const { ok, answer } = await post("/reload", null);
  if (!ok) return verdict.say(answer.error, "bad");
  at("reload").hidden = true;
  const now = answer.painted[data.original] ?? "";
  if (now !== stored) {
    [stored, kept] = [now, now ? await bytes(`/pixels/${now}`) : original];
    at("delete").hidden = now === "";
    verdict.say("Read again. This original was painted or cleared elsewhere; saving now puts yours in its place.", "");
    at("save").disabled = false;
    return;
  }
  changed();
}

function onward() {
  at("next").hidden = data.next === "";
  if (data.next) at("next").href = data.next;
}

for (const button of document.querySelectorAll("[data-tool]")) {
  button.addEventListener("click", () => use(button.dataset.tool));
}
for (const name of ["undo", "redo", "reset"]) at(name).addEventListener("click", () => step(name));
document.addEventListener("keydown", (event) => {
  if (!(event.ctrlKey || event.metaKey) || event.altKey) return;
  const key = event.key.toLowerCase();
  const name = key === "y" || (key === "z" && event.shiftKey) ? "redo" : key === "z" ? "undo" : "";
  if (name === "") return;
  event.preventDefault();
  step(name);
});
at("compare").addEventListener("pointerdown", () => board.compare(true));
for (const name of ["pointerup", "pointerleave", "pointercancel", "blur", "keyup"]) {
  at("compare").addEventListener(name, () => board.compare(false));
}
at("compare").addEventListener("keydown", (event) => [" ", "Enter"].includes(event.key) && board.compare(true));
at("compare").addEventListener("contextmenu", (event) => event.preventDefault());
at("brush").addEventListener("input", () => thicker(0));
at("grid").addEventListener("change", (event) => ((board.grid = event.target.checked), board.draw()));
at("marks").addEventListener("change", (event) => ((board.marks = event.target.checked), board.draw()));
at("zoom").addEventListener("input", (event) => zoom(event.target.valueAsNumber));
at("save").addEventListener("click", save);
at("delete").addEventListener("click", remove);
at("reload").addEventListener("click", reload);
window.addEventListener("beforeunload", (event) => {
  if (!same(picture.values, kept)) event.preventDefault();
});

function zoom(cell) {
  board.zoom(cell);
  const [frame, move] = [at("frame"), document.querySelector("[data-tool=move]")];
  move.hidden = frame.scrollWidth <= frame.clientWidth && frame.scrollHeight <= frame.clientHeight;
  if (move.hidden && board.tool === "move") use("pencil");
}

const fitting = board.fit(Number(at("zoom").max));
at("zoom").value = fitting;
zoom(fitting);
changed();
