// Draws all parts of the page.

function drawMissing() {
  const lines = runs.flatMap((run) => [
    ...run.missing.map((text) => `${run.name} has no ${text}`),
    ...(run.log.unreadable > 0
      ? [`${run.name}: ${count(run.log.unreadable)} lines of the log are damaged and left out`]
      : []),
  ]);
  lines.forEach((line) => byId("missing").append(make("p", "", line)));
  byId("missing").append(
    quiet("Drawn by Chart.js, under the MIT License, whose text is in this file."));
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
