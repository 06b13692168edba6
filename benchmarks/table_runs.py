"""The tables about studies: what was claimed, killed, divided and stored."""


def studies(record, table):
    rows = []
    for row in record["rows"]:
        for claim in row["claims"]:
            interval, threshold = claim.get("interval"), claim.get("threshold", "–")  # not in records of before
            ours = f"{claim['ours']} ({interval})" if interval else claim["ours"]
            verdict = claim.get("verdict") or {True: "yes", False: "no"}.get(claim.get("holds"), "–")
            rows.append((row["study"], claim["says"], claim["theirs"] or "–", ours, threshold, verdict))
    seconds = ", ".join(f"{row['study']} {row['seconds']:.0f} s" for row in record["rows"] if row["seconds"])
    counts = record.get("verdicts") or {"hold by the number alone": record.get("hold")}
    verdicts = ", ".join(f"{count} {what or 'not judged'}" for what, count in counts.items())
    small = record["benchmark"] == "studies"
    about = "generated images and digits with small networks" if small else "real images with small networks"
    text = (
        f"`studies/{'small' if small else 'real'}`, one after another, {record['workers']} workers: "
        + (f"{record['seconds'] / 60:.0f} minutes ({seconds})" if seconds else "not timed")
        + f", checks included. Of {record['claims']} claims of the papers {record['measured']} were "
        f"measured: {verdicts}. On {about}; a claim holds if the whole 95 % interval of our "
        "number is beyond the threshold, and where the interval reaches across it nothing can be told at this size."
    )
    return text, table(("study", "claim", "paper", "here (95 %)", "holds from", "verdict"), rows)


def kills(record, table):
    whom = {}
    for row in record["rows"]:
        name = row["killed"].partition(";")[0].partition(",")[0]
        whom.setdefault(name, []).append(row)
    text = (
        f"`kill -9` at random moments of a study ({record['study']}; {record['uninterrupted_s']} s when nothing "
        "kills it), each of a fresh run, then the same command: is samples.csv that of the uninterrupted run, byte "
        "for byte, and does every check answer the same?"
    )
    rows = [
        (name, len(found), sum(r["same"] for r in found), _answers(found), sum(r["stray files"] for r in found))
        for name, found in whom.items()
    ]
    return text, table(("killed", "times", "the same table", "the same answers", "stray files"), rows)


def _answers(rows):
    """How often the checks answered the same; a record of before they were compared says nothing."""
    return sum(r["same answers"] for r in rows) if all("same answers" in r for r in rows) else "–"


def scaling(record, table):
    rows = [
        (
            kind,
            f"{found['speedup_whole']:.2f} ×",
            f"{found['speedup_without_start']:.2f} ×",
            " and ".join(f"{s:.1f}" for s in found["start_s"]),
            record["an_order_ms"][kind],
        )
        for kind, found in record["by"].items()
    ]
    text = (
        "Two workers beside one on two cores, one thread each. The start (imports, workers, Ray) is that of a "
        "command with one image. What a task costs beside its attack is measured without a ledger, of 60 tasks "
        f"of four images; in this process it is {record['an_order_ms']['here']} ms."
    )
    return text, table(
        (
            "executor",
            "whole command",
            "without its start",
            "start with one and two, s",
            "beside an attack, ms a task",
        ),
        rows,
    )


def million(record, table):
    memory = record["memory_MiB"]
    rows = [
        ("inserted a second", f"{record['inserted_per_s']:,}"),
        ("ledger, MiB", record["ledger_MiB"]),
        ("report, s", record["report_s"]),
        ("report, MiB", record["report_MiB"]),
        ("memory with the report, MiB", memory["report"]),
        ("tables, report and manifest, s", record["everything_s"]),
        ("memory with the tables, MiB", memory["all"]),
    ]
    return f"{record['records']:,} records in one ledger.", table(("", ""), rows)
