// A stream's card: its state, its faces, its last minutes. Its nodes are made once and filled again and again.

import { describe, drawHistory, History } from "./chart.js";

const FACES_SHOWN = 6;
const RATE_SECONDS = 5, LATENCY_SECONDS = 10;
const PICTURE_MS = 1000;
const FINE = new Set(["running", "connecting", "ended"]);

const template = document.getElementById("card");

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export class Card {
  /** `fetchPicture(stream)` resolves to a Blob, or to null where there is none. */
  constructor(name, fetchPicture) {
    this.name = name;
    this.node = template.content.firstElementChild.cloneNode(true);
    const find = (selector) => this.node.querySelector(selector);
    this.parts = Object.fromEntries(
      ["state", "error", "rate", "dropped", "latency", "size", "reasons", "faces", "empty", "shares", "picture"]
        .map((part) => [part, find(`.${part}`)]));
    this.canvas = find("canvas");
    this.faces = [];
    this.samples = [];
    this.seen = false;
    this.round = null;      // of pictures that are shown
    setText(find("h3"), name);
    this.#watchPicture(find(".picture button"), find(".picture img"), fetchPicture);
  }

  /** Begins anew: after a pause the first message tells everything again. */
  reset(message) {
    this.samples = [];
    this.history = new History(message.span, message.step);
  }

  update(stream, message) {
    const { parts, node } = this;
    node.dataset.state = stream.state;
    node.toggleAttribute("data-trouble", !FINE.has(stream.state) || Boolean(stream.error));
    setText(parts.state, stream.state.replace("_", " "));
    setText(parts.error, stream.error ?? "");
    setText(parts.size, stream.size ? `${stream.size[0]}×${stream.size[1]}` : "–");
    parts.picture.hidden = !message.preview || !stream.size;
    this.#showFigures(stream, message);
    this.#showFaces(stream, message);
    this.history.merge(stream.history);
  }

  /** Says the last minutes in words, and draws them where somebody can see them. */
  draw(message) {
    const said = describe(this.history.totals(message.labels, message.at), message.labels);
    const minutes = Math.round(this.history.span * this.history.step / 60);
    if (this.seen) drawHistory(this.canvas, this.history, message.colors, message.at);
    setText(this.parts.shares, said ? `last ${minutes} min: ${said}` : "");
  }

  #showFigures(stream, message) {
    const dropped = Object.entries(stream.dropped);
    const skipped = stream.dropped.max_fps ?? 0;      // as the configuration wants it
    const lost = dropped.reduce((sum, [, count]) => sum + count, 0) - skipped;
    this.samples.push({ time: message.time, ...stream, lost, wanted: stream.read - skipped });
    while (this.samples.length > 2 && this.samples[1].time < message.time - LATENCY_SECONDS) this.samples.shift();
    const last = this.samples.at(-1);
    const since = (seconds) => this.samples.find((sample) => sample.time >= last.time - seconds - 0.25);
    const before = since(RATE_SECONDS), seconds = last.time - before.time;
    setText(this.parts.rate, seconds > 0 ? `${((last.analyzed - before.analyzed) / seconds).toFixed(1)}/s` : "–");
    const wanted = last.wanted - before.wanted;
    setText(this.parts.dropped, wanted > 0 ? `${(100 * (last.lost - before.lost) / wanted).toFixed(0)} %` : "–");
    setText(this.parts.reasons, dropped.length
      ? `not analysed so far: ${dropped.map(([reason, count]) => `${reason.replaceAll("_", " ")} ${count}`).join(", ")}` : "");
    const first = since(LATENCY_SECONDS), timed = last.timed - first.timed;
    setText(this.parts.latency,
      timed > 0 ? `${Math.round(1000 * (last.latency_seconds - first.latency_seconds) / timed)} ms` : "–");
  }

  #showFaces(stream, message) {
    const faces = stream.now ? [...stream.now[3]].sort((one, other) => one[0] - other[0]) : [];
    const shown = faces.slice(0, FACES_SHOWN);
    while (this.faces.length < shown.length) this.faces.push(makeFace());
    if (this.parts.faces.childElementCount !== shown.length) {
      this.parts.faces.replaceChildren(...this.faces.slice(0, shown.length).map((face) => face.node));
    }
    shown.forEach(([track, emotion, confidence, unsure], index) => {
      const { name, fill, value } = this.faces[index];
      setText(name, `${track} ${unsure ? "unsure" : emotion}`);
      name.classList.toggle("unsure", unsure);
      fill.style.width = `${Math.round(100 * confidence)}%`;
      fill.style.background = unsure ? message.colors.at(-1) : message.colors[message.labels.indexOf(emotion)];
      setText(value, `${Math.round(100 * confidence)} %`);
    });
    setText(this.parts.empty, this.#sayRest(stream, message, faces.length - shown.length));
  }

  #sayRest(stream, message, hidden) {
    if (message.mode === "aggregate") {
      const { window } = stream;
      if (!window) return "No group of faces yet; single ones are not told.";
      const clock = (time) => new Date(time).toLocaleTimeString();
      return `${clock(window.start)} to ${clock(window.end)}: ${window.faces} faces in ${window.counted} frames with at `
        + `least ${window.min_group} of them`;
    }
    if (!stream.now) return "";
    const more = hidden + stream.now[4];
    if (more) return `and ${more} more`;
    return stream.now[3].length ? "" : "no face";
  }

  #watchPicture(button, image, fetchPicture) {
    button.setAttribute("aria-label", `Picture of ${this.name}`);
    const hide = () => {
      image.hidden = true;
      if (image.src) URL.revokeObjectURL(image.src);
      image.removeAttribute("src");
    };
    const show = async (round) => {
      const blob = this.seen && !document.hidden ? await fetchPicture(this.name).catch(() => null) : undefined;
      if (this.round !== round) return;      // hidden meanwhile
      if (blob === null) hide();
      else if (blob) {
        if (image.src) URL.revokeObjectURL(image.src);
        image.src = URL.createObjectURL(blob);
        const names = [...this.parts.faces.querySelectorAll(".name")].map((name) => name.textContent);
        image.alt = `${this.name}: ${names.join(", ") || "no face"}`;
        image.hidden = false;
      }
      this.timer = setTimeout(show, PICTURE_MS, round);
    };
    button.addEventListener("click", () => {
      const pressed = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(pressed));
      this.close();
      hide();
      if (pressed) {
        this.round = {};
        show(this.round);
      }
    });
  }

  /** Asks for no more pictures. */
  close() {
    clearTimeout(this.timer);
    this.round = null;
  }
}

function makeFace() {
  const node = document.createElement("li");
  const [name, bar, fill, value] = ["name", "bar", "fill", "value"].map((kind) => {
    const part = document.createElement("span");
    part.className = kind;
    return part;
  });
  bar.append(fill);
  node.append(name, bar, value);
  return { node, name, fill, value };
}
