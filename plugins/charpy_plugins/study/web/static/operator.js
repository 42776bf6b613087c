// Reloads the operator's page from time to time, unless it is hidden, in use, or told not to.
"use strict";
const main = document.querySelector("[data-reload]");
const button = document.querySelector("[data-live]");
const key = "charpy-operator-live";
function live() {
  return sessionStorage.getItem(key) !== "no";
}
function show() {
  button.setAttribute("aria-pressed", String(live()));
}
if (main && button) {
  button.hidden = false;
  button.addEventListener("click", () => {
    sessionStorage.setItem(key, live() ? "no" : "yes");
    show();
  });
  show();
  setInterval(() => {
    if (live() && !document.hidden && !main.contains(document.activeElement)) {
      location.reload();
    }
  }, 1000 * Number(main.dataset.reload));
}
