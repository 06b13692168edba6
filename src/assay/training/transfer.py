"""Beginning with the weights of another network."""

from torch import nn

from assay.models.load import start_weights, weights_digest
from assay.util.validate import described, name_argument, reject


def begin_from(model: nn.Module, start: str) -> str:
    """Copy weights into a model, all but those whose shape differs (such as a last layer for other classes).

    Args:
        model: a fresh network.
        start: a spec of a trained one, as in `assay.models.load`.

    Returns:
        The digest of what was loaded.

    Raises:
        ValueError: fewer than half of the tensors fit.

    Source: Tong et al., 2020, section 5.1 (networks pre-trained on ImageNet with a new last layer).
    """
    with name_argument("start", inner="model"):
        loaded, own = start_weights(start, model), model.state_dict()
    fitting = {name: t for name, t in loaded.items() if name in own and own[name].shape == t.shape}
    if 2 * len(fitting) < len(own):
        fresh = sorted(set(own) - set(fitting))
        got = described(f"one in which {len(fitting)} of {len(own)} tensors fit; {fresh[0]} does not")
        reject("start", "weights of the same architecture", got)
    model.load_state_dict(fitting, strict=False)
    return weights_digest(loaded)
