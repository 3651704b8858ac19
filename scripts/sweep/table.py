"""The table and the plot of a comparison."""
import math
import statistics
import subprocess


def perplexity(nll):
    return math.exp(nll) if nll < 700 else math.inf


def spread(values):
    """Mean and half the range, as one reads it."""
    if len(values) == 1:
        return "%.4g" % values[0]
    return "%.4g ± %.2g" % (statistics.mean(values), (max(values) - min(values)) / 2)


def point_text(point):
    return ", ".join("%s %g" % (k.rsplit(".", 1)[-1], v) if isinstance(v, (int, float)) else
                     "%s %s" % (k.rsplit(".", 1)[-1], v) for k, v in point.items())


def parts_text(result):
    parts = result["by_part"]
    tables = sum(parts.get(k, 0) for k in ("embedding", "softmax"))
    rest = result["parameters"] - tables
    return "%.3f + %.3f M" % (tables / 1e6, rest / 1e6)


def time_text(results):
    """Processor seconds, and those without evaluations in brackets."""
    return "%.3g s (%.3g s)" % (statistics.mean(r["seconds"] for r in results),
                                statistics.mean(r["seconds"] * r.get("training_share", 1) for r in results))


def bits_text(bits):
    return "–" if None in bits else spread(bits)


def rows_of(name, entry):
    for kind, label in (("final", ""), ("equal_time", ", equal time")):
        results = entry.get(kind, [])
        if not results:
            continue
        ppl = [perplexity(r["test_nll"]) for r in results]
        valid = [perplexity(r["valid_nll"]) for r in results]
        yield [name + label, parts_text(results[0]), point_text(entry["best"]),
               "%.2f M" % (results[0]["tokens"] / 1e6),
               time_text(results), spread(valid), spread(ppl),
               bits_text([r.get("bits_per_byte") for r in results]), "%d" % len(results),
               "%.2g" % max(r["leak"] for r in results)]


def search_rows(name, entry):
    for p in sorted(entry["points"], key=lambda p: p["valid_nll"]):
        loss = p["valid_nll"]
        text = "broke down" if math.isinf(loss) else "not yet" if math.isnan(loss) else \
            "%.4g" % perplexity(loss)
        yield [name, point_text(p["point"]), text, bits_text([p.get("valid_bits")])]


def lines_of(header, rows):
    yield "| " + " | ".join(header) + " |"
    yield "|" + "---|" * len(header)
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def table(plan, results):
    networks = results["networks"]
    lines = ["# %s" % (results["title"] or plan.path), ""]
    lines += lines_of(["network", "parameters: tables + rest", "best settings", "tokens",
                       "processor time (training)", "validation perplexity", "%s perplexity" % plan.split,
                       "%s bits per byte" % plan.split, "seeds", "leak"],
                      [row for name, entry in networks.items() for row in rows_of(name, entry)])
    lines += ["", "± is half the range over the seeds. Settings of the lowest validation loss were "
              "chosen, from:", ""]
    lines += lines_of(["network", "settings", "validation perplexity", "validation bits per byte"],
                      [row for name, e in networks.items() for row in search_rows(name, e)])
    if plan.own_data:
        lines += ["", "Perplexities are those of tokens, which differ here. Bits per byte can be compared. A network "
                  "that reads a part of its text as <unk> has none."]
    for name, entry in networks.items():
        for key in entry.get("at_edge", []):
            lines.append("\nThe best %s of %s lies at an edge of what was tried. The comparison is "
                         "not fair to it yet." % (key, name))
    return "\n".join(lines) + "\n"


def draw(plan, results, path):
    """Validation perplexity against the first key of the search, the best of its other keys. Where tokens
    differ, bits per byte in its place."""
    key = next(iter(plan.search))
    curves = {}
    figure = "valid_bits" if plan.own_data else "valid_nll"
    for name, entry in results["networks"].items():
        best = {}
        for p in entry["points"]:
            x, loss = p["point"][key], p[figure]
            if isinstance(x, (int, float)) and loss is not None and loss < 700:
                best[x] = min(best.get(x, math.inf), loss)
        if best:
            curves[name] = sorted(best.items())
    if not curves:
        return
    script = ['set terminal svg size 720,480 font "sans,14" background "white"',
              'set output "%s"' % path, "set logscale x", "set key top center",
              'set xlabel "%s"' % key.replace("_", "\\\\_"), 'set ylabel "validation %s"' % ("bits per byte" if plan.own_data else "perplexity"),
              "set grid"]
    for i, points in enumerate(curves.values()):
        script.append("$c%d << E" % i)
        script += ["%g %.6g" % (x, loss if plan.own_data else perplexity(loss)) for x, loss in points] + ["E"]
    script.append("plot " + ", ".join(
        '$c%d with linespoints lw 2 pt 7 title "%s"' % (i, name.replace("_", "\\\\_"))
        for i, name in enumerate(curves)))
    subprocess.run(["gnuplot"], input="\n".join(script), universal_newlines=True, check=True)
