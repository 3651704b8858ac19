// The head of the page, and the table of final figures.

// ---- head and runs ----------------------------------------------------------------------------

const shown = runs.map(() => true);

function head() {
  const names = runs.length > 6 ? `${runs.length} runs` : runs.map((run) => run.name).join(", ");
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

// ---- figures ----------------------------------------------------------------------------------

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
  if (isNumber(line.bits_per_byte_known)) return `${short(line.bits_per_byte_known)} (known words)`;
  return "–";
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
  const threads = withUnit(start.threads, start.threads > 1 ? "threads" : "thread");
  return `${start.device}, ${threads}${many}`;
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
