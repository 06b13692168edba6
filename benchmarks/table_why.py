"""The sections of docs/measured.md on diagnostics and signatures."""


def over_time(record, table):
    rows = [(row["case"], row["paper"], row["verdict"]) for row in record["rows"]]
    text = (
        f"Adversarial training of a small network on {record['images']} Fashion-MNIST images from a "
        f"clean one, linf "
        f"{record['eps']}, 12 epochs; the paper's are a ResNet on CIFAR-10 and GTSRB, linf 4/255. Numbers by epoch "
        "are in the record."
    )
    return text, table(("question", "Metzen, 2018", "here"), rows)


def interpretability(record, table):
    rows = []
    for row in record["rows"]:
        for name, by in row["score"].items():
            told = [
                f"{by[a][0]:.2f} / {by[a][3]:.2f} / {by[a][6]:.2f}" if a in by else "–"
                for a in ("StrAttack", "C&W l2", "EAD")
            ]
            above = 100 * row["share of images on which StrAttack is above"][name]
            rows.append((row["case"], row["n"], name, *told, f"{above:.0f}"))
    text = (
        "Interpretability scores at the 30th, 60th and 90th percentile: the share of a perturbation "
        "(l2) on the pixels "
        "that a map picks out. The paper has StrAttack above C&W for equation 60 (“not significant”) "
        "and 0.77 against "
        "0.65 for the activation map, on ImageNet."
    )
    head = ("case", "images", "map", "StrAttack", "C&W l2", "EAD", "StrAttack above C&W, % of images")
    names = dict.fromkeys(row["case"].split(",")[0].lower() for row in record["rows"])
    pictures = "\n\n".join(f"![{name}](../benchmarks/results/interpretability-{name}.png)" for name in names)
    return text, table(head, rows) + "\n\n" + pictures


def signatures(record, table):
    by = {row["table"]: row for row in record["rows"]}
    paper = record["paper"]["recognised, per cent"]
    parts = []
    for name, columns in (("recognition", ("image", "truth", "redrl")), ("ablation", ("A", "B", "C", "redrl"))):
        frame = by[name]["frame"]
        keys = [key for key in frame[0] if key not in ("made by", "n")]
        rows = [(row["made by"], row["n"], *(f"{row[key]:.1f}" for key in keys)) for row in frame]
        rows.append(("total, in the paper", "", *(f"{paper[c]:.1f}" for c in columns)))
        parts.append(table(("made by", "images", *(f"{key}, %" for key in keys)), rows))
    restored = by["restoration"]["frame"]
    theirs = record["paper"]["accuracy of ResNet-50 before and after G"]
    rows = [
        (
            row["classifier"],
            row["images"],
            f"{row['accuracy']:.1f}",
            f"{row['reconstructed']:.1f}",
            " → ".join(f"{v:.1f}" for v in theirs[row["images"]]),
        )
        for row in restored
    ]
    parts.append(table(("classifier", "images", "accuracy, %", "reconstructed, %", "ResNet-50 in the paper"), rows))
    rows = [(name, found["clean"], found["attacked"]) for name, found in record["reconstruction by losses"].items()]
    parts.append(table(("losses", "clean images, reconstructed, %", "attacked images, reconstructed, %"), rows))
    parts.append("\n".join(f"- {row['verdict']}" for name, row in by.items() if name.startswith(("confusion", "held"))))
    text = (
        f"CIFAR-10, {record['images']} clean images to learn from, {record['tests']} to be tried on, "
        f"five attacks in the "
        f"grids of table 2 ({record['steps']['steps']} steps, C&W l2 "
        f"{record['steps']['carlini_steps']}), victims tiny-cnn "
        f"and gtsrb-cnn, {record['epochs']} epochs, tiny-cnn as the recogniser; the paper has 50,000 "
        f"images, four victims, "
        "100 epochs and a ResNet-18. All images are rounded to 8 bits, after which most of DeepFool's "
        "no longer fool "
        "their victim."
    )
    text += (
        " The columns of the ablation differ by at most 2.7 points, where the standard error of a difference is 1.8; "
        "what the losses of classifier and features do here is in the table of reconstruction."
    )
    return text, "\n\n".join(parts)


def redrl(record, table):
    rows = []
    for row in record["rows"]:
        recognised, closed = row["recognised, per cent"], row["closed, per cent"]
        if not closed:
            continue  # an identifier alone
        shares = [f"{recognised[column]['mean of settings']:.1f}" for column in ("image", "redrl", "truth")]
        rows.append(
            (
                row["case"],
                row["examples"],
                *shares,
                closed["mean of settings"],
                closed["mean of kinds"],
                closed["total"],
            )
        )
    head = ("case", "examples", "image, %", "REDRL, %", "true perturbation, %")
    body = table((*head, "gap closed, mean of settings, %", "mean of kinds, %", "all images, %"), rows)
    text = (
        "What closes the gap between recognising an attack by the image alone and by its true perturbation: CIFAR-10, "
        f"two small victims, {record['tests']} test images, one change at a time to the first row (500 images, 20 "
        "epochs, a reconstructor of 32 × 4, tiny-cnn as the recogniser, bfloat16). The paper's total is a mean over "
        "settings, from 57.5 to 94.2 of 100 for REDRL, with 50,000 images, four large victims and 100 epochs."
    )
    identifiers = [
        (
            row["case"],
            row["examples"],
            row["recognised, per cent"]["redrl"]["mean of settings"],
            row["innocent images accused, per cent"]["all"],
            row["known called unknown, per cent"],
            *(f"{share:.0f}" for share in row["unknown attacks called unknown, per cent"].values()),
        )
        for row in record["rows"]
        if "unknown attacks called unknown, per cent" in row and "innocent images accused, per cent" in row
    ]
    if identifiers:
        unknown = [
            about.partition("seen, ")[2]
            for row in record["rows"]
            for about in row.get("unknown attacks called unknown, per cent", ())
        ]
        head = (
            "case",
            "examples",
            "known attacks and clean, %",
            "innocent images accused, %",
            "known called unknown, %",
        )
        names = [f"{name} called unknown, %" for name in dict.fromkeys(unknown)]
        body += "\n\nIdentifiers that learned from images with noise, blur, compression and other corruptions too, of "
        body += "attacks that they have not seen:\n\n" + table((*head, *names), identifiers)
    return text, body


def bpda(record, table):
    names = [key for key in record["rows"][0] if "/255" in key]
    rows = [(row["change"], row["right"], *(row[name] for name in names)) for row in record["rows"]]
    text = (
        f"A small network on {record['n']} images of CIFAR-10, APGD of {record['steps']} steps: how many images it "
        "leaves where the backward pass takes the identity for the change, and where it takes what that declares: a "
        "differentiable coder for JPEG compression, its own gradient for a median filter."
    )
    return text, table(("change", "classified correctly", *names), rows)


def diagnostics(record, table):
    rows = [
        (row["network"], row["images"], row["ours_s"], row["loop_s"], row["ratio"], row["gradient_of_the_batch_alone"])
        for row in record["rows"]
    ]
    head = ("network", "images", "all at once, s", "one by one, s", "ratio", "ratio of the bare gradient of the batch")
    memory = [(row["perturbations"], row["images"], row["seconds"], row["mib_beyond"]) for row in record["sharedness"]]
    text = (
        "Parameter saliency on a CPU beside a loop over images; the gradient of the whole batch, which "
        "gives no image's "
        "own, is the floor. Sharedness tries every perturbation on every image in memory that does not "
        "depend on how "
        "many there are."
    )
    body = table(head, rows) + "\n\n" + table(("perturbations", "images", "s", "MiB beyond network and data"), memory)
    return text, body
