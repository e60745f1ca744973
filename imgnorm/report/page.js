"use strict";

// What needs a script is hidden until it runs.
for (const element of document.querySelectorAll(".controls, button")) element.hidden = false;

// Search: a row stays if its text has every word.
for (const input of document.querySelectorAll("input[data-table]")) {
  const rows = [...document.getElementById(input.dataset.table).tBodies[0].rows];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const matches = document.querySelector(`[data-matches="${input.dataset.table}"]`);
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let found = 0;
    rows.forEach((row, index) => {
      row.hidden = !words.every((word) => texts[index].includes(word));
      found += !row.hidden;
    });
    matches.textContent = words.length ? `${found.toLocaleString("en")} of ${rows.length.toLocaleString("en")}` : "";
  });
}

for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    const code = document.getElementById(button.dataset.copy);
    getSelection().selectAllChildren(code); // where the clipboard is not to be had, Ctrl-C copies it
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "Copied";
  });
}

// A chart as a file of its own: its own colors, for a light page.
for (const button of document.querySelectorAll("[data-save]")) {
  button.addEventListener("click", () => {
    const link = document.createElement("a");
    const text = new XMLSerializer().serializeToString(button.parentElement.querySelector("svg"));
    link.href = URL.createObjectURL(new Blob([text], { type: "image/svg+xml" }));
    link.download = button.dataset.save;
    link.click();
    URL.revokeObjectURL(link.href);
  });
}

// Histograms: the same drawing as stats/plot.py makes, for any range of pixel values and both axes.
const [LEFT, RIGHT, TOP, BOTTOM] = [46, 328, 28, 176];
const charts = [...document.querySelectorAll("[data-channel]")].map((figure) => ({
  svg: figure.querySelector("svg"),
  counts: figure.dataset.counts.split(",").map(Number),
  width: Number(figure.dataset.width),
  mean: Number(figure.dataset.mean),
  std: Number(figure.dataset.std),
}));

function steps(least, greatest, about) {
  const rough = (greatest - least) / about || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((one) => one >= rough * 0.999);
  const found = [];
  for (let index = Math.ceil(least / step - 1e-9); index <= greatest / step + 1e-9; index++) found.push(index * step);
  return found;
}

function element(name, attributes, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

function label(x, y, anchor, text, kind = "faint") {
  const fill = kind === "faint" ? "#59636e" : "#1f2328";
  return element("text", { class: kind, x, y, fill, "text-anchor": anchor, "font-size": 10 }, text);
}

function percent(part) {
  return `${Number((100 * part).toPrecision(3))} %`;
}

function draw(from, to, log) {
  const parts = charts.map(({ counts, width }) => {
    const total = counts.reduce((sum, count) => sum + count, 0);
    const [first, end] = [Math.floor(from / width), Math.floor(to / width) + 1];
    const part = counts.map((count) => count / total);
    return { first, shown: part.slice(first, end), inner: part.slice(Math.max(first, 1), Math.min(end, counts.length - 1)) };
  });
  const drawn = parts.flatMap(({ shown }) => shown).filter(Boolean);
  const inner = Math.max(0, ...parts.flatMap((part) => part.inner));
  const most = (!log && inner) || Math.max(...drawn, 1e-9);
  const low = Math.floor(Math.log10(drawn.length ? Math.min(...drawn) : 0.1));
  const high = Math.floor(Math.log10(most));
  const every = Math.floor((high - low) / 5) + 1;
  const x = (value) => LEFT + ((RIGHT - LEFT) * (Math.min(Math.max(value, from - 0.5), to + 0.5) - from + 0.5)) / (to - from + 1);
  const y = (part) => {
    const height = log ? (part ? (Math.log10(part) - low) / (Math.log10(most) - low || 1) : 0) : part / most;
    return BOTTOM - (BOTTOM - TOP) * Math.min(1, Math.max(0, height));
  };
  const ticks = log ? [] : steps(0, most, 4);
  for (let power = low; log && power <= high; power++) if ((high - power) % every === 0) ticks.push(10 ** power);

  charts.forEach(({ svg, width, mean, std }, index) => {
    const { first, shown } = parts[index];
    const path = shown.map((part, bin) => `V${y(part).toFixed(1)}H${x((first + bin + 1) * width - 0.5).toFixed(1)}`);
    svg.querySelector(".area").setAttribute("d", `M${LEFT} ${BOTTOM}${path.join("")}V${BOTTOM}Z`);
    svg.querySelector(".rows").replaceChildren(
      ...ticks.flatMap((part) => [
        element("line", { class: "grid", x1: LEFT, x2: RIGHT, y1: y(part), y2: y(part), stroke: "#d1d9e0", "stroke-width": 0.5 }),
        label(LEFT - 6, y(part) + 3.5, "end", percent(part)),
      ]),
    );
    svg.querySelector(".columns").replaceChildren(
      ...steps(from, to, 6).filter(Number.isInteger).flatMap((value) => [
        element("line", { class: "grid", x1: x(value), x2: x(value), y1: BOTTOM, y2: BOTTOM + 4, stroke: "#d1d9e0" }),
        label(x(value), BOTTOM + 16, "middle", value.toLocaleString("en")),
      ]),
    );
    const ends = [[LEFT + 5, "start", shown[0]], [RIGHT - 5, "end", shown[shown.length - 1]]];
    svg.querySelector(".cut-off").replaceChildren(
      ...ends.filter(([, , part]) => part > most).map(([place, anchor, part]) => label(place, TOP + 10, anchor, `↑ ${percent(part)}`, "ink")),
    );
    const band = svg.querySelector(".band");
    band.setAttribute("x", x(mean - std));
    band.setAttribute("width", x(mean + std) - x(mean - std));
    const line = svg.querySelector(".mean");
    line.setAttribute("x1", x(mean));
    line.setAttribute("x2", x(mean));
    line.setAttribute("visibility", mean < from - 0.5 || mean > to + 0.5 ? "hidden" : "visible");
  });
}

if (charts.length) {
  const [from, to, log] = ["from", "to", "log"].map((id) => document.getElementById(id));
  const last = charts[0].counts.length * charts[0].width - 1;
  const range = () => {
    const [least, greatest] = [from, to].map((input) => Math.min(Math.max(Math.round(input.valueAsNumber || 0), 0), last));
    return least < greatest ? [least, greatest] : [0, last];
  };
  const redraw = () => draw(...range(), log.checked);
  const zoom = (least, greatest) => {
    [from.value, to.value] = [least, greatest];
    redraw();
  };
  from.max = to.max = last;
  [from, to, log].forEach((input) => input.addEventListener("input", redraw));
  document.getElementById("whole").addEventListener("click", () => zoom(0, last));

  for (const { svg } of charts) {
    let start = null;
    const selection = element("rect", { class: "selection", y: TOP, height: BOTTOM - TOP, width: 0 });
    svg.append(selection);
    const place = (event) => {
      const box = svg.getBoundingClientRect();
      const at = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
      return Math.min(Math.max(at, LEFT), RIGHT);
    };
    svg.addEventListener("pointerdown", (event) => {
      start = place(event);
      svg.setPointerCapture(event.pointerId);
    });
    svg.addEventListener("pointermove", (event) => {
      if (start === null) return;
      selection.setAttribute("x", Math.min(start, place(event)));
      selection.setAttribute("width", Math.abs(place(event) - start));
    });
    svg.addEventListener("pointercancel", () => {
      start = null;
      selection.setAttribute("width", 0);
    });
    svg.addEventListener("pointerup", (event) => {
      if (start === null) return;
      const [least, greatest] = range();
      const value = (at) => Math.round(least + ((at - LEFT) / (RIGHT - LEFT)) * (greatest - least + 1) - 0.5);
      const ends = [start, place(event)].map(value).map((one) => Math.min(Math.max(one, least), greatest));
      start = null;
      selection.setAttribute("width", 0);
      if (Math.abs(ends[0] - ends[1]) > 1) zoom(Math.min(...ends), Math.max(...ends));
    });
  }
}
