"""Other words for attacks, so that a message can name the right one."""

from collections.abc import Mapping
from types import MappingProxyType

ALIASES: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("autoattack", "auto-attack", "aa"), "standard"),
        **dict.fromkeys(("apgd-ce", "autopgd", "auto-pgd", "apgdce"), "apgd"),
        "apgd-dlr": "apgd:loss=dlr",
        **dict.fromkeys(("apgdt", "apgd-targeted", "apgd-dlr-t"), "apgd-t"),
        **dict.fromkeys(("fabt", "fab-targeted"), "fab-t"),
        **dict.fromkeys(
            ("cw", "c&w", "cwl2", "carlini", "carlini-wagner", "carliniwagner", "carliniwagnerl2"), "cw-l2"
        ),
        **dict.fromkeys(("carliniwagnerlinf", "cwlinf", "cw-inf"), "cw-linf"),
        **dict.fromkeys(("carliniwagnerl0", "cwl0"), "cw-l0"),
        **dict.fromkeys(("ifgsm", "i-fgsm", "ifgm", "basic-iterative", "basiciterativemethod"), "bim"),
        **dict.fromkeys(("mifgsm", "mi-fgsm", "momentum"), "mim"),
        **dict.fromkeys(("pgd-linf", "pgdlinf", "linf-pgd", "linfpgd", "projectedgradientdescent"), "pgd"),
        **dict.fromkeys(("pgd-l2", "pgdl2", "l2-pgd", "l2pgd"), "pgd:norm=l2"),
        **dict.fromkeys(("pgd-l1", "pgdl1", "l1-pgd", "l1pgd"), "pgd:norm=l1"),
        **dict.fromkeys(("fgsm-l2", "fgm-l2"), "fgm"),
        **dict.fromkeys(("fastgradientmethod", "fastgradientsignmethod", "gradient-sign"), "fgsm"),
        **dict.fromkeys(("hsj", "hsja", "hop-skip-jump", "hopskip"), "hopskipjump"),
        **dict.fromkeys(("signopt", "sign_opt"), "sign-opt"),
        **dict.fromkeys(("onepixel", "one_pixel", "1-pixel"), "one-pixel"),
        **dict.fromkeys(("sigmazero", "sigma0", "σ-zero"), "sigma-zero"),
        **dict.fromkeys(("elastic-net", "elasticnet", "ead-l1"), "ead"),
        **dict.fromkeys(("lavan", "adversarial-patch"), "patch"),
        **dict.fromkeys(("spatial", "flow", "st-adv", "spatialflow"), "stadv"),
        **dict.fromkeys(("recolor", "colormap", "colour"), "recoloradv"),
        **dict.fromkeys(("rotation-translation", "rotationtranslation", "translation"), "rotation"),
        **dict.fromkeys(("structured", "str-attack"), "strattack"),
        **dict.fromkeys(("saliency-map", "saliencymap"), "jsma"),
        **dict.fromkeys(("squareattack", "square-attack"), "square"),
        **dict.fromkeys(("dualperturbation", "dual-perturbation"), "dual"),
        **dict.fromkeys(("uniform", "uniform-noise", "random"), "noise"),
        "gaussian": "gaussian-noise",
        **dict.fromkeys(("difgsm", "dim", "di2-fgsm", "mi-di-fgsm", "diverse-input"), "di-fgsm"),
        **dict.fromkeys(("tifgsm", "tim", "ti-dim", "translation-invariant"), "ti-fgsm"),
        **dict.fromkeys(("sinifgsm", "sini-fgsm", "si-ni", "sim", "ni-fgsm", "nifgsm", "si-fgsm"), "si-ni-fgsm"),
        **dict.fromkeys(("vmifgsm", "vmi", "vmim", "variance-tuning"), "vmi-fgsm"),
        **dict.fromkeys(("pifgsm", "pi", "patch-wise", "patchwise", "pim"), "pi-fgsm"),
    }
)
