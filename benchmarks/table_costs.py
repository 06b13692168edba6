"""The sections of docs/measured.md on what attacks, suites and checks cost."""


def speed(record, table):
    rows = []
    for model, attacks in record["models"].items():
        for attack, jobs in attacks.items():
            for job, row in jobs.items():
                if job == "assay" or job.startswith("assay without"):
                    beside = row["of_fastest_peer_and_clean_pass"]
                    rows.append((model, attack, job, row["of_fastest_peer"], beside, row["robust_accuracy"]))
    head = ("model", "attack", "", "× the fastest peer", "× the fastest peer and a clean pass", "robust, %")
    text = (
        f"Wall time of a robust accuracy of {record['n']} images, beside torchattacks, foolbox, ART and adv-lib, all "
        f"in batches of {record['batch']}. What assay says of the clean images costs it a pass that the others do not "
        "make."
    )
    return text, table(head, rows)


def launches(record, table):
    rows = []
    for row in record["rows"]:
        counted = {k: v["operators"] for k, v in row.items() if isinstance(v, dict) and k not in ("attack", "assay")}
        least = min(counted, key=counted.get, default=None)
        peer = "–" if least is None else f"{least}, {counted[least]}"
        ours = row["assay"]
        rows.append((row["attack"], ours["operators"], peer, row.get("of_the_leanest", "–"), ours["waits"]))
    head = ("attack", "operators a step", "leanest peer", "ratio", "waits a step")
    text = (
        "Operators that a step starts on an accelerator (a launch each), the passes through a network of three layers "
        "included, and how often it waits for one; counted on a simulated device."
    )
    return text, table(head, rows)


def suite(record, table):
    rows = [
        (
            row["network"],
            f"{row['norm']} {row['eps']:g}",
            *(row[name]["robust"] for name in ("autoattack", "standard", "fast")),
            row["only_autoattack_breaks"],
            row["only_standard_breaks"],
            row["fast_misses"],
            f"{row['standard_of_autoattack']:.2f} ×",
            f"{row.get('bare_passes_of_autoattack', '–')}",
            f"{row['fast_passes_of_autoattack']:.3f} ×",
        )
        for row in record["rows"]
    ]
    head = (
        "network",
        "budget",
        "AutoAttack leaves",
        "standard leaves",
        "fast leaves",
        "only AutoAttack breaks",
        "only standard breaks",
        "fast misses",
        "wall of standard, of AutoAttack's",
        "its passes alone",
        "passes of fast, of AutoAttack's",
    )
    text = (
        f"Robust samples of {record['rows'][0]['n']}, beside the AutoAttack package (pyautoattack), on two threads. "
        "“Its passes alone”: as many passes forward and backward as `standard` makes, bare, in batches of as many "
        "images as survive. “Fast misses”: what the other two together break and it does not."
    )
    return text, table(head, rows)


def square(record, table):
    rows = [
        (row["network"], row["rows"], *(row["ms_per_query"][n] for n in ("assay", "autoattack")), row["of_autoattack"])
        for row in record["rows"]
    ]
    head = ("network", "samples", "assay, ms a query", "AutoAttack, ms a query", "ratio")
    return f"Square, {record['queries']} queries, on samples that PGD-20 leaves.", table(head, rows)


def checks(record, table):
    rows = [
        (
            row["network"],
            row["suite"],
            row["robust"],
            row["evaluation_s"],
            row["checks_s"],
            row["of_evaluation"],
            f"{row['passes_said']:,}",
            f"{row['passes']:,}",
            row["grade"],
        )
        for row in record["rows"]
    ]
    head = (
        "network",
        "suite",
        "survivors",
        "evaluation, s",
        "checks, s",
        "ratio",
        "passes said beforehand, at most",
        "passes of what they reran",
        "grade",
    )
    return f"The trust checks beside the evaluation that they check, {record['n']} samples.", table(head, rows)


def memory(record, table):
    rows = []
    for row in record["rows"]:
        beyond = row["MiB_beyond_the_bare_loop"]
        others = ", ".join(f"{name} {value}" for name, value in beyond.items() if name != "assay")
        ratios = row.get("of_leanest_peer", "–"), row.get("beyond_of_leanest_peer", "–")
        rows.append((row["attack"], beyond["assay"], others or "–", *ratios))
    head = ("attack", "MiB beyond the bare loop", "others", "peak, of the leanest's", "beyond, of the leanest's")
    groups = [
        (f"{row['side']} × {row['side']} × 3", row["groups"], row["MiB"], row["full_copies_MiB"])
        for row in record["overlapping_groups"]
    ]
    text = (
        f"Peak memory on {record['batch']} images of {record['side']} × {record['side']} × 3 "
        f"({record['image_MiB']} MiB) and a ResNet-18, beyond the bare loop's {record['bare_loop_MiB']} MiB; below, "
        "StrAttack with 2 × 2 groups one pixel apart on one image."
    )
    below = table(("image", "overlapping groups", "peak, MiB", "full copies alone, MiB"), groups)
    return text, table(head, rows) + "\n\n" + below


def compiled(record, table):
    rows = [
        (row["model"], row["attack"], row["of_eager"], row["first_compiled_s"], row["verdicts_that_differ"])
        for row in record["rows"]
    ]
    head = ("model", "attack", "× eager", "first run, s", "verdicts that differ")
    return f'`compile="default"` beside eager on a processor, {record["n"]} images.', table(head, rows)


def startup(record, table):
    rows = [
        ("`import assay`, with an attack and the call", f"{record['import_assay_of_import_torch']} × `import torch`"),
        (
            "`assay evaluate` of twelve images, with its report, beside the attack",
            f"{record['evaluation_beside_the_attack_of_import_torch']} × `import torch`",
        ),
    ]
    return "What it takes to begin.", table(("", ""), rows)


def fleet(record, table):
    rows = [
        (
            row["shard"],
            row["half_used_at_rows"],
            row["hours"],
            row["hours_at_full_speed"],
            f"{100 * row['lost_to_small_batches']:.1f}",
            f"{100 * row['lost_at_the_end']:.1f}",
        )
        for row in record["rows"]
    ]
    counted = record["counted_on"]
    text = (
        f"Simulated, not measured: {record['images']:,} ImageNet images × {record['models']} models × `standard` on "
        f"{record['gpus']} GPUs of {record['forwards_a_second']:,} forward passes a second, {record['slots']} rows in "
        f"flight, with the steps that {len(counted)} networks of the ladder took on {counted[0]['n']} images each "
        f"({sum(c['robust'] for c in counted)} of {sum(c['n'] for c in counted)} survive). A GPU is taken to be half "
        "used at so many rows as stand in the second column."
    )
    head = (
        "samples a shard",
        "half used at rows",
        "hours",
        "hours at full speed",
        "lost to small batches, %",
        "lost at the end, %",
    )
    return text, table(head, rows)
