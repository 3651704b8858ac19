// The configurations, and in what they differ.

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
  section.append(
    quiet(several ? "Keys in which the runs differ." : "Keys that are not at their defaults."));
  section.append(different.length > 0 ? table(heads(), rows(different), 99)
    : make("p", "", "None."));
  section.append(make("details", "", make("summary", "", `All ${count(keys.length)} keys`),
    table(heads(), rows(keys), 99)));
}
