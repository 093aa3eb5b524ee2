"""What a run says in words: a table of its steps, and report.md."""

import statistics


def failures(step):
    """Commands of a step that failed; those that tell that a tool is not here do not count."""
    if step["fault"]:
        return [{"name": step["step"], "problem": step["fault"].strip().splitlines()[-1]}]
    return [] if step["not_run"] else [c for c in step["commands"] if c["problem"] and not cut_off_clean(c)]


def cut_off_clean(command):
    """One that takes all the time there is, and nothing was wrong until then."""
    return command["open_ended"] and command["exit_code"] is None and not command["result"]


def cells(step):
    """Name, exit code, seconds, and a remark."""
    failed, count = failures(step), len(step["commands"])
    late = sum(c["not_begun"] for c in step["commands"])
    codes = [c.get("exit_code") for c in failed]
    code = "0" if not failed else next((str(c) for c in codes if c is not None), "none")
    if step["not_run"] or late == count > 0:
        code = "-"
    if step["not_run"]:
        return step["step"], code, f"{step['seconds']:.1f}", f"not run: {step['not_run']}"
    remark = f"{count - late - len(failed)} of {count} commands"
    if late:
        remark += f"; the time was over for {late}"
    if failed:
        remark += f"; {failed[0]['name']}: {failed[0]['problem']}"
    if cut := [c["name"] for c in step["commands"] if c["problem"] and c not in failed]:
        remark += f"; nothing wrong in {', '.join(cut)} until cut off"
    return step["step"], code, f"{step['seconds']:.1f}", remark


def line(step):
    return "{:<10} {:>5} {:>7} s  {}".format(*cells(step))


def table(steps):
    return "\n".join([f"{'step':<10} {'exit':>5} {'seconds':>9}", *map(line, steps)])


def commands(found, prefix):
    """Results of a step's commands whose names begin so, by the rest of the name."""
    all_of = [c for step in found["steps"] for c in step["commands"] if c["result"] and c["name"].startswith(prefix)]
    return {c["name"].removeprefix(prefix): c["result"] for c in all_of}


def grid(heads, rows):
    return [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", *(f"| {' | '.join(map(str, r))} |" for r in rows), ""]


def ms(timing):
    return "-" if timing is None else f"{timing['median_ms']:.3f}"


def networks(found):
    """A line for each case: from and to the host's memory in both ways, and on the card alone."""
    cases = {}
    for name, result in commands(found, "net_").items():
        case, mode = name.rsplit("_", 1)
        cases.setdefault(case, {})[mode] = result
    rows = []
    for modes in cases.values():
        any_of, graph, eager = next(iter(modes.values())), modes.get("graph", {}), modes.get("eager", {})
        row = [any_of["model"], any_of["dtype"], f"{any_of['width']}x{any_of['height']}", any_of["batch"]]
        row += [ms(graph.get("timing")), ms(eager.get("timing")), ms((graph.get("resident") or {}).get("timing"))]
        clock = graph.get("sm_clock_mhz") or {}
        rows.append([*row, clock.get("after") and f"{clock['after']:.0f}" or "-"])
    heads = ["model", "type", "size", "batch", "graph, ms", "kernels one by one, ms", "without copies, ms", "SM MHz"]
    return ["## Networks", "", *grid(heads, rows)] if rows else []


def operators(found):
    out = []
    for precision, result in commands(found, "ops_").items():
        entries = result["entries"]
        rows = [[e["name"], ms(e.get("timing") or e), e.get("percent") and f"{e['percent']:.0f}" or "-"] for e in entries]
        ceilings = ", ".join(f"{k} {v:.4g}" for k, v in (result.get("ceilings") or {}).items() if v is not None)
        out += [f"## Operators in {precision}", "", f"Ceilings: {ceilings}", ""]
        out += grid(["entry", "ms", "% of the nearer ceiling"], rows)
    return out


def nodes(found):
    """The nodes that take longest."""
    out = []
    for name, result in commands(found, "nodes_").items():
        tape = sorted(result["tape"], key=lambda n: -n["ms"])
        total = sum(n["ms"] for n in tape) or 1.0
        rows = [[n["part"], n["operator"], n["shape"], f"{n['ms']:.4f}", f"{100 * n['ms'] / total:.1f}"] for n in tape[:12]]
        out += [f"## Nodes of {name}: {total:.3f} ms in {len(tape)}", "", *grid(["part", "operator", "shape", "ms", "%"], rows)]
    return out


def torch(found):
    out = []
    for result in commands(found, "torch").values():
        out += ["## PyTorch in turns with hafuse", "", f"PyTorch {result['torch']}, {result['card']}. Ratios are PyTorch / hafuse.", ""]
        rows = []
        for r in result["rows"]:
            for name, about in r["peers"].items():
                row = [r["model"], r["precision"], "{}x{}".format(*r["size"]), r["batch"], name]
                for times in (r["copies_s"], r["resident_s"]):
                    ours, theirs = (times.get(k) for k in ("hafuse", name))
                    row += [f"{1e3 * statistics.median(t):.3f}" if t else "-" for t in (ours, theirs)]
                    row += [f"{statistics.median(t / o for o, t in zip(ours, theirs)):.2f}" if ours and theirs else "-"]
                rows.append([*row, f"{about['difference']:.0e}"])
        heads = ["model", "type", "size", "batch", "PyTorch", "hafuse, ms", "PyTorch, ms", "ratio"]
        heads += ["hafuse without copies, ms", "PyTorch, ms", "ratio", "difference"]
        out += grid(heads, rows)
        out += [f"- {r['model']} {r['precision']}: {k}: {v}" for r in result["rows"] for k, v in r["failed"].items()] + [""]
    return out


def tail(path, count):
    try:
        return path.read_text(errors="replace").splitlines()[-count:]
    except OSError:
        return []


def troubles(found, logs):
    """The end of what the first failed commands of a step said; of more of them only the problem."""
    out = []
    for step in found["steps"]:
        for i, failed in enumerate(failures(step)):
            if i >= 3:
                out += [f"- {failed['name']}: {failed['problem']}"]
                continue
            said = [line for kind in ("txt", "err") for line in tail(logs / f"{failed['name']}.{kind}", 15)]
            out += [f"### {failed['name']}: {failed['problem']}", "", f"`{' '.join(failed.get('command', []))}`", ""]
            out += ["```", *said, *(step["fault"] or "").splitlines(), "```", ""]
        out += [""]
    return ["## What failed", "", *out] if out else []


def markdown(found, logs):
    head = ["# GPU run", "", f"{found['date']}, commit {found['commit']}, {found['machine']}.", ""]
    head += ["```", *found["version"], *commands(found, "card").get("", []), "```", ""]
    if found["emulated"]:
        head += ["**A rehearsal on the emulated driver: no time in it says anything about a card.**", ""]
    if found.get("left_behind"):
        names = ", ".join(f"{name} ({size >> 20} MiB)" for name, size in found["left_behind"].items())
        head += [f"Too large for runs.tgz, so it does not go on in another slot: {names}.", ""]
    done = [step for step in found["steps"] if step["seconds"] is not None]
    steps = ["## Steps", "", *grid(["step", "exit code", "seconds", "remark"], [cells(step) for step in done])]
    tests = commands(found, "test_")
    shares = ["## Tests: errors as shares of their limits", "", "```", *sum(tests.values(), []), "```", ""] if tests else []
    parts = [shares, networks(found), torch(found), nodes(found), operators(found), troubles(found, logs)]
    return "\n".join(head + steps + sum(parts, [])) + "\n"
