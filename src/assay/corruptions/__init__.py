"""Common corruptions: noise, blur, weather and digital damage at five severities, and the scores made of them.

Each name is imported when it is first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
