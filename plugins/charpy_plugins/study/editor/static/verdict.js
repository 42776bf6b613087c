// What the page says of the painting: the budget, the model's scores, and whether it can be saved.

const SHOWN = 10; // classes, the largest shares first where there are more
const at = (id) => document.getElementById(id);
const whole = (value) => (Number.isInteger(value) ? String(value) : value.toFixed(2));
const percent = (share) => `${(100 * share).toFixed(1)} %`;

export class Verdict {
  constructor(data) {
    this.norm = data.norm;
    this.level = Number(data.level);
    this.label = Number(data.label);
    this.lead = null;
  }

  // The budget, counted on the page; the server counts again.
  count(distances) {
    const used = distances[this.norm];
    at("used").textContent = whole(used);
    at("used-bar").style.width = `${Math.min(100, (100 * used) / this.level)}%`;
    at("used-bar").parentElement.parentElement.classList.toggle("over", used > this.level);
    at("l0").textContent = `${distances.l0} px`;
    at("l2").textContent = (distances.l2 / 255).toFixed(3);
    at("linf").textContent = `${distances.linf}/255`;
    at("short-used").textContent = `${whole(used)} of ${whole(this.level)}`;
    at("save").disabled = true; // until the server has seen this very picture
  }

  busy(on) {
    at("asking").hidden = !on;
  }

  // `answer`: of the server, null where it refused for the reason `error`.
  show(answer, error, stored) {
    if (answer === null) return this.say(error, "bad");
    at("prediction").textContent = answer.name || "no answer";
    at("short-prediction").textContent = at("prediction").textContent;
    at("prediction").className = answer.prediction >= 0 && answer.prediction !== this.label ? "fooled" : "";
    this.#lead(answer.lead);
    this.#bars(answer);
    const saveable = answer.hindrance === "";
    at("save").disabled = !saveable || stored;
    if (stored) this.say("Saved in the study.", "good");
    else if (saveable) this.say("Misclassified within the budget: it can be saved.", "good");
    else this.say(`Cannot be saved: ${answer.hindrance}.`, "");
  }

  say(text, kind) {
    at("state").textContent = text;
    at("state").className = kind;
  }

  #lead(lead) {
    const before = this.lead;
    this.lead = lead;
    if (lead === null) {
      at("lead").textContent = at("short-lead").textContent = "";
      return;
    }
    at("short-lead").textContent = `; lead ${lead.toFixed(2)}`;
    const step = before === null ? 0 : lead - before;
    const trend = Math.abs(step) < 0.005 ? "" : `; the last change: ${step > 0 ? "+" : "-"}${Math.abs(step).toFixed(2)}`;
    const where = lead < 0 ? `is ${(-lead).toFixed(2)} behind the first` : `leads by ${lead.toFixed(2)}`;
    at("lead").textContent = `The true label ${where}${trend}.`;
  }

  #bars(answer) {
    const list = at("scores");
    list.hidden = answer.shares === null;
    if (answer.shares === null) return;
    let rows = answer.shares.map((entry, place) => ({ ...entry, place }));
    if (rows.length > SHOWN) {
      const truth = rows[this.label];
      rows = rows.sort((a, b) => b.share - a.share).slice(0, SHOWN);
      if (truth && !rows.includes(truth)) rows.push(truth);
    }
    list.replaceChildren(...rows.map((row) => this.#bar(row, answer.prediction)));
  }

  #bar({ name, share, place }, prediction) {
    const [item, title, track, bar, value] = ["li", "span", "span", "i", "span"].map((tag) => document.createElement(tag));
    title.textContent = place === this.label ? `${name} (true)` : name;
    title.className = "title";
    track.className = "track";
    track.setAttribute("aria-hidden", "true");
    track.append(bar);
    bar.style.width = percent(share).replace(" ", "");
    value.textContent = percent(share);
    value.className = "value";
    item.className = place === this.label ? "true" : place === prediction ? "first" : "";
    item.append(title, track, value);
    return item;
  }
}
