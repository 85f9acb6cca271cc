"use strict";
const data = JSON.parse(document.getElementById("run-data").textContent);
const SVG = "http://www.w3.org/2000/svg";
const make = (name, attributes = {}, text) => {
  const found = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) found.setAttribute(key, value);
  if (text !== undefined) found.textContent = text;
  return found;
};
const short = (text, most) => text.length <= most ? text : "…" + text.slice(1 - most);
const number = value => value === null ? "-" : Math.abs(value) >= 1e5 ? value.toExponential(1) : String(Number(value.toPrecision(3)));

/* In a notebook the page is in a frame: as high as the page up to MOST_HIGH pixels, so that one box scrolls at most. */
const COMPACT = document.body.classList.contains("compact"), MOST_HIGH = 1600;
function fitFrame() {
  if (!COMPACT || !window.frameElement) return;
  window.frameElement.style.height = `${Math.min(Math.ceil(document.body.getBoundingClientRect().height) + 2, MOST_HIGH)}px`;
}
addEventListener("resize", fitFrame);

/* The network: dagre says where the boxes stand, this draws them. */
const WIDTH = 208, HEIGHT = 42;
function drawNetwork(place) {
  const graph = new dagre.graphlib.Graph().setGraph({rankdir: "TB", nodesep: 18, ranksep: 26, edgesep: 12, marginx: 12, marginy: 12})
    .setDefaultEdgeLabel(() => ({}));
  data.layers.forEach((one, at) => graph.setNode(String(at), {width: WIDTH, height: one.mark ? HEIGHT + 16 : HEIGHT}));
  data.layers.forEach((one, at) => one.from.forEach(before => graph.setEdge(String(before), String(at))));
  dagre.layout(graph);
  const size = graph.graph(), svg = make("svg", {viewBox: `0 0 ${size.width} ${size.height}`, role: "img",
    "aria-label": `the network: ${data.layers.length} layers`});
  for (const edge of graph.edges()) {
    const points = graph.edge(edge).points.map(one => `${one.x.toFixed(1)},${one.y.toFixed(1)}`);
    svg.append(make("polyline", {points: points.join(" "), class: "edge", "marker-end": "url(#tip)"}));
  }
  const marker = make("marker", {id: "tip", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto"});
  marker.append(make("path", {d: "M0 0L8 4L0 8z", class: "tip"}));
  svg.append(marker);
  let marked = null;
  data.layers.forEach((one, at) => {
    const {x, y, height} = graph.node(String(at)), link = make("a", {href: `#layer-${one.index}`, class: `node ${one.verdict}${one.first ? " first" : ""}`});
    const left = x - WIDTH / 2, top = y - height / 2;
    link.append(make("title", {}, `${one.name}: ${one.op}, ${one.verdict}${one.mark ? ", " + one.mark : ""}`));
    link.append(make("rect", {x: left, y: top, width: WIDTH, height, rx: 5}));
    link.append(make("rect", {x: left, y: top, width: 7, height, rx: 3, class: "bar"}));
    link.append(make("text", {x: left + 14, y: top + 17, class: "name"}, short(one.name, 23)));
    link.append(make("text", {x: left + 14, y: top + 33, class: "more"}, short(`${one.op} · ${one.note}`, 31)));
    if (one.mark) link.append(make("text", {x: left + 14, y: top + 49, class: "mark"}, short("◀ " + one.mark, 30)));
    svg.append(link);
    if (one.mark && (marked === null || one.first)) marked = {x, y};
  });
  place.append(svg);
  place.classList.toggle("short", size.height <= 1600);  // fits a printed page
  let scale = 1;
  const zoom = wanted => {
    scale = Math.min(2, Math.max(0.05, wanted));
    svg.setAttribute("width", size.width * scale);
    svg.setAttribute("height", size.height * scale);
    fitFrame();
  };
  const fit = () => Math.min(place.clientWidth / size.width, 0.75 * window.innerHeight / size.height);
  const toMark = () => {
    if (!marked) return;
    place.scrollTo(marked.x * scale - place.clientWidth / 2, marked.y * scale - place.clientHeight / 3);
    if (COMPACT) window.scrollTo(0, place.offsetTop + marked.y * scale - window.innerHeight / 3);
  };
  zoom(Math.min(1, Math.max(0.6, place.clientWidth / size.width)));
  toMark();
  const buttons = place.previousElementSibling.querySelectorAll("button");
  [() => zoom(scale * 1.3), () => zoom(scale / 1.3), () => zoom(fit()), () => { zoom(1); toMark(); }]
    .forEach((act, at) => buttons[at].addEventListener("click", act));
}

/* Small charts of one layer. */
const W = 290, H = 110, LEFT = 54, BOTTOM = 30, TOP = 34;
function frame(title, label, ends, top, named = []) {
  const svg = make("svg", {viewBox: `0 0 ${W + LEFT + 8} ${H + TOP + BOTTOM}`, width: W + LEFT + 8, height: H + TOP + BOTTOM, role: "img", "aria-label": title});
  svg.append(make("text", {x: 0, y: 12, class: "title"}, title));
  named.forEach(([kind, name], at) => {
    svg.append(make("rect", {x: LEFT + at * 100, y: 18, width: 9, height: 9, class: kind}));
    svg.append(make("text", {x: LEFT + 13 + at * 100, y: 26, class: "legend"}, name));
  });
  svg.append(make("line", {x1: LEFT, x2: LEFT + W, y1: TOP + H, y2: TOP + H, class: "axis"}));
  svg.append(make("text", {x: LEFT - 4, y: TOP + 10, class: "tick end"}, top));
  svg.append(make("text", {x: LEFT - 4, y: TOP + H, class: "tick end bottom"}, "0"));
  ends.forEach((text, at) => svg.append(make("text", {x: LEFT + W * at / Math.max(1, ends.length - 1), y: TOP + H + 13,
    class: `tick ${at === 0 ? "" : at === ends.length - 1 ? "end" : "middle"}`}, text)));
  svg.append(make("text", {x: LEFT + W / 2, y: TOP + H + 27, class: "tick middle"}, label));
  return svg;
}
function bars(title, label, ends, series, log = false) {
  const grow = value => log ? Math.log10(1 + value) : value, all = series.flatMap(one => one.values.filter(value => value !== null));
  const top = Math.max(...all, 0);
  const svg = frame(title, label, ends, number(top), series.filter(one => one.label).map(one => [one.kind, one.label]));
  for (const one of series) {
    const step = W / one.values.length;
    one.values.forEach((value, at) => {
      if (!value) return;
      const height = Math.max(1, H * grow(value) / (grow(top) || 1));
      const bar = make("rect", {x: LEFT + at * step, y: TOP + H - height, width: Math.max(0.6, step - (step > 3 ? 1 : 0)), height, class: one.kind});
      bar.append(make("title", {}, `${one.label ? one.label + ", " : ""}${one.names ? one.names[at] : `bin ${at}`}: ${number(value)}`));
      svg.append(bar);
    });
  }
  return svg;
}
function scatter(one) {
  const [ours, theirs] = one.points, all = [...ours, ...theirs], low = Math.min(...all), high = Math.max(...all), width = high - low || 1;
  const unit = one.codes ? "code" : "value", svg = frame(`reference against candidate, ${one.on}`, `${unit} of the reference`, [number(low), number(high)], number(high),
    [["same", "the same"], ["apart", "differs"]]);
  svg.querySelector(".bottom").textContent = number(low);
  const x = value => LEFT + W * (value - low) / width, y = value => TOP + H - H * (value - low) / width;
  svg.append(make("line", {x1: x(low), y1: y(low), x2: x(high), y2: y(high), class: "axis"}));
  ours.forEach((value, at) => svg.append(make("circle", {cx: x(value), cy: y(theirs[at]), r: 2.2, class: value === theirs[at] ? "same" : "apart"})));
  return svg;
}
function histogram(one) {
  const codes = [...Object.keys(one.local), ...Object.keys(one.cumulative)].map(Number);
  const most = Math.max(1, ...codes.map(Math.abs)), group = Math.ceil((2 * most + 1) / 81), names = [], places = {};
  for (let code = -most; code <= most; code += group) { names.push(group === 1 ? `${code} LSB` : `${code} to ${code + group - 1} LSB`); }
  const fill = counts => { const found = names.map(() => 0); for (const [code, count] of Object.entries(counts)) found[Math.floor((Number(code) + most) / group)] += count; return found; };
  return bars("errors by size (log)", "error, LSB", [String(-most), "0", String(most)], [
    {values: fill(one.cumulative), kind: "cumulative", names, label: "cumulative"}, {values: fill(one.local), kind: "local", names, label: "local"}], true);
}
function chartsOf(one) {
  const found = [];
  if (one.counts) found.push(bars(`codes used, ${one.on} (log)`, "code; the range's ends", one.ends, [
    {values: one.counts[0], kind: "cumulative", label: "reference"}, {values: one.counts[1], kind: "local", label: "candidate"}], true));
  if (Object.keys(one.local).length + Object.keys(one.cumulative).length) found.push(histogram(one));
  if (one.points && one.points[0].length) found.push(scatter(one));
  const channels = one.channels;
  if (channels) {
    const names = channels.names, ends = [names[0], names[names.length - 1]];
    if (channels.flips) found.push(bars("local flips by channel, %", "channel", ends, [{values: channels.flips, kind: "local", names, label: "local"}]));
    if (channels.used) found.push(bars(`codes used by channel, ${one.on}`, "channel", ends, [{values: channels.used, kind: "local", names, label: "candidate"}]));
    if (channels.scale) found.push(bars("weight scale by channel", "channel", ends, [{values: channels.scale, kind: "local", names}]));
  }
  return found;
}
function fill(details) {
  const place = details.querySelector(".charts");
  if (place.childElementCount) return;
  for (const svg of chartsOf(data.layers[Number(details.dataset.at)])) {
    const box = document.createElement("div");
    box.className = "scroll";
    box.append(svg);
    place.append(box);
  }
}

/* The colour of so many percent: the same in every run, pale where a healthy one lies, red from TOP_FLIPS on. */
const TOP_FLIPS = 10;
const heatColour = value => {
  const share = Math.min(1, Math.log10(1 + value) / Math.log10(1 + TOP_FLIPS));
  return value ? `hsl(${Math.round(52 - 52 * share)} 92% ${Math.round(72 - 30 * share)}%)` : "rgba(128,128,128,.13)";
};
function heatLegend(place) {
  for (const value of [0, 0.1, 1, 3, TOP_FLIPS]) {
    const swatch = document.createElement("span");
    swatch.className = "swatch";
    swatch.style.background = heatColour(value);
    place.append(swatch, ` ${value} %${value === TOP_FLIPS ? " and more" : ""} `);
  }
}

/* Layers x channels: one line of a canvas for each layer, its name before it. */
function drawHeat(canvas) {
  const rows = data.layers.map((one, at) => [one, at]).filter(([one]) => one.channels && one.channels.flips);
  const cell = 14, names = 190, wide = 768;
  canvas.width = names + wide;
  canvas.height = rows.length * cell;
  const pen = canvas.getContext("2d");
  pen.font = "11px system-ui, sans-serif";
  rows.forEach(([one], line) => {
    pen.fillStyle = getComputedStyle(document.body).color;
    pen.fillText(short(one.name, 30), 0, line * cell + 11, names - 8);
    const values = one.channels.flips, step = wide / values.length;
    values.forEach((value, at) => {
      pen.fillStyle = heatColour(value);
      pen.fillRect(names + at * step, line * cell, Math.max(1, step - 0.3), cell - 1);
    });
  });
  heatLegend(document.getElementById("heat-legend"));
  const told = canvas.parentElement.nextElementSibling;
  const at = event => {
    const box = canvas.getBoundingClientRect(), line = Math.floor((event.clientY - box.top) / box.height * rows.length);
    const [one] = rows[Math.min(rows.length - 1, Math.max(0, line))], x = (event.clientX - box.left) / box.width * canvas.width;
    const count = one.channels.flips.length;
    return {one, channel: Math.min(count - 1, Math.max(0, Math.floor((x - names) / wide * count)))};
  };
  canvas.addEventListener("mousemove", event => { const {one, channel} = at(event);
    told.textContent = `${one.name}, channel ${one.channels.names[channel]}: ${number(one.channels.flips[channel])} % of its codes differ locally`; });
  canvas.addEventListener("click", event => { location.hash = `layer-${at(event).one.index}`; });
}

/* Tables: sort by a click on a heading, filter, all columns. */
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells], given = [...body.rows];
  const value = (row, place) => { const text = row.cells[place].textContent, read = Number(text);
    return text === "-" ? null : text.trim() !== "" && !Number.isNaN(read) ? read : text; };
  heads.forEach((head, place) => head.firstElementChild.addEventListener("click", () => {
    const before = head.getAttribute("aria-sort"), down = before === "ascending";
    heads.forEach(other => other.removeAttribute("aria-sort"));
    if (before === "descending") { body.append(...given); return; }
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    [...body.rows].sort((one, two) => {
      const a = value(one, place), b = value(two, place);
      if (a === null || b === null) return (a === null) - (b === null);
      const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
      return down ? -order : order;
    }).forEach(row => body.append(row));
  }));
  const tools = table.parentElement.previousElementSibling;
  if (!tools || !tools.classList.contains("tools")) continue;
  const [text, verdict, all] = tools.querySelectorAll("input[type=search], select, input[type=checkbox]");
  const show = () => { for (const row of body.rows) row.hidden =
    !row.textContent.toLowerCase().includes(text.value.toLowerCase()) ||
    (verdict.value !== "" && row.dataset.status !== verdict.value); };
  text.addEventListener("input", show);
  verdict.addEventListener("change", show);
  if (all) all.addEventListener("change", () => table.classList.toggle("all", all.checked));
}

const network = document.getElementById("network");
if (network && data.layers.length) {
  document.body.classList.add("drawn");
  drawNetwork(network);
}
const heat = document.getElementById("heat");
if (heat) drawHeat(heat);
for (const details of document.querySelectorAll("details[data-at]")) {
  if (details.open) fill(details);
  details.addEventListener("toggle", () => { if (details.open) fill(details); });
}
const open = () => { const target = document.querySelector(location.hash || "_"); if (target && target.tagName === "DETAILS") target.open = true; };
addEventListener("hashchange", () => { open(); const target = document.querySelector(location.hash || "_"); if (target) target.scrollIntoView(); });
open();
