// Draws a report from the JSON beside it. Whatever comes from a run is put into the page as text
// (textContent), never as HTML.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const runs = data.runs;
const NATS = Math.LN2;

// ---- small things ------------------------------------------------------------------------------

function byId(id) {
  return document.getElementById(id);
}

// Makes an element. Children are elements or text.
function make(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

function isNumber(x) {
  return typeof x === "number" && Number.isFinite(x);
}

function count(x) {
  return isNumber(x) ? Math.round(x).toLocaleString("en-US") : "–";
}

function short(x, digits = 4) {
  if (!isNumber(x)) return "–";
  const size = Math.abs(x);
  if (x !== 0 && (size < 1e-3 || size >= 1e7)) return Number(x.toPrecision(digits)).toExponential();
  if (size >= 10 ** (digits - 1)) return count(x);
  return String(Number(x.toPrecision(digits)));
}

function duration(seconds) {
  if (!isNumber(seconds)) return "–";
  const whole = Math.round(seconds);
  const [h, min, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  if (h > 0) return `${count(h)} h ${min} min`;
  return min > 0 ? `${min} min ${s} s` : `${s} s`;
}

function bytes(x) {
  if (!isNumber(x)) return "–";
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  for (; x >= 1024 && at < units.length - 1; at++) x /= 1024;
  return `${short(x, at > 0 ? 3 : 4)} ${units[at]}`;
}

function style(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function runColour(i) {
  return style(`--run-${i % 8}`);
}

// A colour #rrggbb with an opacity.
function faint(colour, alpha) {
  return colour + Math.round(255 * alpha).toString(16).padStart(2, "0");
}

function runLabel(i) {
  const swatch = make("span", "swatch");
  swatch.style.borderTopColor = `var(--run-${i % 8})`;
  swatch.style.borderTopStyle = ["solid", "dashed", "dotted"][Math.floor(i / 8) % 3];
  return [swatch, runs[i].name];
}

// Buttons of which one is pressed. `labels` are arrays of children.
function choice(parent, labels, choose) {
  const buttons = labels.map((label, i) => {
    const button = make("button", "", ...label);
    button.type = "button";
    button.addEventListener("click", () => press(i));
    parent.append(button);
    return button;
  });
  function press(i) {
    buttons.forEach((b, k) => b.setAttribute("aria-pressed", String(k === i)));
    choose(i);
  }
  return press;
}

// A table with a head. A cell is text or an element; columns from `numbers` on are numbers.
function table(head, rows, numbers) {
  const cell = (tag, content, i) => make(tag, i >= numbers ? "number" : "", content);
  const top = make("tr", "", ...head.map((text, i) => cell("th", text, i)));
  const body = rows.map((row) => {
    const line = make("tr", "", ...row.map((x, i) => cell(i === 0 ? "th" : "td", x, i)));
    line.firstChild.scope = "row";
    return line;
  });
  return make("div", "scroll",
    make("table", "", make("thead", "", top), make("tbody", "", ...body)));
}

function quiet(text) {
  return make("p", "quiet", text);
}

// ---- the text beside the pointer ---------------------------------------------------------------

const tip = byId("tip");

function showTip(text, box) {
  tip.textContent = text;
  tip.hidden = false;
  const below = box.bottom + 8 + tip.offsetHeight < innerHeight;
  const left = Math.min(box.left, innerWidth - tip.offsetWidth - 8);
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${below ? box.bottom + 8 : Math.max(8, box.top - 8 - tip.offsetHeight)}px`;
}

function hideTip() {
  tip.hidden = true;
}

// Shows `describe(element)` for the children of `parent` that a pointer is on.
function describeChildren(parent, describe) {
  const show = (event) => {
    const text = event.target === parent ? "" : describe(event.target);
    if (!text) return hideTip();
    const boxes = event.target.getClientRects();
    const under = [...boxes].find((b) => event.clientY >= b.top && event.clientY <= b.bottom);
    showTip(text, under || boxes[0]);
  };
  parent.addEventListener("pointerover", show);
  parent.addEventListener("pointerleave", hideTip);
}

addEventListener("scroll", hideTip, { passive: true });

// ---- head and runs -----------------------------------------------------------------------------

const shown = runs.map(() => true);

function head() {
  const names = runs.map((run) => run.name).join(", ");
  document.title = `${names} – deq report`;
  byId("title").textContent = names;
  byId("made").textContent =
    `Deep equilibrium language ${runs.length > 1 ? "models" : "model"}, ` +
    `reported by deq ${data.version}, ${data.made}`;
  if (runs.length === 1) {
    byId("runs").hidden = true;
    return;
  }
  runs.forEach((run, i) => {
    const button = make("button", "", ...runLabel(i));
    button.type = "button";
    button.title = `Show or hide ${run.folder}`;
    button.setAttribute("aria-pressed", "true");
    button.addEventListener("click", () => {
      shown[i] = !shown[i];
      button.setAttribute("aria-pressed", String(shown[i]));
      drawn.forEach((chart) => chart.refresh());
    });
    byId("runs").append(button);
  });
}

// ---- figures -----------------------------------------------------------------------------------

function bestOf(run) {
  return run.log.best || {};
}

function steps(run) {
  const wanted = run.config && run.config.train.steps;
  const done = count(run.log.last_step);
  return wanted > run.log.last_step ? `${done} of ${count(wanted)}` : done;
}

function bits(line) {
  if (isNumber(line.bits_per_byte)) return short(line.bits_per_byte);
  return isNumber(line.bits_per_byte_known) ? `${short(line.bits_per_byte_known)} (known words)` : "–";
}

// Where the last evaluation is the best one, nothing has to be said of it.
function lastPerplexity(run) {
  const last = run.log.last || {};
  return last.step === bestOf(run).step ? "–" : short(last.ppl);
}

const figures = [
  ["Steps", steps],
  ["Tokens trained on", (run) => count(run.log.tokens)],
  ["Time in steps", (run) => duration(run.log.seconds)],
  ["Tokens per second", (run) => count(run.log.tokens / run.log.seconds)],
  ["Training loss, mean of the last 100 steps", (run) => short(run.log.loss)],
  ["Best validation loss, nats per token", (run) => short(bestOf(run).nll)],
  ["    perplexity", (run) => short(bestOf(run).ppl)],
  ["    bits per byte", (run) => bits(bestOf(run))],
  ["    share recalled", (run) => short(bestOf(run).recalled)],
  ["    after step", (run) => count(bestOf(run).step)],
  ["    evaluations of f per token", (run) => short(bestOf(run).nfe_mean, 3)],
  ["    relative residual left", (run) => short(bestOf(run).rel_mean, 3)],
  ["Last validation perplexity", lastPerplexity],
  ["Parameters", (run) => count(run.parameters)],
  ["Memory of the training", (run) => bytes((run.log.start || {}).memory_bytes)],
  ["Device", (run) => device(run.log.start)],
  ["Processor", (run) => (run.log.start || {}).processor || "–"],
  ["Skipped steps", (run) => (run.log.skipped > 0 ? count(run.log.skipped) : "–")],
  ["Times started", (run) => (run.log.starts > 1 ? count(run.log.starts) : "–")],
];

function device(start) {
  if (!start) return "–";
  const many = start.ranks > 1 ? `, ${start.ranks} processes` : "";
  return `${start.device}, ${start.threads} ${start.threads > 1 ? "threads" : "thread"}${many}`;
}

function drawFigures() {
  const rows = figures
    .map(([name, value]) => [name, ...runs.map(value)])
    .filter((row) => row.slice(1).some((text) => text !== "–"));
  const labels = runs.map((run, i) => make("span", "", ...runLabel(i)));
  const element = table(["", ...labels], rows, 1);
  element.querySelectorAll("tbody th").forEach((th) => {
    if (th.textContent.startsWith(" ")) th.style.paddingLeft = "18px";
  });
  byId("figures").append(element);
}

// ---- curves ------------------------------------------------------------------------------------

// What the charts show. `step` and `evaluation` name columns of the log; `second` is another one of
// steps, drawn dashed.
const loss = [
  { name: "Loss", axis: "nats per token", step: "loss", evaluation: "nll", label: "validation" },
  { name: "Perplexity", axis: "perplexity per token", step: "loss", evaluation: "nll",
    label: "validation", map: Math.exp, log: true },
  { name: "Bits per byte", axis: "bits per byte of the validation text",
    evaluation: ["bits_per_byte", "bits_per_byte_known"], label: "validation" },
];
const charts = [
  { id: "loss", wide: true, views: loss, hint: "line: training, dots: validation" },
  { id: "evals", views: [{ name: "Evaluations of f", axis: "per token", step: "evals",
      second: "backward_evals", evaluation: "evals", label: "validation" }],
    hint: "solid: forward solve, dashed: backward, dots: validation" },
  { id: "residual", views: [{ name: "Residual left", axis: "relative residual", step: "residual",
      second: "backward_residual", evaluation: "residual", label: "validation", log: true }],
    hint: "solid: forward solve, dashed: backward, dots: validation" },
  { id: "rate", views: [{ name: "Learning rate", axis: "learning rate", step: "lr" }] },
  { id: "gradient", views: [{ name: "Gradient norm", axis: "norm before clipping",
      step: "grad_norm", log: true }] },
  { id: "speed", views: [{ name: "Speed", axis: "tokens per second", step: "tokens_per_s",
      zero: true }] },
];

const longest = Math.max(...runs.map((run) => run.log.seconds || 0));
const timeUnit = longest < 180 ? ["s", 1] : longest < 3 * 3600 ? ["min", 60] : ["h", 3600];
const axes = [
  { name: "Steps", title: "steps", values: (series) => series.step },
  { name: "Tokens", title: "tokens", values: (series) => series.tokens },
  { name: "Time", title: `time in steps, ${timeUnit[0]}`, unit: ` ${timeUnit[0]}`,
    values: (series) => series.seconds.map((s) => s / timeUnit[1]) },
];
// How much of the beginning is left out, where values fall so far that the rest looks flat.
const beginnings = [["all", 0], ["last 90 %", 0.1], ["last half", 0.5]];
let axis = axes[0];
let beginning = 0;
const drawn = [];

// The first column of these names that a series has.
function column(series, names) {
  return [].concat(names || []).map((name) => series[name]).find((found) => found);
}

function points(series, names, map = (y) => y) {
  const values = column(series, names);
  const x = axis.values(series);
  if (!values) return [];
  const from = beginning * Math.max(...x.filter(isNumber));
  const at = (list, i) => (isNumber(list[i]) ? map(list[i]) : null);
  return x
    .map((x, i) => ({ x, y: at(values.mean, i),
      least: values.least && at(values.least, i), most: values.most && at(values.most, i) }))
    .filter((point) => point.y !== null && point.x >= from);
}

// A line of a run, and behind it the band of the values that its points stand for.
function lineOf(i, label, list, look) {
  const colour = runColour(i);
  const line = { run: i, label, data: list, borderColor: colour, borderWidth: 1.6,
    borderDash: [[], [7, 4], [2, 3]][Math.floor(i / 8) % 3], pointRadius: 0, ...look };
  if (!list.some((point) => point.most > point.least)) return [line];
  const edge = { run: i, band: true, borderWidth: 0, pointRadius: 0 };
  const at = (name) => list.map((point) => ({ x: point.x, y: point[name] }));
  return [line, { ...edge, data: at("least"), fill: false },
    { ...edge, data: at("most"), fill: "-1", backgroundColor: faint(colour, 0.14) }];
}

function datasets(view) {
  const sets = [];
  const both = Boolean(view.second || view.evaluation);
  runs.forEach((run, i) => {
    const { step, evaluation } = run.log;
    const training = points(step, view.step, view.map);
    const second = points(step, view.second, view.map);
    const checks = points(evaluation, view.evaluation, view.map);
    const named = (what) => (both ? `${run.name}, ${what}` : run.name);
    if (training.length > 0)
      sets.push(...lineOf(i, named(view.second ? "forward" : "training"), training, {}));
    if (second.length > 0)
      sets.push(...lineOf(i, named("backward"), second, { borderDash: [5, 4] }));
    if (checks.length > 0)
      sets.push(...lineOf(i, named(view.label), checks, { borderWidth: 1.6, pointRadius: 3.2,
        pointBackgroundColor: runColour(i), pointBorderColor: style("--card"),
        borderColor: faint(runColour(i), view.step ? 0.45 : 1) }));
  });
  sets.forEach((set) => { set.hidden = !shown[set.run]; });
  return sets;
}

// Of every line the point nearest to the pointer, unless it is far.
Chart.Interaction.modes.eachLine = (chart, event) => {
  const found = [];
  chart.getSortedVisibleDatasetMetas().forEach((meta) => {
    if (chart.data.datasets[meta.index].band) return;
    let best = -1;
    let least = 30;
    meta.data.forEach((element, index) => {
      const away = Math.abs(element.x - event.x);
      if (away < least) [best, least] = [index, away];
    });
    if (best >= 0)
      found.push({ element: meta.data[best], datasetIndex: meta.index, index: best });
  });
  return found;
};

function tooltipTitle(items) {
  if (items.length === 0) return "";
  return `${axis.name} ${short(items[0].parsed.x, axis.unit ? 4 : 7)}${axis.unit || ""}`;
}

function tooltipLine(item) {
  const { y, least, most } = item.raw;
  const spread = most > least ? ` (${short(least)} to ${short(most)})` : "";
  return `${item.dataset.label}: ${short(y)}${spread}`;
}

// On an axis of magnitudes only 1, 2 and 5 of each, or 1 alone where there are many.
function logTick(value, index, ticks) {
  const lead = Math.round(value / 10 ** Math.floor(Math.log10(value) + 1e-9));
  const decades = Math.log10(ticks[ticks.length - 1].value / ticks[0].value);
  return lead === 1 || (decades < 2.5 && (lead === 2 || lead === 5)) ? short(value) : null;
}

const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

function scales(view) {
  const [ink, line] = [style("--quiet"), style("--line")];
  const title = (text) => ({ display: true, text, color: ink, font: { size: 12 } });
  const y = view.log ? { type: "logarithmic", ticks: { color: ink, callback: logTick } }
    : { type: "linear", beginAtZero: Boolean(view.zero),
        ticks: { color: ink, maxTicksLimit: 7, callback: (value) => short(value) } };
  return {
    x: { type: "linear", title: title(axis.title), grid: { color: line, drawBorder: false },
      ticks: { color: ink, maxTicksLimit: 8, maxRotation: 0,
        callback: (value) => compact.format(value) } },
    y: { ...y, title: title(view.axis), grid: { color: line, drawBorder: false } },
  };
}

function options(view) {
  return {
    animation: false,
    responsive: true,
    maintainAspectRatio: false,
    interaction: { mode: "eachLine", intersect: false },
    scales: scales(view),
    plugins: {
      legend: { display: false },
      tooltip: {
        boxPadding: 4,
        callbacks: {
          title: tooltipTitle,
          label: tooltipLine,
          labelColor: (item) => ({ borderColor: runColour(item.dataset.run),
            backgroundColor: runColour(item.dataset.run) }),
        },
      },
    },
  };
}

function drawChart(wanted) {
  const views = wanted.views.filter((view) => datasets(view).length > 0);
  if (views.length === 0) return;
  const canvas = make("canvas");
  canvas.id = `chart-${wanted.id}`;
  canvas.setAttribute("role", "img");
  const title = make("h3");
  const switches = make("div", "controls");
  const card = make("div", wanted.wide ? "card wide" : "card",
    make("div", "head", title, make("span", "quiet", wanted.hint || ""), switches),
    make("div", "plot", canvas));
  byId("charts").append(card);
  let view = views[0];
  const chart = new Chart(canvas, { type: "line", data: { datasets: [] }, options: options(view) });
  chart.refresh = () => {
    title.textContent = view.name;
    canvas.setAttribute("aria-label", `${view.name} over ${axis.name.toLowerCase()}`);
    chart.data.datasets = datasets(view);
    chart.options = options(view);
    chart.update();
  };
  const press = choice(switches, views.map((v) => [v.name]), (i) => {
    view = views[i];
    chart.refresh();
  });
  switches.hidden = views.length < 2;
  drawn.push(chart);
  press(0);
}

function drawCurves() {
  Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
  const controls = byId("axis");
  const refresh = () => drawn.forEach((chart) => chart.refresh());
  controls.append(make("span", "label", "over"));
  const pressAxis = choice(controls, axes.map((a) => [a.name]), (i) => {
    axis = axes[i];
    refresh();
  });
  controls.append(make("span", "label", "show"));
  const pressBeginning = choice(controls, beginnings.map((b) => [b[0]]), (i) => {
    beginning = beginnings[i][1];
    refresh();
  });
  pressAxis(0);
  pressBeginning(0);
  charts.forEach(drawChart);
  const width = Math.max(...runs.map((run) => run.log.step.width));
  if (width > 1)
    byId("curves").append(quiet(
      `A point of a line is the mean of up to ${count(width)} steps; the band behind it spans ` +
      "the least and the greatest of them."));
  if (drawn.length === 0) byId("curves").append(quiet("The logs hold no step yet."));
}

// ---- the shaded text ---------------------------------------------------------------------------

const shades = [
  { name: "Surprise", className: "surprise", column: 1, unit: "nats" },
  { name: "Evaluations", className: "evals", column: 2, unit: "evaluations" },
];

// The value below which a share of the sorted values lies.
function quantile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
}

// Pearson's correlation.
function correlation(xs, ys) {
  const mean = (list) => list.reduce((sum, v) => sum + v, 0) / list.length;
  const [mx, my] = [mean(xs), mean(ys)];
  let [xy, xx, yy] = [0, 0, 0];
  xs.forEach((x, i) => {
    xy += (x - mx) * (ys[i] - my);
    xx += (x - mx) ** 2;
    yy += (ys[i] - my) ** 2;
  });
  return xy / Math.sqrt(xx * yy);
}

function describePiece([text, surprise, evals, rank, tokens]) {
  const probability = 100 * Math.exp(-surprise);
  const lines = [
    `“${text.replace(/\n/g, "↵").replace(/ /g, "␣")}”`,
    `surprise ${short(surprise, 3)} nats (${short(surprise / NATS, 3)} bits), ` +
      `probability ${short(probability, 3)} %`,
    rank > 0 ? `rank ${count(rank)} of all tokens` : `${tokens} tokens make one character`,
  ];
  if (evals > 0) lines.push(`${short(evals, 3)} evaluations of f`);
  return lines.join("\n");
}

function aboutText(text) {
  const surprise = text.pieces.map((piece) => piece[1]);
  const evals = text.pieces.map((piece) => piece[2]);
  const r = correlation(surprise, evals);
  const parts = [`${count(text.tokens)} tokens of ${text.name}. Perplexity ${short(text.ppl)}.`];
  if (text.evals > 0)
    parts.push(`Each position was solved to a relative residual of ${short(text.tol)}, ` +
      `by ${short(text.evals, 3)} evaluations of f on average.`);
  if (text.unconverged > 0)
    parts.push(`${count(text.unconverged)} did not reach it within ${count(text.max_iter)}.`);
  if (isNumber(r))
    parts.push(`Correlation of surprise and evaluations: ${r.toFixed(2).replace("-0.00", "0.00")}.`);
  return parts.join(" ");
}

// Makes buttons for the runs that have what a section shows.
function chooseRun(parent, indices, choose) {
  const row = make("div", "controls");
  parent.append(row);
  const press = choice(row, indices.map(runLabel), (k) => choose(indices[k]));
  row.hidden = indices.length < 2;
  return press;
}

function having(name) {
  return runs.map((run, i) => i).filter((i) => runs[i][name]);
}

function drawText() {
  const section = byId("text");
  const indices = having("text");
  section.hidden = indices.length === 0;
  if (section.hidden) return;
  let [run, shade] = [indices[0], shades[0]];
  const box = make("div", "shaded");
  const about = quiet("");
  const controls = make("div", "controls");
  const [low, high] = [make("span"), make("span")];
  const scale = make("span", "scale quiet", low, make("i"), high);
  const pressRun = chooseRun(section, indices, (i) => { run = i; draw(); });
  const pressShade = choice(controls, shades.map((s) => [s.name]), (i) => { shade = shades[i]; paint(); });
  controls.append(scale);
  section.append(controls, box, about);

  function paint() {
    const values = runs[run].text.pieces.map((piece) => piece[shade.column]);
    const least = shade.column === 1 ? 0 : Math.min(...values);
    const most = Math.max(quantile(values, 0.98), least + 1e-9);
    box.className = `shaded ${shade.className}`;
    scale.className = `scale quiet ${shade.className}`;
    low.textContent = short(least, 3);
    const more = most < Math.max(...values) ? " or more" : "";
    high.textContent = `${short(most, 3)} ${shade.unit}${more}`;
    [...box.children].forEach((span, i) => {
      const share = Math.min(1, Math.max(0, (values[i] - least) / (most - least)));
      span.style.setProperty("--a", share.toFixed(3));
    });
  }
  function draw() {
    const text = runs[run].text;
    box.replaceChildren(...text.pieces.map((piece) =>
      make("span", "", piece[0].replace(/\n/g, "↵\n"))));
    about.textContent = aboutText(text);
    controls.children[1].disabled = !(text.evals > 0);
    paint();
  }
  describeChildren(box, (span) => {
    const piece = runs[run].text.pieces[[...box.children].indexOf(span)];
    return piece && describePiece(piece);
  });
  pressRun(0);
  pressShade(0);
}

// ---- samples -----------------------------------------------------------------------------------

function drawSamples() {
  const indices = having("samples");
  byId("samples").hidden = indices.length === 0;
  if (indices.length === 0) return;
  const grid = make("div", "grid");
  indices.forEach((i) => {
    const name = make("h3", "", ...runLabel(i));
    const at = make("span", "quiet", `after step ${count(runs[i].checkpoint_step)}`);
    grid.append(make("div", "", make("div", "head", name, at),
      ...runs[i].samples.map((text) => make("div", "sample", text))));
  });
  const prompt = data.prompt ? `Each continues “${data.prompt}”.` : "Each begins a line.";
  byId("samples").append(grid, quiet(
    `${prompt} Tokens are drawn from the likeliest that make up ${data.sample_top_p} of the ` +
    `probability, with seed ${data.sample_seed}.`));
}

// ---- configuration -----------------------------------------------------------------------------

// Values by their paths, as {"train.lr": "0.001"}.
function flatten(object, path = "", into = {}) {
  Object.entries(object).forEach(([name, value]) => {
    const inner = path ? `${path}.${name}` : name;
    const section = value !== null && typeof value === "object" && !Array.isArray(value);
    if (section) flatten(value, inner, into);
    else into[inner] = typeof value === "string" ? value : JSON.stringify(value);
  });
  return into;
}

function drawConfiguration() {
  const section = byId("configuration");
  const indices = having("config");
  section.hidden = indices.length === 0;
  if (section.hidden) return;
  const several = indices.length > 1;
  const configs = indices.map((i) => flatten(runs[i].config));
  const keys = [...new Set(configs.flatMap(Object.keys))];
  const defaults = flatten(data.defaults);
  const differs = (key) => configs.some((c) => c[key] !== (several ? configs[0] : defaults)[key]);
  const labels = indices.map((i) => make("span", "", ...runLabel(i)));
  const rows = (some) => some.map((key) => [make("span", "key", key),
    ...configs.map((c) => c[key] || "–"), ...(several ? [] : [defaults[key] || "–"]),
    make("div", "meaning", data.meaning[key] || "")]);
  const heads = () => ["key", ...labels.map((label) => label.cloneNode(true)),
    ...(several ? [] : ["default"]), "meaning"];
  const different = keys.filter(differs);
  section.append(quiet(several ? "Keys in which the runs differ." : "Keys that are not at their defaults."));
  section.append(different.length > 0 ? table(heads(), rows(different), 99)
    : make("p", "", "None."));
  section.append(make("details", "", make("summary", "", `All ${count(keys.length)} keys`),
    table(heads(), rows(keys), 99)));
}

// ---- memory ------------------------------------------------------------------------------------

const partColours = {};

function partColour(part) {
  if (!(part in partColours)) partColours[part] = Object.keys(partColours).length % 8;
  return `var(--run-${partColours[part]})`;
}

function phasesOf(buffer) {
  return buffer.first === buffer.last ? buffer.first : `${buffer.first} to ${buffer.last}`;
}

function describeBuffer(b) {
  return [b.name, `${b.shape.join(" × ")} ${b.type}, ${bytes(b.bytes)} at ${bytes(b.offset)}`,
    `${b.part}, ${phasesOf(b)}`].join("\n");
}

// A picture of an allocation: phases from left to right, addresses from bottom to top. Buffers of
// pre-training lie over those of solves, and are left out where there are solves.
function drawMap(allocation) {
  const names = allocation.phases.map((phase) => phase.name);
  const map = make("div", "map");
  const other = allocation.buffers.some((b) => b.path === "solve") ? "layers" : "solve";
  const buffers = allocation.buffers.filter((b) => b.bytes > 0 && b.path !== other);
  buffers.forEach((b) => {
    const first = Math.max(0, names.indexOf(b.first));
    const last = names.includes(b.last) ? names.indexOf(b.last) : names.length - 1;
    const box = make("div", "", (320 * b.bytes) / allocation.bytes >= 14 ? b.name : "");
    Object.assign(box.style, {
      left: `${(100 * first) / names.length}%`, width: `${(100 * (last - first + 1)) / names.length}%`,
      bottom: `${(100 * b.offset) / allocation.bytes}%`, height: `${(100 * b.bytes) / allocation.bytes}%`,
      background: `color-mix(in srgb, ${partColour(b.part)} 38%, transparent)`,
    });
    map.append(box);
  });
  describeChildren(map, (box) => describeBuffer(buffers[[...map.children].indexOf(box)]));
  const parts = [...new Set(buffers.map((b) => b.part))].map((part) => {
    const colour = make("i");
    colour.style.background = partColour(part);
    return make("span", "quiet", colour, part);
  });
  return [make("div", "scroll", map, make("div", "phases", ...names.map((name) => make("span", "", name)))),
    make("div", "legend", ...parts)];
}

// Numbers of the buffers that share bytes with one, from 1, as in 3, 7–9.
function shares(list) {
  const out = [];
  list.forEach((j) => {
    const last = out[out.length - 1];
    if (last && last[1] === j) last[1] = j + 1;
    else out.push([j + 1, j + 1]);
  });
  return out.map(([a, b]) => (a === b ? `${a}` : `${a}–${b}`)).join(", ");
}

function bufferTable(allocation) {
  const rows = allocation.buffers.map((b, i) => [String(i + 1), make("span", "key", b.name),
    `${b.shape.join("×")} ${b.type}`, phasesOf(b) + (b.path === "any" ? "" : `, ${b.path}`),
    count(b.bytes), count(b.offset), shares(b.shares)]);
  return table(["", "buffer", "shape", "phases", "bytes", "offset", "shares with"], rows, 99);
}

function drawAllocation(allocation) {
  const varies = new Set(allocation.phases.map((p) => p.solve + p.layers)).size > 1;
  const card = make("div", "card",
    make("div", "head", make("h3", "", allocation.owner),
      make("span", "quiet", `${bytes(allocation.bytes)} in one allocation`)));
  if (varies) card.append(...drawMap(allocation));
  card.append(make("details", "",
    make("summary", "", `${count(allocation.buffers.length)} buffers`), bufferTable(allocation)));
  return card;
}

function drawMemory() {
  const section = byId("memory");
  const indices = having("allocations");
  section.hidden = indices.length === 0;
  if (section.hidden) return;
  const texts = indices.map((i) => JSON.stringify(runs[i].allocations));
  const same = texts.every((text) => text === texts[0]);
  const box = make("div");
  const total = (i) => runs[i].allocations.reduce((sum, a) => sum + a.bytes, 0);
  const press = chooseRun(section, same ? indices.slice(0, 1) : indices, (i) => {
    box.replaceChildren(
      make("p", "", `${bytes(total(i))} in ${runs[i].allocations.length} allocations` +
        (same && indices.length > 1 ? ", the same for all runs." : ".")),
      ...runs[i].allocations.map(drawAllocation));
  });
  section.append(box);
  press(0);
}

// ---- all of it ---------------------------------------------------------------------------------

function drawMissing() {
  const lines = runs.flatMap((run) => [
    ...run.missing.map((text) => `${run.name} has no ${text}`),
    ...(run.log.unreadable > 0
      ? [`${run.name}: ${count(run.log.unreadable)} lines of the log are damaged and left out`] : []),
  ]);
  lines.forEach((line) => byId("missing").append(make("p", "", line)));
  byId("missing").append(quiet("Drawn by Chart.js, under the MIT License, whose text is in this file."));
}

head();
drawFigures();
drawCurves();
drawText();
drawSamples();
drawConfiguration();
drawMemory();
drawMissing();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () =>
  drawn.forEach((chart) => chart.refresh()));
