"""Texts that try to be more than text, in every field that takes one."""

from dataclasses import replace

from .builders import rich

SCRIPT = "document.title='owned'"
PAYLOADS = (
    f"<script>{SCRIPT}</script>",
    f"</script><script>{SCRIPT}</script>",
    f'"><img src=x onerror="{SCRIPT}">',
    f"'><svg onload={SCRIPT}>",
    f"<!--<script>{SCRIPT}</script>-->",
    f"</title></style></textarea><script>{SCRIPT}</script>",
    f"javascript:{SCRIPT}",
    "{{ 7 * 7 }}{% include 'x' %}",
    "$\\frac{1}{0}$ $x",
    "_hidden",
    "a\x00b\x1b[31m\x07\x7f",
    "\u202egnp.exe\u2066",
    "\ud800 lone",
    "&lt;&amp;&#60;script&#62;",
    "猫 🐱 ק",
    "]]>\u2028--!>",
    "x" * 5000,
    "",
)


def poisoned():
    """A study with one payload or another in each of its texts; between them each field sees a script."""
    plain = rich(12)
    turn = iter(PAYLOADS * 20)

    def text():
        return next(turn)

    models = {name: text() + name for name in plain.models}
    cells = tuple(
        replace(
            cell,
            model=models[cell.model],
            attack=text() + str(i),
            family=text(),
            budget=PAYLOADS[i % 6] + cell.budget,
            curve=PAYLOADS[1] if cell.curve else None,
            outcome=replace(
                cell.outcome,
                name=text(),
                stages=(text(), text()),
                stage=cell.outcome.stage * 0 + i % 2,
                events=(text(), text()),
                errors={5: text()},
            ),
        )
        for i, cell in enumerate(plain.cells)
    )
    return replace(
        plain,
        cells=cells,
        title=PAYLOADS[5] + PAYLOADS[7],
        dataset=PAYLOADS[2],
        classes=PAYLOADS[:3],
        command="\n".join(PAYLOADS[:10]),
        facts={text() + str(i): text() for i in range(18)},
        warnings=PAYLOADS,
    )
