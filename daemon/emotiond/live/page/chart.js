// A stream's last minutes: for each second (or window) the share of every emotion among its faces, stacked.

export class History {
  /** Entries [begin, counts], oldest first; `span` of them, `step` seconds apart. */
  constructor(span, step) {
    this.span = span;
    this.step = step;
    this.entries = [];
  }

  /** Takes what has changed; an entry that is known already grows. */
  merge(changed) {
    for (const [begin, counts] of changed) {
      if (begin < this.entries.at(-1)?.[0] - this.step) this.entries = [];      // the clock went back
      const known = this.entries.findLast((entry) => entry[0] === begin);
      if (known) known[1] = counts;
      else this.entries.push([begin, counts]);
    }
    if (this.entries.length > this.span) this.entries.splice(0, this.entries.length - this.span);
  }

  /** Returns faces by label over the whole, the unsure ones behind them. */
  totals(labels, now) {
    const totals = new Array(labels.length + 1).fill(0);
    for (const [begin, counts] of this.entries) {
      if (begin > now - this.span * this.step) counts.forEach((count, index) => { totals[index] += count; });
    }
    return totals;
  }
}

/** Draws a history that ends now, at the right edge; nobody is the ground. */
export function drawHistory(canvas, history, colors, now) {
  const ratio = window.devicePixelRatio || 1;
  const width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
  if (!width || !height) return;
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, width, height);
  const begin = (Math.floor(now / history.step) + 1 - history.span) * history.step;
  for (const [at, counts] of history.entries) {
    const place = (at - begin) / history.step;
    const total = counts.reduce((sum, count) => sum + count, 0);
    if (place < 0 || !total) continue;
    const left = Math.floor(place * width / history.span), right = Math.ceil((place + 1) * width / history.span);
    let top = height;
    colors.forEach((color, index) => {
      const part = height * counts[index] / total;
      context.fillStyle = color;
      context.fillRect(left, top - part, right - left, part);
      top -= part;
    });
  }
}

/** Says shares in words, largest first: "happy 62 %, neutral 30 %". */
export function describe(totals, labels) {
  const sum = totals.reduce((all, count) => all + count, 0);
  return totals.map((count, index) => [count, labels[index] ?? "unsure"])
    .filter(([count]) => count * 100 >= sum && count > 0)
    .sort((one, other) => other[0] - one[0])
    .map(([count, name]) => `${name} ${Math.round((100 * count) / sum)}\u00a0%`).join(", ");
}
