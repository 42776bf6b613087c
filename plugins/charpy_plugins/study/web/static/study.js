// Comforts of the pages; without this script they work as plain forms.
"use strict";

(() => {
  const root = document.documentElement;

  // A form is sent once: a double click is one answer.
  for (const form of document.querySelectorAll("form[data-once]")) {
    form.addEventListener("submit", (event) => {
      if (form.dataset.sent) {
        event.preventDefault();
        return;
      }
      form.dataset.sent = "yes";
      for (const button of form.querySelectorAll("button[type=submit]")) button.setAttribute("aria-disabled", "true");
    });
  }
  window.addEventListener("pageshow", (event) => {
    if (event.persisted) window.location.reload();
  });

  // Keys are hinted at to who has a keyboard: not after a touch, until a key is pressed.
  const touched = (yes) => {
    root.classList.toggle("touched", yes);
    try { window.sessionStorage.setItem("touched", yes ? "yes" : "no"); } catch { /* no storage: of this page only */ }
  };
  try { if (window.sessionStorage.getItem("touched") === "yes") touched(true); } catch { /* as above */ }
  if (window.matchMedia("(hover: none), (pointer: coarse)").matches) touched(true); // what the page looks like stays
  document.addEventListener("pointerdown", (event) => { if (event.pointerType === "touch") touched(true); });
  document.addEventListener("keydown", () => { if (root.classList.contains("touched")) touched(false); });

  // Images keep their size; who has no mouse scrolls them by keys.
  const strip = document.querySelector(".stimulus");
  const reach = () => {
    if (strip.scrollWidth > strip.clientWidth) strip.tabIndex = 0;
    else strip.removeAttribute("tabindex");
  };
  if (strip) new ResizeObserver(reach).observe(strip);

  const form = document.querySelector("form[data-complete]");
  if (!form) return;
  const submit = form.querySelector("button[type=submit]");
  const inputs = [...form.querySelectorAll("input[type=radio]")];
  const lacking = () => ["label", "confidence"].filter((name) => !inputs.some((one) => one.name === name && one.checked));
  const complete = () => lacking().length === 0;
  const hint = form.querySelector("#missing");
  const refresh = () => {
    const [first, second] = lacking();
    submit.disabled = Boolean(first);
    const text = first ? hint.getAttribute(`data-missing-${second ? "both" : first}`) : "";
    if (hint.textContent !== text) hint.textContent = text;
  };
  form.addEventListener("change", refresh);
  refresh();

  // Single keys are shortcuts only while the participant wants them.
  const toggle = form.querySelector("[data-shortcuts]");
  const wanted = () => root.classList.contains("shortcuts");
  const want = (on) => {
    root.classList.toggle("shortcuts", on);
    toggle.setAttribute("aria-pressed", String(on));
    try { window.sessionStorage.setItem("shortcuts", on ? "on" : "off"); } catch { /* no storage: on by default */ }
  };
  let kept = null;
  try { kept = window.sessionStorage.getItem("shortcuts"); } catch { /* as above */ }
  want(kept !== "off");
  toggle.hidden = false;
  toggle.addEventListener("click", () => want(!wanted()));

  const choose = (input) => {
    input.checked = true;
    input.focus();
    refresh();
  };

  // With many labels, letters typed within a second of each other are the beginning of one.
  let typed = "";
  let last = 0;
  const type = (key, now) => {
    typed = now - last < 1000 ? typed + key : key;
    last = now;
    const text = (input) => input.parentElement.querySelector("span").textContent.trim().toLowerCase();
    const labels = inputs.filter((one) => one.name === "label");
    const found = labels.find((one) => text(one).startsWith(typed.toLowerCase()));
    if (found) choose(found);
    return Boolean(found);
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || !wanted()) return;
    const on = event.target instanceof Element ? event.target : document.body;
    if (event.key === "Enter") {
      if (on.closest("a, button, summary")) return;
      event.preventDefault();
      if (complete() && !event.repeat) form.requestSubmit(submit);
      return;
    }
    if (event.key.length !== 1 || event.repeat) return;
    const key = event.key.toLowerCase();
    const match = inputs.find((one) => one.dataset.key !== "" && one.dataset.key === key);
    const within = typed !== "" && event.timeStamp - last < 1000;
    if (match) {
      event.preventDefault();
      choose(match);
    } else if ("typed" in form.dataset && (key !== " " || within) && type(event.key, event.timeStamp)) {
      event.preventDefault();
    }
  });
})();
