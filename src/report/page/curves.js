// Curves over steps, tokens or time, drawn by Chart.js.

// What the charts show. `step` and `evaluation` name columns of the log; `second` is another one of
// steps, drawn dashed.
const loss = [
  { name: "Loss", axis: "nats per token", step: "loss", evaluation: "nll" },
  { name: "Perplexity", axis: "perplexity per token", step: "loss", evaluation: "nll",
    map: Math.exp, log: true },
  { name: "Bits per byte", axis: "bits per byte of the validation text",
    evaluation: ["bits_per_byte", "bits_per_byte_known"] },
];
const charts = [
  { id: "loss", wide: true, views: loss, hint: "line: training, dots: validation" },
  { id: "evals", views: [{ name: "Evaluations of f", axis: "per token", step: "evals",
      second: "backward_evals", evaluation: "evals" }],
    hint: "solid: forward solve, dashed: backward, dots: validation" },
  { id: "residual", views: [{ name: "Residual left", axis: "relative residual", step: "residual",
      second: "backward_residual", evaluation: "residual", log: true }],
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
      sets.push(...lineOf(i, named("validation"), checks, { borderWidth: 1.6, pointRadius: 3.2,
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
  const { x } = items[0].parsed;
  return `${axis.name} ${axis.unit ? short(x) + axis.unit : count(x)}`;
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
  controls.hidden = drawn.length === 0;
  if (controls.hidden) byId("curves").append(quiet("The logs hold no step yet."));
}
