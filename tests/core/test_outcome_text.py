"""What an outcome says of itself."""

import assay
from models_for_tests import images, mlp, predicted


def test_a_targeted_outcome_says_so_and_shows_no_tensors():
    model, x = mlp(), images(6)
    y = predicted(model, x)
    plain, targeted = (assay.attack(model, x, y, assay.FGSM(0.1), target=t) for t in (None, (y + 1) % 4))
    assert str(plain).startswith("FGSM linf 0.1: ")
    assert str(targeted).startswith("FGSM linf 0.1, targeted: robust accuracy")
    assert "FGSM linf 0.1, targeted" in targeted._repr_html_()
    assert repr(plain) == str(plain)
    assert targeted._repr_html_().count("<tr>") == 7
