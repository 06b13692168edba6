"""Write what the benchmarks recorded as one page, docs/measured.md: python table.py."""

import json

from common import HERE
from table_costs import checks, compiled, fleet, launches, memory, speed, square, startup, suite
from table_runs import kills, million, scaling, studies
from table_transfer import eight_bit, transfer_attacks
from table_trust import certify, contradictions, decided, honest, more, planted
from table_why import bpda, diagnostics, interpretability, over_time, redrl, signatures

PAGE = HERE.parent / "docs" / "measured.md"


def load(name):
    path = HERE / "results" / f"{name}.json"
    return json.loads(path.read_text()) if path.is_file() else None


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])


def stamp(record):
    return f"{record['date'][:10]}, {record['hardware']}, torch {record['torch']}, commit {record['commit']}."


def overhead(record):
    rows = [
        (model, kind, found["of_bare_loop"], found["best_of_bare_loop"])
        for model, kinds in record["models"].items()
        for kind, found in kinds.items()
    ]
    head = ("model", "step of", "× bare loop (median)", "× bare loop (best)")
    return "A step beside the bare forward-and-backward loop, all rows active.", table(head, rows)


def strength(record):
    groups = {}
    for row in record["rows"]:
        groups.setdefault((row["model"], row["norm"], row["eps"]), []).append(row)
    rows = []
    for (model, norm, eps), found in groups.items():
        mean = {key: sum(r[key] for r in found) / len(found) for key in ("autoattack", "assay", "seconds_ratio")}
        rows.append(
            (
                model,
                f"{norm} {eps:g}",
                len(found),
                f"{mean['autoattack']:.2f}",
                f"{mean['assay']:.2f}",
                sum(r["only_autoattack_breaks"] for r in found),
                sum(r["only_assay_breaks"] for r in found),
                f"{mean['seconds_ratio']:.2f} ×",
            )
        )
    head = ("model", "budget", "seeds", "AutoAttack's pair, %", "assay, %", "only theirs", "only ours", "wall")
    return "APGD-CE and APGD-T: robust accuracy, mean over seeds; samples that only one of the two breaks.", table(
        head, rows
    )


def minimal(record):
    rows = [
        (
            row["attack"],
            f"{row['median']:.4g}",
            f"{100 * row['success']:.1f}",
            peer,
            f"{found['median']:.4g}",
            f"{100 * found['success']:.1f}",
            f"{found['median_ratio']:.3f}",
            f"{found['seconds_ratio']:.2f} ×",
        )
        for row in record["rows"]
        for peer, found in row["peers"].items()
    ]
    head = ("attack", "median", "solved, %", "peer", "its median", "its solved, %", "median ratio", "wall")
    return f"Attacks that minimise a distance, {record['n']} images, the same steps.", table(head, rows)


def photos(record):
    rows = []
    for name, found in record["models"].items():
        at = dict(tuple(p) for p in found["background"])
        lam = {row["lambda"]: row for row in found["lambda"]}
        rows.append(
            (
                name,
                dict(tuple(p) for p in found["pgd"])[4 / 255],
                at[20 / 255],
                lam[0.0]["foreground_score"],
                lam[1.0]["foreground_score"],
                lam[1.0]["accuracy"],
            )
        )
    head = ("model", "PGD-20 4/255, %", "dual 4/255; 20/255, %", "score λ=0", "score λ=1", "accuracy λ=1, %")
    share = f"{100 * record['foreground_share']:.0f} %"
    text = (
        f"Photographs with human-marked foregrounds ({record['n']} images, {share} "
        f"foreground; clean foreground score {record['clean_foreground_score']})."
    )
    picture = "![Accuracy over the budgets and over λ](../benchmarks/results/photos.png)"
    return text, table(head, rows) + "\n\n" + picture


def precision(record):
    keys = (
        "pass_ratio",
        "passes_needed",
        "floor_of_bare_loop",
        "float32_of_bare_loop",
        "bfloat16_of_bare_loop",
        "robust_float32",
        "robust_bfloat16",
    )
    rows = [(model, *(found[key] for key in keys)) for model, found in record["models"].items()]
    head = (
        "model",
        "a pass, × float32",
        "passes needed",
        "product",
        "float32 search, × bare loop",
        "bfloat16 search, × bare loop",
        "robust, float32",
        "robust, bfloat16",
    )
    return "PGD-40 with a bfloat16 search, every hit re-measured in float32.", table(head, rows)


def strattack(record):
    rows = [
        (
            row["attack"],
            f"{100 * row['success']:.1f}",
            *(f"{row[key]:.4g}" for key in ("l0", "l1", "l2", "linf")),
            row["seconds"],
            "" if row["passes"] is None else f"{row['passes']:.0f}",
        )
        for row in record["rows"]
        if row["success"]
    ]
    head = ("attack", "solved, %", "l0", "l1", "l2", "linf", "seconds", "passes")
    text = (
        f"Targeted, a random target an image (the average case), {record['n']} images of {record['data']}, the "
        "four-convolution network of the paper; means over the images that were solved."
    )
    return text, table(head, rows)


def strattack_large(record):
    rows = [
        (
            row["attack"],
            f"{100 * row['success']:.0f}",
            *(f"{row[key]:.4g}" for key in ("l0", "l1", "l2", "linf")),
            row["seconds"],
            f"{row['passes']:.0f}",
            row["MiB beyond one pass"],
        )
        for row in record["rows"]
    ]
    rows += [
        (f"{name}, the paper's", f"{100 * row['success']:.0f}", *(row[key] for key in ("l0", "l1", "l2", "linf")))
        + ("",) * 3
        for name, row in record["paper"].items()
    ]
    text = (
        f"Targeted, a random target an image, {record['rows'][0]['n']} images of 224 × 224 and EfficientNet-Lite0, "
        "groups of 13 × 13 pixels; the paper has Inception v3 at 299 × 299. Memory is beyond that of a forward and a "
        "backward pass."
    )
    return text, table(("attack", "solved, %", "l0", "l1", "l2", "linf", "seconds", "passes", "MiB"), rows)


def blackbox(record):
    rows = [
        (
            row["attack"],
            row["library"],
            f"{100 * row['success']:.1f}",
            row["queries_median"],
            row["queries_90"],
            "" if row["median"] is None else f"{row['median']:.4g}",
            row["seconds"],
        )
        for row in record["rows"]
    ]
    head = ("attack", "library", "solved, %", "queries, median", "queries, 90 %", "median distance", "seconds")
    return f"Queries of the images that were solved, {record['n']} images, plain CNN, equal settings.", table(
        head, rows
    )


def universal(record):
    rows = [
        (
            row["model"],
            row["attack"],
            f"{100 * row['clean']:.1f}",
            f"{100 * row['accuracy']:.1f}",
            f"{100 * row['fooled']:.1f}",
        )
        for row in record["rows"]
    ]
    head = ("model", "attack", "clean, %", "with the perturbation, %", "fooled, %")
    return f"One perturbation for all images, made on training images, measured on {record['n']} others.", table(
        head, rows
    )


def training(record):
    rows = [
        (f"`{row['objective']}`", row["n"], row["clean"], row["robust"], row["seconds_an_epoch"])
        for row in record["rows"]
    ]
    head = ("objective", "test images", "clean, %", "robust, %", "seconds an epoch")
    text = (
        f"tiny-cnn on {record['images']} images of Fashion-MNIST, 8 epochs (free: 3 of 4 replays), seven inner "
        f"steps; robust is under APGD-CE and APGD-T of 50 steps, linf {record['eps']:g}. One core."
    )
    return text, table(head, rows)


def training_speed(record):
    rows = [
        (
            row["arch"],
            f"{row['inner_loop']:.2f} ×",
            f"{row['inner_loop_median']:.2f} ×",
            f"{row['epoch_of_plain']:.2f} ×",
            f"{row['epoch_of_torchattacks']:.2f} ×" if "epoch_of_torchattacks" in row else "",
        )
        for row in record["rows"]
    ]
    head = (
        "network",
        "inner loop, of a bare one (best)",
        "(median)",
        "epoch, of a plain script",
        "epoch, of a script with torchattacks",
    )
    return "PGD-10 adversarial training, batches of 128 images of 32 pixels.", table(head, rows)


def labels(record):
    keys = ("clean", "fgsm, true labels", "fgsm, predicted labels", "apgd (256 images)")
    rows = [(row["trained with labels"], *(row[key] for key in keys)) for row in record["rows"]]
    text = (
        f"FGSM training (linf {record['eps']:g}) with the true labels and with predicted ones: with true labels "
        "the network does far better on FGSM images than on clean ones, because they tell it the label. Neither "
        "is robust, which APGD shows."
    )
    return text, table(("trained with labels", *(f"{key}, %" for key in keys)), rows)


def defences(record):
    rows = [
        (f"`{row['spec']}`", row["n"], f"{row['eps']:g}", row["clean"], row["plain"], row["adaptive"], row["how"])
        for row in record["rows"]
    ]
    head = (
        "defence",
        "images",
        "linf budget",
        "clean, %",
        "plain attack, %",
        "adaptive attack, %",
        "what the adaptive attack does",
    )
    text = (
        "Fashion-MNIST. Plain: PGD on the network under the defence, its images given to "
        "the defence. Adaptive: what the module declares, end to end."
    )
    return text, table(head, rows)


def smoothing(record):
    rows = [
        (row["sigma"], row["norm"], f"{row['eps']:.3g}", row["accuracy"], row["abstained"]) for row in record["rows"]
    ]
    votes = [(row["n"], f"{row['eps']:.3g}", row["accuracy"], row["abstained"]) for row in record["votes"]]
    proofs = [
        (
            row["sigma"],
            row["certified"],
            row["median_radius"],
            row["median_shortest_found"],
            row["broken_within_radius"],
            row["least_ratio"],
        )
        for row in record["certificates"]
    ]
    text = (
        f"Made scenes, {record['n']} images, tiny-cnn trained with noise. Dual-perturbation attacks in "
        "expectation, the background's budget five times the foreground's; 100 votes; an abstention counts as "
        "wrong."
    )
    body = [
        table(("σ", "norm", "foreground budget", "accuracy, %", "abstained, %"), rows),
        "Votes at a prediction (σ = 0.25, linf):",
        table(("votes", "foreground budget", "accuracy, %", "abstained, %"), votes),
        "Certified l2 radii beside the shortest perturbation found that changes the vote (never within the radius):",
        table(
            ("σ", "certified, %", "median radius", "median shortest found", "broken within radius", "least ratio"),
            proofs,
        ),
    ]
    return text, "\n\n".join(body)


def dual_training(record):
    attacks = [key for key in record["rows"][0] if "-50 " in key]  # the others are points of curves
    rows = [(row["model"], *(f"{100 * row[key]:.1f}" for key in ("clean", *attacks))) for row in record["rows"]]
    text = (
        f"Adversarial training with PGD and with dual-perturbation (foreground {record['eps']}, background "
        f"{record['background']}) on made scenes, {record['n']} test images (clean: {record['n_clean']}); both "
        "begin from the clean network."
    )
    picture = "![Accuracy over the budgets](../benchmarks/results/dual_training.png)"
    return text, table(("model", "clean, %", *(f"{a}, %" for a in attacks)), rows) + "\n\n" + picture


def trades(record):
    rows = [(row["objective"], row["statistics"], row["clean"], row["robust"]) for row in record["rows"]]
    text = (
        f"Networks of 20 epochs from the table above, {record['n']} images: part of what TRADES lacks there are "
        "the statistics of its batch normalisation, which are those of clean and adversarial images mixed. Without "
        "such layers it is level (table of the suites)."
    )
    return text, table(("objective", "statistics of batch normalisation", "clean, %", "robust, %"), rows)


def corruptions(record):
    rows = [
        (
            row["corruption"],
            row["severity"],
            row["change"],
            row["theirs"],
            row["mean"],
            row["deviation"],
            row["roughness"],
            row.get("pixelwise", ""),
        )
        for row in record["rows"]
    ]
    head = (
        "corruption",
        "severity",
        "mean change",
        "theirs",
        "difference of means",
        "spread, of theirs",
        "roughness, of theirs",
        "pixelwise difference, of 255",
    )
    text = (
        f"Beside imagecorruptions 1.1.2 on {record['n']} photographs of 224 pixels: random ones by their "
        "statistics, fixed ones pixel by pixel. Frost is drawn here, not photographed."
    )
    return text, table(head, rows)


SECTIONS = {
    "speed": ("Speed", speed),
    "overhead": ("Cost of a step", overhead),
    "launches": ("Operators a step", launches),
    "compiled": ("Compiled", compiled),
    "startup": ("Starting", startup),
    "precision": ("Search in bfloat16", precision),
    "strength": ("Strength", strength),
    "minimal": ("Distances", minimal),
    "strattack-mnist": ("StrAttack, MNIST", strattack),
    "strattack-cifar10": ("StrAttack, CIFAR-10", strattack),
    "strattack": ("StrAttack, Fashion-MNIST", strattack),
    "strattack-imagenet": ("StrAttack, 224 × 224", strattack_large),
    "memory": ("Memory", memory),
    "suite": ("Suites", suite),
    "square": ("A query of Square", square),
    "checks": ("Cost of checks", checks),
    "more": ("What more passes would break", more),
    "grades-seen": ("Grades of planted failures, seen", planted),
    "grades-held_out": ("Grades of planted failures, first half held out", planted),
    "grades-second_half": ("Grades of planted failures, second half held out", planted),
    "grades-honest": ("Grades of honest models", honest),
    "certify": ("Both ends", certify),
    "certify_decided": ("What certifiers decide", decided),
    "certify_attacks": ("Attacks against certificates", contradictions),
    "transfer_attacks": ("Transfer attacks", transfer_attacks),
    "eight_bit": ("Images at 8 bits", eight_bit),
    "fleet": ("A fleet of GPUs", fleet),
    "blackbox": ("Queries", blackbox),
    "universal": ("Universal perturbations", universal),
    "training": ("Training objectives", training),
    "trades": ("TRADES and PGD-AT", trades),
    "training_speed": ("Training speed", training_speed),
    "dual_training": ("AT-Dual and AT-PGD", dual_training),
    "labels": ("Label leaking", labels),
    "defences": ("Defences, plain and adaptive", defences),
    "bpda": ("The gradient past a change of the input", bpda),
    "smoothing": ("Randomised smoothing", smoothing),
    "corruptions": ("Corruptions", corruptions),
    "photos": ("Real photographs", photos),
    "over_time": ("Adversarial training over time", over_time),
    "interpretability": ("Interpretability", interpretability),
    "signatures": ("Signatures", signatures),
    "redrl": ("What closes the gap to the true perturbation", redrl),
    "diagnostics": ("Cost of diagnostics", diagnostics),
    "studies": ("The five small studies", studies),
    "studies-real": ("Studies on real data", studies),
    "kills-local": ("Killed, with workers", kills),
    "kills-ray": ("Killed, on Ray", kills),
    "scaling": ("Two workers", scaling),
    "million": ("A million records", million),
}


def main():
    parts = [
        "# Measured",
        "Made by `make bench` from the records in `benchmarks/results`; times are ratios within one run.",
    ]
    for name, (title, make) in SECTIONS.items():
        record = load(name)
        if record is None:
            continue
        text, body = (
            make(record, table)
            if make.__module__ in ("table_why", "table_runs", "table_costs", "table_trust", "table_transfer")
            else make(record)
        )
        parts += [f"## {title}", text, body, stamp(record)]
    PAGE.write_text("\n\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
