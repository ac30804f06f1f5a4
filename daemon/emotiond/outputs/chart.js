"use strict";
const { streams } = JSON.parse(document.getElementById("figures").textContent);
const LEFT = 56, RIGHT = 8, WIDTH = 1000;

function clock(us) {
  const tenths = Math.floor(us / 1e5), two = n => String(n).padStart(2, "0");
  const [h, m, s] = [Math.floor(tenths / 36000), Math.floor(tenths / 600) % 60, Math.floor(tenths / 10) % 60];
  return (h ? `${h}:${two(m)}` : m) + `:${two(s)}.${tenths % 10}`;
}

function describe(stream, bin) {
  const frames = stream.analysed[bin], parts = [`${clock(bin * stream.bin_us)}: `];
  if (!frames) return parts[0] + "no frame";
  const faces = Object.entries(stream.faces).map(([emotion, counts]) => [emotion, counts[bin]]);
  faces.push(["unsure", stream.unsure[bin]]);
  const seen = faces.filter(([, count]) => count).map(([emotion, count]) => `${emotion} ${+(count / frames).toFixed(2)}`);
  parts.push(seen.length ? `faces in a frame: ${seen.join(", ")}. ` : "no face");
  for (const track of stream.tracks) {
    const bar = track.bars.find(([at]) => at === bin);
    if (bar) parts.push(`#${track.track_id} ${bar[1] === null ? "unsure" : `${bar[1]} ${Math.round(bar[4] * 100)}%`}  `);
  }
  return parts.join("");
}

for (const figure of document.querySelectorAll("figure")) {
  const stream = streams[figure.dataset.place], bins = stream.analysed.length;
  const svg = figure.querySelector("svg"), cursor = figure.querySelector(".cursor");
  const caption = figure.querySelector("figcaption");
  let bin = -1;
  function show(next) {
    bin = Math.min(Math.max(next, 0), bins - 1);
    const x = LEFT + (WIDTH - LEFT - RIGHT) * (bin + .5) / bins;
    cursor.setAttribute("x1", x);
    cursor.setAttribute("x2", x);
    cursor.setAttribute("visibility", "visible");
    caption.textContent = describe(stream, bin);
  }
  svg.addEventListener("pointermove", event => {
    const box = svg.getBoundingClientRect(), x = (event.clientX - box.left) * WIDTH / box.width;
    show(Math.floor((x - LEFT) / (WIDTH - LEFT - RIGHT) * bins));
  });
  figure.addEventListener("keydown", event => {
    const moves = { ArrowLeft: bin - 1, ArrowRight: bin + 1, Home: 0, End: bins - 1 };
    if (!(event.key in moves)) return;
    show(moves[event.key]);
    event.preventDefault();
  });
}
