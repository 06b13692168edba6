"""Tables of transfer attacks and of images at 8 bits."""


def transfer_attacks(record, table):
    """Success on the other three networks, mean over the four sources; and where each order of the papers holds."""
    rows = []
    for data in dict.fromkeys(row["data"] for row in record["rows"]):
        own = [row for row in record["rows"] if row["data"] == data]
        for attack in dict.fromkeys(row["attack"] for row in own):
            cells = {}
            for library in ("assay", "torchattacks"):
                chosen = [row for row in own if row["attack"] == attack and row["library"] == library]
                if chosen:
                    away = sum(row["success on others, %"] for row in chosen) / len(chosen)
                    cells[library] = (f"{away:.1f}", f"{sum(row['seconds'] for row in chosen):.1f}")
            ours, theirs = cells["assay"], cells.get("torchattacks", ("–", "–"))
            above = sum(
                row["success on others, %"] > momentum["success on others, %"]
                for row in own
                for momentum in own
                if row["attack"] == attack
                and momentum["attack"] == "MI-FGSM"
                and row["library"] == momentum["library"] == "assay"
                and row["source"] == momentum["source"]
            )
            rows.append((data, attack, ours[0], theirs[0], f"{above} of 4", ours[1], theirs[1]))
    head = ("data", "attack", "success, %", "torchattacks', %", "above MI-FGSM, sources", "seconds", "torchattacks'")
    text = (
        f"{record['images']} images made on each of four networks, tried on the other three, {record['budget']}, ten "
        "steps, momentum 1: the share of images, right before, that are misclassified after, mean over sources. "
        "torchattacks' TI and PI are written for three channels."
    )
    return text, table(head, rows)


def eight_bit(record, table):
    """Robust accuracies of attacks, of their rounded images, and of the files that were exported."""
    keys = (
        "network",
        "attack",
        "robust accuracy, %",
        "with rounded images, %",
        "with exported files, %",
        "files",
        "broken samples without a file",
    )
    text = (
        f"Adversarial images as PNG, {record['images']} images: every file fools the model as it is read back, within "
        "the budget. Budgets that are no whole number of levels lose their last part on the grid, and rounding to the "
        "nearest level leaves many of them: 0.1 is 25.5 levels, 0.05 is 12.75."
    )
    return text, table(keys, [tuple(row[key] for key in keys) for row in record["rows"]])
