// The page: reads the daemon's messages and fills cards and events. Nothing is fetched from anywhere else.

import { Card, setText } from "./card.js";

const ROWS = 60;
const DRAW_SECONDS = 1;
const RETRY_MS = [500, 1000, 2000, 5000];
const SILENCE_MS = 10000;

const element = (id) => document.getElementById(id);
const cards = new Map();
const visible = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const card = cards.get(entry.target.dataset.stream);
    if (card) card.seen = entry.isIntersecting;
  }
}, { rootMargin: "100px" });

let token = remembered() ?? "";
let paused = false;
let newer = [];         // the last events that are not shown yet
let countNewer = 0;
let begunAnew = false;
let drawn = 0;
let connection = null;

const authorization = () => (token ? { Authorization: `Bearer ${token}` } : {});

/** The token of this tab, where the browser keeps anything. */
function remembered() {
  try {
    return sessionStorage.getItem("token");
  } catch {
    return null;
  }
}

/** Reads messages until the connection ends; returns the sentence of a refusal, and whether asking again is no use. */
async function read(signal) {
  const reply = await fetch("live", { headers: { Accept: "text/event-stream", ...authorization() }, signal });
  if (!reply.ok) {
    askForToken(reply.status === 401, token !== "");
    return [await reply.text(), reply.status < 500];
  }
  element("token").hidden = true;
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "", first = true;
  for (;;) {
    const silence = setTimeout(() => reader.cancel(), SILENCE_MS);
    const { value, done } = await reader.read();
    clearTimeout(silence);
    if (done) return ["", false];
    text += value;
    for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
      show(JSON.parse(text.slice("data: ".length, end)), first);
      text = text.slice(end + 2);
      first = false;
    }
  }
}

async function watch() {
  connection?.abort();
  const own = new AbortController();
  connection = own;
  for (let failures = 0; !document.hidden; failures += 1) {
    const begin = Date.now();
    const [refusal, final] = await read(own.signal).catch(() => ["", false]);
    if (document.hidden || connection !== own) break;
    document.body.classList.add("lost");
    setText(element("status"), refusal.trim() || "No connection to the daemon; trying again.");
    if (final) break;
    if (Date.now() - begin > SILENCE_MS) failures = 0;
    await new Promise((resolve) => { setTimeout(resolve, RETRY_MS[Math.min(failures, RETRY_MS.length - 1)]); });
  }
  if (connection === own) connection = null;
}

function askForToken(wanted, wrong) {
  element("token").hidden = !wanted;
  if (!wanted) return;
  setText(element("token-why"), wrong ? "That is not the daemon's token." : "This daemon is shown to those who know its token.");
  element("token-text").focus();
}

async function fetchPicture(stream) {
  const reply = await fetch(`streams/${encodeURIComponent(stream)}/picture`, { headers: authorization() });
  return reply.ok ? reply.blob() : null;
}

function show(message, first) {
  document.body.classList.remove("lost");
  setText(element("instance"), message.instance);
  setText(element("purpose"), message.purpose ? `Purpose: ${message.purpose}.` : "");
  setText(element("about"), `emotiond ${message.version}, ${message.model}`);
  showCards(message, first);
  showStatus(message);
  if (first) {
    showLegend(message);
    newer = [];
    begunAnew = true;
  }
  element("events-section").hidden = message.mode === "aggregate";
  newer = [...newer, ...message.events].slice(-ROWS);
  countNewer += message.events.length;
  if (paused) setText(element("newer"), `${countNewer} newer`);
  else showNewer();
  if (first || message.time - drawn >= DRAW_SECONDS) {
    drawn = message.time;
    for (const card of cards.values()) card.draw(message);
  }
}

function showCards(message, first) {
  for (const [name, card] of cards) {
    if (!Object.hasOwn(message.streams, name)) {
      card.close();
      visible.unobserve(card.node);
      card.node.remove();
      cards.delete(name);
    }
  }
  for (const [name, stream] of Object.entries(message.streams)) {
    let card = cards.get(name);
    if (!card) {
      card = new Card(name, fetchPicture);
      card.node.dataset.stream = name;
      cards.set(name, card);
      card.reset(message);
      element("streams").append(card.node);
      visible.observe(card.node);
    } else if (first) card.reset(message);
    card.update(stream, message);
  }
}

function showStatus(message) {
  const streams = Object.entries(message.streams);
  const trouble = [...cards.values()].filter((card) => card.node.hasAttribute("data-trouble")).map((card) => card.name);
  const running = streams.filter(([, stream]) => stream.state === "running").length;
  const named = trouble.length > 4 ? `${trouble.slice(0, 4).join(", ")} and ${trouble.length - 4} more` : trouble.join(", ");
  setText(element("status"), [
    `${running} of ${streams.length} ${streams.length === 1 ? "stream runs" : "streams run"}`,
    ...(named ? [`trouble: ${named}`] : []), ...(message.problem ? [`not ready: ${message.problem}`] : [])].join("; "));
}

function showLegend(message) {
  element("legend").replaceChildren(...[...message.labels, "unsure"].map((label, index) => {
    const item = document.createElement("li"), swatch = document.createElement("span");
    swatch.className = "swatch";
    swatch.style.background = message.colors[index];
    item.append(swatch, label);
    return item;
  }));
}

/** Puts new events on top; the oldest rows are filled again, so that their number stays. */
function showNewer() {
  const body = element("events");
  if (begunAnew) body.replaceChildren();      // the first message tells again what stands there
  for (const [at, stream, frame, faces, more] of newer) {
    const row = body.childElementCount < ROWS ? makeRow() : body.lastElementChild;
    const said = faces.map(([track, emotion, confidence, unsure]) =>
      `${track} ${unsure ? "unsure" : `${emotion} ${Math.round(100 * confidence)}\u00a0%`}`).join(", ");
    const cells = [new Date(at * 1000).toLocaleTimeString(), stream, String(frame), more ? `${said} and ${more} more` : said];
    cells.forEach((text, index) => setText(row.cells[index], text));
    body.prepend(row);
  }
  newer = [];
  countNewer = 0;
  begunAnew = false;
  setText(element("newer"), "");
}

function makeRow() {
  const row = document.createElement("tr");
  for (let index = 0; index < 4; index += 1) row.append(document.createElement("td"));
  return row;
}

element("pause").addEventListener("click", (event) => {
  paused = !paused;
  event.target.setAttribute("aria-pressed", String(paused));
  if (!paused) showNewer();
});
element("token").addEventListener("submit", (event) => {
  event.preventDefault();
  token = element("token-text").value;
  try {
    sessionStorage.setItem("token", token);
  } catch { /* it is asked for again */ }
  watch();
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) connection?.abort();
  else if (!connection) watch();
});
watch();
