"""Natural evolution strategies: projected gradient ascent with gradients estimated from scores."""

from assay.core.geometry import Geometry
from assay.core.objective import Objective
from assay.core.types import Eps
from assay.parts.balls import as_geometry
from assay.parts.first_order import FirstOrder
from assay.parts.gradient_estimation import Estimated
from assay.parts.losses import objective
from assay.parts.step_rules import Momentum
from assay.util.hints import with_hints
from assay.util.validate import radius, whole


@with_hints
def NES(
    eps: Eps | Geometry,
    *,
    norm: str = "linf",
    queries: int = 10000,
    samples: int = 50,
    sigma: float = 1e-3,
    step_size: Eps | None = None,
    decay: float = 0.9,
    loss: str | Objective = "margin",
) -> Estimated:
    """Steepest ascent with momentum inside the ball; each step estimates its gradient from ``samples`` queries.

    Args:
        eps: radius in input units, or a geometry.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        queries: the most queries.
        samples: queries a step, even; one more looks at the image itself.
        sigma: how far the sampled points are, in input units.
        step_size: in input units; a quarter of ``eps`` by default.
        decay: weight of the old direction.
        loss: objective or its name.

    Returns:
        An attack that needs scores, no gradients.

    Example:
        >>> NES(8/255, queries=510).describe()
        'NES-10 linf 8/255'

    Source: Ilyas, Engstrom, Athalye & Lin, "Black-box adversarial attacks with limited queries and information", ICML
    2018, section 3.2.
    """
    geometry = as_geometry(eps, norm)
    whole("samples", samples, least=2)
    rate = 0.25
    if step_size is not None:
        rate = radius("step_size", step_size, above=True) / max(getattr(geometry, "eps", 1.0), 1e-12)
    steps = max(whole("queries", queries, least=1) // (samples // 2 * 2 + 1), 1)
    inner = FirstOrder("NES", geometry, objective(loss), Momentum(geometry, rate, decay), steps, "clean")
    return Estimated(inner, samples // 2, sigma)
