// What the models say: a text shaded token by token, and samples.

// ---- the shaded text --------------------------------------------------------------------------

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

function describePiece([text, surprise, evals, rank, tokens, unknown]) {
  const probability = 100 * Math.exp(-surprise);
  const lines = [
    `“${text.replace(/\n/g, "↵").replace(/ /g, "␣")}”`,
    `surprise ${short(surprise, 3)} nats (${short(surprise / NATS, 3)} bits), ` +
      `probability ${short(probability, 3)} %`,
    rank > 0 ? `rank ${count(rank)} of all tokens` : `${tokens} tokens make one character`,
  ];
  if (evals > 0) lines.push(`${short(evals, 3)} evaluations of f`);
  if (unknown) lines.push("not in the vocabulary: these are numbers of <unk>");
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
  if (text.unknown > 0)
    parts.push(`${count(text.unknown)} tokens are <unk>, whose surprise is that of <unk> alone.`);
  if (text.unconverged > 0)
    parts.push(`${count(text.unconverged)} did not reach it within ${count(text.max_iter)}.`);
  if (isNumber(r)) {
    const shown = r.toFixed(2).replace("-0.00", "0.00");
    parts.push(`Correlation of surprise and evaluations: ${shown}.`);
  }
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
  const pressRun = chooseRun(section, indices, (i) => {
    run = i;
    draw();
  });
  const pressShade = choice(controls, shades.map((s) => [s.name]), (i) => {
    shade = shades[i];
    paint();
  });
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

// ---- samples ----------------------------------------------------------------------------------

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
