"""The linear program of a subdomain in which the network is linear."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from assay.certify.backward import Form, form_below
from assay.certify.interval import Interval
from assay.certify.network import Network
from assay.certify.region import Region
from assay.core.types import Images

_PENALTY = 1e4
"""What a condition that is not met costs, in units of the function's largest factor."""


def multipliers_of(
    network: Network, factors: Tensor, known: Sequence[Interval], region: Region, signs: Mapping[int, Tensor]
) -> tuple[dict[int, Tensor], Images]:
    """Lagrange multipliers of a subdomain's sign constraints, negated and signed, as `form_below` takes them.

    Args:
        network: the network.
        factors: of the logits, ``(1, 1, k)``.
        known: intervals of the part, in which no rectifier is open.
        region: of one image.
        signs: of the part.

    Returns:
        By place, ``(1, 1, *shape)``, none where there are no conditions, and the image at which the program ends. Any
        multipliers of the right sign give a sound bound: the program (by SciPy's HiGHS) only finds good ones, on the
        region's box.
    """
    from scipy.optimize import linprog  # slow to import, needed only here

    chosen = [(p, torch.nonzero(s.flatten() != 0).squeeze(1)) for p, s in signs.items()]
    chosen = [(p, at) for p, at in chosen if len(at)]
    if not chosen:
        return {}, region.x
    objective = form_below(network, len(network.nodes) - 1, factors, known)
    rows, sides = [], []
    for place, at in chosen:
        sign = signs[place].flatten()[at].to(factors.dtype)
        basis = torch.zeros(1, len(at), network.nodes[place].size, dtype=factors.dtype, device=factors.device)
        basis[0, torch.arange(len(at)), at] = sign
        form = form_below(network, place, basis.view(1, len(at), *network.nodes[place].shape), known)
        rows.append(_flat(form, region))
        sides.append(form.constant[0])
    matrix, side = torch.cat(rows).cpu().numpy(), torch.cat(sides).cpu().numpy()
    slope = _flat(objective, region)[0].cpu().numpy()
    count, pixels = len(side), len(slope)
    scale = max(float(np.abs(slope).max()), 1e-12)
    limits = np.stack([region.lower.flatten().cpu().numpy(), region.upper.flatten().cpu().numpy()], 1)
    result = linprog(
        np.concatenate([slope, np.full(count, _PENALTY * scale)]),
        A_ub=np.concatenate([-matrix, -np.eye(count)], 1),
        b_ub=side,
        bounds=[*map(tuple, limits), *[(0, None)] * count],
        method="highs",
    )
    if result.status != 0 or pixels + count != len(result.x):
        return {}, region.x
    image = torch.from_numpy(result.x[:pixels]).to(region.x).view_as(region.x)
    worth, first, more = torch.from_numpy(-result.ineqlin.marginals).clamp_min(0), 0, {}
    for place, at in chosen:
        own = torch.zeros(network.nodes[place].size, dtype=factors.dtype, device=factors.device)
        sign = signs[place].flatten()[at].to(factors)
        own[at] = -worth[first : first + len(at)].to(factors) * sign
        more[place] = own.view(1, 1, *network.nodes[place].shape)
        first += len(at)
    return more, image


def _flat(form: Form, region: Region) -> Tensor:
    """The factors of one image's functions, ``(m, n)``."""
    if form.factors is None:
        return torch.zeros(form.constant.shape[1], region.x[0].numel(), dtype=region.x.dtype, device=region.x.device)
    return form.factors[0].flatten(1)
