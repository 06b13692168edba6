"""The sections of docs/measured.md on grades and on the estimate of what more passes would break."""


def more(record, table):
    rows = []
    for row in record["rows"]:
        for part, words in (("tenth", "a tenth of standard's passes"), ("fast", "fast")):
            one = row[part]
            interval = f"{100 * one['low']:.1f} to {100 * one['high']:.1f}"
            rows.append(
                (row["network"], words, one["times"], 100 * one["broken_by_more"], 100 * one["estimated"], interval)
            )
    text = (
        f"What more passes would break, estimated, beside what they broke: {record['networks']} honest networks, "
        f"{record['n']} images each. Covered by the 90 % interval: from a tenth of the passes of `standard` in "
        f"{record['covered_from_tenth']}, from `fast` in {record['covered_from_fast']} of {record['networks']}."
    )
    return text, table(("network", "from", "times the passes", "broken by more, %", "estimated, %", "90 %"), rows)


def certify(record, table):
    """Networks with both ends, and bounds beside another library's."""
    names = ("clean, per cent", "attacked, per cent", "certified, per cent", "open, points", "contradictions")
    ends = [row for row in record["rows"] if "open, points" in row]
    peers = [row for row in record["rows"] if "seconds, ours over theirs" in row]
    rows = [
        (
            row["case"],
            row["epochs"],
            row["n"],
            *(row[name] for name in names),
            row["seconds a sample, certified"],
            *(row.get(name, "–") for name in WHOLE),
        )
        for row in ends
    ]
    heads = ("network", "epochs", "n", "clean, %", "attacked, %", "certified, %", "open, points", "contradictions")
    text = "Small networks trained for certificates: `standard` from above, bounds from below."
    other = [(row["case"], *(row[name] for name in PEER)) for row in peers]
    more = f"\n\n{table(('bounds', *PEER), other)}" if other else ""
    return text, table((*heads, "s a sample", *WHOLE), rows) + more


WHOLE = ("clean, % of all test images", "certified, % of all")


def decided(record, table):
    """What each certifier decides of an adversarially trained network."""
    names = ("n", "certified, per cent", "broken by it, per cent", "decided with the attacks, per cent")
    rows = [(row["case"], *(row[name] for name in names), row["seconds a sample"]) for row in record["rows"]]
    text = (
        f"MNIST, PGD-AT at 0.1, {record['rows'][0]['parameters']:,} parameters: images that are right, each certifier "
        "by itself."
    )
    return text, table(
        ("certifier", "n", "certified, %", "broken by it, %", "decided with attacks, %", "s a sample"), rows
    )


def contradictions(record, table):
    """Every attack against certificates, a row a network."""
    rows = []
    for network in dict.fromkeys(row["case"].partition(": ")[0] for row in record["rows"]):
        own = [row for row in record["rows"] if row["case"].startswith(f"{network}: ")]
        broken = sum(row["broken"] for row in own)
        rows.append((network, len(own), own[0]["n"], broken, sum(row["contradictions"] for row in own)))
    text = (
        "Images that lie no further than their sample is certified (by IBP and CROWN-IBP at the distance of each "
        "image, and by CROWN at the budget of the training): there can be none."
    )
    return text, table(("network", "attacks", "images each", "broken, all together", "contradictions"), rows)


PEER = ("mean bound, ours", "mean bound, theirs", "ours looser by at most", "seconds, ours over theirs")


def planted(record, table):
    """Planted failures, by kind: the numbers that are too high, and how they are graded."""
    rows = []
    for kind in dict.fromkeys(row["kind"] for row in record["rows"]):
        high = [row for row in record["rows"] if row["kind"] == kind and row["reported"] - row["true"] > 0.03]
        below = sum(row["grade"] in ("unusable", "weak") for row in high)
        rows.append((kind, len(high), below, sum(row["grade"] == "strong" for row in high)))
    text = (
        f"Planted failures whose number is more than three points too high: {record['below_standard']} of "
        f"{record['too_high']} are graded below `standard`."
    )
    return text, table(("kind", "too high", "below standard", "strong"), rows)


def honest(record, table):
    rows = [
        (row["name"], round(100 * row["robust"], 1), row["grade"], row["seconds"], row["seconds_of_checks"])
        for row in record["rows"]
    ]
    grades = ", ".join(f"{count} {grade}" for grade, count in record["grades"].items())
    text = f"Honest models, evaluated with `standard`: {grades}."
    return text, table(("model", "robust, %", "grade", "evaluation, s", "checks, s"), rows)
