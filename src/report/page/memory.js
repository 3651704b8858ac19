// The memory map of a training, as deq plan --memory prints it.

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
      left: `${(100 * first) / names.length}%`,
      width: `${(100 * (last - first + 1)) / names.length}%`,
      bottom: `${(100 * b.offset) / allocation.bytes}%`,
      height: `${(100 * b.bytes) / allocation.bytes}%`,
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
  const phases = make("div", "phases", ...names.map((name) => make("span", "", name)));
  return [make("div", "scroll", map, phases), make("div", "legend", ...parts)];
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
